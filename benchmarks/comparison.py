"""Ours, the peers and the offline limit in a closed loop: interleaved rounds, one server at a time.

A server is started, warmed up, asked for a few summaries that are compared with those of the peers' own model (so that
nobody is fast by writing something else), and loaded. One that does not start, or fails, is told and left out.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import torch

from benchmarks import load, offline
from benchmarks.peers.items import Item
from benchmarks.peers.settings import PeerSettings
from benchmarks.report import Record, Results, plot, say, table
from benchmarks.systems import JSON, KINDS, Server, System, running
from benchmarks.texts import mixed_texts

OURS, OFFLINE = "precis", "offline"
PEERS = tuple(kind for kind in KINDS if kind != OURS)
ALL = (OURS, *PEERS, OFFLINE)
KEYS = ("model", "system", "clients", "beams", "rows")
WARM_UP_TEXTS = 24  # BentoML tries the first two dozen nearly one by one
COMPARED_TEXTS = 16
QUIET_SECONDS = 10.0
OFFLINE_TEXTS = 200


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured."""

    only: Sequence[str] = ALL
    precision: str = "auto"  # of ours
    peer_precisions: Sequence[str] = ("float32", "bfloat16")
    clients: Sequence[int] = (1, 8, 64, 256)
    beams: Sequence[int] = (1, 4)
    rounds: int = 3
    seconds: float = 4.0
    each: int = 0  # answers of every client, where the slowest need more time than that
    texts: int = 400
    rows: Sequence[int] = ()  # of the offline limit; where none are named, some that fit the device
    tuning: PeerSettings = field(default_factory=PeerSettings)

    @property
    def systems(self) -> list[System]:
        ours = [System(OURS, self.precision)] if OURS in self.only else []
        return ours + [
            System(kind, precision, tuning=self.tuning)
            for kind in PEERS
            if kind in self.only
            for precision in self.peer_precisions
        ]


def results(folder: Path) -> Results:
    return Results(folder, "comparison", KEYS)


def measure(plan: Plan, folder: Path, resume: bool) -> str:
    """Measure what the plan names and report all that is in the folder."""
    kept = results(folder)
    if not resume:
        kept.forget(lambda record: record["kind"] in plan.only)
    texts = mixed_texts(plan.texts)
    for number in range(plan.rounds):
        for system in plan.systems:
            take_turn(system, plan, texts, number, kept)
        if OFFLINE in plan.only:
            _offline(plan, texts, number, kept)
    return report(kept)


def take_turn(system: System, plan: Plan, texts: Sequence[str], number: int, kept: Results) -> None:
    """Measure one system for one round, but for what is kept already; a failure is told."""
    same = {"kind": system.kind, "model": system.model, "system": system.name, "round": number}
    cells = [(clients, beams) for clients in plan.clients for beams in plan.beams]
    cells = [cell for cell in cells if not kept.has(**same, clients=cell[0], beams=cell[1])]
    log = kept.folder / f"{system.name} {system.model}.log".replace(" ", "-")
    try:
        while cells:
            with running(system, log=log) as server:
                warm_up(system, server, texts)
                _cells(system, server, plan, texts, cells, same, kept)
    except Exception as error:  # a peer that fails must not end the comparison
        what = f"{type(error).__name__}: {error} (see {log})"
        say(f"{system.name}, {system.model}, is left out of round {number}: {what}")


def _cells(
    system: System,
    server: Server,
    plan: Plan,
    texts: Sequence[str],
    cells: list[tuple[int, int]],
    same: Record,
    kept: Results,
) -> None:
    """Measure what is left in `cells` until the server has too much to do that nobody waits for any more."""
    agreement = {beams: agreeing(system, server, texts, beams) for beams in plan.beams}
    while cells:
        clients, beams = cells.pop(0)
        bodies = [system.body(text, beams) for text in texts]
        measured = load.closed_loop(server.url, bodies, clients, plan.seconds, plan.each)
        kept.add({**same, "beams": beams, "clients": clients, "same": agreement[beams], **asdict(measured)})
        where = f"{system.model}, round {same['round']}, {beams} beams, {clients} clients"
        say(f"{system.name}, {where}: {measured.rate:.1f}/s, {measured.errors} errors")
        if cells and not _quiet(system, server, texts[0]):
            return


def _quiet(system: System, server: Server, text: str) -> bool:
    """Wait until the texts of clients who left are done: peers go on with them. False where a new server is quicker."""
    try:
        ask(system, server, [text], beams=1, seconds=QUIET_SECONDS)
    except httpx2.TransportError:
        return False
    return True


def _offline(plan: Plan, texts: Sequence[str], number: int, kept: Results) -> None:
    for beams in plan.beams:
        for rows in plan.rows or offline.ROWS[torch.cuda.is_available()]:
            same = {"kind": OFFLINE, "round": number, "beams": beams, "rows": rows}
            if kept.has(**same):
                continue
            for way, rate in offline.measure(plan.precision, texts[:OFFLINE_TEXTS], beams, rows).items():
                kept.add({**same, "system": f"{OFFLINE} {way}", "rate": rate})
                say(f"offline {way}, round {number}, {beams} beams, {rows} rows: {rate:.1f}/s")


def warm_up(system: System, server: Server, texts: Sequence[str]) -> None:
    """For whatever a server tries out at its beginning."""
    ask(system, server, texts[:WARM_UP_TEXTS], beams=1)


def ask(
    system: System,
    server: Server,
    texts: Sequence[str],
    beams: int,
    seconds: float = load.ANSWER_SECONDS,
    **parameters: Any,
) -> list[str]:
    """The summaries of these texts, sent all at once. Raises an error of the HTTP library where one is not answered."""

    def one(text: str) -> str:
        body = system.body(text, beams, **parameters)
        answer = httpx2.post(f"{server.url}{load.ROUTE}", content=body, headers=JSON, timeout=seconds)
        answer.raise_for_status()
        return system.summary(answer.json())

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(one, texts))


def agreeing(system: System, server: Server, texts: Sequence[str], beams: int) -> float:
    """Share of summaries that are those of the peers' model in float32."""
    some = tuple(texts[:COMPARED_TEXTS])
    parameters = {"numbers_from_source": False} if system.ours else {}
    written = ask(system, server, some, beams, **parameters)
    return sum(map(str.__eq__, written, _expected(system.reference, some, beams))) / len(some)


@cache
def _expected(reference: PeerSettings, texts: tuple[str, ...], beams: int) -> list[str]:
    return reference.load().summarize([Item(text, beams) for text in texts])


def report(kept: Results) -> str:
    """Tables and plots of all that is there."""
    medians = kept.medians()
    parts = [_how()]
    for beams in sorted({record["beams"] for record in medians}):
        parts += _report_beams(kept.folder, beams, [record for record in medians if record["beams"] == beams])
    return kept.write(parts)


def _how() -> str:
    return (
        f"Closed loop by {load.generator()}, on the same machine as the servers; medians of the rounds, in which the "
        "servers took turns. All answer the same real texts of mixed length with the options of the checkpoint; only "
        "ours also keeps to the numbers of the source. Peers run the network in plain PyTorch, in one process whose "
        "kernels use all cores, in batches of at most 32 that wait 10 ms (`python -m benchmarks tune`; BentoML chooses "
        "its wait itself). Of very many clients' texts only the first are answered within a run, and their latencies "
        "are those of these. `same`: share of summaries equal to those of the peers' model in float32."
    )


def _report_beams(folder: Path, beams: int, records: Sequence[Record]) -> list[str]:
    served = [record for record in records if "clients" in record]
    limit = max((record["rate"] for record in records if record["kind"] == OFFLINE), default=None)
    parts = [f"## {search(beams)}", served_table(served), *_ratios(served, limit)]
    offline_rows = [
        (record["system"], record["rows"], f"{record['rate']:.1f}", record["rounds"])
        for record in records
        if record["kind"] == OFFLINE
    ]
    if offline_rows:
        parts.append(table(("all texts known, no HTTP", "rows", "summaries/s", "rounds"), offline_rows))
    if served:
        path = folder / f"comparison-{beams}.png"
        systems = dict.fromkeys(record["system"] for record in served)
        lines = {
            system: [(record["clients"], record["rate"]) for record in served if record["system"] == system]
            for system in systems
        }
        plot(path, search(beams), ("clients", "summaries a second"), lines)
        parts.append(f"![{search(beams)}]({path.name})")
    return parts


def search(beams: int) -> str:
    """What a search is called at the beginning of a line."""
    return "Greedy" if beams == 1 else f"{beams} beams"


def served_table(served: Sequence[Record]) -> str:
    """A line for each system and number of clients."""
    names = ("system", "clients", "summaries/s", "p50 ms", "p95 ms", "p99 ms", "errors", "same", "rounds")
    rows = [
        (
            record["system"],
            record["clients"],
            f"{record['rate']:.1f}",
            *(f"{record[name]:.0f}" for name in ("p50", "p95", "p99")),
            f"{record['errors']:g}",
            f"{record['same']:.2f}",
            record["rounds"],
        )
        for record in served
    ]
    return table(names, rows)


def _ratios(served: Sequence[Record], limit: float | None) -> list[str]:
    """Ours over the best of the peers in each precision, and over the offline limit."""
    rows = []
    for record in served:
        if record["kind"] != OURS:
            continue
        cells = [record["clients"], f"{record['rate']:.1f}"]
        for precision in ("float32", "bfloat16"):
            same = [other for other in served if other["clients"] == record["clients"] and other["kind"] != OURS]
            peers = [other for other in same if other["system"].endswith(precision)]
            best = max(peers, key=lambda other: float(other["rate"]), default=None)
            cells.append(f"{record['rate'] / best['rate']:.2f} ({best['system']})" if best and best["rate"] else "-")
        rows.append((*cells, f"{record['rate'] / limit:.2f}" if limit else "-"))
    names = ("clients", "ours, summaries/s", "times the best peer in float32", "in bfloat16", "share of offline limit")
    return [table(names, rows)] if rows else []
