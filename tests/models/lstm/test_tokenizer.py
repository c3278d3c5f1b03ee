"""Offsets are exact under every kind of text, and nothing in a text is taken for a special token."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.models.lstm import tokenizer as module
from app.models.lstm.tokenizer import END, LONGEST_WORD, MOST_TOKENS, PAD, START, Tokenizer, normalize
from tests.texts import CORPUS, texts, trained_tokenizer

LANGUAGES = st.sampled_from(["en", "zh"])
BETWEEN_CHINESE_WORDS = ["昨天在", "举行的", "，", "”", "《", "😀", " ", "\u3000\n", "2", "GDP"]


@given(texts(), LANGUAGES)
@example("a\u200b\u200bb", "en")
@example("😀", "en")
@example(" \r\n北京\t ", "en")
@example("\u3000北京 １２％ ☕\n2号", "zh")
def test_source_spans_are_ordered_unblank_and_cover_every_visible_character(text: str, language: str) -> None:
    tokens = trained_tokenizer(language=language).encode(text)
    covered = set()
    previous = (0, 0)
    for span in tokens.spans:
        assert 0 <= span.start <= span.end <= len(text)
        assert text[span.start : span.end] == text[span.start : span.end].strip()
        assert previous <= (span.start, span.end)
        previous = (span.start, span.end)
        covered |= set(range(span.start, span.end))
    assert covered == {index for index, character in enumerate(text) if not character.isspace()}


@given(texts(), LANGUAGES)
def test_decoding_restores_the_normalized_text(text: str, language: str) -> None:
    tokenizer = trained_tokenizer(language=language)
    assert tokenizer.decode(tokenizer.encode(text).ids).text == normalize(text, language == "zh").strip()


@given(texts(), LANGUAGES)
def test_summary_spans_quote_the_summary_and_never_cross(text: str, language: str) -> None:
    tokenizer = trained_tokenizer(language=language)
    ids = tokenizer.encode(text).ids
    for cut in (len(ids), len(ids) // 2, 1):
        decoded = tokenizer.decode(ids[:cut])
        assert decoded.text == decoded.text.strip()
        assert len(decoded.spans) == cut
        edges = [(span.start, span.end) for span in decoded.spans]
        assert edges == sorted(edges)
        covered = {index for start, end in edges for index in range(start, end)}
        assert covered == {index for index, character in enumerate(decoded.text) if not character.isspace()}


@given(st.lists(st.integers(0, 319), max_size=40), LANGUAGES)
def test_spans_of_whatever_tokens_are_written_never_cross(ids: list[int], language: str) -> None:
    """A model may write bytes that are no character, between any others."""
    decoded = trained_tokenizer(language=language).decode(ids)
    starts, ends = [span.start for span in decoded.spans], [span.end for span in decoded.spans]
    assert starts == sorted(starts)
    assert ends == sorted(ends)
    covered = {index for span in decoded.spans for index in range(span.start, span.end)}
    assert covered == {index for index, character in enumerate(decoded.text) if not character.isspace()}


def test_a_sequence_cut_inside_a_character_leaves_it_out() -> None:
    tokenizer = trained_tokenizer()
    ids = tokenizer.encode("a 漢").ids
    assert tokenizer.decode(ids[:-1]).text == "a"
    assert tokenizer.decode(ids).text == "a 漢"


def test_a_character_split_over_tokens_is_the_span_of_each() -> None:
    tokens = trained_tokenizer().encode("x 漢")
    assert [(span.start, span.end) for span in tokens.spans][-3:] == [(2, 3)] * 3


def test_a_word_has_the_same_tokens_wherever_it_stands() -> None:
    tokenizer = trained_tokenizer()
    alone = tokenizer.encode("bridge").ids
    for text in ("the bridge", "the\nbridge", "\tbridge", "the \u00a0 bridge"):
        assert tokenizer.encode(text).ids[-len(alone) :] == alone


@given(
    word=st.sampled_from(["北京", "自贸港", "〇", "3", "2031", "GDP", "“双碳”"]),
    before=st.lists(st.sampled_from(BETWEEN_CHINESE_WORDS)),
    after=st.lists(st.sampled_from(BETWEEN_CHINESE_WORDS)),
)
@example(word="北京", before=["昨天在"], after=["举行的"])
def test_a_chinese_word_has_the_same_tokens_wherever_it_stands(word: str, before: list[str], after: list[str]) -> None:
    tokenizer = trained_tokenizer(2000, "zh")
    neighbours = "2GDP" if word.isascii() else ""  # would make it another number or name
    left, right = "".join(before).rstrip(neighbours), "".join(after).lstrip(neighbours)
    tokens = tokenizer.encode(left + word + right)
    start, end = len(left), len(left) + len(word)
    within = [index for index, span in enumerate(tokens.spans) if start <= span.start < span.end <= end]
    assert [tokens.ids[index] for index in within] == list(tokenizer.encode(word).ids)


def test_no_chinese_token_is_longer_than_a_character() -> None:
    tokens = trained_tokenizer(2000, "zh-Hans").encode(CORPUS[3])
    assert [CORPUS[3][span.start : span.end] for span in tokens.spans] == list(CORPUS[3])


def test_chinese_keeps_its_punctuation_and_has_one_space_between_lines_and_none_between_words() -> None:
    tokenizer = trained_tokenizer(language="zh")
    text = "\u3000\u3000“格林河大桥”（新）通车：\r\n\u3000\u3000全长１．２公里；耗资３０％！ 约翰•史密斯说ＯＫ。"
    plain = "“格林河大桥”（新）通车： 全长1.2公里；耗资30%！ 约翰·史密斯说OK。"
    assert tokenizer.decode(tokenizer.encode(text).ids).text == plain
    assert len(tokenizer.encode(plain).spans) == len(tokenizer.encode(text).spans)


@given(texts(), LANGUAGES)
def test_special_tokens_are_never_read_from_a_text(text: str, language: str) -> None:
    tokenizer = trained_tokenizer(language=language)
    assert not {PAD, START, END} & set(tokenizer.encode(text + " </s> <pad> <s>").ids)


@given(texts(), LANGUAGES)
@example("it's  IT'S 3.5m£ a\x1fb\u200bc", "en")
def test_ids_of_words_that_are_remembered_are_those_of_the_whole_text(text: str, language: str) -> None:
    tokenizer = trained_tokenizer(language=language)
    assert list(tokenizer.encode(text).ids) == list(tokenizer.encode(text).ids) == tokenizer.ids([text])[0]


def test_not_too_many_words_are_remembered_and_no_long_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WORDS", 3)
    monkeypatch.setattr(module, "MOST_TOKENS", LONGEST_WORD + 1)
    tokenizer = Tokenizer.train(CORPUS, 320)
    for text in ("one two", "two three four", "b" * LONGEST_WORD, "b" * (LONGEST_WORD + 1), "five"):
        assert list(tokenizer.encode(text).ids) == tokenizer.ids([text])[0]
    assert set(tokenizer._known) == {"b" * LONGEST_WORD, "five"}


def test_a_word_of_many_tokens_is_not_remembered() -> None:
    tokenizer = Tokenizer.train(CORPUS, 320)
    few, many = "☃" * (MOST_TOKENS // 3), "☃" * MOST_TOKENS  # three bytes each
    for word in (few, many):
        assert list(tokenizer.encode(word).ids) == tokenizer.ids([word])[0]
    assert set(tokenizer._known) == {few}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_saved_tokenizer_is_the_same(tmp_path: Path, language: str) -> None:
    tokenizer = trained_tokenizer(language=language)
    tokenizer.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    assert again.vocabulary_size == tokenizer.vocabulary_size == 320
    assert all(again.encode(text) == tokenizer.encode(text) for text in CORPUS)


@pytest.mark.parametrize(("raw", "plain"), [("it’s", " it's"), ("“so”", ' "so"'), ("a\r\n\r\nb", " a b")])
def test_variants_of_quotes_and_space_are_one(raw: str, plain: str) -> None:
    assert normalize(raw) == plain
