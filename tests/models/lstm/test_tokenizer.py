"""Offsets are exact under every kind of text, and nothing in a text is taken for a special token."""

from pathlib import Path

import pytest
from hypothesis import example, given

from app.models.lstm.tokenizer import END, PAD, START, Tokenizer, normalize
from tests.texts import CORPUS, texts, trained_tokenizer


@given(texts())
@example("a\u200b\u200bb")
@example("😀")
@example(" \r\n北京\t ")
def test_source_spans_are_ordered_unblank_and_cover_every_visible_character(text: str) -> None:
    tokens = trained_tokenizer().encode(text)
    covered = set()
    previous = (0, 0)
    for span in tokens.spans:
        assert 0 <= span.start <= span.end <= len(text)
        assert text[span.start : span.end] == text[span.start : span.end].strip()
        assert previous <= (span.start, span.end)
        previous = (span.start, span.end)
        covered |= set(range(span.start, span.end))
    assert covered == {index for index, character in enumerate(text) if not character.isspace()}


@given(texts())
def test_decoding_restores_the_normalized_text(text: str) -> None:
    tokenizer = trained_tokenizer()
    assert tokenizer.decode(tokenizer.encode(text).ids).text == normalize(text)[0].strip()


@given(texts())
def test_summary_spans_quote_the_summary_and_never_cross(text: str) -> None:
    tokenizer = trained_tokenizer()
    ids = tokenizer.encode(text).ids
    for cut in (len(ids), len(ids) // 2, 1):
        decoded = tokenizer.decode(ids[:cut])
        assert decoded.text == decoded.text.strip()
        assert len(decoded.spans) == cut
        edges = [(span.start, span.end) for span in decoded.spans]
        assert edges == sorted(edges)
        covered = {index for start, end in edges for index in range(start, end)}
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


@given(texts())
def test_special_tokens_are_never_read_from_a_text(text: str) -> None:
    assert not {PAD, START, END} & set(trained_tokenizer().encode(text + " </s> <pad> <s>").ids)


def test_ids_alone_equal_those_with_spans() -> None:
    tokenizer = trained_tokenizer()
    assert tokenizer.ids(CORPUS) == [list(tokenizer.encode(text).ids) for text in CORPUS]


def test_a_saved_tokenizer_is_the_same(tmp_path: Path) -> None:
    tokenizer = trained_tokenizer()
    tokenizer.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    assert again.vocabulary_size == tokenizer.vocabulary_size == 320
    assert again.encode(CORPUS[3]) == tokenizer.encode(CORPUS[3])


@pytest.mark.parametrize(("raw", "plain"), [("it’s", " it's"), ("“so”", ' "so"'), ("a\r\n\r\nb", " a b")])
def test_variants_of_quotes_and_space_are_one(raw: str, plain: str) -> None:
    assert normalize(raw)[0] == plain
