"""What work costs: how much of it waits, and how long it takes, measured as it is done. Pure: no clock of its own.

- A unit of work is a source token to encode, or a row-step: one decoder step of one row. A text costs the seconds of
  its source tokens and those of its rows times the steps that summaries took of late.
- Both are measured over whole turns of a lane (what is encoded, one step, answers), so that nothing is left out, and
  with the padding and the idle rows that there are; and only while texts wait. That is when the question is asked, and
  when lanes are as full as they get: a lane with one row would tell of costs that nobody will pay.
- One text alone, once it has joined, takes as many steps; how long a step takes, turns tell at any time: it is longer
  where lanes are fuller.
- New turns count more than old ones: each weighs `KEPT` times what the next one does.
- Until `FEWEST_ANSWERS` texts were answered and some turns measured, everything is said to take no time.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import gt
from typing import Protocol

KEPT = 0.98
FEWEST_ANSWERS = 16
NEARLY_ALL = 1.5  # times the mean of their steps: in so many nearly all summaries are over


class Costly(Protocol):
    """What a job costs."""

    @property
    def rows(self) -> int:
        """Decoder rows it needs from joining to leaving."""

    @property
    def tokens(self) -> int:
        """Source tokens to encode."""

    @property
    def most_steps(self) -> int:
        """Decoder steps after which it is over in any case."""

    @property
    def bytes(self) -> int:
        """Memory that it holds while it waits, about."""


@dataclass(frozen=True, slots=True)
class Load:
    """Work that waits, or how much of it may. Each part of a long text is a text of its own."""

    texts: float = 0
    tokens: float = 0
    rows: float = 0
    bytes: float = 0

    @classmethod
    def of(cls, jobs: Iterable[Costly]) -> "Load":
        load = cls()
        for job in jobs:
            load += cls(1, job.tokens, job.rows, job.bytes)
        return load

    def __add__(self, other: "Load") -> "Load":
        return Load(
            self.texts + other.texts, self.tokens + other.tokens, self.rows + other.rows, self.bytes + other.bytes
        )

    def __sub__(self, other: "Load") -> "Load":
        return Load(
            self.texts - other.texts, self.tokens - other.tokens, self.rows - other.rows, self.bytes - other.bytes
        )

    @property
    def values(self) -> tuple[float, float, float, float]:
        return self.texts, self.tokens, self.rows, self.bytes

    def beyond(self, limit: "Load") -> int | None:
        """The place of the first value that is above its limit."""
        over = map(gt, self.values, limit.values)
        return next((place for place, above in enumerate(over) if above), None)


class Mean:
    """Something for each unit, recent ones counting more."""

    def __init__(self) -> None:
        self._total = self._units = 0.0

    def record(self, total: float, units: float) -> None:
        self._total = KEPT * self._total + total
        self._units = KEPT * self._units + units

    @property
    def value(self) -> float:
        """0 before anything is known."""
        return self._total / self._units if self._units else 0.0


class Costs:
    """The measured costs of one model, over all its lanes."""

    def __init__(self) -> None:
        self._token = Mean()  # seconds
        self._step = Mean()  # seconds, of one decoder step of a lane
        self._row_step = Mean()  # seconds
        self._steps = Mean()  # of a row, until its text is answered
        self._answers = 0

    def encoded(self, tokens: int, seconds: float) -> None:
        self._token.record(seconds, tokens)

    def stepped(self, rows: int, steps: int, seconds: float, full: bool) -> None:
        self._step.record(seconds, steps)
        if full:
            self._row_step.record(seconds, rows * steps)

    def answered(self, rows: int, steps: int) -> None:
        """A job of so many rows was over after so many steps."""
        self._answers += 1
        self._steps.record(rows * steps, rows)

    def together(self, load: Load, lanes: int) -> float:
        """Seconds in which this load is worked off by lanes that are full."""
        if self._answers < FEWEST_ANSWERS:
            return 0.0
        row_steps = load.rows * self._steps.value
        return (load.tokens * self._token.value + row_steps * self._row_step.value) / lanes

    def alone(self, job: Costly) -> float:
        """Seconds from joining to the answer, with steps enough for nearly every summary."""
        if self._answers < FEWEST_ANSWERS:
            return 0.0
        steps = min(NEARLY_ALL * self._steps.value, job.most_steps)
        return job.tokens * self._token.value + steps * self._step.value
