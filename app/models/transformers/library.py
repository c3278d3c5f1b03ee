"""How the library is kept quiet, and what it raises is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.utils import logging

from app.errors import CheckpointError, PrecisError, in_one_line

logging.set_verbosity_error()  # type: ignore[no-untyped-call]
logging.disable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def raised_by_library(path: Path) -> Iterator[None]:
    """Whatever odd values make the library raise is a CheckpointError that names the file."""
    try:
        yield
    except PrecisError:
        raise
    except Exception as error:
        reason = in_one_line(error)[:200]
        raise CheckpointError(f"{path}: the library cannot take it ({reason}); correct it, or save it again") from error
