"""Who is admitted, who joins the running batch, and when. Pure policy: no torch, no threads, no clock of its own.

The rules, all of them:

- The queue is bounded in everything that waiting work costs: texts, source tokens, decoder rows and bytes. Several are
  admitted together or not at all. Live ones are not counted.
- What cannot be ready in time is refused on arrival: where others wait, and `CAUTION` times as long as their work and
  then its own take, by the costs measured so far (`costs`), is more than its deadline leaves. Costs are means, and rise
  when the load does: where everybody were admitted who could just be ready, half of them would not be. Whoever could
  have been ready when it came is let go as soon as its own work alone takes longer than its deadline leaves: begun that
  late, it would only be given up halfway.
- First come, first served, within bounds. The job that has waited longest goes first, and with it those of like length
  among the next `LOOK_AHEAD`, so that little padding is encoded. A job that needs more rows than are free lets others
  pass. Whoever was overtaken `LOOK_AHEAD` times is overtaken no more: rows that come free are kept for it. So nobody
  starves, and a wide job does not block the others for ever.
- Encoding interrupts decoding, and few are encoded nearly as long as several. So where more than half of the rows
  are in use that it may use, a lane takes newcomers when there are rows and jobs for `FEWEST_JOIN` of them, or else
  every `PATIENCE`th step.
- Where a step costs each row the same in any company, as in int8 on a CPU, rows that share it wait for one another.
  There a lane takes nobody beyond `calm_rows` rows, unless `CROWDED` times as many rows as it has in use wait: then a
  fuller lane is a little cheaper, and before that nobody is held back.
- The jobs that join together are encoded in passes of at most `PASS_JOBS` of like length (`passes`). They are charged
  with the padding of a single one, jobs times the longest source, and stay within `max_join_tokens`, except that one
  job alone always may join. The rest joins after the next step.
- Rows are shared out evenly among lanes, one for each thread that runs the model. A job joins a lane that has no more
  rows in use than any other that takes jobs, when that lane next asks, and stays there.
- Jobs that were live while something broke are suspects. They were admitted once, so no bound applies to them: they run
  again at once in their lane, one group after the other, and nobody else joins it until all are done. From a lane that
  cannot be had again they go to another one, which takes them when those that are live in it have left.
- Where the device's memory ran out, a lane takes half as many rows as it had in use, at least one job. Every
  `MEMORY_SECONDS` after that it may take an eighth of all its rows more, until it has them all or memory runs out
  again. A job for which there is no memory even when it is alone fails, and the lane has all its rows again.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from app.engine.costs import Costly, Costs, Load
from app.engine.queue import Waiting, WaitingQueue
from app.errors import TooLateError

LOOK_AHEAD = 32
MAX_JOIN_TOKENS = 16_384
PASS_JOBS = 8
FEWEST_JOIN = 8
PATIENCE = 4  # steps
CROWDED = 2
CAUTION = 2
MEMORY_SECONDS = 30.0


class Schedulable(Costly, Protocol):
    """What the policy has to know of a job. Jobs are told apart by identity."""

    @property
    def deadline(self) -> float:
        """The moment, on the caller's clock, after which nobody wants the answer."""

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for it any more."""


class HasTokens(Protocol):
    @property
    def tokens(self) -> int:
        """Source tokens to encode."""


JobT = TypeVar("JobT", bound=Schedulable)
SourceT = TypeVar("SourceT", bound=HasTokens)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a lane did since it was last asked: source tokens that were encoded, in so many seconds; decoder steps."""

    tokens: int = 0
    encode_seconds: float = 0.0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class _Live(Generic[JobT]):
    job: JobT
    rows: list[int]
    step: int  # of its lane, before which it joined


class _Lane(Generic[JobT]):
    """The rows of one thread, and who is in them. It works in turns: some join, then all live rows take steps."""

    def __init__(self, rows: range) -> None:
        self.rows = self.budget = len(rows)
        self.budget_since = 0.0
        self.free = list(rows)  # in order, the lowest first
        self.live: dict[int, _Live[JobT]] = {}  # by the job's identity
        self.suspects: deque[list[JobT]] = deque()
        self.suspects_live = False
        self.away = False
        self.holding_back = False  # newcomers who could have joined, for so many steps by now:
        self.waited = 0
        self.step = 0
        self.turn_began = 0.0
        self.stepping_rows = 0  # of this turn

    @property
    def used(self) -> int:
        return self.rows - len(self.free)

    @property
    def spare(self) -> int:
        """Rows that may be taken."""
        return max(0, self.budget - self.used)

    @property
    def jobs(self) -> list[JobT]:
        return [live.job for live in self.live.values()]

    @property
    def idle(self) -> bool:
        return not (self.live or self.suspects)

    @property
    def closed(self) -> bool:
        """Whether nobody else may join: suspects have it for themselves, or it is not there."""
        return self.away or bool(self.suspects) or (self.suspects_live and bool(self.live))

    def place(self, job: JobT) -> tuple[JobT, list[int]]:
        rows, self.free = self.free[: job.rows], self.free[job.rows :]
        self.live[id(job)] = _Live(job, rows, self.step)
        return job, rows

    def next_suspects(self) -> list[JobT]:
        """As many of a group as its rows allow, but one in any case."""
        group = self.suspects.popleft()
        count, rows = 1, group[0].rows
        while count < len(group) and rows + group[count].rows <= self.budget:
            rows += group[count].rows
            count += 1
        if group[count:]:
            self.suspects.appendleft(group[count:])
        return group[:count]

    def leave(self, job: JobT) -> int:
        """The number of steps that it took part in, the one that is not told of yet included."""
        live = self.live.pop(id(job))
        self.free = sorted(self.free + live.rows)
        return self.step - live.step + 1

    def halve(self, now: float) -> int:
        self.budget = self.rows if len(self.live) == 1 else max(1, self.used // 2)
        self.budget_since = now
        return self.budget

    def grow(self, now: float) -> None:
        if self.budget < self.rows and now - self.budget_since >= MEMORY_SECONDS:
            self.budget, self.budget_since = min(self.rows, self.budget + max(1, self.rows // 8)), now


def never(_job: object) -> bool:
    return False


class Scheduler(Generic[JobT]):
    """The waiting queue and the numbered rows of the running batches."""

    def __init__(
        self,
        max_rows: int,
        limits: Load,
        max_join_tokens: int = MAX_JOIN_TOKENS,
        lanes: int = 1,
        look_ahead: int = LOOK_AHEAD,
        calm_rows: float = math.inf,
    ) -> None:
        self.lane_rows = max_rows // lanes
        self.max_rows = self.lane_rows * lanes
        self._max_join_tokens = max_join_tokens
        self._look_ahead = look_ahead
        self._calm_rows = calm_rows
        self._queue: WaitingQueue[JobT] = WaitingQueue(limits)
        self._lanes: list[_Lane[JobT]] = [_Lane(range(self.lane_rows)) for _ in range(lanes)]
        self._costs = Costs()

    @property
    def waiting(self) -> Load:
        return self._queue.load

    @property
    def live_rows(self) -> int:
        return sum(lane.used for lane in self._lanes)

    @property
    def idle(self) -> bool:
        return not self._queue and all(lane.idle for lane in self._lanes)

    def live(self, lane: int = 0) -> list[JobT]:
        return self._lanes[lane].jobs

    def has_work(self, lane: int = 0) -> bool:
        """Whether there is anything to do for this lane: work of its own, or some that waits."""
        return bool(self._queue) or not self._lanes[lane].idle

    def unfinished(self) -> list[JobT]:
        """Every job admitted and not finished."""
        live = [job for lane in self._lanes for job in lane.jobs]
        suspects = [job for lane in self._lanes for group in lane.suspects for job in group]
        return [*live, *suspects, *self._queue]

    # Admission

    @property
    def expected_wait(self) -> float:
        """Seconds until a newcomer joins, by the measured costs."""
        return self._costs.together(self.waiting, len(self._lanes))

    def retry_after(self) -> int:
        """Whole seconds, at least one, until what waits now has probably been served."""
        return _whole(self.expected_wait)

    def check_room(self, texts: int, timeout: float) -> None:
        """Raise where not even the least of so many texts, to be answered in `timeout` seconds, would be admitted.

        Time that ran out while others kept it from being read is no fault of its caller: that is refused, too.
        """
        self._queue.check_room(texts, self.retry_after())
        self._check_time(0.0, timeout)

    def admit(self, jobs: Sequence[JobT], now: float) -> None:
        """Queue all of these jobs, or none: OverloadedError, TooLateError, or TooLargeError if they can never fit."""
        self._queue.check(Load.of(jobs), self.retry_after())
        alone = [self._costs.alone(job) for job in jobs]
        for job, seconds in zip(jobs, alone, strict=True):
            if job.deadline > now:
                self._check_time(seconds, job.deadline - now)
        for job, seconds in zip(jobs, alone, strict=True):
            latest = job.deadline - seconds
            self._queue.append(job, latest if latest > now else job.deadline)

    def abandon(self, jobs: Iterable[JobT]) -> None:
        """Nobody waits for these any more: they are withdrawn next, if they still wait. From any thread."""
        self._queue.abandon(jobs)

    def withdraw(self, now: float) -> list[JobT]:
        """Take out of the queue, and return, whatever is abandoned or hopelessly late. Live jobs leave by `leave`."""
        gone = self._queue.withdraw(now)
        for lane in self._lanes:
            for group in lane.suspects:
                gone += [job for job in group if is_gone(job, now)]
                group[:] = [job for job in group if not is_gone(job, now)]
            lane.suspects = deque(group for group in lane.suspects if group)
        return gone

    def _check_time(self, seconds: float, left: float) -> None:
        needed = self.expected_wait + seconds
        if self._queue and CAUTION * needed > left:
            wanted = max(0.0, left)
            detail = (
                f"This would be ready in {needed:.1f} to {CAUTION * needed:.1f} s, and is wanted in {wanted:.1f} s."
            )
            raise TooLateError(detail, _whole(CAUTION * needed - left))

    # Turns

    def join(self, now: float, lane: int = 0) -> list[tuple[JobT, list[int]]]:
        """Begin a turn of a lane: who joins it, each with its rows, which are numbered from 0 in every lane."""
        own = self._lanes[lane]
        jobs = self._joining(own)
        placed = [own.place(job) for job in jobs]
        own.turn_began, own.stepping_rows = now, own.used
        return placed

    def turned(self, turn: Turn, now: float, lane: int = 0) -> None:
        """A turn of a lane is over: what costs are measured by."""
        own = self._lanes[lane]
        own.grow(now)
        own.step += turn.steps
        own.waited += turn.steps if own.holding_back else 0
        full = bool(self._queue)
        if own.stepping_rows and turn.steps:
            # What a lane tells late it has done before the turn began.
            seconds = max(0.0, now - own.turn_began - turn.encode_seconds)
            self._costs.stepped(own.stepping_rows, turn.steps, seconds, full)
        if turn.tokens and full:
            self._costs.encoded(turn.tokens, turn.encode_seconds)

    def set_away(self, away: bool, lane: int = 0) -> None:
        """A lane that is away takes nobody, and no other one holds back for its sake."""
        self._lanes[lane].away = away

    def is_away(self, lane: int = 0) -> bool:
        return self._lanes[lane].away

    def hand_over(self, lane: int) -> int | None:
        """A lane that is away does not come back soon: the lane that runs its suspects instead, if there is one."""
        own = self._lanes[lane]
        others = [number for number, other in enumerate(self._lanes) if not other.away]
        if not (own.suspects and others):
            return None
        other = min(others, key=lambda number: self._lanes[number].used)
        self._lanes[other].suspects += own.suspects
        own.suspects.clear()
        return other

    def halve(self, now: float, lane: int = 0) -> int:
        """The memory of the device was too small for what is live in this lane. The rows that it may take now."""
        return self._lanes[lane].halve(now)

    def leave(self, job: JobT, lane: int = 0, *, answered: bool = False) -> None:
        """Free a live job's rows."""
        steps = self._lanes[lane].leave(job)
        if answered:
            self._costs.answered(job.rows, steps)

    def welcomes(self, lane: int) -> bool:
        """Whether some of those who wait may join a lane that is at work."""
        own = self._lanes[lane]
        if not self._queue or own.closed or not own.spare:
            return False
        return own.used < self._bound and not self._holds_back(own)

    @property
    def _bound(self) -> float:
        """Rows beyond which a lane takes nobody."""
        return max(self._calm_rows, self._queue.load.rows / CROWDED)

    def isolate(self, lane: int = 0, pardon: Callable[[JobT], bool] = never) -> list[JobT]:
        """Something broke: every live job of the lane leaves, to run again with half of the others.

        A job that was alone is returned instead: it is the guilty one, unless it has a pardon, and runs again too.
        """
        own = self._lanes[lane]
        suspects = own.jobs
        for job in suspects:
            own.leave(job)
        if len(suspects) == 1 and not pardon(suspects[0]):
            return suspects
        middle = len(suspects) // 2
        own.suspects.extendleft(group for group in (suspects[middle:], suspects[:middle]) if group)
        return []

    def _joining(self, lane: _Lane[JobT]) -> list[JobT]:
        if lane.away or (lane.live and (lane.suspects_live or lane.suspects)):
            return []
        lane.suspects_live = bool(lane.suspects)
        return lane.next_suspects() if lane.suspects else self._choose(lane)

    def _choose(self, lane: _Lane[JobT]) -> list[JobT]:
        """Apply the first rules and take the chosen jobs out of the queue."""
        bound = self._bound
        if not self._queue or not lane.spare or lane.used >= bound:
            return []
        lane.holding_back = self._holds_back(lane)
        if lane.holding_back:
            return []
        lane.waited = 0
        window = self._queue.first(max(lane.spare, self._look_ahead + 1))
        chosen: dict[int, Waiting[JobT]] = {}
        free, longest = lane.spare, 0
        most_free = max((other.spare for other in self._lanes if other is not lane and not other.closed), default=0)
        for entry in self._in_turn(window):
            if not free or free < most_free or lane.budget - free >= bound:
                break
            if entry.job.rows > free and (chosen or lane.live):
                if entry.overtaken >= self._look_ahead:
                    break
                continue
            longest = max(longest, entry.job.tokens)
            if chosen and longest * (len(chosen) + 1) > self._max_join_tokens:
                break
            free -= entry.job.rows
            chosen[id(entry)] = entry
        later = len(chosen)
        for entry in window:
            if id(entry) in chosen:
                later -= 1
            else:
                entry.overtaken += later
        jobs = [entry.job for entry in chosen.values()]
        for job in jobs:
            self._queue.remove(job)
        return jobs

    def _in_turn(self, window: Sequence[Waiting[JobT]]) -> list[Waiting[JobT]]:
        """Who may join, in this order: the first, those overtaken too often, and the others, most like the first."""
        first, *others = window
        due = [entry for entry in others if entry.overtaken >= self._look_ahead]
        rest = [entry for entry in others if entry.overtaken < self._look_ahead]
        return [first, *due, *sorted(rest, key=lambda entry: abs(entry.job.tokens - first.job.tokens))]

    def _holds_back(self, lane: _Lane[JobT]) -> bool:
        """Whether newcomers wait for more of them."""
        bound = self._bound
        usable = min(lane.budget, bound) if bound > self._calm_rows else lane.budget
        if 2 * lane.used <= usable or lane.waited + 1 >= PATIENCE:
            return False
        first = self._queue.first(FEWEST_JOIN)
        return len(first) < FEWEST_JOIN or usable - lane.used < sum(entry.job.rows for entry in first)


def passes(jobs: Sequence[SourceT]) -> list[list[SourceT]]:
    """The jobs in groups of like length, the shortest first, so that little padding is encoded."""
    ordered = sorted(jobs, key=lambda job: job.tokens)
    return [ordered[start : start + PASS_JOBS] for start in range(0, len(ordered), PASS_JOBS)]


def is_gone(job: Schedulable, now: float) -> bool:
    """Whether nobody wants this job's answer any more."""
    return job.abandoned or now >= job.deadline


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))
