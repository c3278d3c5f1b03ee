"""Many who read summaries while they are written: when tokens come, and what readers cost who do not read."""

import asyncio
import itertools
import json
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import numpy as np

from benchmarks import load
from benchmarks.report import Results, say, table
from benchmarks.systems import System, running
from benchmarks.texts import mixed_texts

TEXTS = 400
WARM_UP_SECONDS = 2.0
TOKEN = b"event: token\n"
DONE = b"event: done\n"
LONG_TEXTS = 100  # in one text for those who do not read: some 190 kB of events, left in buffers
FEW_BYTES = 4096
QUEUE = {"PRECIS_MAX_QUEUE": "100000", "PRECIS_MAX_QUEUE_TOKENS": "100000000"}  # long texts are many, in parts
PATIENCE = 600.0


@dataclass(slots=True)
class Heard:
    """What came of all streams: ms until each first token, and between the tokens that did not come together."""

    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    tokens: int = 0
    answers: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """So many who stream; so many who wait for whole summaries, beside so many who do not read."""

    clients: int = 200
    others: int = 64
    stalled: int = 50
    rounds: int = 3
    seconds: float = 10.0


def measure(precision: str, plan: Plan, folder: Path) -> str:
    """Every round: streams, then whole summaries alone, then the same beside those who do not read."""
    kept = Results(folder, "streams", ("what",))
    kept.forget(lambda _: True)
    system, texts = System("precis", precision), mixed_texts(TEXTS)
    whole = [system.body(text, 1) for text in texts]
    streamed = [stream_body(text) for text in texts]
    with running(system, QUEUE) as server:
        load.closed_loop(server.url, whole, plan.others, WARM_UP_SECONDS)
        for number in range(plan.rounds):
            heard = asyncio.run(listen(server.url, streamed, plan.clients, plan.seconds))
            kept.add({"what": "streams", "round": number, **_figures(heard, plan.seconds)})
            alone = load.closed_loop(server.url, whole, plan.others, plan.seconds)
            kept.add({"what": "alone", "round": number, **asdict(alone)})
            with stalled(server.url, "\n".join(texts[:LONG_TEXTS]), plan.stalled) as unread:
                beside = load.closed_loop(server.url, whole, plan.others, plan.seconds)
                complete = sum(map(read_on, unread))
            kept.add({"what": "beside", "round": number, "complete": complete, **asdict(beside)})
            say(f"round {number}: {len(heard.first)} streams; {alone.rate:.1f} and {beside.rate:.1f} summaries/s")
    return _report(kept, plan)


def stream_body(text: str, truncation: str = "head") -> bytes:
    return json.dumps({"text": text, "truncation": truncation, "stream": True, "timeout_ms": 600_000}).encode()


async def listen(url: str, bodies: Sequence[bytes], clients: int, seconds: float) -> Heard:
    """So many streams at once; whoever has heard one asks for the next."""
    heard, waiting = Heard(), itertools.cycle(bodies)
    end = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
        try:
            while time.perf_counter() < end:
                await _hear(reader, writer, load.request(url, next(waiting)), heard)
        finally:
            writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return heard


async def _hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes, heard: Heard) -> None:
    before = time.perf_counter()
    writer.write(sent)
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        heard.errors += 1
        await reader.readexactly(int(re.findall(rb"content-length: (\d+)", head.lower())[0]))
        return
    size, times, ended = 1, heard.first, False
    while size:
        size = int(await reader.readuntil(b"\r\n"), 16)
        chunk = await reader.readexactly(size + 2)
        ended = ended or DONE in chunk
        if tokens := chunk.count(TOKEN):
            now = time.perf_counter()
            times.append(1000 * (now - before))
            before, times = now, heard.gaps
            heard.tokens += tokens
    heard.answers += ended
    heard.errors += not ended


@contextmanager
def stalled(url: str, text: str, readers: int) -> Iterator[list[socket.socket]]:
    """So many who have asked for a long stream and do not read it; all of it is written by now."""
    with ExitStack() as stack:
        unread = [stack.enter_context(socket.socket()) for _ in range(readers)]
        for one in unread:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, FEW_BYTES)
            one.settimeout(PATIENCE)
            one.connect((urlsplit(url).hostname, urlsplit(url).port))
            one.sendall(load.request(url, stream_body(text, "chunk")))
            one.recv(1)  # the first token is there: it was admitted
        while _busy(url):
            time.sleep(0.1)
        yield unread


def read_on(unread: socket.socket) -> bool:
    """Whether the rest is there."""
    last = b""
    while DONE not in last:
        more = unread.recv(1 << 16)
        if not more:
            return False
        last = last[-len(DONE) :] + more
    return True


def _busy(url: str) -> bool:
    lines = httpx2.get(f"{url}/metrics", timeout=PATIENCE).text.splitlines()
    return any(float(line.split()[-1]) for line in lines if re.match("precis_(live_rows|queue_texts){", line))


def _figures(heard: Heard, seconds: float) -> dict[str, float]:
    figures: dict[str, float] = {"answers": heard.answers, "errors": heard.errors, "tokens": heard.tokens}
    for name, times in (("first", heard.first), ("gap", heard.gaps)):
        p50, p99 = np.percentile(times, (50, 99)).tolist() if times else (0.0, 0.0)
        figures |= {f"{name}_p50": p50, f"{name}_p99": p99}
    return {**figures, "rate": heard.answers / seconds}


def _report(kept: Results, plan: Plan) -> str:
    found = {record["what"]: record for record in kept.medians()}
    streams, alone, beside = found["streams"], found["alone"], found["beside"]
    tokens = [f"{streams[name]:.1f}" for name in ("first_p50", "first_p99", "gap_p50", "gap_p99")]
    names = ("streams at once", "first token p50 ms", "p99", "between tokens p50 ms", "p99", "streams/s", "errors")
    first = table(names, [(plan.clients, *tokens, f"{streams['rate']:.1f}", f"{streams['errors']:g}")])
    rows = [
        (name, f"{one['rate']:.1f}", f"{one['p50']:.0f}", f"{one['p99']:.0f}", f"{one['errors']:g}")
        for name, one in ((f"{plan.others} clients alone", alone), (f"beside {plan.stalled} who do not read", beside))
    ]
    second = table(("whole summaries", "summaries/s", "p50 ms", "p99 ms", "errors"), rows)
    ratio = beside["rate"] / alone["rate"] if alone["rate"] else 0.0
    how = (
        f"Ratio: {ratio:.2f}. Streams that were not read for {plan.seconds:g} s and then complete: "
        f"{beside['complete']:g} of {plan.stalled}. Streams are read by one Python process on the same cores; "
        f"whole summaries by {load.generator()}."
    )
    return kept.write([first, second, how])
