"""Texts a second in batch requests, as those send them who have many at once, in turns with the offline limit.

A request for one text pays for HTTP, its reading and its answer; one for many pays that once.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load, offline
from benchmarks.report import Results, say, table
from benchmarks.systems import System, running
from benchmarks.texts import mixed_texts

BATCH = "/summarize/batch"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured. asked: texts in a request, and clients in a closed loop."""

    beams: Sequence[int] = (1, 4)
    asked: Sequence[tuple[int, int]] = ((1, 64), (8, 64), (64, 8))
    rounds: int = 3
    seconds: float = 5.0
    texts: int = 1_000


def measure(precision: str, plan: Plan, folder: Path) -> str:
    """Each rate is held against the mean of the limits before and after it."""
    kept = Results(folder, "batches", ("beams", "size", "clients"))
    kept.forget(lambda _: True)
    texts, system = mixed_texts(plan.texts), System("precis", precision)
    for beams in plan.beams:
        limit = offline.Limit(precision, texts, beams)
        for number in range(plan.rounds):
            with running(system) as server:
                rates = [_served(system, server.url, texts, beams, *asked, plan.seconds) for asked in plan.asked]
            mean = limit.around()
            for (size, clients), rate in zip(plan.asked, rates, strict=True):
                known = {"beams": beams, "size": size, "clients": clients, "round": number}
                kept.add({**known, "rate": rate, "limit": mean, "share": rate / mean})
                say(f"round {number}, {beams} beams, {clients} clients, {size} texts: {rate:.0f} of {mean:.0f}/s")
    return kept.write([_report(kept)])


def _served(
    system: System, url: str, texts: Sequence[str], beams: int, size: int, clients: int, seconds: float
) -> float:
    """Texts a second. Raises RuntimeError where any request failed."""
    bodies = [_body(system, texts[first : first + size], beams) for first in range(0, len(texts), size)]
    route = load.ROUTE if size == 1 else BATCH
    load.closed_loop(url, bodies, clients, 1.0, route=route)
    found = load.closed_loop(url, bodies, clients, seconds, route=route)
    if found.errors:
        raise RuntimeError(f"{found.errors} requests of {size} texts failed")
    return size * found.rate


def _body(system: System, texts: Sequence[str], beams: int) -> bytes:
    if len(texts) == 1:
        return system.body(texts[0], beams)
    return json.dumps({"texts": texts, "parameters": {"num_beams": beams}, "timeout_ms": 600_000}).encode()


def _report(kept: Results) -> str:
    rows = [
        (
            record["beams"],
            record["clients"],
            record["size"],
            *(f"{record[name]:.0f}" for name in ("rate", "limit")),
            f"{record['share']:.2f}",
        )
        for record in kept.medians()
    ]
    return table(("beams", "clients", "texts in a request", "summaries/s", "offline limit", "share"), rows)
