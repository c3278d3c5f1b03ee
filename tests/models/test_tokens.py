"""Spans wait to be asked for."""

from app.models.base import Span
from app.models.tokens import LazySpans


def test_spans_are_found_when_one_is_asked_for_and_a_part_of_them_keeps_no_more() -> None:
    found: list[str] = []

    def find() -> tuple[list[int], list[int]]:
        found.append("once")
        return [0, 4], [3, 9]

    spans = LazySpans(2, find)
    assert len(spans) == 2
    assert not found
    assert (spans[1], list(spans)) == (Span(4, 9), [Span(0, 3), Span(4, 9)])
    assert spans[:1] == LazySpans(1, lambda: ([0], [3])) == (Span(0, 3),) != spans
    assert found == ["once"]
