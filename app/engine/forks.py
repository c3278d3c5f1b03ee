"""The process that the lanes are forked from: it loads the libraries once and does nothing else. Light to import."""

import multiprocessing
from contextlib import suppress
from multiprocessing import forkserver

PRELOADED = ["app.engine.process", "app.models.registry"]


def begin() -> None:
    """Start it beforehand, where that can be."""
    with suppress(OSError, ValueError):
        prepare()


def prepare() -> None:
    """Start it, if it does not run. Raises OSError where the system refuses, ValueError where it cannot fork."""
    multiprocessing.get_context("forkserver")
    multiprocessing.set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()
