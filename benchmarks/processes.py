"""What the processes of a service hold, as the system tells it."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.systems import descendants


@dataclass(frozen=True, slots=True)
class Held:
    """By one process. Memory that several share counts in parts (Pss)."""

    pid: int
    mib: float
    files: int
    threads: int


def held(pid: int) -> Held:
    """Raises OSError where it is gone."""
    folder = Path(f"/proc/{pid}")
    size = re.search(r"^Pss:\s+(\d+) kB$", (folder / "smaps_rollup").read_text(), re.MULTILINE)
    if size is None:
        raise ProcessLookupError(pid)
    files = len(list((folder / "fd").iterdir()))
    return Held(pid, int(size[1]) / 1024, files, len(list((folder / "task").iterdir())))


def family(pid: int) -> list[Held]:
    """A process, first, and all that it has started. Raises OSError where it is gone."""
    return [held(pid), *_living(descendants(pid))]


def _living(pids: dict[int, str]) -> Iterator[Held]:
    for pid in pids:
        with suppress(OSError):
            yield held(pid)


def resident_mib(pid: int) -> float:
    """Memory that a process and all those it started use; what they share counts once."""
    return sum(each.mib for each in family(pid))


def children(pid: int) -> list[int]:
    """The processes that this one started, and nobody they started."""
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


def lanes(pid: int) -> set[int]:
    """The processes in which a service decodes: forked from those that have loaded the models."""
    return {lane for child in children(pid) for zygote in children(child) for lane in children(zygote)}


def age(pid: int) -> float:
    """Seconds since it began; 0 where it is gone."""
    try:
        began = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        return float(Path("/proc/uptime").read_text().split()[0]) - began / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def catches(pid: int, number: signal.Signals) -> bool:
    found = re.search(r"^SigCgt:\s+([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (number - 1) & 1)
