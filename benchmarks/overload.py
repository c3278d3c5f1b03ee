"""Ten times as many requests as can be answered: who is admitted, who is refused, and what is left of it afterwards.

The maximum is that of a closed loop. Generator, front and model share the machine's cores, so what is offered is not
all that is sent: a request that finds every connection waiting is only counted (`flood`). Callers stay until they are
answered; a request that the service admits must be answered within its own deadline, on the caller's clock.
"""

import http.client
import itertools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks import load
from benchmarks.flood import Flooded, flood
from benchmarks.processes import resident_mib
from benchmarks.report import Results, say, table
from benchmarks.systems import JSON, System, running
from benchmarks.texts import mixed_texts

TEXTS = 400
CLIENTS = 64  # in the closed loop that finds the maximum
IDLE_ANSWERS = 100
CALM = 10  # answers in a row that must be normal
SAMPLE_SECONDS = 0.5
SETTLING_SECONDS = 5.0  # before memory is read again


@dataclass(frozen=True, slots=True)
class Plan:
    """Loads are offered one after the other, each with deadlines of its own."""

    deadlines_ms: Sequence[int] = (2_000, 60_000)
    times: float = 10.0
    seconds: float = 60.0
    connections: int = 2_000
    closed_seconds: float = 10.0


def measure(precision: str, plan: Plan, folder: Path) -> str:
    """A server of its own for every deadline."""
    kept = Results(folder, "overload", ("deadline_ms",))
    kept.forget(lambda _: True)
    system, texts = System("precis", precision), mixed_texts(TEXTS)
    for deadline in plan.deadlines_ms:
        bodies = [_body(text, deadline) for text in texts]
        with running(system) as server:
            load.closed_loop(server.url, bodies, CLIENTS, plan.closed_seconds / 2)
            most = load.closed_loop(server.url, bodies, CLIENTS, plan.closed_seconds)
            idle = [_ask(server.url, body) for body in bodies[:IDLE_ANSWERS]]
            normal = float(np.percentile(idle, 99))
            before = resident_mib(server.pid)
            with _watched(server.pid) as sizes:
                flooded, recovery = _flood(server.url, bodies, plan, most.rate, normal)
            time.sleep(SETTLING_SECONDS)
            after = resident_mib(server.pid)
        kept.add(
            {
                "deadline_ms": deadline,
                "maximum": most.rate,
                "offered": flooded.offered / flooded.seconds,
                "sent": (flooded.offered - flooded.not_sent) / flooded.seconds,
                "answered": flooded.statuses[200],
                "refused": flooded.statuses[503],
                "others": sum(count for status, count in flooded.statuses.items() if status not in (200, 503)),
                "broken": flooded.broken,
                "without_retry_after": flooded.without_retry_after,
                "rate": flooded.statuses[200] / flooded.seconds,
                **{f"p{one}": float(np.percentile(flooded.latencies or [0.0], one)) for one in (50, 99)},
                "before_mib": before,
                "most_mib": max(sizes),
                "after_mib": after,
                "normal_ms": normal,
                "recovery_s": recovery,
            }
        )
        say(f"deadline {deadline} ms: {dict(flooded.statuses)}, normal again after {recovery:.1f} s")
    return _report(kept, plan)


def _body(text: str, deadline: int) -> bytes:
    return json.dumps({"text": text, "parameters": {"num_beams": 1}, "timeout_ms": deadline}).encode()


def _flood(url: str, bodies: Sequence[bytes], plan: Plan, most: float, normal: float) -> tuple[Flooded, float]:
    """What became of it, and the seconds from its end until answers came as fast as before."""
    over, found = threading.Event(), list[Flooded]()

    def run() -> None:
        try:
            rate = plan.times * most
            found.append(flood(url, bodies, rate, plan.seconds, plan.connections, offered_all=over.set))
        finally:
            over.set()

    thread = threading.Thread(target=run)
    thread.start()
    over.wait()
    recovery = _recovery(url, bodies, normal)
    thread.join()
    return found[0], recovery


def _recovery(url: str, bodies: Sequence[bytes], normal: float) -> float:
    """Seconds until the first of `CALM` answers in a row that took no longer than twice what is normal."""
    began = time.perf_counter()
    calm, since = 0, 0.0
    for body in itertools.cycle(bodies):
        asked = time.perf_counter()
        fast = _ask(url, body) <= 2 * normal
        since = asked - began if fast and not calm else since
        calm = calm + 1 if fast else 0
        if calm == CALM:
            break
    return since


def _ask(url: str, body: bytes) -> float:
    """Milliseconds until the answer; endless where it is another one than 200."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    try:
        began = time.perf_counter()
        connection.request("POST", load.ROUTE, body, JSON)
        answer = connection.getresponse()
        answer.read()
        return 1000 * (time.perf_counter() - began) if answer.status == 200 else float("inf")
    finally:
        connection.close()


@contextmanager
def _watched(pid: int) -> Iterator[list[float]]:
    """MiB of a process and all it started, now and then, until the block ends."""
    sizes, over = [resident_mib(pid)], threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_SECONDS):
            sizes.append(resident_mib(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield sizes
    finally:
        over.set()
        watcher.join()


def _report(kept: Results, plan: Plan) -> str:
    loads = [
        (
            f"{one['deadline_ms'] / 1000:g} s",
            f"{one['maximum']:.0f}",
            f"{one['offered']:.0f}",
            f"{one['sent']:.0f}",
            f"{one['rate']:.0f}",
            *(f"{one[name]:g}" for name in ("answered", "refused", "others", "broken", "without_retry_after")),
        )
        for one in kept.medians()
    ]
    costs = [
        (
            f"{one['deadline_ms'] / 1000:g} s",
            *(f"{one[name]:.0f}" for name in ("p50", "p99", "before_mib", "most_mib", "after_mib", "normal_ms")),
            f"{one['recovery_s']:.2f}",
        )
        for one in kept.medians()
    ]
    first = (
        "deadline",
        "maximum/s",
        "offered/s",
        "sent/s",
        "answered/s",
        "200",
        "503",
        "others",
        "broken",
        "no Retry-After",
    )
    second = (
        "deadline",
        "p50 ms of 200",
        "p99 ms",
        "MiB before",
        "most",
        "after",
        "idle p99 ms",
        "normal again after s",
    )
    how = (
        f"{plan.times:g} times the maximum of a closed loop of {CLIENTS} clients, for {plan.seconds:g} s, over at most "
        f"{plan.connections} connections, by one process on the same cores; what found all of them waiting was not "
        f"sent. Latency counts from the planned moment. Normal: {CALM} answers in a row within twice the p99 of an "
        "idle service; callers of the load stay until they are answered."
    )
    return kept.write([how, table(first, loads), table(second, costs)])
