"""`precis`: the commands, and how every one of them ends."""

import io
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from app import __version__
from app.cli import attention, corpus, keys, models, serve, summarize
from app.cli.output import complain, say
from app.errors import ConfigurationError, PrecisError

WRONG_USE = 2
HELP = "Summaries, and the attention behind them: from checkpoints on this machine, or from a running service."
EXAMPLES = """[bold]Examples[/bold]

precis summarize article.txt

precis attention article.txt

precis serve --port 8080

precis COMMAND --help tells what each can do.
"""


class Commands(TyperGroup):
    """What Precis raises on purpose is one line on standard error and an exit status, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            answer = super().invoke(ctx)
            print(end="", flush=True)  # here, where a closed pipe is expected
        except PrecisError as error:
            complain(error)
            raise typer.Exit(WRONG_USE if isinstance(error, ConfigurationError) else 1) from error
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise  # whoever reads has enough: typer ends quietly
            say(f"{error.filename or 'standard output'}: {error.strerror}")
            raise typer.Exit(1) from error
        return answer


app = typer.Typer(
    cls=Commands,
    help=HELP,
    epilog=EXAMPLES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve", epilog=serve.EXAMPLES)(serve.serve)
app.command("summarize", epilog=summarize.EXAMPLES)(summarize.summarize)
app.command("attention", epilog=attention.EXAMPLES)(attention.attention)
app.command("corpus", epilog=corpus.EXAMPLES)(corpus.corpus)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"precis {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version.")
    ] = False,
) -> None:
    """Options of all commands."""


def main() -> None:
    """The script `precis`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # on a terminal that has not all characters
    app(prog_name="precis")
