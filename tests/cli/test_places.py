"""Attention as it is looked at: all of the text, in pieces, and no weight lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.places import View, strongest, view
from app.examples import ATTENTION_RESPONSE
from app.schemas import AttentionResponse


def response(
    text: str, spans: list[tuple[int, int]], rows: list[list[float]], used: int | None = None
) -> AttentionResponse:
    """An answer with these columns; the rows have words of one letter."""
    items = [{"text": text[start:end], "start": start, "end": end} for start, end in spans]
    words = [
        {"text": "w", "start": 2 * row, "end": 2 * row + 1, "log_probability": -0.5, "copied": 0.5}
        for row in range(len(rows))
    ]
    coverage = [sum(column) for column in zip(*rows, strict=True)] if rows else [0.0] * len(spans)
    source = {**ATTENTION_RESPONSE["source"], "used_characters": len(text) if used is None else used}
    attention = {"source_tokens": items, "summary_tokens": words, "weights": rows, "coverage": coverage}
    return AttentionResponse.model_validate(
        {**ATTENTION_RESPONSE, "summary": " ".join("w" * len(rows)), "source": source, "attention": attention}
    )


@st.composite
def seen(draw: st.DrawFn) -> tuple[str, int, View]:
    """Texts with tokens as the API allows them: in order, perhaps repeated, perhaps empty, perhaps overlapping."""
    text = draw(st.text(st.sampled_from("ab 北😀\n\t<&"), max_size=30))
    used = draw(st.integers(0, len(text)))
    pairs = draw(st.lists(st.tuples(st.integers(0, used), st.integers(0, used)), max_size=12))
    spans = list(zip(sorted(map(min, pairs)), sorted(map(max, pairs)), strict=True))
    weight = st.floats(0, 1)
    rows = draw(st.lists(st.lists(weight, min_size=len(spans), max_size=len(spans)), max_size=3))
    return text, used, view(text, response(text, spans, rows, used))


@given(seen=seen())
def test_the_pieces_and_what_was_not_read_are_the_text(seen: tuple[str, int, View]) -> None:
    text, used, shown = seen
    assert "".join(place.text for place in shown.places) == text[:used]
    assert shown.unread == text[used:]


@given(seen=seen())
def test_every_column_is_one_piece_and_the_numbers_fit(seen: tuple[str, int, View]) -> None:
    _, _, shown = seen
    assert [place.column for place in shown.places if place.column is not None] == list(range(len(shown.columns)))
    assert all(shown.columns)
    assert {len(row) for row in shown.weights} <= {len(shown.columns)}
    assert len(shown.coverage) == len(shown.columns)


def test_tokens_of_one_character_are_one_column_with_their_weights_together() -> None:
    shown = view("a😀b", response("a😀b", [(0, 1), (1, 2), (1, 2), (2, 2), (2, 3)], [[0.1, 0.2, 0.3, 0.0, 0.4]]))
    assert shown.columns == ("a", "😀", "b")
    assert shown.weights[0] == pytest.approx((0.1, 0.5, 0.4))
    assert shown.coverage == pytest.approx((0.1, 0.5, 0.4))


def test_tokens_that_share_a_character_are_one_column() -> None:
    shown = view("a😀b", response("a😀b", [(0, 2), (1, 3), (3, 3)], [[0.5, 0.25, 0.25]]))
    assert shown.columns == ("a😀b",)
    assert shown.weights[0] == (0.75,)


def test_the_strongest_columns_come_first_and_those_with_next_to_nothing_never() -> None:
    assert strongest([0.001, 0.3, 0.0, 0.6, 0.09], 4) == [3, 1, 4]
    assert strongest([0.001, 0.3, 0.0, 0.6, 0.09], 2) == [3, 1]
