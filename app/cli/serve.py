"""`precis serve`: the service, as `python -m app` starts it; every setting is an option too."""

import inspect
from typing import Annotated

import typer

from app.__main__ import main
from app.config import Settings, variable

EXAMPLES = """[bold]Examples[/bold]

precis serve

precis serve --host 0.0.0.0 --port 8080 --max-queue 200

PRECIS_PRECISION=float32 precis serve --model news-zh
"""


def serve(**chosen: str | None) -> None:
    """Serve the checkpoints of the model store over HTTP until SIGTERM or Ctrl-C.

    An option goes before its environment variable. Everything admitted is answered before the service ends.
    """
    raise typer.Exit(main(**{name: value for name, value in chosen.items() if value is not None}))


def _option(name: str) -> inspect.Parameter:
    field = Settings.model_fields[name]
    default = "" if field.default is None else f"default: {field.default}, "
    text = f"{field.description} [dim]\\[{default}env: {variable(name)}][/]"
    option = typer.Option("--" + name.replace("_", "-"), metavar="VALUE", help=text, show_default=False)
    annotation = Annotated[str | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


_options = [_option(name) for name in Settings.model_fields]
serve.__signature__ = inspect.Signature(_options)  # type: ignore[attr-defined]  # typer reads options from it
serve.__annotations__ = {option.name: option.annotation for option in _options}
