"""`precis models verify`: whether checkpoints are whole, and what is wrong with those that are not."""

from pathlib import Path
from typing import Annotated

import orjson
import typer

from app.cli.options import Json, Store
from app.cli.output import complain, told
from app.config import load_settings
from app.errors import CheckpointError


def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Checkpoints; all of the store when left out.")
    ] = None,
    json: Json = False,
    model_store: Store = None,
) -> None:
    """Check digests, configuration, tokenizer and weights of checkpoints: OK, or what is wrong and exit status 1.

    Every file is compared with the sha256 in the manifest, and the checkpoint is loaded as the service would.
    """
    from app.models import registry

    store = model_store or load_settings().model_store
    chosen = names or registry.available(store)
    if not chosen:
        raise CheckpointError(f"no checkpoint in {store}")
    if [name for name in chosen if not _is_intact(store, name, json)]:
        raise typer.Exit(1)


def _is_intact(store: Path, name: str, json: bool) -> bool:
    """Tells it, too: what is wrong on standard error, or all as one JSON object a line."""
    from app.models import registry

    try:
        digest = registry.load(store, name, device="cpu", precision="float32").info.digest
    except CheckpointError as error:
        if json:
            _print({"name": name, "ok": False, "error": told(error)})
        else:
            complain(error, name)
        return False
    size = sum(path.stat().st_size for path in (store / name).iterdir())
    if json:
        _print({"name": name, "ok": True, "digest": digest, "bytes": size})
    else:
        print(f"{name}: OK, {size / 1e6:.1f} MB, {digest}", flush=True)
    return True


def _print(line: dict[str, object]) -> None:
    print(orjson.dumps(line).decode(), flush=True)
