"""Encoder-decoders of well-known sizes: ours, the library's `generate` and CTranslate2, served and offline.

Everybody has the same random weights, and is told to write as many tokens as all others.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import load, offline
from benchmarks import tune as tunings
from benchmarks.comparison import KEYS, OFFLINE, OURS, search, served_table, take_turn
from benchmarks.comparison import Plan as Comparison
from benchmarks.folders import SIZES, folder_of
from benchmarks.peers.items import Item
from benchmarks.peers.settings import PeerSettings
from benchmarks.report import Record, Results, say, table
from benchmarks.systems import System
from benchmarks.texts import mixed_texts

OFFLINE_TEXTS = 128
OFFLINE_ROWS = 64
PRECISIONS = ("float32", "bfloat16", "int8")


class Contender(NamedTuple):
    """A server, what runs the model behind it, and in which precisions."""

    kind: str
    runtime: str
    precisions: tuple[str, ...]


CONTENDERS: Mapping[str, Contender] = {
    "precis": Contender(OURS, "generate", PRECISIONS),
    "plain": Contender("plain", "generate", ("float32", "bfloat16")),
    "litserve": Contender("litserve", "generate", ("float32", "bfloat16")),
    "ctranslate2": Contender("litserve", "ctranslate2", ("float32", "int8")),
}
ALL = (*CONTENDERS, OFFLINE)


@dataclass(frozen=True, slots=True)
class Plan(Comparison):
    """What is measured. sizes: of `SIZES`. length: tokens of every summary. store: where the folders are put."""

    only: Sequence[str] = ALL
    clients: Sequence[int] = (1, 8, 64)
    beams: Sequence[int] = (1,)
    texts: int = 128
    each: int = 3
    sizes: Sequence[str] = ("bart-base", "t5-small")
    precisions: Sequence[str] = PRECISIONS
    length: int = 32
    store: Path = Path("runs") / "transformers"

    def store_of(self, size: str) -> Path:
        """One for each: a service loads all of its store, and would do so while it is measured."""
        return self.store / size

    @property
    def systems(self) -> list[System]:
        return [
            System(
                kind,
                precision,
                str(self.store_of(size)),
                size,
                replace(self.tuning, runtime=runtime, length=self.length),
            )
            for size in self.sizes
            for name, (kind, runtime, precisions) in CONTENDERS.items()
            if name in self.only
            for precision in precisions
            if precision in self.precisions
        ]


def measure(plan: Plan, folder: Path, resume: bool) -> str:
    """Measure what the plan names and report all that is in the folder."""
    prepare(plan)
    kept = Results(folder, "transformers", KEYS)
    if not resume:
        names = {(system.model, name) for system in plan.systems for name in (system.name, _offline_name(system))}
        kept.forget(lambda record: (record["model"], record["system"]) in names)
    texts = mixed_texts(plan.texts)
    for number in range(plan.rounds):
        for system in plan.systems:
            take_turn(system, plan, texts, number, kept)
            if OFFLINE in plan.only and system.kind != "plain":
                _offline(system, plan, texts[:OFFLINE_TEXTS], number, kept)
    return report(plan, kept)


def tune(plan: Plan, folder: Path) -> str:
    """The peers that make batches, in every tuning of `benchmarks.tune`."""
    peers = replace(plan, only=[name for name in plan.only if name in ("litserve", "ctranslate2")])
    prepare(peers)
    return tunings.measure(peers, folder)


def prepare(plan: Plan) -> None:
    """Write and convert what is not there yet."""
    for size in plan.sizes:
        folder = folder_of(plan.store_of(size), size)
        if "ctranslate2" in plan.only:
            from benchmarks.peers.ctranslate import convert  # of an extra of its own

            offline.alone(convert, folder)


def _offline(system: System, plan: Plan, texts: Sequence[str], number: int, kept: Results) -> None:
    for beams in plan.beams:
        same = {
            "kind": OFFLINE,
            "model": system.model,
            "system": _offline_name(system),
            "round": number,
            "beams": beams,
        }
        if kept.has(**same):
            continue
        try:
            rows, rate = _offline_rate(system, texts, beams)
        except Exception as error:  # as where it is served
            say(f"{same['system']}, {system.model}, is left out: {type(error).__name__}: {error}")
            continue
        kept.add({**same, "rows": rows, "rate": rate})
        say(f"{same['system']}, {system.model}, round {number}, {beams} beams, {rows} rows: {rate:.1f}/s")


def _offline_name(system: System) -> str:
    return f"{OFFLINE} {system.name}"


def _offline_rate(system: System, texts: Sequence[str], beams: int) -> tuple[int, float]:
    """Rows of a batch, and summaries a second where all texts are known; of ours the better of both ways."""
    tuning = system.tuning
    if not system.ours:
        settings = replace(tuning, folder=system.folder, precision=system.precision)
        return tuning.batch, offline.alone(peer_rate, settings, texts, beams)
    ways = offline.measure(
        system.precision, texts, beams, OFFLINE_ROWS, system.store, system.model, length=tuning.length
    )
    return OFFLINE_ROWS, max(ways.values())


def peer_rate(settings: PeerSettings, texts: Sequence[str], beams: int) -> float:
    """Summaries a second of a peer's model in this process: batches of like length, the longest first.

    Its tokenizing is counted (ours is not): a few ms for all texts.
    """
    model = settings.load()
    items = [Item(text, beams) for text in sorted(texts, key=len, reverse=True)]
    batches = [items[start : start + settings.batch] for start in range(0, len(items), settings.batch)]
    model.summarize(batches[-1])
    started = time.perf_counter()
    for batch in batches:
        model.summarize(batch)
    return len(items) / (time.perf_counter() - started)


def report(plan: Plan, kept: Results) -> str:
    """Tables of all that is there."""
    medians = kept.medians()
    parts = [_how(plan)]
    for size in SIZES:
        for beams in sorted({record["beams"] for record in medians if record["model"] == size}):
            found = [record for record in medians if (record["model"], record["beams"]) == (size, beams)]
            parts += [f"## {size}, {search(beams).lower()}", *_tables(found)]
    return kept.write(parts)


def _how(plan: Plan) -> str:
    tuning = plan.tuning
    return (
        f"Closed loop by {load.generator()}, on the same machine as the servers; medians of the rounds, in which the "
        "servers took turns. All have the same random weights and answer the same real texts of mixed length with "
        f"summaries of {plan.length} tokens; a run goes on until every client has had {plan.each} on average, and the "
        "time until the first of them is not counted. "
        f"LitServe gives its model batches of at most {tuning.batch} that waited {tuning.wait_ms} ms; "
        f"{tuning.workers} process with {tuning.threads} kernel threads runs it "
        "(`python -m benchmarks transformers --tune`). Offline all texts are known, and sorted by length. `same`: "
        "share of summaries equal to those of the library's `generate` in float32."
    )


def _tables(records: Sequence[Record]) -> Iterator[str]:
    served = [record for record in records if record["kind"] != OFFLINE]
    if served:
        yield served_table(served)
    if ratios := list(_ratios(served)):
        yield table(
            ("ours", "clients", "summaries/s", "times generate in static batches", "CTranslate2 float32", "int8"),
            ratios,
        )
    if known := [record for record in records if record["kind"] == OFFLINE]:
        names = ("all texts known, no HTTP", "rows", "summaries/s", "rounds")
        yield table(names, [(one["system"], one["rows"], f"{one['rate']:.1f}", one["rounds"]) for one in known])


def _ratios(served: Sequence[Record]) -> Iterator[tuple[Any, ...]]:
    """Ours in every precision over the peers: over `generate` in the better one."""
    for record in served:
        if record["kind"] == OURS:
            same = {one["system"]: one["rate"] for one in served if one["clients"] == record["clients"]}
            batches = [rate for system, rate in same.items() if system.startswith("litserve generate")]
            peers = [
                max(batches, default=0.0),
                *(same.get(f"litserve ctranslate2 {kind}", 0.0) for kind in ("float32", "int8")),
            ]
            times = [f"{record['rate'] / rate:.2f}" if rate else "-" for rate in peers]
            yield record["system"], record["clients"], f"{record['rate']:.1f}", *times
