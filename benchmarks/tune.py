"""How the peers were tuned: from batches of 32, 10 ms and one process for all cores, one thing is changed at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks import load
from benchmarks.comparison import Plan, warm_up
from benchmarks.peers.settings import PeerSettings
from benchmarks.report import Results, cores, say, table
from benchmarks.systems import System, running
from benchmarks.texts import mixed_texts

CLIENTS = 64
BATCHES = (8, 16, 64)
WAITS = (2, 50)


def tunings() -> Iterator[PeerSettings]:
    """The one in use first."""
    used = PeerSettings()
    yield used
    for batch in BATCHES:
        yield replace(used, batch=batch)
    for wait in WAITS:
        yield replace(used, wait_ms=wait)
    yield replace(used, threads=1)
    if cores() > 1:
        yield replace(used, workers=cores(), threads=1)


def measure(plan: Plan, folder: Path) -> str:
    """Summaries a second of every peer that makes batches, in every tuning."""
    kept = Results(folder, "tune", ("model", "system", "batch", "wait_ms", "workers", "threads"))
    names = {(system.model, system.name) for system in plan.systems}
    kept.forget(lambda record: (record["model"], record["system"]) in names)
    texts = mixed_texts(plan.texts)
    for tuning in tunings():
        for system in replace(plan, tuning=tuning).systems:
            try:
                _one(system, plan.seconds, texts, kept)
            except Exception as error:  # as in the comparison
                say(f"{system.name} is left out: {type(error).__name__}: {error}")
    columns = ("model", "system", "batch", "wait_ms", "workers", "threads", "rate", "p50")
    rows = [[_cell(record[name]) for name in columns] for record in kept.medians()]
    return kept.write([f"Greedy, {CLIENTS} clients. BentoML chooses its wait itself.", table(columns, rows)])


def _one(system: System, seconds: float, texts: Sequence[str], kept: Results) -> None:
    with running(system, log=kept.folder / "tune.log") as server:
        warm_up(system, server, texts)
        measured = load.closed_loop(server.url, [system.body(text, 1) for text in texts], CLIENTS, seconds)
    tuning = {name: getattr(system.tuning, name) for name in ("batch", "wait_ms", "workers", "threads")}
    kept.add({"kind": system.kind, "model": system.model, "system": system.name, **tuning, **asdict(measured)})
    say(f"{system.name}, {system.model}, {tuning}: {measured.rate:.1f}/s")


def _cell(value: object) -> object:
    return f"{value:.1f}" if isinstance(value, float) else value
