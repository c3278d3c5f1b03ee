"""The process that the lanes are forked from: it loads the libraries once and does nothing else. Light to import."""

import multiprocessing
import os
import signal
from contextlib import suppress
from multiprocessing import forkserver, util

PRELOADED = ["app.engine.process", "app.models.registry"]


def begin() -> None:
    """Start it beforehand, where that can be."""
    with suppress(OSError, ValueError):
        prepare()


def prepare() -> None:
    """Start it, if it does not run. Raises OSError where the system refuses, ValueError where it cannot fork."""
    multiprocessing.get_context("forkserver")
    os.makedirs(util.get_temp_dir(), mode=0o700, exist_ok=True)  # where it listens: somebody may have tidied up
    multiprocessing.set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()


def give_up(pid: int) -> None:
    """End it, for it cannot be reached any more: the next time another one is started. Lanes go on without it."""
    with suppress(OSError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # fails unless it is still our own
        os.kill(pid, signal.SIGKILL)
