"""Simulated time, and processors that share it among what runs."""

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

Action = Callable[[], None]


class Agenda:
    """What happens when; of what happens at once, what was planned first. Seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self._planned: list[tuple[float, int, Action]] = []
        self._order = count()

    def after(self, seconds: float, action: Action) -> None:
        heappush(self._planned, (self.now + seconds, next(self._order), action))

    def run(self, until: float) -> None:
        """Do what is planned, until then or until nothing is."""
        while self._planned and self._planned[0][0] <= until:
            self.now, _, action = heappop(self._planned)
            action()


class Cores:
    """Processor sharing: more works than cores all become slower alike, as under an operating system."""

    def __init__(self, agenda: Agenda, cores: int) -> None:
        self.busy_seconds = 0.0  # of all cores
        self._agenda = agenda
        self._cores = cores
        # Works end in the order of what each had to do when it began, on a clock that goes as fast as one of them.
        self._works: list[tuple[float, int, Action]] = []
        self._order = count()
        self._clock = 0.0
        self._since = 0.0
        self._plan = 0

    def run(self, seconds: float, done: Action) -> None:
        """`seconds` of one core."""
        self._advance()
        heappush(self._works, (self._clock + seconds, next(self._order), done))
        self._expect()

    @property
    def _speed(self) -> float:
        return min(1.0, self._cores / len(self._works)) if self._works else 0.0

    def _advance(self) -> None:
        passed = (self._agenda.now - self._since) * self._speed
        self._clock += passed
        self.busy_seconds += passed * len(self._works)
        self._since = self._agenda.now

    def _expect(self) -> None:
        self._plan += 1
        if self._works:
            left = max(0.0, self._works[0][0] - self._clock)
            plan = self._plan
            self._agenda.after(left / self._speed, lambda: self._end_first(plan))

    def _end_first(self, plan: int) -> None:
        if plan != self._plan:  # something began or ended meanwhile
            return
        self._advance()
        _, _, done = heappop(self._works)
        self._expect()
        done()


class Thread:
    """Does one thing after the other, first come, first served."""

    def __init__(self, cores: Cores) -> None:
        self._cores = cores
        self._waiting: deque[tuple[float, Action]] = deque()

    def do(self, seconds: float, then: Action) -> None:
        self._waiting.append((seconds, then))
        if len(self._waiting) == 1:
            self._begin()

    def _begin(self) -> None:
        self._cores.run(self._waiting[0][0], self._did)

    def _did(self) -> None:
        _, then = self._waiting.popleft()
        if self._waiting:
            self._begin()
        then()
