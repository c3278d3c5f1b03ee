"""What the worker runs and gives back: a ticket for each text, a job for each part of it that is decoded on its own.

Of a job, a lane is handed its task: what it takes to decode it, in a form that travels to another process.
"""

import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from itertools import count

import numpy as np
from numpy.typing import NDArray

from app.engine.request import Summary, SummaryRequest
from app.errors import RequestError
from app.models.base import AttentionOptions, DecodingOptions, Tokens
from app.search import Found

AROUND = 64  # tokens: a number that goes on beyond the edge of a part is read to its end, unless it is longer
BYTES_PER_WEIGHT = 4
BYTES_PER_TOKEN = 160  # its id, its span and its places in tuples, as measured


@dataclass(frozen=True, slots=True)
class Plan:
    """A valid request, tokenized.

    `parts` are the ranges of the source's tokens that are decoded, one job each. Of the tokens after them, `source`
    lacks the last `left_out`.
    """

    request: SummaryRequest
    source: Tokens
    parts: tuple[range, ...]
    given: Tokens | None = None
    left_out: int = 0

    @property
    def tokens(self) -> int:
        """Of the whole text."""
        return len(self.source.ids) + self.left_out

    @property
    def attention_bytes(self) -> int:
        """Most memory that the weights of its answer may hold."""
        if not self.request.attention:
            return 0
        longest = len(self.given.ids) if self.given else self.request.options.max_length
        return BYTES_PER_WEIGHT * len(self.parts) * longest * self.parts[-1].stop

    @property
    def bytes(self) -> int:
        """Memory that it holds, about, until it is answered."""
        return sys.getsizeof(self.request.text) + BYTES_PER_TOKEN * len(self.source.ids) + self.attention_bytes


@dataclass(frozen=True, slots=True)
class Task:
    """One source to decode: `part` of the tokens `context`. `given` is a summary to be scored instead of a new one."""

    number: int  # no other one of this process has it
    context: tuple[int, ...]
    part: range
    options: DecodingOptions
    rows: int  # decoder rows that it needs from joining to leaving
    given: tuple[int, ...] | None = None
    attention: AttentionOptions | None = None  # to be kept
    tells: bool = False  # each of its tokens, as it is written

    @property
    def source(self) -> tuple[int, ...]:
        return self.context[self.part.start : self.part.stop]

    @property
    def tokens(self) -> int:
        """Source tokens to encode."""
        return len(self.part)


@dataclass(frozen=True, slots=True)
class Decoded:
    """The outcome of one job; moments in seconds, on the engine's clock.

    weights: (summary tokens, source tokens of the part); copied, dropped: (summary tokens,); as `Attention`, and only
        where it was asked for.
    """

    found: Found
    joined: float
    encode_seconds: float
    finished: float
    weights: NDArray[np.float32] | None = None
    copied: NDArray[np.float32] | None = None
    dropped: NDArray[np.float32] | None = None


class Ticket:
    """One admitted text and the future its caller waits on.

    The future stays pending until it is settled, once, by whoever comes first: so a caller can cancel it at any moment.
    An answered ticket and its jobs do not hold each other: the collector, which stops everything, finds nothing to do.
    """

    def __init__(self, plan: Plan, submitted: float, on_cancelled: Callable[[], None] = lambda: None) -> None:
        self.plan = plan
        self.submitted = submitted
        self.deadline = submitted + plan.request.timeout
        self.future: Future[Summary] = Future()
        self.jobs: tuple[Job, ...] = tuple(Job(self, part) for part in plan.parts)
        self.first_token_seen = False
        self._on_cancelled = on_cancelled
        self._lock = threading.Lock()
        self._settled = False

    @property
    def closed(self) -> bool:
        """Answered, failed or cancelled: its jobs have nothing more to do."""
        return self.future.done()

    def when_given_up(self, tell: Callable[[Sequence["Job"]], None]) -> None:
        """Calls back, from any thread, once the ticket is closed without an answer: cancelled or failed."""
        reference = weakref.ref(self)  # it has the future, and the future this

        def closed(future: Future[Summary]) -> None:
            ticket = reference()
            if ticket and (future.cancelled() or future.exception()):
                tell(ticket.jobs)
                ticket.release()

        self.future.add_done_callback(closed)

    def answer(self, summary: Summary) -> None:
        if self.settle():
            self.future.set_result(summary)
            self.release()

    def release(self) -> None:
        """Nobody looks at its jobs any more: a ticket and its jobs hold each other, and are to go without a search."""
        self.jobs = ()

    def fail(self, error: RequestError) -> bool:
        """Whether the caller was still waiting for an answer."""
        wanted = self.settle()
        if wanted:
            self.future.set_exception(error)
        return wanted

    def settle(self) -> bool:
        """Whether an answer is wanted; true at most once. A caller who left is counted."""
        with self._lock:
            if self._settled:
                return False
            self._settled = True
        if self.future.set_running_or_notify_cancel():
            return True
        self._on_cancelled()
        return False


class Job:
    """One source to decode; told apart by identity."""

    def __init__(self, ticket: Ticket, part: range) -> None:
        self.ticket = ticket
        self.part = part
        self.outcome: Decoded | None = None
        self._pardoned = False

    def pardon(self) -> bool:
        """Once: a process that died with this job alone may have been killed by somebody else."""
        first, self._pardoned = not self._pardoned, True
        return first

    @cached_property
    def task(self) -> Task:
        """What a lane needs to know."""
        plan = self.ticket.plan
        first = max(0, self.part.start - AROUND)
        return Task(
            next(_numbers),
            plan.source.ids[first : self.part.stop + AROUND],
            range(self.part.start - first, self.part.stop - first),
            plan.request.options,
            self.rows,
            plan.given.ids if plan.given else None,
            plan.request.attention_options if plan.request.attention else None,
            plan.request.on_token is not None,
        )

    @property
    def place(self) -> int:
        """Among the parts of its text."""
        return self.ticket.plan.parts.index(self.part)

    @property
    def rows(self) -> int:
        return 1 if self.ticket.plan.given else self.ticket.plan.request.options.num_beams

    @property
    def tokens(self) -> int:
        return len(self.part)

    @property
    def bytes(self) -> int:
        return self.ticket.plan.bytes // len(self.ticket.plan.parts)

    @property
    def most_steps(self) -> int:
        """The tokens that it may write, and the end."""
        given = self.ticket.plan.given
        return 1 + (len(given.ids) if given else self.ticket.plan.request.options.max_length)

    @property
    def deadline(self) -> float:
        return self.ticket.deadline

    @property
    def abandoned(self) -> bool:
        return self.ticket.closed


_numbers = count()  # of tasks; to take the next one is atomic
