"""The processes of a service, found from outside."""

from pathlib import Path

from benchmarks.processes import children


def forkserver(service: int) -> int | None:
    """What zygotes are forked from, if it runs."""
    found = [pid for pid in children(service) if b"multiprocessing.forkserver" in _command(pid)]
    return found[-1] if found else None


def zygotes(service: int) -> list[int]:
    """What lanes are forked from, one for each model: forked from the present forkserver."""
    server = forkserver(service)
    return children(server) if server else []


def lanes(service: int) -> list[int]:
    """Those that were forked from them."""
    return [lane for zygote in zygotes(service) for lane in children(zygote)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
