"""`precis models`: what there is to summarize with, whether it is intact, and how more is brought."""

import sys
from typing import Annotated

import typer

from app.cli.backend import Where, open_backend
from app.cli.bring import bring
from app.cli.options import ApiKey, Device, Json, Precision, Store, Url
from app.cli.output import facts, harmless, print_columns
from app.cli.verify import verify
from app.schemas import Model

EXAMPLES = """[bold]Examples[/bold]

precis models list

precis models show news-zh

precis models verify

precis models import bart-large-cnn
"""
app = typer.Typer(
    no_args_is_help=True, epilog=EXAMPLES, help="List the models, show one, verify or import checkpoints."
)
app.command("verify")(verify)
app.command("import")(bring)


@app.command("list")
def list_models(
    json: Json = False,
    url: Url = None,
    api_key: ApiKey = None,
    model_store: Store = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """List the models that can be used; * marks the default one."""
    with open_backend(Where(url, None, model_store, device, precision, api_key)) as backend:
        listed = backend.models()
    if json:
        print(listed.model_dump_json())
        return
    rows = [
        ("*" if model.name == listed.default else "", model.name, model.language, _millions(model), model.description)
        for model in listed.models
    ]
    print_columns([("", "name", "language", "parameters", "description"), *rows])


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Name of a model.")],
    json: Json = False,
    url: Url = None,
    api_key: ApiKey = None,
    model_store: Store = None,
    device: Device = None,
    precision: Precision = None,
) -> None:
    """Show a model: limits, default parameters, digest, and its card."""
    with open_backend(Where(url, None, model_store, device, precision, api_key)) as backend:
        model = backend.model(name)
    if json:
        print(model.model_dump_json())
        return
    print_columns(facts(model))
    print()
    if not sys.stdout.isatty():
        print(model.card.rstrip("\n"))
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown("\n".join(map(harmless, model.card.splitlines()))))


def _millions(model: Model) -> str:
    return f"{model.parameter_count / 1e6:.1f} M"
