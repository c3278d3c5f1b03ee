"""Many texts through one engine."""

from collections.abc import Sequence

from rich.progress import track

from app.engine.engine import Engine
from app.engine.request import Summary, SummaryRequest

DAY = 86_400.0  # seconds: nobody waits for these


def summarize(engine: Engine, requests: Sequence[SummaryRequest], what: str) -> list[Summary]:
    """Every request, with the engine kept full; in order."""
    futures = engine.submit(requests)
    return [future.result() for future in track(futures, what, transient=True)]


def spaced(rows: int, wanted: int) -> list[int]:
    """So many of the rows, at equal distances; all of them when there are not more."""
    count = min(rows, wanted)
    return [index * rows // count for index in range(count)]
