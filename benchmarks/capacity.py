"""What so many articles a day need: replicas of the service, simulated (`simulating`), and how far off that is.

The costs below were measured on one machine, some of them while it was slow; `calibrated` makes all of them as much
slower or faster as the maximum of a closed loop says, and checks what comes of it against what was measured else.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.report import plot, table
from benchmarks.simulating.replica import Costs, End
from benchmarks.simulating.traffic import MOST_TOKENS, Mix, Service, Simulated

# Of news-en in int8. A request costs 0.95 ms in the front and 3.1 ms in the lanes (a profile at 482/s). What of that
# grows with what comes from doubling sources and summaries; a row of several beams from 64 clients, who get 0.485 times
# as many with four. `joining` is from a bare loop: a text alone takes 0.35 ms more to encode than among eight.
COSTS = Costs(front=0.95e-3, joining=0.4e-3, token=9.7e-6, step=0.05e-3, row=0.117e-3, beam_row=0.104e-3, delay=2e-3)
MAXIMUM = 470.2  # greedy summaries a second that 64 clients get from two cores
IDLE_MS = 7.5  # median of one text after the other
CLIENTS = 64
SAMPLE = Mix(tokens=110.7, steps=14.7)  # the texts of these measurements
ASKING = {"wrk": 0.05e-3, "python": 0.6e-3}  # seconds of a request, on the same cores

MARGIN = 2.0  # times the simulated p99: what was measured at random arrivals was up to so much longer
MOST_BUSY = 0.8  # of the cores: how it is beyond was not measured
ENOUGH = 10_000  # requests to know a p99 by
SERVICE_MIB, LANE_MIB = 370, 130  # a replica, and each lane of each model, one for every core


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure of RESULTS.md: of clients in a closed loop, or of so many random arrivals a second."""

    what: str
    load: float
    rate: float
    p50: float | None = None
    p99: float | None = None
    beams: int = 1
    closed: bool = True


MEASURED = (
    Measured("1 client", 1, 117.2, 8, 16),
    Measured("8 clients", 8, 355.9, 21, 45),
    Measured("256 clients", 256, 502.0),
    Measured("1 client", 1, 90.7, 11, 19, beams=4),
    Measured("8 clients", 8, 197.7, 40, 68, beams=4),
    Measured("256 clients", 256, 200.5, beams=4),
    Measured("30 % at random", 140.9, 140.9, 13, 38, closed=False),
    Measured("60 % at random", 275.6, 275.6, 24, 76, closed=False),
    Measured("80 % at random", 368.3, 368.3, 37, 108, closed=False),
)


@dataclass(frozen=True, slots=True)
class Need:
    """What is asked of the service, and of each replica."""

    articles_a_day: float = 10_000_000
    peak: float = 2.0  # times the mean of the day
    p99_ms: float = 500.0
    mix: Mix = SAMPLE
    cores: int = 2

    @property
    def rate(self) -> float:
        """Articles a second when most come."""
        return self.peak * self.articles_a_day / 86_400


@dataclass(frozen=True, slots=True)
class Fleet:
    """Replicas that are enough, and how they do when most come."""

    service: Service
    simulated: Simulated

    @property
    def memory_gib(self) -> float:
        return self.service.replicas * (SERVICE_MIB + LANE_MIB * self.service.cores) / 1024

    @property
    def all_answered(self) -> bool:
        return self.simulated.ended[End.ANSWERED] == self.simulated.asked

    @property
    def busy(self) -> float:
        """Share of the cores."""
        return self.simulated.busy / (self.service.replicas * self.service.cores)


def mix_of(tokens: float, steps: float, beams: int) -> Mix:
    """Of articles whose mean is all that the model reads, nearly all are longer."""
    return Mix(tokens, steps, beams, 0.0 if tokens >= MOST_TOKENS else SAMPLE.tokens_spread)


def calibrated(maximum: float = MAXIMUM, idle_ms: float = IDLE_MS, costs: Costs = COSTS) -> Costs:
    """Costs of a machine whose two cores come to this maximum, and answer one at a time in this median."""
    for _ in range(2):
        found = Service(costs, SAMPLE, asking=ASKING["wrk"]).closed_loop(CLIENTS, 10.0)
        costs = costs.times(found.rate / maximum)
    idle = Service(costs, SAMPLE).closed_loop(1, 5.0).percentile(0.5)
    return replace(costs, delay=max(0.0, costs.delay + (idle_ms - idle) / 1000))


def check(costs: Costs) -> Iterator[tuple[Measured, Simulated]]:
    """What was measured, but not calibrated by, beside what the simulation says of it."""
    for measured in MEASURED:
        asking = ASKING["wrk" if measured.closed else "python"]
        service = Service(costs, replace(SAMPLE, beams=measured.beams), asking=asking)
        if measured.closed:
            yield measured, service.closed_loop(int(measured.load), 20.0)
        else:
            yield measured, service.open_loop(measured.load, 60.0)


def fleet_for(need: Need, costs: Costs, enough: int) -> Fleet:
    """The fewest replicas whose p99, with the margin, is as wanted, by so many requests.

    ValueError where one text alone takes longer.
    """
    one = Service(costs, need.mix, cores=need.cores)
    alone = one.closed_loop(1, 5.0).percentile(0.99)
    if MARGIN * alone > need.p99_ms:
        raise ValueError(
            f"a text alone has a p99 of {MARGIN * alone:.0f} ms, more than {need.p99_ms:g}: no number helps"
        )
    most = one.closed_loop(8 * CLIENTS, 3.0).rate
    replicas = math.ceil(need.rate / most)
    while True:
        service = replace(one, replicas=replicas)
        fleet = Fleet(service, service.open_loop(need.rate, enough / need.rate))
        if fleet.busy <= MOST_BUSY and fleet.all_answered and MARGIN * fleet.simulated.percentile(0.99) <= need.p99_ms:
            return fleet
        replicas += 1


def report_check(costs: Costs) -> str:
    """How far the simulation is off."""
    rows = []
    for measured, simulated in check(costs):
        pairs = [
            (measured.rate, simulated.rate),
            (measured.p50, simulated.percentile(0.5)),
            (measured.p99, simulated.percentile(0.99)),
        ]
        cells = [f"{real:g}, {ours:.0f}, {ours / real - 1:+.0%}" if real else "" for real, ours in pairs]
        rows.append((measured.what, measured.beams, *cells))
    return table(("load", "beams", "summaries/s: measured, simulated, off by", "p50 ms", "p99 ms"), rows)


def report_growth(costs: Costs, folder: Path) -> str:
    """Throughput by replicas, cores, sources and beams; p99 by load, as a picture too."""
    parts = [
        _growth("replicas of 2 cores", costs, [(count, SAMPLE, count, 2) for count in (1, 2, 4, 8, 16)]),
        _growth("cores of one replica", costs, [(count, SAMPLE, 1, count) for count in (1, 2, 3, 4, 6, 8)]),
        _growth("source tokens", costs, [(size, _fixed(size), 1, 2) for size in (50, 100, 200, 400)]),
        _growth("beams", costs, [(beams, replace(SAMPLE, beams=beams), 1, 2) for beams in (1, 2, 4, 8)]),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    plot(folder / "capacity.png", "Replicas of two cores", ("share of their maximum", "p99 in ms"), _lines(costs))
    return "\n\n".join(parts)


def _growth(what: str, costs: Costs, cases: Sequence[tuple[int, Mix, int, int]]) -> str:
    rows = []
    for size, mix, replicas, cores in cases:
        service = Service(costs, mix, replicas, cores)
        found = service.closed_loop(CLIENTS * replicas * cores // 2, 10.0)
        memory = Fleet(service, found).memory_gib
        rows.append((size, f"{found.rate:.0f}", f"{found.rate / (replicas * cores):.0f}", f"{memory:.1f}"))
    return table((what, "summaries/s", "of each core", "memory GiB"), rows)


def _fixed(tokens: int) -> Mix:
    return replace(SAMPLE, tokens=tokens, tokens_spread=0.0)


def _lines(costs: Costs) -> dict[str, list[tuple[float, float]]]:
    lines = {}
    for replicas in (1, 2, 4, 8):
        service = Service(costs, SAMPLE, replicas)
        most = service.closed_loop(CLIENTS * replicas, 10.0).rate
        shares = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
        found = [service.open_loop(share * most, ENOUGH / (share * most)) for share in shares]
        name = f"{replicas} replica" + "s" * (replicas > 1)
        lines[name] = [(share, one.percentile(0.99)) for share, one in zip(shares, found, strict=True)]
    return lines


def report_needs(needs: Sequence[Need], costs: Costs) -> str:
    """A line for each."""
    rows = []
    for need in needs:
        fleet = fleet_for(need, costs, ENOUGH)
        service, found = fleet.service, fleet.simulated
        hours = found.busy / found.rate * 1e6 / 3600
        rows.append(
            (
                f"{need.articles_a_day:,.0f}",
                f"{need.rate:.0f}",
                f"{need.mix.tokens:g}",
                need.mix.beams,
                service.replicas,
                service.replicas * service.cores,
                f"{fleet.memory_gib:.1f}",
                f"{fleet.busy:.0%}",
                f"{found.percentile(0.5):.0f}, {MARGIN * found.percentile(0.99):.0f}",
                f"{hours:.2f}",
            )
        )
    names = ("articles a day", "a second at the peak", "source tokens", "beams", "replicas", "cores", "memory GiB")
    return table((*names, "busy at the peak", "p50, p99 with margin ms", "core-hours a million"), rows)
