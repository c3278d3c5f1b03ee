"""Latency where texts come at random moments, at shares of our maximum, beside the median of an idle server."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import load
from benchmarks.comparison import OURS, Plan, ask, warm_up
from benchmarks.report import Results, plot, say, table
from benchmarks.systems import Server, System, running
from benchmarks.texts import mixed_texts

SHARES = (0.3, 0.6, 0.8)
CLIENTS = 64  # in the closed loop that finds the maximum
UNLOADED_TEXTS = 60


def measure(plan: Plan, shares: Sequence[float], folder: Path) -> str:
    """Every round: our maximum, then every system at the same rates."""
    kept = Results(folder, "open-loop", ("system", "beams", "share"))
    kept.forget(lambda record: record["kind"] in plan.only)
    texts = mixed_texts(plan.texts)
    for number in range(plan.rounds):
        for system in plan.systems:
            try:
                with running(system, log=kept.folder / "open-loop.log") as server:
                    warm_up(system, server, texts)
                    for beams in plan.beams:
                        _one_round(system, server, texts, beams, shares, plan.seconds, number, kept)
            except Exception as error:  # as in the comparison
                say(f"{system.name} is left out of round {number}: {type(error).__name__}: {error}")
    return _report(kept)


def _one_round(
    system: System,
    server: Server,
    texts: Sequence[str],
    beams: int,
    shares: Sequence[float],
    seconds: float,
    number: int,
    kept: Results,
) -> None:
    bodies = [system.body(text, beams) for text in texts]
    same = {"kind": system.kind, "system": system.name, "beams": beams, "round": number}
    unloaded = load.one_by_one(server.url, bodies[:UNLOADED_TEXTS])
    kept.add({**same, "share": 0.0, "planned": 0.0, **asdict(unloaded)})
    if system.kind == OURS:
        maximum = load.closed_loop(server.url, bodies, CLIENTS, seconds)
        kept.add({**same, "share": 1.0, "planned": 0.0, **asdict(maximum)})
    for share in shares:
        rate = share * _maximum(kept, beams)
        measured = load.open_loop(server.url, bodies, rate, seconds, seed=number)
        kept.add({**same, "share": share, "planned": rate, **asdict(measured)})
        say(f"{system.name}, round {number}, {beams} beams, {share:.0%} of our maximum: p99 {measured.p99:.0f} ms")
        ask(system, server, texts[:1], 1)  # peers go on with texts that nobody waits for


def _maximum(kept: Results, beams: int) -> float:
    """Ours, the latest. Raises ValueError where it was not measured yet."""
    found = [record for record in kept.read() if record["share"] == 1.0 and record["beams"] == beams]
    if not found:
        raise ValueError("our own maximum is not known yet: measure precis first")
    return float(found[-1]["rate"])


def _report(kept: Results) -> str:
    medians = kept.medians()
    rows = []
    for record in sorted(medians, key=lambda one: (one["system"], one["beams"], one["share"])):
        idle = _unloaded(medians, record)
        share = {0.0: "one at a time", 1.0: "maximum (closed loop)"}.get(record["share"], f"{record['share']:.0%}")
        latencies = [f"{record[name]:.0f}" for name in ("p50", "p95", "p99")]
        times = f"{record['p99'] / idle:.1f}" if idle else "-"
        errors = f"{record['errors']:g}"
        rows.append((record["system"], record["beams"], share, f"{record['rate']:.1f}", *latencies, times, errors))
    names = ("system", "beams", "load", "summaries/s", "p50 ms", "p95 ms", "p99 ms", "p99 / idle median", "errors")
    loaded = [record for record in medians if 0.0 < record["share"] < 1.0]
    lines: dict[str, list[tuple[float, float]]] = {}
    for record in loaded:
        lines.setdefault(f"{record['system']}, {record['beams']} beams", []).append((record["share"], record["p99"]))
    plot(kept.folder / "open-loop.png", "Open loop", ("share of our maximum", "p99 in ms"), lines)
    how = (
        "Arrivals are Poisson; latency counts from the planned arrival; texts without an answer after twice the "
        f"time of the run are errors. The maximum is that of a closed loop of {CLIENTS} clients, just before."
    )
    return kept.write([how, table(names, rows), "![p99](open-loop.png)"])


def _unloaded(medians: Sequence[dict[str, object]], record: dict[str, object]) -> float:
    for other in medians:
        if other["share"] == 0.0 and all(other[name] == record[name] for name in ("system", "beams")):
            return float(str(other["p50"]))
    return 0.0
