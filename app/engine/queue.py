"""The jobs that wait, in the order of their arrival and within bounds.

What is done at every decoder step takes a time that does not grow with the queue: a job leaves from anywhere at once,
only the first few are looked at, deadlines lie in a heap, and of those whose callers left the queue is told. What the
heap holds of jobs that have gone is skipped when its turn comes, and swept out when it is more than half.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Generic, TypeVar

from app.engine.costs import Costly, Load
from app.errors import OverloadedError, TooLargeError

FEWEST_TO_SWEEP = 64
LEAST = Load(1, 1, 1, 1)  # what every text needs
NAMES = ("texts", "source tokens", "decoder rows", "bytes")  # of the values of a load

JobT = TypeVar("JobT", bound=Costly)


@dataclass(eq=False, slots=True)
class Waiting(Generic[JobT]):
    """`latest` is the moment from which it is of no use to go on waiting."""

    job: JobT
    latest: float
    overtaken: int = 0


class WaitingQueue(Generic[JobT]):
    """Jobs are told apart by identity."""

    def __init__(self, limits: Load) -> None:
        self.load = Load()
        self._limits = limits
        self._entries: OrderedDict[int, Waiting[JobT]] = OrderedDict()
        self._latest: list[tuple[float, int]] = []  # a heap; the identity may be another job's by now
        self._abandoned: deque[JobT] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[JobT]:
        return (entry.job for entry in self._entries.values())

    def check(self, load: Load, retry_after: int) -> None:
        """Raise TooLargeError where this load can never be let in, OverloadedError where it cannot be let in now."""
        never, now = load.beyond(self._limits), (self.load + load).beyond(self._limits)
        place = now if never is None else never
        if place is None:
            return
        name = NAMES[place]
        wanted, waiting, limit = (each.values[place] for each in (load, self.load, self._limits))
        if never is not None:
            raise TooLargeError(
                f"{wanted:.0f} {name}, parts of long texts included, never fit the queue of {limit:.0f}; send fewer."
            )
        detail = f"{waiting:.0f} {name} wait of at most {limit:.0f}, {wanted:.0f} more do not fit."
        raise OverloadedError(detail, retry_after)

    def check_room(self, texts: int, retry_after: int) -> None:
        """The same for so many texts that nothing is known of, where not even one of them can be let in."""
        if (self.load + LEAST).beyond(self._limits) is not None:
            self.check(Load(texts, texts, texts, texts), retry_after)

    def append(self, job: JobT, latest: float) -> None:
        self._entries[id(job)] = Waiting(job, latest)
        heappush(self._latest, (latest, id(job)))
        self.load += Load.of([job])

    def first(self, count: int) -> list[Waiting[JobT]]:
        return list(islice(self._entries.values(), count))

    def remove(self, job: JobT) -> None:
        del self._entries[id(job)]
        self.load -= Load.of([job])
        if len(self._latest) > 2 * len(self._entries) + FEWEST_TO_SWEEP:
            self._latest = [(entry.latest, identity) for identity, entry in self._entries.items()]
            heapify(self._latest)

    def abandon(self, jobs: Iterable[JobT]) -> None:
        """Nobody waits for these any more, if they are in. From any thread: appending to a deque is atomic."""
        self._abandoned.extend(jobs)

    def withdraw(self, now: float) -> list[JobT]:
        """Take out, and return, whatever is abandoned or waits to no use."""
        gone = []
        while self._abandoned:
            job = self._abandoned.popleft()
            if id(job) in self._entries:
                gone.append(job)
                self.remove(job)
        while self._latest and self._latest[0][0] <= now:
            entry = self._entries.get(heappop(self._latest)[1])
            if entry and entry.latest <= now:
                gone.append(entry.job)
                self.remove(entry.job)
        return gone
