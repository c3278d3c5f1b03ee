"""What a second replica behind nginx brings: one and two of them, each with one core, by the configuration that ships.

A replica is given one core as a container would be: all of its processes are bound to one of their own. nginx and the
load run wherever there is room, so on two cores they take from both replicas; how much processor time each of them took
stands beside the rates.
"""

import os
import re
import resource
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import load
from benchmarks.report import Results, cores, say, table
from benchmarks.systems import Server, System, descendants, free_port, running
from benchmarks.texts import mixed_texts

CONFIGURATION = Path("deploy/nginx/nginx.conf")
TEXTS = 200
START_SECONDS = 10.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Plan:
    clients: Sequence[int] = (1, 64)
    beams: Sequence[int] = (1, 4)
    rounds: int = 3
    seconds: float = 5.0


def measure(precision: str, plan: Plan, folder: Path) -> str:
    """Rates and medians with one replica and with two."""
    kept = Results(folder, "replicas", ("replicas", "clients", "beams"))
    kept.forget(lambda _: True)
    system = System("precis", precision)
    settings = {"PRECIS_CORES": "1"}
    with ExitStack() as stack:
        replicas = [stack.enter_context(running(system, settings)) for _ in range(2)]
        bind([replica.pid for replica in replicas])
        for number in range(plan.rounds):
            for count in (1, 2):
                with proxied(replicas[:count]) as proxy:
                    for beams in plan.beams:
                        for record in _load(system, proxy, replicas[:count], beams, plan):
                            kept.add({**record, "round": number})
                            say(f"round {number}: {count}, {record['clients']} clients: {record['rate']:.1f} a second")
    return kept.write(_report(kept, plan))


def _load(
    system: System, proxy: Server, replicas: Sequence[Server], beams: int, plan: Plan
) -> Iterator[dict[str, float]]:
    bodies = [system.body(text, beams) for text in mixed_texts(TEXTS)]
    load.closed_loop(proxy.url, bodies, 16, 1.0)
    for clients in plan.clients:
        with measured({"service": family([each.pid for each in replicas]), "proxy": family([proxy.pid])}) as times:
            found = load.closed_loop(proxy.url, bodies, clients, plan.seconds)
        facts = {"rate": found.rate, "p50": found.p50, "errors": found.errors}
        yield {"replicas": len(replicas), "clients": clients, "beams": beams, **facts, **times}


@contextmanager
def proxied(replicas: Sequence[Server]) -> Iterator[Server]:
    """nginx before them, with our configuration but for the addresses: here there is no name server of an engine."""
    port = free_port()
    servers = "".join(f"server {urlsplit(replica.url).netloc} max_fails=0;" for replica in replicas)
    text = re.sub(r"resolver\w* [^;]*;", "", CONFIGURATION.read_text())
    text = re.sub(r"server \S+ resolve max_fails=0;", servers, text)
    text = text.replace("listen 8080;", f"listen 127.0.0.1:{port};").replace("/dev/stdout", "/dev/null")
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder) / "nginx.conf"
        configuration.write_text(text.replace("/tmp/", f"{folder}/"))
        process = subprocess.Popen(["nginx", "-p", folder, "-c", configuration, "-g", "daemon off;"])
        try:
            _wait(process, port)
            yield Server(f"http://127.0.0.1:{port}", process.pid)
        finally:
            process.terminate()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise RuntimeError("nginx did not begin to listen")


def bind(services: Sequence[int]) -> None:
    """Each of them, with all of its processes, to a core of its own."""
    for number, service in enumerate(services):
        for pid in family([service]):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {sorted(os.sched_getaffinity(0))[number % cores()]})


def family(pids: Sequence[int]) -> set[int]:
    return {each for pid in pids for each in (pid, *descendants(pid))}


@contextmanager
def measured(groups: Mapping[str, set[int]]) -> Iterator[dict[str, float]]:
    """Cores that each group was busy with, and the load; filled in at the end."""
    found: dict[str, float] = {}
    began, before = time.monotonic(), {name: _seconds(pids) for name, pids in groups.items()}
    load_before = _children()
    yield found
    took = time.monotonic() - began
    found |= {f"{name}_cores": (_seconds(pids) - before[name]) / took for name, pids in groups.items()}
    found["load_cores"] = (_children() - load_before) / took


def _seconds(pids: set[int]) -> float:
    """Processor time of those who are still there."""
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(values[11]) + int(values[12])
    return ticks / TICKS


def _children() -> float:
    """Of the children that have ended: the load generators."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _report(kept: Results, plan: Plan) -> list[str]:
    medians = {(record["replicas"], record["clients"], record["beams"]): record for record in kept.medians()}
    rows = [
        (
            beams,
            clients,
            replicas,
            f"{record['rate']:.1f}",
            f"{record['rate'] / medians[1, clients, beams]['rate']:.2f}",
            f"{record['p50']:.1f}",
            *(f"{record[f'{name}_cores']:.2f}" for name in ("service", "proxy", "load")),
            record["errors"],
        )
        for beams in plan.beams
        for clients in plan.clients
        for replicas in (1, 2)
        for record in [medians[replicas, clients, beams]]
    ]
    how = (
        "Closed loops through nginx. Each replica runs on one core of its own. The last columns: cores that each was "
        "busy with; `proxy` is nginx, `load` the generator."
    )
    names = ("beams", "clients", "replicas", "rate", "times one replica", "median ms", "service", "proxy", "load")
    return [how, table([*names, "errors"], rows)]
