"""What the system tells of processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.processes import age, catches, children, family, held, lanes
from benchmarks.systems import descendants
from tests.api.waiting import eventually

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


@pytest.mark.parametrize(
    ("code", "threads", "files", "mib"),
    [
        ("threading.Thread(target=threading.Event().wait, daemon=True).start()", 1, 0, 0),
        ("file = open(os.devnull)", 0, 1, 0),
        ("block = os.urandom(32 << 20)", 0, 0, 32),
    ],
)
def test_memory_files_and_threads_are_counted(code: str, threads: int, files: int, mib: int) -> None:
    with python("import os, threading") as plain, python(f"import os, threading; {code}") as more:
        before, after = held(plain.pid), held(more.pid)
    assert after.threads == before.threads + threads
    assert after.files == before.files + files
    assert after.mib - before.mib == pytest.approx(mib, abs=8)


def test_a_family_is_a_process_and_all_it_started() -> None:
    with python("import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()'])") as process:
        first, child = family(process.pid)
        assert first.pid == process.pid
        assert age(child.pid) <= age(process.pid)
    with pytest.raises(FileNotFoundError):
        family(process.pid)
    assert age(process.pid) == 0


def test_lanes_are_forked_from_what_another_process_has_forked() -> None:
    start = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', {!r}])"
    with python(start.format(start.format("input()") + "; input()")) as process:
        eventually(lambda: len(descendants(process.pid)) == 2)
        (lane,) = descendants(process.pid).keys() - children(process.pid)
        assert lane in lanes(os.getpid())


@pytest.mark.parametrize(
    ("code", "caught"), [("", False), ("import signal; signal.signal(signal.SIGHUP, lambda *_: None)", True)]
)
def test_it_is_known_whether_a_signal_would_be_the_end(code: str, caught: bool) -> None:
    with python(code or "pass") as process:
        assert catches(process.pid, signal.SIGHUP) is caught
