"""Who joins the running batch, and when. Pure policy: no torch, no threads, no clock of its own.

The rules, all of them:

- First come, first served, within bounds. The job that has waited longest goes first, and with it those of like length
  among the next `LOOK_AHEAD`, so that little padding is encoded. A job that needs more rows than are free lets others
  pass. Whoever was overtaken `LOOK_AHEAD` times is overtaken no more: rows that come free are kept for it. So nobody
  starves, and a wide job does not block the others for ever.
- Encoding interrupts decoding, and few are encoded nearly as long as several. So where more than half of its rows are
  in use, a lane takes newcomers when there are rows and jobs for `FEWEST_JOIN` of them, or else every `PATIENCE`th
  step.
- The jobs that join together are encoded in passes of at most `PASS_JOBS` of like length (`passes`). They are charged
  with the padding of a single one, jobs times the longest source, and stay within `max_join_tokens`, except that one
  job alone always may join. The rest joins after the next step.
- Rows are shared out evenly among lanes, one for each thread that runs the model. A job joins a lane that has no more
  rows in use than any other that takes jobs, when that lane next asks, and stays there.
- `max_queue` bounds the texts that wait; live ones are not counted. Several are admitted together or not at all.
- Jobs that were live while something broke are suspects. They were admitted once, so no bound applies to them: they run
  again at once in their lane, one group after the other, and nobody else joins it until all are done.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Protocol, TypeVar

LOOK_AHEAD = 32
MAX_JOIN_TOKENS = 16_384
PASS_JOBS = 8
FEWEST_JOIN = 4
PATIENCE = 4  # steps


class Schedulable(Protocol):
    """What the policy has to know of a job. Jobs are told apart by identity."""

    @property
    def rows(self) -> int:
        """Decoder rows it needs from joining to leaving."""

    @property
    def tokens(self) -> int:
        """Source tokens to encode."""

    @property
    def deadline(self) -> float:
        """The moment, on the caller's clock, after which nobody wants the answer."""

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for it any more."""


JobT = TypeVar("JobT", bound=Schedulable)


@dataclass(eq=False, slots=True)
class _Waiting(Generic[JobT]):
    job: JobT
    overtaken: int = 0


class _Lane(Generic[JobT]):
    """The rows of one thread, and who is in them."""

    def __init__(self, rows: range) -> None:
        self.rows = len(rows)
        self.free = list(rows)  # in order, the lowest first
        self.live: dict[int, tuple[JobT, list[int]]] = {}  # by the job's identity
        self.suspects: deque[list[JobT]] = deque()
        self.suspects_live = False
        self.waited = 0  # steps since newcomers could have joined

    @property
    def used(self) -> int:
        return self.rows - len(self.free)

    @property
    def jobs(self) -> list[JobT]:
        return [job for job, _ in self.live.values()]

    @property
    def idle(self) -> bool:
        return not (self.live or self.suspects)

    @property
    def closed(self) -> bool:
        """Whether suspects have it for themselves."""
        return bool(self.suspects) or (self.suspects_live and bool(self.live))

    def place(self, job: JobT) -> tuple[JobT, list[int]]:
        rows, self.free = self.free[: job.rows], self.free[job.rows :]
        self.live[id(job)] = job, rows
        return job, rows

    def leave(self, job: JobT) -> None:
        _, rows = self.live.pop(id(job))
        self.free = sorted(self.free + rows)


class Scheduler(Generic[JobT]):
    """The waiting queue and the numbered rows of the running batches."""

    def __init__(
        self,
        max_rows: int,
        max_queue: int,
        max_join_tokens: int = MAX_JOIN_TOKENS,
        lanes: int = 1,
        look_ahead: int = LOOK_AHEAD,
    ) -> None:
        self.max_queue = max_queue
        self.lane_rows = max_rows // lanes
        self.max_rows = self.lane_rows * lanes
        self._max_join_tokens = max_join_tokens
        self._look_ahead = look_ahead
        self._waiting: deque[_Waiting[JobT]] = deque()
        self._lanes: list[_Lane[JobT]] = [_Lane(range(self.lane_rows)) for _ in range(lanes)]
        self._rate = ServiceRate()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def live_rows(self) -> int:
        return sum(lane.used for lane in self._lanes)

    @property
    def idle(self) -> bool:
        return not self._waiting and all(lane.idle for lane in self._lanes)

    def live(self, lane: int = 0) -> list[JobT]:
        return self._lanes[lane].jobs

    def has_work(self, lane: int = 0) -> bool:
        """Whether there is anything to do for this lane: work of its own, or some that waits."""
        return bool(self._waiting) or not self._lanes[lane].idle

    def unfinished(self) -> list[JobT]:
        """Every job admitted and not finished."""
        live = [job for lane in self._lanes for job in lane.jobs]
        suspects = [job for lane in self._lanes for group in lane.suspects for job in group]
        return [*live, *suspects, *(entry.job for entry in self._waiting)]

    def admit(self, jobs: Sequence[JobT], now: float) -> bool:
        """Queue all of these jobs, or none when they do not fit."""
        if self.waiting + len(jobs) > self.max_queue:
            return False
        if self.idle:
            self._rate.start(now)
        self._waiting.extend(_Waiting(job) for job in jobs)
        return True

    def withdraw(self, now: float) -> list[JobT]:
        """Take out of the queue, and return, whatever is abandoned or late. Live jobs leave by `leave`."""
        gone = [entry.job for entry in self._waiting if is_gone(entry.job, now)]
        if gone:
            self._waiting = deque(entry for entry in self._waiting if not is_gone(entry.job, now))
        for lane in self._lanes:
            for group in lane.suspects:
                gone += [job for job in group if is_gone(job, now)]
                group[:] = [job for job in group if not is_gone(job, now)]
            lane.suspects = deque(group for group in lane.suspects if group)
        return gone

    def join(self, lane: int = 0) -> list[tuple[JobT, list[int]]]:
        """The jobs that join a lane now, each with its rows, which are numbered from 0 in every lane."""
        own = self._lanes[lane]
        if own.suspects_live and own.live:
            return []
        own.suspects_live = bool(own.suspects)
        jobs = own.suspects.popleft() if own.suspects else self._choose(own)
        return [own.place(job) for job in jobs]

    def leave(self, job: JobT, lane: int = 0) -> None:
        """Free a live job's rows."""
        self._lanes[lane].leave(job)

    def served(self, jobs: int, now: float) -> None:
        """These were answered: what `retry_after` is measured by."""
        self._rate.record(jobs, now)

    def isolate(self, lane: int = 0) -> list[JobT]:
        """Something broke: every live job of the lane leaves, to run again with half of the others.

        A job that was alone is returned instead: it is the guilty one.
        """
        own = self._lanes[lane]
        suspects = own.jobs
        for job in suspects:
            own.leave(job)
        if len(suspects) < 2:
            return suspects
        middle = len(suspects) // 2
        own.suspects.extendleft([suspects[middle:], suspects[:middle]])
        return []

    def retry_after(self) -> int:
        """Whole seconds, at least one, until what waits now has probably been served."""
        return max(1, math.ceil(self.waiting * self._rate.seconds_per_job))

    def _choose(self, lane: _Lane[JobT]) -> list[JobT]:
        """Apply the first rules and take the chosen jobs out of the queue."""
        if not self._waiting or not lane.free or self._holds_back(lane):
            return []
        lane.waited = 0
        window = list(islice(self._waiting, max(len(lane.free), self._look_ahead + 1)))
        chosen: dict[int, _Waiting[JobT]] = {}
        free, longest = len(lane.free), 0
        most_free = max((len(other.free) for other in self._lanes if other is not lane and not other.closed), default=0)
        for entry in self._in_turn(window):
            if not free or free < most_free:
                break
            if entry.job.rows > free:
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
        self._waiting = deque(entry for entry in self._waiting if id(entry) not in chosen)
        return [entry.job for entry in chosen.values()]

    def _in_turn(self, window: Sequence[_Waiting[JobT]]) -> list[_Waiting[JobT]]:
        """Who may join, in this order: the first, those overtaken too often, and the others, most like the first."""
        first, *others = window
        due = [entry for entry in others if entry.overtaken >= self._look_ahead]
        rest = [entry for entry in others if entry.overtaken < self._look_ahead]
        return [first, *due, *sorted(rest, key=lambda entry: abs(entry.job.tokens - first.job.tokens))]

    def _holds_back(self, lane: _Lane[JobT]) -> bool:
        """Whether newcomers wait for more of them."""
        if 2 * lane.used <= lane.rows or lane.waited + 1 >= PATIENCE:
            return False
        needed = sum(entry.job.rows for entry in islice(self._waiting, FEWEST_JOIN))
        if len(self._waiting) >= FEWEST_JOIN and len(lane.free) >= needed:
            return False
        lane.waited += 1
        return True


def passes(jobs: Sequence[JobT]) -> list[list[JobT]]:
    """The jobs in groups of like length, the shortest first, so that little padding is encoded."""
    ordered = sorted(jobs, key=lambda job: job.tokens)
    return [ordered[start : start + PASS_JOBS] for start in range(0, len(ordered), PASS_JOBS)]


class ServiceRate:
    """Seconds from one answer to the next while there is work: a mean that forgets slowly."""

    WEIGHT = 0.1

    def __init__(self) -> None:
        self.seconds_per_job = 0.0
        self._last = 0.0

    def start(self, now: float) -> None:
        """Work begins after a rest, which is not counted."""
        self._last = now

    def record(self, jobs: int, now: float) -> None:
        """`jobs` were answered at this moment."""
        measured = (now - self._last) / jobs
        weight = 1.0 - (1.0 - self.WEIGHT) ** jobs if self.seconds_per_job else 1.0
        self.seconds_per_job += weight * (measured - self.seconds_per_job)
        self._last = now


def is_gone(job: Schedulable, now: float) -> bool:
    """Whether nobody wants this job's answer any more."""
    return job.abandoned or now >= job.deadline
