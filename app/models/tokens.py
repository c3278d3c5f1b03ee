"""What the tokenizers of all families share: the alphabet of byte-level BPE, and spans that wait to be asked for."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import overload

from app.models.base import Span


def _byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in byte-level BPE (Radford et al. 2019)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(rest)}


BYTE_OF = _byte_alphabet()
Edges = tuple[list[int], list[int]]  # where spans start, and where they end


class LazySpans(Sequence[Span]):
    """As many spans, found when one is asked for: most summaries are told without."""

    def __init__(self, count: int, find: Callable[[], Edges]) -> None:
        self._count = count
        self._find = find

    @cached_property
    def _edges(self) -> Edges:
        return self._find()

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Span: ...

    @overload
    def __getitem__(self, index: slice) -> "LazySpans": ...

    def __getitem__(self, index: int | slice) -> "Span | LazySpans":
        starts, ends = self._edges
        if isinstance(index, slice):
            part = starts[index], ends[index]  # nothing of the rest, which may be a long document, is kept
            return LazySpans(len(part[0]), lambda: part)
        return Span(starts[index], ends[index])

    def __iter__(self) -> Iterator[Span]:
        return map(Span, *self._edges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))
