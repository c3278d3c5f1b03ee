"""What must not grow, and by how much it may: samples of a run become trends."""

from collections.abc import Callable, Mapping, Sequence

from benchmarks.report import Record
from benchmarks.soaking.trends import Bound, Points, Trend, trend

WARM_UP = 1 / 3  # of the time: what is judged comes after it
YOUNG_SECONDS = 30.0  # of a lane's life, in which it takes what it needs

Groups = Sequence[Points]


def _of(name: str) -> Callable[[Sequence[Record]], Groups]:
    return lambda samples: [[(each["second"], each[name]) for each in samples if each[name] is not None]]


def _lives(samples: Sequence[Record]) -> Groups:
    """The memory of each lane, from when it is no longer young."""
    born: dict[str, float] = {}
    lives: dict[str, list[tuple[float, float]]] = {}
    for sample in samples:
        for lane, mib in sample["lanes_mib"].items():
            if sample["second"] - born.setdefault(lane, sample["second"]) >= YOUNG_SECONDS:
                lives.setdefault(lane, []).append((sample["second"], mib))
    return list(lives.values())


# The latency may vary with the machine, which is not ours alone.
WATCHED: Mapping[str, tuple[Callable[[Sequence[Record]], Groups], Bound]] = {
    "memory of the service's own process, MiB": (_of("service_mib"), Bound(0.05, 8.0)),
    "memory of one lane, MiB": (_lives, Bound(0.10, 8.0)),
    "memory of all processes, MiB": (_of("mib"), Bound(0.05, 16.0)),
    "open files": (_of("files"), Bound(0.10, 4.0)),
    "threads": (_of("threads"), Bound(0.0, 1.0)),
    "processes": (_of("processes"), Bound(0.0, 0.5)),
    "latency of a probe, ms": (_of("latency_ms"), Bound(0.50, 10.0)),
}


def judge(samples: Sequence[Record]) -> list[Trend]:
    """Of what was sampled after the warm-up."""
    late = [each for each in samples if each["second"] >= WARM_UP * samples[-1]["second"]]
    return [trend(name, groups(late), bound) for name, (groups, bound) in WATCHED.items()]
