"""A bar on standard error, for people who wait: only on a terminal, and only for several texts.

What takes hours is told elsewhere, too: in a log.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from app.cli.output import say

EVERY_SECONDS = 60.0


@contextmanager
def progress(total: int | None) -> Iterator[Callable[[], object]]:
    """What is to be called after each text. total: of the texts; None when nobody knows."""
    if total == 1 or sys.stderr is None or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = TextColumn("summaries"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    # On the same terminal, results scroll by above the bar.
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


class Pace:
    """How far rows are, and how fast."""

    def __init__(self) -> None:
        self.total = self.done = self._before = 0
        self._began = time.monotonic()

    def begin(self, total: int, done: int) -> None:
        """done: of an earlier run."""
        self.total, self.done, self._before = total, done, done
        self._began = time.monotonic()

    def advance(self, rows: int) -> None:
        """So many more are done."""
        self.done += rows

    @property
    def rate(self) -> float:
        """Rows a second, of this run."""
        return (self.done - self._before) / max(1e-9, time.monotonic() - self._began)


class Lines(Pace):
    """Told each minute."""

    _told = 0.0

    def begin(self, total: int, done: int) -> None:
        super().begin(total, done)
        self._told = time.monotonic()

    def advance(self, rows: int) -> None:
        super().advance(rows)
        if time.monotonic() - self._told >= EVERY_SECONDS:
            self._told = time.monotonic()
            left = timedelta(seconds=round((self.total - self.done) / self.rate))
            say(f"{self.done:,} of {self.total:,} rows, {self.rate:.0f}/s, {left} left")


@contextmanager
def pace() -> Iterator[Pace]:
    """Of something long: a bar on a terminal, else lines."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:.0f}/s")

    class Bar(Pace):
        def begin(self, total: int, done: int) -> None:
            super().begin(total, done)
            bar.remove_task(reading)
            self._task = bar.add_task("summaries", total=total, completed=done)

        def advance(self, rows: int) -> None:
            super().advance(rows)
            bar.advance(self._task, rows)

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate()
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        reading = bar.add_task("reading", total=None)
        yield Bar()
