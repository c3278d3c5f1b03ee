"""What a peer's model is asked."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol


class Item(NamedTuple):
    """One text of a batch and how many beams it is to be searched with."""

    text: str
    beams: int


class PeerModel(Protocol):
    """A loaded checkpoint. Not thread-safe: one batch at a time."""

    def summarize(self, items: Sequence[Item]) -> list[str]:
        """One summary for each item, in order."""


def by_beams(items: Sequence[Item], summarize: Callable[[Sequence[str], int], Sequence[str]]) -> list[str]:
    """One summary for each item, in order; `summarize` is given the texts with as many beams at once."""
    groups: dict[int, list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        groups[item.beams].append(number)
    summaries = [""] * len(items)
    for beams, numbers in groups.items():
        written = summarize([items[number].text for number in numbers], beams)
        for number, summary in zip(numbers, written, strict=True):
            summaries[number] = summary
    return summaries
