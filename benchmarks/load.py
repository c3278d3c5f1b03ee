"""Load generators that cost the server little: wrk (in C) for closed loops, raw sockets for open ones.

Closed: each of so many clients sends its next text when the last is answered. Open: texts come at random moments,
whatever the server does (Poisson), and latency counts from the moment planned, so that a slow answer hides no other
(coordinated omission).
"""

import asyncio
import itertools
import json
import math
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

SCRIPT = Path(__file__).with_name("closed.lua")
ANSWER_SECONDS = 300
FEWEST_ANSWERS = 16
EXTRA_SECONDS = 300
ROUTE = "/summarize"


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. Latencies in ms; `rate` in answers a second, up to the last of them, so that no batch is cut in two.

    Latencies of a closed loop are those of the texts answered within it: with very many clients, of the first ones.
    """

    rate: float
    answers: int
    errors: int
    p50: float
    p95: float
    p99: float


def closed_loop(
    url: str, bodies: Sequence[bytes], clients: int, seconds: float, each: int = 0, route: str = ROUTE
) -> Measured:
    """By wrk where it is installed; it goes on for longer where hardly anything was answered.

    each: answers that every client has to get on average; the time until the first of them is then not counted in the
    rate, so that slow servers, which take long to fill, are measured as fast ones are.
    """
    run = _wrk if shutil.which("wrk") else _closed_in_python
    return run(url, bodies, clients, seconds, each, route)


def generator() -> str:
    """What closed loops are made by."""
    return "wrk" if shutil.which("wrk") else "raw sockets in Python"


def _wrk(url: str, bodies: Sequence[bytes], clients: int, seconds: float, each: int, route: str) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        texts, output = Path(folder) / "bodies", Path(folder) / "output.json"
        texts.write_bytes(b"\n".join(bodies) + b"\n")
        longest = math.ceil(seconds) + EXTRA_SECONDS
        options = ["-t1", f"-c{clients}", f"-d{longest}s", f"--timeout={ANSWER_SECONDS}s"]
        arguments = [str(texts), route, str(seconds), str(_fewest(clients, each)), str(output)]
        command = ["wrk", *options, "-s", str(SCRIPT), url, "--", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=longest + 60)
        result: dict[str, Any] = json.loads(output.read_text())
    answers, percentiles = result["answers"], result["percentiles"]
    return Measured(
        _rate(answers, clients if each else 0),
        len(answers),
        result["wrong"] + result["errors"],
        *(percentiles[name] for name in ("50", "95", "99")),
    )


def _fewest(clients: int, each: int) -> int:
    return max(FEWEST_ANSWERS, each * clients)


def _rate(answers: Sequence[float], skipped: int) -> float:
    """Answers a second. answers: seconds from the beginning, in order; the first few are when it is filled."""
    if len(answers) <= skipped:
        return 0.0
    since = answers[skipped - 1] if skipped else 0.0
    return (len(answers) - skipped) / (answers[-1] - since)


def _closed_in_python(
    url: str, bodies: Sequence[bytes], clients: int, seconds: float, each: int, route: str
) -> Measured:
    async def load(sender: "_Sender") -> None:
        waiting = itertools.cycle(bodies)

        async def client() -> None:
            while True:
                await sender.send(next(waiting), time.perf_counter())

        tasks = [asyncio.create_task(client()) for _ in range(clients)]
        await asyncio.sleep(seconds)
        for _ in range(EXTRA_SECONDS):
            if len(sender.latencies) + sender.errors >= _fewest(clients, each):
                break
            await asyncio.sleep(1.0)
        for task in tasks:  # what is not answered by now is not counted
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    return _run(url, load, clients if each else 0, route)


def one_by_one(url: str, bodies: Sequence[bytes]) -> Measured:
    """Every text once, one after the other, over one connection."""

    async def load(sender: "_Sender") -> None:
        for body in bodies:
            await sender.send(body, time.perf_counter())

    return _run(url, load)


def open_loop(url: str, bodies: Sequence[bytes], rate: float, seconds: float, seed: int) -> Measured:
    """Texts at `rate` a second on average, for so long. What is not answered after twice as long is an error."""

    async def load(sender: "_Sender") -> None:
        waiting = itertools.cycle(bodies)
        started = time.perf_counter()
        tasks = []
        for moment in arrivals(rate, seconds, seed):
            planned = started + moment
            if (early := planned - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            tasks.append(asyncio.create_task(sender.send(next(waiting), planned)))
        _, unanswered = await asyncio.wait(tasks, timeout=2 * seconds)
        for task in unanswered:
            task.cancel()
        sender.errors += len(unanswered)

    return _run(url, load)


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Moments of a Poisson process."""
    source = random.Random(seed)
    moment = source.expovariate(rate)
    while moment < seconds:
        yield moment
        moment += source.expovariate(rate)


def _run(
    url: str, load: Callable[["_Sender"], Coroutine[Any, Any, None]], skipped: int = 0, route: str = ROUTE
) -> Measured:
    async def main() -> Measured:
        sender = _Sender(url, route)
        started = time.perf_counter()
        try:
            await load(sender)
        finally:
            sender.close()
        return sender.measured(started, skipped)

    return asyncio.run(main())


@dataclass(slots=True)
class _Sender:
    """Requests over kept connections, as many as are needed at once. An HTTP library costs several ms a request."""

    url: str
    route: str = ROUTE
    latencies: list[float] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    errors: int = 0
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def send(self, body: bytes, planned: float) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status = await self._exchange(request(self.url, body, route=self.route))
        except (OSError, EOFError, TimeoutError, ValueError):
            status = 0
        if status != 200:
            self.errors += 1
            return
        self.moments.append(time.perf_counter())
        self.latencies.append(1000 * (self.moments[-1] - planned))

    async def _exchange(self, sent: bytes) -> int:
        """Over a connection that is kept, unless something comes between."""
        reader, writer = self._idle.pop() if self._idle else await self._connect()
        try:
            writer.write(sent)
            status, _, _ = await read_answer(reader)
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        return status

    def measured(self, started: float, skipped: int) -> Measured:
        count = len(self.latencies)
        p50, p95, p99 = np.percentile(self.latencies, (50, 95, 99)).tolist() if count else (0.0, 0.0, 0.0)
        rate = _rate([moment - started for moment in self.moments], skipped)
        return Measured(rate, count, self.errors, p50, p95, p99)

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = urlsplit(self.url)
        return await asyncio.open_connection(address.hostname, address.port)


def request(url: str, body: bytes, *headers: str, route: str = ROUTE) -> bytes:
    """As it goes over a socket; `headers` are more of them."""
    lines = [f"POST {route} HTTP/1.1", f"Host: {urlsplit(url).netloc}", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case, and all of the body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body = await _read_chunks(reader)
    return int(head[0].split(" ")[1]), headers, body


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readline()).strip(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return bytes(body)
