"""Who joins the running batch, and when. Pure policy: no torch, no threads, no clock of its own.

The rules, all of them:

- First come, first served. A job that needs more rows than are free may be overtaken by at most `LOOK_AHEAD` later and
  narrower ones; after that the rows that come free are kept for it. So a wide job neither blocks for ever nor starves.
- The jobs that join together are encoded in one pass, which is charged with its padding: jobs times the longest source.
  A pass stays within `max_join_tokens`, except that one job alone always may join. The rest joins after the next step.
- `max_queue` bounds the texts that wait; live ones are not counted. Several are admitted together or not at all.
- Jobs that were live while something broke are suspects. They were admitted once, so no bound applies to them: they run
  again at once, one group after the other, and nobody else joins until all are done.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

LOOK_AHEAD = 8
MAX_JOIN_TOKENS = 16_384


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


class Scheduler(Generic[JobT]):
    """The waiting queue and the numbered rows of the running batch."""

    def __init__(self, max_rows: int, max_queue: int, max_join_tokens: int = MAX_JOIN_TOKENS) -> None:
        self.max_rows = max_rows
        self.max_queue = max_queue
        self._max_join_tokens = max_join_tokens
        self._waiting: deque[_Waiting[JobT]] = deque()
        self._suspects: deque[list[JobT]] = deque()
        self._suspects_live = False
        self._live: dict[int, tuple[JobT, list[int]]] = {}  # by the job's identity
        self._free = list(range(max_rows))  # in order, the lowest first
        self._rate = ServiceRate()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def live(self) -> list[JobT]:
        return [job for job, _ in self._live.values()]

    @property
    def live_rows(self) -> int:
        return self.max_rows - len(self._free)

    @property
    def idle(self) -> bool:
        return not (self._waiting or self._live or self._suspects)

    def unfinished(self) -> list[JobT]:
        """Every job admitted and not finished."""
        suspects = [job for group in self._suspects for job in group]
        return [*self.live, *suspects, *(entry.job for entry in self._waiting)]

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
        for group in self._suspects:
            gone += [job for job in group if is_gone(job, now)]
            group[:] = [job for job in group if not is_gone(job, now)]
        self._suspects = deque(group for group in self._suspects if group)
        return gone

    def join(self) -> list[tuple[JobT, list[int]]]:
        """The jobs that join now, each with its rows."""
        if self._suspects_live and self._live:
            return []
        self._suspects_live = bool(self._suspects)
        jobs = self._suspects.popleft() if self._suspects else self._choose()
        return [self._place(job) for job in jobs]

    def leave(self, job: JobT) -> None:
        """Free a live job's rows."""
        _, rows = self._live.pop(id(job))
        self._free = sorted(self._free + rows)

    def served(self, jobs: int, now: float) -> None:
        """These were answered: what `retry_after` is measured by."""
        self._rate.record(jobs, now)

    def isolate(self) -> list[JobT]:
        """Something broke: every live job leaves, to run again with half of the others.

        A job that was alone is returned instead: it is the guilty one.
        """
        suspects = self.live
        for job in suspects:
            self.leave(job)
        if len(suspects) < 2:
            return suspects
        middle = len(suspects) // 2
        self._suspects.extendleft([suspects[middle:], suspects[:middle]])
        return []

    def retry_after(self) -> int:
        """Whole seconds, at least one, until what waits now has probably been served."""
        return max(1, math.ceil(self.waiting * self._rate.seconds_per_job))

    def _choose(self) -> list[JobT]:
        """Apply the first two rules and take the chosen jobs out of the queue."""
        chosen: list[_Waiting[JobT]] = []
        blocked: list[_Waiting[JobT]] = []
        free, longest = len(self._free), 0
        for entry in self._waiting:
            if not free or len(blocked) > LOOK_AHEAD or any(other.overtaken >= LOOK_AHEAD for other in blocked):
                break
            if entry.job.rows > free:
                blocked.append(entry)
                continue
            longest = max(longest, entry.job.tokens)
            if chosen and longest * (len(chosen) + 1) > self._max_join_tokens:
                break
            free -= entry.job.rows
            chosen.append(entry)
            for other in blocked:
                other.overtaken += 1
        taken = set(map(id, chosen))
        self._waiting = deque(entry for entry in self._waiting if id(entry) not in taken)
        return [entry.job for entry in chosen]

    def _place(self, job: JobT) -> tuple[JobT, list[int]]:
        rows, self._free = self._free[: job.rows], self._free[job.rows :]
        self._live[id(job)] = job, rows
        return job, rows


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
