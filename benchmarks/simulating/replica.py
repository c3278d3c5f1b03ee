"""One replica: a front that reads and answers, the service's own scheduler, and a lane on every core."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from app.config import Settings
from app.engine.costs import Load
from app.engine.engine import FEWEST_ROWS, MOST_THREADS
from app.engine.scheduler import Scheduler, Turn, is_gone
from app.errors import OverloadedError
from benchmarks.simulating.time import Agenda, Cores, Thread

LIVE_ROWS = 64  # the service's default on a CPU
CALM_ROWS = 4.0  # of the int8 kernels
BYTES_PER_TOKEN = 64  # of text, ids and spans while it waits, about


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of one core, but for `delay`."""

    front: float  # of a request: reading, tokenizing, admitting, answering
    joining: float  # of a lane, whenever some join it
    token: float  # to encode one of the source
    step: float  # of a decoder, whoever is in it
    row: float  # more, of each greedy row
    beam_row: float  # more, of each row of a search with several beams
    delay: float  # that nobody works in: until threads and processes wake up

    def times(self, factor: float) -> "Costs":
        """Those of a machine that is so much slower."""
        return replace(self, **{name: factor * getattr(self, name) for name in self.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class Text:
    """What one asks for: source tokens, summary tokens with the end, beams."""

    tokens: int
    steps: int
    beams: int = 1


class End(Enum):
    ANSWERED = "answered"
    REFUSED = "refused"
    LATE = "late"


@dataclass(eq=False, slots=True)
class _Job:
    """A text as the scheduler knows it."""

    text: Text
    deadline: float
    ended: Callable[[End], None]
    steps_left: int
    abandoned: bool = False

    @property
    def rows(self) -> int:
        return self.text.beams

    @property
    def tokens(self) -> int:
        return self.text.tokens

    @property
    def most_steps(self) -> int:
        return self.text.steps

    @property
    def bytes(self) -> int:
        return BYTES_PER_TOKEN * self.text.tokens


class Replica:
    """Texts go in, and one `End` comes out of each."""

    def __init__(self, agenda: Agenda, costs: Costs, cores: int, timeout: float) -> None:
        """timeout: of every text, seconds."""
        lanes = min(cores, MOST_THREADS, LIVE_ROWS // FEWEST_ROWS)
        most = Settings()
        limits = Load(most.max_queue, most.max_queue_tokens, most.max_queue_rows, most.max_queue_mb << 20)
        self.open = 0  # requests not answered yet
        self.cores = Cores(agenda, cores)
        self._agenda = agenda
        self._costs = costs
        self._timeout = timeout
        self._front = Thread(self.cores)
        self._scheduler: Scheduler[_Job] = Scheduler(LIVE_ROWS, limits, lanes=lanes, calm_rows=CALM_ROWS)
        self._resting = set(range(lanes))

    def ask(self, text: Text, ended: Callable[[End], None]) -> None:
        self.open += 1
        job = _Job(text, self._agenda.now + self._timeout, ended, text.steps)
        self._front.do(self._costs.front / 2, lambda: self._admit(job))

    def _admit(self, job: _Job) -> None:
        try:
            self._scheduler.admit([job], self._agenda.now)
        except OverloadedError:
            self._end(job, End.REFUSED)
        else:
            self._call_lanes()

    def _answer(self, job: _Job, end: End) -> None:
        def write() -> None:
            self._agenda.after(self._costs.delay, lambda: self._end(job, end))

        self._front.do(self._costs.front / 2, write)

    def _end(self, job: _Job, end: End) -> None:
        self.open -= 1
        job.ended(end)

    # The lanes: some join and are encoded, then all live rows take a step.

    def _call_lanes(self) -> None:
        for lane in sorted(self._resting):
            self._turn(lane)

    def _turn(self, lane: int) -> None:
        scheduler, costs, now = self._scheduler, self._costs, self._agenda.now
        late = [job for job in scheduler.live(lane) if is_gone(job, now)]
        for job in late:
            scheduler.leave(job, lane)
        for job in (*late, *scheduler.withdraw(now)):
            self._answer(job, End.LATE)
        joined = [job for job, _ in scheduler.join(now, lane)]
        live = scheduler.live(lane)
        if not live:
            self._resting.add(lane)
            return
        self._resting.discard(lane)
        tokens = sum(job.tokens for job in joined)
        encoding = costs.joining * bool(joined) + costs.token * tokens
        stepping = costs.step + sum(job.rows * (costs.beam_row if job.rows > 1 else costs.row) for job in live)
        self.cores.run(encoding + stepping, lambda: self._turned(lane, Turn(tokens, encoding, steps=1)))

    def _turned(self, lane: int, turn: Turn) -> None:
        self._scheduler.turned(turn, self._agenda.now, lane)
        for job in self._scheduler.live(lane):
            job.steps_left -= 1
            if job.steps_left <= 0:
                self._scheduler.leave(job, lane, answered=True)
                self._answer(job, End.ANSWERED)
        self._turn(lane)
        if self._scheduler.waiting.texts:
            self._call_lanes()
