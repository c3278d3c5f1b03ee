"""What the system tells of processes."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.processes import age, catches, family, held, lanes

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs /proc")


@contextmanager
def python(code: str) -> Iterator["subprocess.Popen[bytes]"]:
    """That runs this, then says so, and waits."""
    command = [sys.executable, "-c", f"{code}; print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.communicate(b"\n")


def test_memory_files_and_threads_are_counted(tmp_path: Path) -> None:
    before, over = held(os.getpid()), threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    with (tmp_path / "file").open("w"):
        block = bytearray(os.urandom(32 << 20))
        after = held(os.getpid())
    over.set()
    thread.join()
    assert after.threads == before.threads + 1
    assert after.files == before.files + 1
    assert after.mib > before.mib + len(block) / 2**21


def test_a_family_is_a_process_and_all_it_started() -> None:
    with python("import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()'])") as process:
        first, child = family(process.pid)
        assert first.pid == process.pid
        assert child.pid in lanes(os.getpid())
        assert age(child.pid) <= age(process.pid)
    with pytest.raises(FileNotFoundError):
        family(process.pid)
    assert age(process.pid) == 0


@pytest.mark.parametrize(
    ("code", "caught"), [("", False), ("import signal; signal.signal(signal.SIGHUP, lambda *_: None)", True)]
)
def test_it_is_known_whether_a_signal_would_be_the_end(code: str, caught: bool) -> None:
    with python(code or "pass") as process:
        assert catches(process.pid, signal.SIGHUP) is caught
