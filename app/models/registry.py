"""Which family a checkpoint belongs to. Heavy libraries load only for the family in use."""

import importlib
from pathlib import Path

from app.errors import CheckpointError
from app.models.base import Seq2SeqModel
from app.models.checkpoint import CONFIG, MANIFEST, Checkpoint
from app.models.config import told

FAMILIES = {"lstm": "app.models.lstm.family:load", "transformers": "app.models.transformers.family:load"}


def available(store: Path) -> list[str]:
    """Names of the checkpoints in a model store, sorted: its folders that hold a manifest, or have lost it."""
    found = (path.parent.name for name in (MANIFEST, CONFIG) for path in store.glob(f"*/{name}"))
    return sorted({name for name in found if not name.startswith(".")})


def load(store: Path, name: str, *, device: str = "auto", precision: str = "auto") -> Seq2SeqModel:
    """Verify and load one checkpoint.

    Raises CheckpointError when it is missing, damaged or of an unknown family.
    """
    names = available(store)
    if name not in names:
        there = ", ".join(names) or "none"
        raise CheckpointError(f"no checkpoint {name!r} in {store} (there: {there}); it is a folder with a {MANIFEST}")
    checkpoint = Checkpoint(store / name)
    family = checkpoint.config.get("family")
    if not isinstance(family, str) or family not in FAMILIES:
        unknown = f"unknown family {told(family)} (known: {', '.join(FAMILIES)})"
        raise CheckpointError(f"{store / name / CONFIG}: {unknown}; use a checkpoint of one that is known")
    module, _, function = FAMILIES[family].partition(":")
    model: Seq2SeqModel = getattr(importlib.import_module(module), function)(
        checkpoint, device=device, precision=precision
    )
    checkpoint.verify()  # what the family did not read
    return model
