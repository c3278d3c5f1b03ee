"""The service under load, while the processes that it runs in are killed and stopped: who notices, and for how long."""

import os
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from random import Random

import httpx2

from benchmarks.impatient import PATIENCE_SECONDS
from benchmarks.processes import children
from benchmarks.report import Results, say, table
from benchmarks.systems import JSON, Server, System, running
from benchmarks.texts import mixed_texts

RECOVERY_SECONDS = 120.0  # whoever takes longer never recovers
LOOK_SECONDS = 0.01
MOST_PAUSE_SECONDS = 2.0  # between a recovery and the next fault
BACK = "is back"  # in the log, for each lane


@dataclass(frozen=True, slots=True)
class Impatient(System):
    """Ours, with less patience."""

    def command(self, port: int) -> list[str]:  # noqa: ARG002  # it is told by the environment
        return [sys.executable, "-m", "benchmarks.impatient"]


@dataclass(slots=True)
class Processes:
    """The lanes of a service, and what they are forked from, by their numbers; known since they were first seen."""

    service: int
    _lanes: dict[int, str] = field(default_factory=dict)  # with the moment when each began

    @property
    def forkserver(self) -> int:
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(self.service)}
        return next(pid for pid, command in commands.items() if b"forkserver" in command)

    @property
    def zygotes(self) -> list[int]:
        return children(self.forkserver)

    @property
    def lanes(self) -> list[int]:
        """Those alive: also when what they were forked from is not."""
        self._lanes |= {pid: _began(pid) for zygote in self.zygotes for pid in children(zygote)}
        self._lanes = {pid: began for pid, began in self._lanes.items() if began and _began(pid) == began}
        return list(self._lanes)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to the lanes and what they are forked from."""

    name: str
    number: int
    all_lanes: bool = False
    ancestors: bool = False

    def inject(self, processes: Processes, random: Random) -> int:
        """How many lanes it costs."""
        lanes, ancestors = processes.lanes, [processes.forkserver, *processes.zygotes]
        struck = lanes if self.all_lanes else [random.choice(lanes)]
        for pid in [*(ancestors if self.ancestors else ()), *struck]:
            os.kill(pid, self.number)
        return len(struck)


FAULTS = (
    Fault("a lane is killed", signal.SIGKILL),
    Fault("all lanes are killed", signal.SIGKILL, all_lanes=True),
    Fault("a lane and what it is forked from are killed", signal.SIGKILL, ancestors=True),
    Fault(f"a lane is stopped (given up after {PATIENCE_SECONDS:g} s)", signal.SIGSTOP),
)


@dataclass(slots=True)
class Load:
    """Clients that each send their next text when the last is answered, and compare summaries."""

    url: str
    system: System
    expected: dict[str, str]
    counts: Counter[str] = field(default_factory=Counter)
    over: threading.Event = field(default_factory=threading.Event)

    def call(self, seed: int) -> None:
        random, texts = Random(seed), list(self.expected)
        with httpx2.Client(timeout=600) as client:
            while not self.over.is_set():
                text = random.choice(texts)
                self.counts[self._outcome(client, text)] += 1

    def _outcome(self, client: httpx2.Client, text: str) -> str:
        try:
            answer = client.post(f"{self.url}/summarize", content=self.system.body(text, 1), headers=JSON)
        except httpx2.TransportError as error:
            return type(error).__name__
        if answer.status_code != 200:
            return f"status {answer.status_code}"
        return "same" if answer.json()["summary"] == self.expected[text] else "different"


def measure(precision: str, faults: int, clients: int, texts: int, folder: Path, seed: int = 1) -> str:
    """So many faults in turn, each at a random moment after the service has recovered from the one before."""
    kept = Results(folder, "faults", ("fault", "seconds"))
    kept.forget(lambda _: True)
    system, log, random = Impatient("precis", precision), folder / "faults.log", Random(seed)
    log.unlink(missing_ok=True)
    with running(system, {"PRECIS_LOG_LEVEL": "warning"}, log) as server:
        load = Load(server.url, system, _undisturbed(server.url, system, mixed_texts(texts)))
        processes = Processes(server.pid)
        with ThreadPoolExecutor(clients) as pool:
            calls = [pool.submit(load.call, seed + number) for number in range(clients)]
            try:
                for number, fault in zip(range(faults), cycle(FAULTS)):
                    time.sleep(random.uniform(0.0, MOST_PAUSE_SECONDS))
                    unready, whole = _recovery(server, log, partial(fault.inject, processes, random))
                    kept.add({"fault": fault.name, "unready": unready, "seconds": whole})
                    say(f"{number + 1}: {fault.name}: whole again after {whole:.2f} s, unready for {unready:.2f} s")
            finally:
                load.over.set()
        for call in calls:
            call.result()
        again = _undisturbed(server.url, system, list(load.expected)) == load.expected
    return kept.write(_report(kept, load.counts, again, clients))


def _undisturbed(url: str, system: System, texts: Sequence[str]) -> dict[str, str]:
    with httpx2.Client(timeout=600) as client:
        posts = ((text, client.post(f"{url}/summarize", content=system.body(text, 1), headers=JSON)) for text in texts)
        return {text: answer.raise_for_status().json()["summary"] for text, answer in posts}


def _recovery(server: Server, log: Path, inject: Callable[[], int]) -> tuple[float, float]:
    """Seconds for which /readyz told otherwise, and until all lanes were there again."""
    before = log.read_text().count(BACK)
    began = last = time.monotonic()
    lost = inject()
    unready = 0.0
    with httpx2.Client(timeout=60) as client:
        while time.monotonic() - began < RECOVERY_SECONDS:
            ready = client.get(f"{server.url}/readyz").status_code == 200
            now = time.monotonic()
            unready += 0.0 if ready else now - last
            last = now
            if ready and log.read_text().count(BACK) >= before + lost:
                return unready, now - began
            time.sleep(LOOK_SECONDS)
    raise RuntimeError("the service does not recover")


def _report(kept: Results, counts: Counter[str], again: bool, clients: int) -> list[str]:
    groups: dict[str, list[tuple[float, float]]] = {}
    for record in kept.read():
        groups.setdefault(record["fault"], []).append((record["seconds"], record["unready"]))
    groups["all"] = [times for group in list(groups.values()) for times in group]
    rows = []
    for name, times in groups.items():
        whole, unready = zip(*times, strict=True)
        figures = (statistics.median(whole), max(whole), statistics.median(unready), max(unready))
        rows.append((name, len(times), *(f"{figure:.2f}" for figure in figures)))
    failed = sum(count for outcome, count in counts.items() if outcome not in ("same", "different"))
    outcomes = [(name, count) for name, count in sorted(counts.items()) if name not in ("same", "different")]
    facts = [
        ("requests", sum(counts.values())),
        ("failed", failed),
        *outcomes,
        ("with another summary than undisturbed", counts["different"]),
        ("texts with the same summary afterwards", "all" if again else "not all"),
    ]
    how = (
        f"{clients} clients in a closed loop. `whole`: seconds from the fault until all lanes are there again; "
        "`unready`: seconds for which `/readyz` says so meanwhile: while no lane is there."
    )
    names = ("fault", "times", "whole, median", "whole, worst", "unready, median", "unready, worst")
    return [how, table(names, rows), table(("what", "count"), facts)]


def _began(pid: int) -> str:
    """When a process began; nothing where it has ended."""
    try:
        state, *values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else values[18]
