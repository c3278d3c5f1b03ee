"""What doubling costs: the length of the source, that of the summary, beams and clients.

The cost of a text is the machine's time for it, one over the rate of a closed loop; of clients it is the time in which
each of them gets one answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.models.lstm.tokenizer import Tokenizer
from benchmarks import load
from benchmarks.report import Results, plot, say, table
from benchmarks.systems import System, running
from benchmarks.texts import mixed_texts

CLIENTS = 64
BODIES = 64
SOURCES = (25, 50, 100, 200, 400)
SUMMARIES = (8, 16, 32, 64)
BEAMS = (1, 2, 4, 8)
NUMBERS_OF_CLIENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class Case:
    """One size of one thing; `bodies` are sent by so many clients."""

    what: str
    size: int
    clients: int
    bodies: list[bytes]


def measure(precision: str, rounds: int, seconds: float, folder: Path) -> str:
    """Medians of interleaved rounds."""
    kept = Results(folder, "scaling", ("what", "size"))
    kept.forget(lambda _: True)
    system = System("precis", precision)
    every = list(cases(system, mixed_texts(400)))
    with running(system) as server:
        load.closed_loop(server.url, every[0].bodies, CLIENTS, seconds)
        for number in range(rounds):
            for case in every:
                measured = load.closed_loop(server.url, case.bodies, case.clients, seconds)
                cost = 1000 / measured.rate if case.what != "clients" else 1000 * case.clients / measured.rate
                kept.add({"what": case.what, "size": case.size, "round": number, "cost": cost, **asdict(measured)})
                say(f"round {number}, {case.what} {case.size}: {cost:.1f} ms")
    return _report(kept)


def cases(system: System, texts: Sequence[str]) -> Iterator[Case]:
    """All sizes of all four."""
    tokenizer = Tokenizer.load(Path(system.folder) / "tokenizer.json")
    for size in SOURCES:
        yield _case(system, "source tokens", size, sources(tokenizer, texts, size), beams=1)
    middle = sources(tokenizer, texts, 100)
    for size in SUMMARIES:
        exact = {"min_length": size, "max_length": size}
        yield _case(system, "summary tokens", size, middle, beams=1, **exact)
    for size in BEAMS:
        yield _case(system, "beams", size, middle, beams=size)
    for size in NUMBERS_OF_CLIENTS:
        yield Case("clients", size, size, [system.body(text, 1) for text in middle])


def _case(system: System, what: str, size: int, texts: Sequence[str], beams: int, **parameters: Any) -> Case:
    return Case(what, size, CLIENTS, [system.body(text, beams, **parameters) for text in texts])


def sources(tokenizer: Tokenizer, texts: Sequence[str], size: int) -> list[str]:
    """Real text cut into pieces of so many tokens."""
    whole = tokenizer.encode(" ".join(texts))
    pieces = [whole.spans[start : start + size] for start in range(0, len(whole.ids) - size, size)]
    return [whole.text[piece[0].start : piece[-1].end] for piece in pieces[:BODIES]]


def _report(kept: Results) -> str:
    medians = kept.medians()
    rows, lines = [], {}
    for what in dict.fromkeys(record["what"] for record in medians):
        points = sorted((record["size"], record["cost"]) for record in medians if record["what"] == what)
        lines[what] = points
        previous = None
        for size, cost in points:
            rows.append((what, size, f"{cost:.1f}", f"{cost / previous:.2f}" if previous else "-"))
            previous = cost
    plot(kept.folder / "scaling.png", "Cost", ("size", "ms"), lines)
    how = (
        f"One thing is doubled at a time: {CLIENTS} clients, greedy, sources of 100 tokens where nothing else is said. "
        "Linear is 2."
    )
    return kept.write([how, table(("what", "size", "cost ms", "times the half"), rows), "![Cost](scaling.png)"])
