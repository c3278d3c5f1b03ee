"""Parts cover the text, fit the model, end with sentences and leave no stub."""

import re

from hypothesis import given
from hypothesis import strategies as st

from app.engine.chunking import chunks
from app.models.base import Span, Tokens


def words(text: str) -> Tokens:
    spans = [Span(*match.span()) for match in re.finditer(r"\S+", text)]
    return Tokens(text, tuple(range(len(spans))), tuple(spans))


def pieces(text: str, limit: int) -> list[str]:
    tokens = words(text)
    return [text[tokens.spans[part.start].start : tokens.spans[part.stop - 1].end] for part in chunks(tokens, limit)]


@given(st.lists(st.sampled_from(["a", "bb.", "c", "d?"]), min_size=1, max_size=120), st.integers(1, 25))
def test_parts_cover_the_text_in_order_and_fit(text: list[str], limit: int) -> None:
    parts = chunks(words(" ".join(text)), limit)
    assert [token for part in parts for token in part] == list(range(len(text)))
    assert all(0 < len(part) <= limit for part in parts)
    assert len(parts) == 1 or len(text) > limit


@given(st.integers(21, 400), st.integers(20, 60))
def test_parts_are_of_nearly_equal_length(count: int, limit: int) -> None:
    sizes = [len(part) for part in chunks(words("word " * count), limit)]
    assert max(sizes) - min(sizes) <= 1


def test_a_part_ends_with_a_sentence_where_one_ends_nearby() -> None:
    text = "One two three four five. Six seven eight nine. Ten eleven twelve thirteen fourteen fifteen sixteen."
    assert pieces(text, limit=10) == [
        "One two three four five. Six seven eight nine.",
        "Ten eleven twelve thirteen fourteen fifteen sixteen.",
    ]
    assert pieces('A b c d e "f g." h i j k l', limit=10)[0] == 'A b c d e "f g."'
    assert pieces("a b c d e\nf g h i j k l", limit=10)[0] == "a b c d e"


def test_without_spaces_a_part_ends_with_a_sentence_and_never_within_a_character() -> None:
    text = "一二三四五六。七八九十"
    spans = tuple(Span(place, place + 1) for place in range(len(text)) for _ in range(3))  # three tokens a character
    parts = chunks(Tokens(text, tuple(range(len(spans))), spans), limit=24)
    assert [text[spans[part.start].start : spans[part.stop - 1].end] for part in parts] == [
        "一二三四五六。",
        "七八九十",
    ]


def test_a_cut_prefers_the_start_of_a_word_to_its_middle() -> None:
    text = "aabb ccdd eeff gghh"
    spans = tuple(
        Span(start, start + 2) for match in re.finditer(r"\S+", text) for start in (match.start(), match.start() + 2)
    )
    parts = chunks(Tokens(text, tuple(range(8)), spans), limit=5)
    assert all(part.start % 2 == 0 for part in parts)
