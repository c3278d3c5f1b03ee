"""The process that lanes are forked from obeys whoever reaches its socket: nobody else may."""

import multiprocessing.util
import stat
import sys
from pathlib import Path

import pytest

from app.engine import forks


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere lanes are threads")
def test_the_fork_server_listens_where_its_own_user_alone_can_reach_it() -> None:
    forks.prepare()
    folder = Path(multiprocessing.util.get_temp_dir())
    (listener,) = (path for path in folder.iterdir() if path.is_socket())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(listener.stat().st_mode) == 0o600
