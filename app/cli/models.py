"""`precis models`: what there is to summarize with, and whether it is intact."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from app.cli.backend import Where, open_backend
from app.cli.options import ApiKey, Device, Json, Precision, Store, Url
from app.cli.output import complain, harmless
from app.config import load_settings
from app.errors import CheckpointError
from app.schemas import Model

EXAMPLES = """[bold]Examples[/bold]

precis models list

precis models show news-zh

precis models verify
"""
app = typer.Typer(no_args_is_help=True, epilog=EXAMPLES, help="List the models, show one, verify checkpoints.")


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
    _print_columns([("", "name", "language", "parameters", "description"), *rows])


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
    _print_columns(_facts(model))
    print()
    if not sys.stdout.isatty():
        print(model.card.rstrip("\n"))
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown("\n".join(map(harmless, model.card.splitlines()))))


@app.command("verify")
def verify(
    name: Annotated[str | None, typer.Argument(help="One checkpoint; all of the store when left out.")] = None,
    model_store: Store = None,
) -> None:
    """Check digests, configuration, tokenizer and weights of checkpoints: OK, or what is wrong and exit status 1.

    Every file is compared with the sha256 in the manifest, and the checkpoint is loaded as the service would.
    """
    from app.models import registry

    store = model_store or load_settings().model_store
    names = registry.available(store) if name is None else [name]
    if not names:
        raise CheckpointError(f"no checkpoint in {store}")
    if [each for each in names if not _is_intact(store, each)]:
        raise typer.Exit(1)


def _is_intact(store: Path, name: str) -> bool:
    """Tells it, too."""
    from app.models import registry

    try:
        info = registry.load(store, name, device="cpu", precision="float32").info
    except CheckpointError as error:
        complain(error, name)
        return False
    size = sum(path.stat().st_size for path in (store / name).iterdir())
    print(f"{name}: OK, {size / 1e6:.1f} MB, {info.digest}", flush=True)
    return True


def _facts(model: Model) -> list[tuple[str, str]]:
    return [
        ("name", model.name),
        ("family", model.family),
        ("language", model.language),
        ("description", model.description),
        ("digest", model.digest),
        ("parameters", f"{model.parameter_count:,}"),
        ("computed", f"in {model.precision} on {model.device}"),
        *((name.replace("_", " "), str(value)) for name, value in model.limits),
        *((f"--{name.replace('_', '-')}", str(value)) for name, value in model.default_parameters),
    ]


def _millions(model: Model) -> str:
    return f"{model.parameter_count / 1e6:.1f} M"


def _print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Every column as wide as its longest; the last one ends where it ends."""
    from rich.cells import cell_len, set_cell_size

    shown = [[harmless(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*shown, strict=True)][:-1]
    for row in shown:
        cells = [set_cell_size(cell, width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[-1]]))
