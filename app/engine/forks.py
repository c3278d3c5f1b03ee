"""The process that the lanes are forked from: it loads the libraries once and does nothing else. Light to import."""

import multiprocessing
from multiprocessing import forkserver

PRELOADED = ["app.engine.process", "app.models.registry"]


def available() -> bool:
    return "forkserver" in multiprocessing.get_all_start_methods()


def prepare() -> None:
    """Start it, if it does not run."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()
