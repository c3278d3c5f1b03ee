"""Summaries a second and latency of a real server process over a real socket, closed loop."""

import asyncio
import itertools
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from benchmarks.texts import mixed_texts

START_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Load:
    """One closed loop: `clients` callers, each sending its next text when the last is answered. Latencies in ms."""

    clients: int
    beams: int
    rate: float
    median: float
    p95: float


@contextmanager
def server(settings: dict[str, str]) -> Iterator[str]:
    """A service of its own on a free port of loopback; stopped by SIGTERM."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, **settings, "PRECIS_PORT": str(port), "PRECIS_LOG_LEVEL": "error"}
    with subprocess.Popen([sys.executable, "-m", "app"], env=environment) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, process)
            yield url
        finally:
            process.terminate()
            process.wait(60)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.get(f"{url}/readyz").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"the server at {url} did not become ready")


async def closed_loop(url: str, texts: Sequence[str], clients: int, beams: int) -> Load:
    """Send every text once."""
    waiting = iter(texts)
    latencies: list[float] = []

    async def caller(client: httpx2.AsyncClient) -> None:
        for text in waiting:
            body: dict[str, Any] = {"text": text, "parameters": {"num_beams": beams}}
            started = time.perf_counter()
            answer = await client.post("/summarize", json=body)
            latencies.append(1000 * (time.perf_counter() - started))
            answer.raise_for_status()

    limits = httpx2.Limits(max_connections=clients)
    async with httpx2.AsyncClient(base_url=url, limits=limits, timeout=120) as client:
        started = time.perf_counter()
        await asyncio.gather(*(caller(client) for _ in range(clients)))
        seconds = time.perf_counter() - started
    ordered = sorted(latencies)
    return Load(clients, beams, len(texts) / seconds, statistics.median(ordered), ordered[int(0.95 * len(ordered))])


def measure(count: int, rounds: int, clients: Sequence[int], beams: Sequence[int], precision: str) -> list[Load]:
    """Medians over interleaved rounds, one row for each number of clients and of beams."""
    texts = mixed_texts(count)
    measured: dict[tuple[int, int], list[Load]] = {}
    with server({"PRECIS_PRECISION": precision}) as url:
        asyncio.run(closed_loop(url, texts[:32], 8, 1))  # warm-up
        for _ in range(rounds):
            for key in itertools.product(clients, beams):
                few = texts if key[0] > 1 else texts[: max(20, count // 4)]
                measured.setdefault(key, []).append(asyncio.run(closed_loop(url, few, *key)))
    return [_median(loads) for loads in measured.values()]


def _median(loads: Sequence[Load]) -> Load:
    rate, median, p95 = (statistics.median(getattr(load, name) for load in loads) for name in ("rate", "median", "p95"))
    return Load(loads[0].clients, loads[0].beams, rate, median, p95)
