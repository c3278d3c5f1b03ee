"""Whether something grew: a slope that a few wild values do not move (Theil 1950, Sen 1968)."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 20  # values that are enough to judge

Points = Sequence[tuple[float, float]]  # (second, value)


@dataclass(frozen=True, slots=True)
class Bound:
    """How much something may grow: this share of its median, and this much where that is less."""

    share: float
    least: float

    def of(self, median: float) -> float:
        return max(self.share * median, self.least)


@dataclass(frozen=True, slots=True)
class Trend:
    """`growth`: by the slope, over `seconds`. None where there are too few values."""

    name: str
    median: float
    growth: float | None
    seconds: float
    most: float

    @property
    def grew(self) -> bool:
        return self.growth is not None and self.growth > self.most


def slope(groups: Iterable[Points]) -> float:
    """The median of the slopes between any two points of the same group."""
    slopes = [_slopes(np.array(points)) for points in groups if len(points) > 1]
    return float(np.median(np.concatenate(slopes))) if slopes else 0.0


def _slopes(points: NDArray[np.float64]) -> NDArray[np.float64]:
    first, second = np.triu_indices(len(points), 1)
    difference = points[second] - points[first]
    slopes: NDArray[np.float64] = difference[:, 1] / difference[:, 0]
    return slopes


def trend(name: str, groups: Sequence[Points], bound: Bound) -> Trend:
    """Over as long as the longest group lasts. Values of one group are those of one thing, in the order of time."""
    values = [value for points in groups for _, value in points]
    seconds = max((points[-1][0] - points[0][0] for points in groups if points), default=0.0)
    median = statistics.median(values) if values else 0.0
    growth = slope(groups) * seconds if len(values) >= FEWEST else None
    return Trend(name, median, growth, seconds, bound.of(median))
