"""Attention as it is looked at: one column for each place of the text, where several tokens may stand."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.schemas import AttentionResponse, SummaryItem

LEAST = 0.005  # of a weight that is worth a word


@dataclass(frozen=True, slots=True)
class Place:
    """A piece of the text. `column` is None between the pieces that the model read."""

    text: str
    column: int | None


@dataclass(frozen=True, slots=True)
class View:
    """`text` in pieces that together are all of it; weights: (rows, columns); coverage: (columns,)."""

    places: tuple[Place, ...]
    rows: tuple[SummaryItem, ...]
    weights: tuple[tuple[float, ...], ...]
    coverage: tuple[float, ...]
    unread: str  # what was cut off

    @property
    def shares(self) -> tuple[float, ...]:
        """Coverage in parts of the largest."""
        most = max(self.coverage, default=0.0) or 1.0
        return tuple(each / most for each in self.coverage)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(place.text for place in self.places if place.column is not None)


def view(text: str, response: AttentionResponse) -> View:
    """Tokens of the same characters are one column; those without characters, and rows without, are none."""
    attention = response.attention
    numbers: dict[tuple[int, int], list[int]] = {}
    for number, item in enumerate(attention.source_tokens):
        numbers.setdefault((item.start, item.end), []).append(number)
    spans = {span: members for span, members in sorted(numbers.items()) if span[0] < span[1]}
    end = response.source.used_characters
    return View(
        _places(text[:end], list(spans)),
        tuple(attention.summary_tokens),
        tuple(_merged(row, spans.values()) for row in attention.weights or ()),
        _merged(attention.coverage, spans.values()),
        text[end:],
    )


def strongest(weights: Sequence[float], count: int) -> list[int]:
    """The columns of a row with the largest weights, largest first; none with next to nothing."""
    order = sorted(range(len(weights)), key=lambda column: -weights[column])
    return [column for column in order[:count] if weights[column] >= LEAST]


def _merged(values: Sequence[float], groups: Iterable[list[int]]) -> tuple[float, ...]:
    return tuple(sum(values[number] for number in group) for group in groups)


def _places(text: str, spans: Sequence[tuple[int, int]]) -> tuple[Place, ...]:
    places, reached = [], 0
    for column, (start, end) in enumerate(spans):
        if reached < start:
            places.append(Place(text[reached:start], None))
        places.append(Place(text[max(start, reached) : end], column))
        reached = max(reached, end)
    if reached < len(text):
        places.append(Place(text[reached:], None))
    return tuple(places)
