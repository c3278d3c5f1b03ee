"""Attention as it is looked at: one column for each place of the text, where several tokens may stand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.schemas import AttentionResponse, SourceItem, SummaryItem

LEAST = 0.005  # of a weight that is worth a word


@dataclass(frozen=True, slots=True)
class Place:
    """A piece of the text. `column` is None between the pieces that the model read."""

    text: str
    column: int | None


@dataclass(frozen=True, slots=True)
class View:
    """`places` together are all of the text that was used; weights: (rows, columns); coverage: (columns,)."""

    places: tuple[Place, ...]
    rows: tuple[SummaryItem, ...]
    weights: tuple[tuple[float, ...], ...]
    coverage: tuple[float, ...]
    unread: str  # what was cut off

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(place.text for place in self.places if place.column is not None)

    @property
    def shares(self) -> tuple[float, ...]:
        """Coverage in parts of the largest."""
        most = max(self.coverage, default=0.0) or 1.0
        return tuple(each / most for each in self.coverage)


def view(text: str, response: AttentionResponse) -> View:
    """Tokens that share a character are one column; those without characters are none."""
    attention, used = response.attention, response.source.used_characters
    columns = _columns(attention.source_tokens)
    return View(
        tuple(_places(text[:used], columns)),
        tuple(attention.summary_tokens),
        tuple(_merged(row, columns) for row in attention.weights or ()),
        _merged(attention.coverage, columns),
        text[used:],
    )


def strongest(weights: Sequence[float], count: int) -> list[int]:
    """The columns of a row with the largest weights, largest first; none with next to nothing."""
    order = sorted(range(len(weights)), key=lambda column: -weights[column])
    return [column for column in order[:count] if weights[column] >= LEAST]


def _columns(tokens: Sequence[SourceItem]) -> list[list[tuple[int, SourceItem]]]:
    """The tokens of each column with their numbers."""
    columns: list[list[tuple[int, SourceItem]]] = []
    reached = 0
    for number, token in enumerate(tokens):
        if token.start == token.end:
            continue
        if not columns or token.start >= reached:
            columns.append([])
        columns[-1].append((number, token))
        reached = max(reached, token.end)
    return columns


def _places(text: str, columns: Sequence[Sequence[tuple[int, SourceItem]]]) -> Iterator[Place]:
    reached = 0
    for column, members in enumerate(columns):
        start, end = members[0][1].start, max(token.end for _, token in members)
        if reached < start:
            yield Place(text[reached:start], None)
        yield Place(text[start:end], column)
        reached = end
    if reached < len(text):
        yield Place(text[reached:], None)


def _merged(values: Sequence[float], columns: Sequence[Sequence[tuple[int, SourceItem]]]) -> tuple[float, ...]:
    return tuple(sum(values[number] for number, _ in members) for members in columns)
