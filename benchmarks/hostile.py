"""Generated requests and hostile bytes by the thousand: what was answered, how slowly at worst, what is left of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from benchmarks.processes import resident_mib
from benchmarks.report import Results, say, table
from benchmarks.systems import System, running
from tests.hostile import attacks, conversations, document
from tests.hostile.siege import Siege, Tally

SETTINGS = {"PRECIS_LOG_LEVEL": "info", "PRECIS_LOG_FORMAT": "json"}
WARM_UP = 200
SHOWN = 20  # of what is wrong


@dataclass(frozen=True, slots=True)
class Plan:
    """How many of each."""

    requests: int = 10_000
    bodies: int = 5_000
    heads: int = 2_000
    conversations: int = 2_000


def measure(precision: str, plan: Plan, folder: Path) -> tuple[str, int]:
    """The report, and how much was wrong."""
    kept = Results(folder, "hostile", ("what",))
    kept.forget(lambda _: True)
    log = folder / "hostile.log"
    log.unlink(missing_ok=True)
    found: list[str] = []
    with running(System("precis", precision), SETTINGS, log) as server:
        siege = Siege(urlsplit(server.url).port or 80, log)
        routes, paths = attacks.routes_of(siege.document), attacks.paths_of(siege.document)
        bodies = attacks.hostile_bodies(routes, huge=True)
        _draw(bodies, WARM_UP, siege.attack)
        before = resident_mib(server.pid)
        phases: dict[str, Callable[[], list[str]]] = {
            "generated requests": lambda: document.explore(siege, plan.requests),
            "hostile bodies": lambda: _draw(bodies, plan.bodies, siege.attack),
            "hostile heads": lambda: _draw(attacks.hostile_heads(routes, paths), plan.heads, siege.attack),
            "hostile conversations": lambda: _draw(conversations.bytes_like_http(), plan.conversations, siege.send),
        }
        for what, run in phases.items():
            siege.tally, started = Tally(), time.monotonic()
            wrong = run()
            found += wrong
            kept.add(_record(what, siege.tally, len(wrong), time.monotonic() - started, resident_mib(server.pid)))
            say(f"{what}: {siege.tally.statuses.total()} in {time.monotonic() - started:.0f} s, {len(wrong)} wrong")
        siege.check_unharmed()
    return _report(kept, before, found), len(found)


def _draw(strategy: st.SearchStrategy[Any], count: int, go: Callable[[Any], object]) -> list[str]:
    """So many draws, other ones each time; what is wrong with some does not stop it."""
    found: list[str] = []

    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(drawn: Any) -> None:
        try:
            go(drawn)
        except Exception as error:
            found.append(f"{drawn!r}: {type(error).__name__}: {error}")

    run()
    return found


def _record(what: str, tally: Tally, wrong: int, seconds: float, memory: float) -> dict[str, Any]:
    return {
        "what": what,
        "sent": tally.statuses.total(),
        "statuses": dict(sorted(tally.statuses.items())),
        "wrong": wrong,
        "slowest_ms": 1000 * tally.slowest,
        "slowest": tally.slowest_attack,
        "seconds": seconds,
        "memory_mib": memory,
    }


def _report(kept: Results, before: float, found: list[str]) -> str:
    rows = [
        (
            one["what"],
            one["sent"],
            ", ".join(f"{status}: {count}" for status, count in one["statuses"].items()),
            one["wrong"],
            f"{one['slowest_ms']:.0f}",
            f"{one['memory_mib']:.0f}",
        )
        for one in kept.read()
    ]
    names = ("what", "sent", "answers", "wrong", "slowest ms", "MiB after")
    how = (
        f"After each of them a good request got its usual answer. Memory before: {before:.0f} MiB, after {WARM_UP} "
        "to warm up. At the end the worker was the same, nobody waited and the log held nothing of what was sent."
    )
    return kept.write([table(names, rows), how, *found[:SHOWN]])
