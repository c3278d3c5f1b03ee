"""`precis keys`: API keys for the service."""

from typing import Annotated

import typer

from app.cli.output import say
from app.keys import Key, digest, new_key, parse_line

EXAMPLES = """[bold]Examples[/bold]

precis keys new news-desk >> keys

precis keys new news-desk --requests 60 --characters 500000 >> keys

precis keys new operations --admin >> keys
"""
app = typer.Typer(no_args_is_help=True, epilog=EXAMPLES, help="Make API keys for the service.")
Limit = Annotated[int | None, typer.Option(min=1, max=10**12 - 1, help="Most of them in a minute.")]


@app.callback()
def _keys() -> None:
    """With one command alone, typer would leave its name out."""


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Who it is for; stands in the log with every request.")],
    admin: Annotated[bool, typer.Option("--admin", help="For an administrator, who may reload models.")] = False,
    requests: Limit = None,
    characters: Limit = None,
) -> None:
    """Make a key. It is told once, on standard error; on standard output comes the line for the service's file of keys.

    The line holds only a digest: nobody can read the key from it.
    """
    key = new_key()
    line = str(Key(name, digest(key.encode()), admin, requests, characters))
    try:
        parse_line(line)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from error
    print(line, flush=True)
    say(f"the key of {name}, told only now: {key}")
