"""Which family a checkpoint belongs to. Heavy libraries load only for the family in use."""

from pathlib import Path

from app.models.base import Seq2SeqModel


def available(store: Path) -> list[str]:
    """Names of the checkpoints in a model store, sorted."""
    raise NotImplementedError


def load(store: Path, name: str, *, device: str = "auto", precision: str = "auto") -> Seq2SeqModel:
    """Verify and load one checkpoint.

    Raises CheckpointError when it is missing, damaged or of an unknown family.
    """
    raise NotImplementedError
