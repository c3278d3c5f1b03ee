"""Which family a checkpoint belongs to. Heavy libraries load only for the family in use."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.errors import CheckpointError
from app.models.base import Seq2SeqModel
from app.models.checkpoint import CONFIG, CONFIG_BYTES, MANIFEST, Checkpoint, read_json
from app.models.config import told

FAMILIES = {"lstm": "app.models.lstm.family:load", "transformers": "app.models.transformers.family:load"}
IMPORTS = {"transformers": "app.models.transformers.importing:bring"}


def available(store: Path) -> list[str]:
    """Names of the checkpoints in a model store, sorted: its folders that hold a manifest, or have lost it."""
    found = (path.parent.name for name in (MANIFEST, CONFIG) for path in store.glob(f"*/{name}"))
    return sorted({name for name in found if not name.startswith(".")})


def load(store: Path, name: str, *, device: str = "auto", precision: str = "auto") -> Seq2SeqModel:
    """Verify and load one checkpoint.

    Raises CheckpointError when it is missing, damaged, of an unknown family or of one that is not installed.
    """
    names = available(store)
    if name not in names:
        there = ", ".join(names) or "none"
        raise CheckpointError(f"no checkpoint {name!r} in {store} (there: {there}); it is a folder with a {MANIFEST}")
    checkpoint = Checkpoint(store / name)
    load_as = _function(FAMILIES, checkpoint.config, store / name)
    model: Seq2SeqModel = load_as(checkpoint, device=device, precision=precision)
    checkpoint.verify()  # what the family did not read
    return model


def bring(source: Path, draft: Path) -> list[tuple[str, str]]:
    """Put what belongs to a checkpoint, which was made elsewhere, into an empty folder; names and values to tell of it.

    Raises CheckpointError when that cannot be served, and OSError when it cannot be written.
    """
    rows: list[tuple[str, str]] = _function(IMPORTS, _peek(source), source)(source, draft)
    return rows


def _function(functions: Mapping[str, str], config: Mapping[str, Any], folder: Path) -> Any:
    family = _family(config)
    if not isinstance(family, str) or family not in functions:
        unknown = f"unknown family {told(family)} (known: {', '.join(functions)})"
        raise CheckpointError(f"{folder / CONFIG}: {unknown}; use a checkpoint of one that is known")
    module, _, name = functions[family].partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("app"):
            raise
        wanted = f"a checkpoint of the family {family}, for which {error.name} is not installed"
        raise CheckpointError(f"{folder}: {wanted}; say pip install 'precis[{family}]'") from error


def _family(config: Mapping[str, Any]) -> object:
    """A Hugging Face folder names the type of a model instead."""
    return "transformers" if "family" not in config and "model_type" in config else config.get("family")


def _peek(folder: Path) -> dict[str, Any]:
    """The configuration of a folder that nobody has verified."""
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; name a folder that holds a checkpoint")
    if path.stat().st_size > CONFIG_BYTES:
        raise CheckpointError(f"{path}: {path.stat().st_size:,} bytes, where at most {CONFIG_BYTES:,} belong")
    return read_json(path)
