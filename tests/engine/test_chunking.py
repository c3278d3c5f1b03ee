"""Parts cover the text, fit the model, end with sentences and leave no stub."""

import re

from hypothesis import given
from hypothesis import strategies as st

from app.alignment import group_words
from app.engine.chunking import chunks
from app.models.base import Span, Tokens
from tests.texts import trained_tokenizer


def words(text: str) -> Tokens:
    spans = [Span(*match.span()) for match in re.finditer(r"\S+", text)]
    return Tokens(text, tuple(range(len(spans))), tuple(spans))


def pieces(text: str, limit: int) -> list[str]:
    return quoted(words(text), limit, "en")


def quoted(tokens: Tokens, limit: int, language: str) -> list[str]:
    ranges = [tokens.spans[part.start : part.stop] for part in chunks(tokens, limit, language)]
    return [tokens.text[spans[0].start : spans[-1].end] for spans in ranges]


@given(st.lists(st.sampled_from(["a", "bb.", "c", "d?"]), min_size=1, max_size=120), st.integers(1, 25))
def test_parts_cover_the_text_in_order_and_fit(text: list[str], limit: int) -> None:
    parts = chunks(words(" ".join(text)), limit, "en")
    assert [token for part in parts for token in part] == list(range(len(text)))
    assert all(0 < len(part) <= limit for part in parts)
    assert len(parts) == 1 or len(text) > limit


@given(st.integers(21, 400), st.integers(20, 60))
def test_parts_are_of_nearly_equal_length(count: int, limit: int) -> None:
    sizes = [len(part) for part in chunks(words("word " * count), limit, "en")]
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
    assert quoted(Tokens(text, tuple(range(len(spans))), spans), 24, "zh") == ["一二三四五六。", "七八九十"]


def test_white_space_goes_with_what_follows_it() -> None:
    text = "大桥通车。 居民高兴。 " * 8
    tokens = trained_tokenizer(2000, "zh").encode(text)
    assert all(tokens.spans[part.stop - 1].start < tokens.spans[part.stop - 1].end for part in chunks(tokens, 40, "zh"))


CLAUSES = ["大桥昨天通车", "市长说：“好！”", "全长1.2公里", "代表们讨论了《新桥梁计划》", "😀居民很高兴……"]


@given(st.lists(st.sampled_from(CLAUSES), min_size=12, max_size=24), st.sampled_from("。！？；"), st.integers(160, 240))
def test_chinese_parts_end_with_sentences_and_the_signs_that_close_them(
    clauses: list[str], end: str, limit: int
) -> None:
    text = "".join(clause if clause[-1] in "”…" else clause + end for clause in clauses)
    parts = quoted(trained_tokenizer(2000, "zh").encode(text), limit, "zh")
    assert "".join(parts) == text
    assert all(part[-1] in end + "”…" and part[0] not in end + "”…" for part in parts)


@given(
    st.lists(
        st.sampled_from(["北京", "会见", "代表", "讨论", "昨天", "《", "》", "，", "“", "2031年"]),
        min_size=60,
        max_size=90,
    )
)
def test_without_sentences_chinese_is_cut_between_words(pieces: list[str]) -> None:
    tokens = trained_tokenizer(2000, "zh").encode("".join(pieces))
    parts = chunks(tokens, 120, "zh")
    begun = {group.start for group in group_words(tokens, "zh")}
    assert {part.start for part in parts} <= begun


def test_a_cut_prefers_the_start_of_a_word_to_its_middle() -> None:
    text = "aabb ccdd eeff gghh"
    spans = tuple(
        Span(start, start + 2) for match in re.finditer(r"\S+", text) for start in (match.start(), match.start() + 2)
    )
    parts = chunks(Tokens(text, tuple(range(8)), spans), 5, "en")
    assert all(part.start % 2 == 0 for part in parts)
