"""What is left of the memory once a model is loaded, or another one has gone."""

import ctypes
import gc
from contextlib import suppress


def settle() -> None:
    """Give back what loading needed for a moment, and never look for garbage again in what stays.

    To look through it would stop everything for a tenth of a second. glibc keeps what is freed: 150 MB for news-en.
    """
    gc.collect()
    gc.freeze()
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def settle_again() -> None:
    """Look once more through what stays: a model has gone, and was a part of it."""
    gc.unfreeze()
    settle()
