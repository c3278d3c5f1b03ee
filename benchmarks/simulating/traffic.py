"""Who asks, for what and when: texts of mixed length, at random moments or in a closed loop, for several replicas."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from benchmarks.simulating.replica import Costs, End, Replica, Text
from benchmarks.simulating.time import Agenda, Thread

MOST_TOKENS = 400  # that the model reads
MOST_STEPS = 32


@dataclass(frozen=True, slots=True)
class Mix:
    """Lengths with these means and standard deviations in means, drawn from gamma distributions; beams of all."""

    tokens: float
    steps: float
    beams: int = 1
    tokens_spread: float = 0.78
    steps_spread: float = 0.4

    def texts(self, source: random.Random) -> Iterator[Text]:
        while True:
            tokens = _gamma(source, self.tokens, self.tokens_spread, MOST_TOKENS)
            yield Text(tokens, _gamma(source, self.steps, self.steps_spread, MOST_STEPS), self.beams)


def _gamma(source: random.Random, mean: float, spread: float, most: int) -> int:
    if not spread:
        return max(1, round(mean))
    shape = spread**-2
    return min(most, max(1, round(source.gammavariate(shape, mean / shape))))


class Balancer:
    """Least connections; where several have as few, each in turn."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas = replicas
        self._turn = count()

    def ask(self, text: Text, ended: Callable[[End], None]) -> None:
        first = next(self._turn)
        order = [self._replicas[(first + place) % len(self._replicas)] for place in range(len(self._replicas))]
        min(order, key=lambda replica: replica.open).ask(text, ended)


@dataclass(slots=True)
class Simulated:
    """What became of those who asked from `since` on; latencies in ms, those of answers alone."""

    asked: int = 0
    ended: dict[End, int] = field(default_factory=lambda: dict.fromkeys(End, 0))
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    busy: float = 0.0  # cores, on average, of all there are

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.ended[End.ANSWERED] / self.seconds

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.latencies, 100 * share)) if self.latencies else 0.0


@dataclass(frozen=True, slots=True)
class Service:
    """Replicas alike, and what one asks of them."""

    costs: Costs
    mix: Mix
    replicas: int = 1
    cores: int = 2
    timeout: float = 60.0
    asking: float = 0.0  # seconds of a request for whoever asks, where that one shares the cores of the only replica

    def open_loop(self, rate: float, seconds: float, seed: int = 0, warm_up: float = 2.0) -> Simulated:
        """Poisson arrivals; all that asked within `seconds` are waited for."""
        run = _Run(self, seed, warm_up, warm_up + seconds)
        source = random.Random(f"moments {seed}")

        def arrive() -> None:
            if run.ask(lambda: None):
                run.agenda.after(source.expovariate(rate), arrive)

        run.agenda.after(source.expovariate(rate), arrive)
        return run.finish()

    def closed_loop(self, clients: int, seconds: float, seed: int = 0, warm_up: float = 2.0) -> Simulated:
        """Each client asks again when it has its answer."""
        run = _Run(self, seed, warm_up, warm_up + seconds)

        def ask() -> None:
            run.ask(ask)

        for _ in range(clients):
            run.agenda.after(0.0, ask)
        return run.finish()


class _Run:
    """One simulation, counted from `since` until `until`."""

    def __init__(self, service: Service, seed: int, since: float, until: float) -> None:
        self.agenda = Agenda()
        self._replicas = [
            Replica(self.agenda, service.costs, service.cores, service.timeout) for _ in range(service.replicas)
        ]
        self._balancer = Balancer(self._replicas)
        self._texts = service.mix.texts(random.Random(f"texts {seed}"))
        self._since, self._until = since, until
        self._asking = service.asking / 2
        self._asker = Thread(self._replicas[0].cores)
        self._found = Simulated()

    def ask(self, then: Callable[[], object]) -> bool:
        """`then` is done when it has its end. False once the time is over: nobody asks any more."""
        asked = self.agenda.now
        if asked > self._until:
            return False
        counted = asked >= self._since
        self._found.asked += counted

        def heard(end: End) -> None:
            if counted:
                self._found.ended[end] += 1
                if end is End.ANSWERED:
                    self._found.latencies.append(1000 * (self.agenda.now - asked))
            then()

        def ended(end: End) -> None:
            self._asker.do(self._asking, lambda: heard(end))

        self._asker.do(self._asking, lambda: self._balancer.ask(next(self._texts), ended))
        return True

    def finish(self) -> Simulated:
        self.agenda.run(self._since)
        before = self._busy_seconds
        self.agenda.run(self._until)
        self._found.seconds = self._until - self._since
        self._found.busy = (self._busy_seconds - before) / self._found.seconds
        self.agenda.run(math.inf)
        return self._found

    @property
    def _busy_seconds(self) -> float:
        return sum(replica.cores.busy_seconds for replica in self._replicas)
