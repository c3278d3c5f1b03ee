"""Very many clients for a long time: errors, memory, and how long the event loop is held up."""

import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import httpx2

from benchmarks import load
from benchmarks.processes import resident_mib
from benchmarks.report import Results, plot, say, table
from benchmarks.systems import System, running
from benchmarks.texts import mixed_texts

LAG = "precis_event_loop_lag_seconds"
SAMPLE_SECONDS = 5.0
_BUCKET = re.compile(rf'^{LAG}_bucket{{.*?le="(?P<edge>[^"]+)".*?}} (?P<count>\S+)$', re.MULTILINE)


def measure(precision: str, clients: int, minutes: float, folder: Path) -> str:
    """One closed loop of so many clients."""
    kept = Results(folder, "connections", ("clients",))
    kept.forget(lambda _: True)
    system = System("precis", precision)
    bodies = [system.body(text, 1) for text in mixed_texts(400)]
    with running(system) as server:
        load.closed_loop(server.url, bodies, min(clients, 64), 2.0)
        before, memory, over = _lags(server.url), [(0.0, resident_mib(server.pid))], threading.Event()

        def watch() -> None:
            started = time.monotonic()
            while not over.wait(SAMPLE_SECONDS):
                memory.append((time.monotonic() - started, resident_mib(server.pid)))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            measured = load.closed_loop(server.url, bodies, clients, 60 * minutes)
        finally:
            over.set()
            watcher.join()
        lag = percentile({edge: count - before.get(edge, 0.0) for edge, count in _lags(server.url).items()}, 0.99)
    memory.append((60 * minutes, memory[-1][1]))
    settled = memory[min(len(memory) - 1, 1 + int(60 * minutes / 10 / SAMPLE_SECONDS))][1]
    kept.add(
        {
            "clients": clients,
            "minutes": minutes,
            "answers": measured.answers,
            "errors": measured.errors,
            "rate": measured.rate,
            "p50": measured.p50,
            "p99": measured.p99,
            "settled_mib": settled,
            "most_mib": max(size for _, size in memory),
            "end_mib": memory[-1][1],
            "lag_p99_ms": None if lag is None else 1000 * lag,
        }
    )
    say(f"{measured.answers} answers, {measured.errors} errors")
    plot(folder / "connections.png", "Memory", ("seconds", "MiB"), {"resident": memory[1:]})
    rows = [(name, f"{value:.1f}" if isinstance(value, float) else value) for name, value in kept.read()[-1].items()]
    how = "`settled`: after a tenth of the time. `lag`: of the event loop; None where it is not told."
    return kept.write([how, table(("what", "value"), rows), "![Memory](connections.png)"])


def _lags(url: str) -> Mapping[float, float]:
    """Counts of the histogram at the edges of its buckets; empty where the service has none."""
    text = httpx2.get(f"{url}/metrics", timeout=60).text
    return {float(found["edge"]): float(found["count"]) for found in _BUCKET.finditer(text)}


def percentile(buckets: Mapping[float, float], share: float) -> float | None:
    """The upper edge of the bucket in which it lies; None for an empty histogram."""
    total = max(buckets.values(), default=0.0)
    return next((edge for edge, count in sorted(buckets.items()) if count >= share * total), None) if total else None
