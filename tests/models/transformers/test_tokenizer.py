"""Ids are those of the library, offsets are those of the caller's own string, and summaries grow at their end."""

import functools
import tempfile
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from app.models.checkpoint import Checkpoint, write_manifest
from app.models.transformers.tokenizer import SourceTokenizer
from app.models.transformers.tokenizer_file import read_tokenizer
from tests.models.transformers.folders import SENTENCES, WRITE_TOKENIZER, config_of, write_mbart_tokenizer
from tests.texts import texts

ARCHITECTURES = st.sampled_from(sorted(WRITE_TOKENIZER))
LITERALS = ["</s>", "<s>", "<pad>", "<mask>", "<mask_1>", "<unk_2>", "<extra_id_0>", "en_XX", ">>fra<<"]
SPECIAL_WORDS = [*LITERALS, "<unk>"]


@functools.cache
def ours(architecture: str, prefix: str = "", tidy: bool = False) -> SourceTokenizer:
    with tempfile.TemporaryDirectory() as name:
        size = WRITE_TOKENIZER[architecture](folder := Path(name))
        if tidy:
            config = folder / "tokenizer_config.json"
            config.write_text(config.read_text().replace('spaces": false', 'spaces": true'))
        write_manifest(folder)
        return read_tokenizer(Checkpoint(folder), size, prefix)


@functools.cache
def theirs(architecture: str, kind: Any = AutoTokenizer) -> Any:
    """The library's."""
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Recommended: pip install sacremoses", UserWarning)
        config_of(architecture, WRITE_TOKENIZER[architecture](Path(name))).save_pretrained(name)
        return kind.from_pretrained(name)


def as_written(architecture: str) -> Any:
    """The library's, as the files say: its own classes forget how mBART and Pegasus normalize texts."""
    return theirs(architecture, PreTrainedTokenizerFast if architecture in ("mbart", "pegasus") else AutoTokenizer)


def plain(text: str) -> bool:
    return not any(word in text for word in SPECIAL_WORDS)


@given(texts().filter(plain), ARCHITECTURES)
@example("ﷺ e\u0301 １２ ﬁ ｶﾞ \x00\x85\u2028", "t5")
@example("x" * 3000, "marian")
def test_ids_are_those_of_the_library(text: str, architecture: str) -> None:
    tokenizer = ours(architecture)
    before, after = tokenizer.around
    assert [*before, *tokenizer.encode(text).ids, *after] == as_written(architecture)(text)["input_ids"]
    assert (
        list(tokenizer.encode_summary(text).ids)
        == as_written(architecture)(text_target=text)["input_ids"][
            len(before) if architecture == "bart" else 0 : -len(after)
        ]
    )


@given(st.lists(st.sampled_from(SENTENCES[1].split()), min_size=1), st.sampled_from(["mbart", "pegasus"]))
def test_ids_of_plain_words_are_those_of_the_class_that_the_library_chooses(
    words: list[str], architecture: str
) -> None:
    before, after = ours(architecture).around
    content = ours(architecture).encode(" ".join(words)).ids
    assert [*before, *content, *after] == theirs(architecture)(" ".join(words))["input_ids"]


@given(texts(), ARCHITECTURES, st.sampled_from(["", "summarize: "]))
@example("ﷺ e\u0301 １２ ﬁ ｶﾞ", "t5", "summarize: ")
@example(" a\u0301\u0302x\u200b \u0301", "pegasus", "")
def test_spans_are_ordered_and_cut_no_space_in(text: str, architecture: str, prefix: str) -> None:
    tokens = ours(architecture, prefix).encode(text)
    assert tokens.text == text
    assert len(tokens.spans) == len(tokens.ids)
    edges = [(span.start, span.end) for span in tokens.spans]
    assert all(0 <= start <= end <= len(text) for start, end in edges)
    assert all(text[start:end] == text[start:end].strip() for start, end in edges)
    assert [start for start, _ in edges] == sorted(start for start, _ in edges)
    assert [end for _, end in edges] == sorted(end for _, end in edges)


@given(texts(), ARCHITECTURES)
@example("\x1f\x01ab c", "t5")
@example("ﷺ\x01ab…\x01", "pegasus")
@example("ae\x01\u0301b", "mbart")
def test_a_token_stands_where_its_text_is(text: str, architecture: str) -> None:
    """What a token writes is in the normalized form of what it covers, for all that are whole characters."""
    tokenizer = ours(architecture)
    tokens, pieces = tokenizer.encode(text), tokenizer.pieces
    for index, span in zip(tokens.ids, tokens.spans, strict=True):
        piece = pieces[index].strip()
        if piece and "\ufffd" not in piece:
            covered = text[with_its_letter(text, span.start) : span.end]
            assert folded(piece) in folded(covered), (piece, covered)


def with_its_letter(text: str, place: int) -> int:
    """Of an accent, which may stand for the letter: where that is."""
    while 0 < place < len(text) and unicodedata.category(text[place]).startswith("M"):
        place -= 1
    return place


def folded(text: str) -> str:
    """Without what normalization changes about a character."""
    kept = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.category(c).startswith(("M", "C", "Z")))
    return "".join(kept)


@given(texts(), ARCHITECTURES)
def test_every_letter_is_covered(text: str, architecture: str) -> None:
    covered = {index for span in ours(architecture).encode(text).spans for index in range(span.start, span.end)}
    letters = {index for index, character in enumerate(text) if unicodedata.category(character)[0] in "LN"}
    assert letters <= covered


@pytest.mark.parametrize("architecture", sorted(WRITE_TOKENIZER))
def test_spans_of_a_sentence_are_its_words(architecture: str) -> None:
    text = "  The counc\u0301il of １２ approved\u00a0\n it."
    words = {(span.start, span.end) for span in ours(architecture).encode(text).spans}
    starts, ends = {start for start, _ in words}, {end for _, end in words}
    for word in text.split():
        assert text.index(word) in starts
        assert text.index(word) + len(word) in ends


def test_an_accent_goes_with_its_letter_and_a_ligature_is_the_span_of_each_of_its_letters() -> None:
    for architecture in ("t5", "pegasus", "mbart", "marian"):
        tokens = ours(architecture).encode("cafe\u0301 ﬁ")
        pieces = [ours(architecture).pieces[index].strip() for index in tokens.ids]
        spans = [(span.start, span.end) for span in tokens.spans]
        assert spans[pieces.index("é")] == (3, 5)
        assert spans[pieces.index("i")] == (6, 7)
        assert spans[-1] == spans[-2] == (6, 7)


@given(texts(), st.lists(st.sampled_from(LITERALS)), ARCHITECTURES, st.sampled_from(["", " "]))
def test_nothing_in_a_text_is_taken_for_a_special_token(
    text: str, literals: list[str], architecture: str, glue: str
) -> None:
    library, tokenizer = as_written(architecture), ours(architecture)
    special = {*library.all_special_ids} - {library.unk_token_id}
    assert special
    whole = glue.join([*literals, text, *literals])
    assert not special & {*tokenizer.encode(whole).ids, *tokenizer.encode_summary(whole).ids}


@given(texts().filter(plain), ARCHITECTURES)
def test_a_text_decodes_as_in_the_library(text: str, architecture: str) -> None:
    ids = ours(architecture).encode(text).ids
    expected = as_written(architecture).decode([*ids, as_written(architecture).eos_token_id], skip_special_tokens=True)
    assert ours(architecture).decode(ids).text == expected.strip()


@st.composite
def written(draw: st.DrawFn) -> tuple[str, list[int]]:
    """What a network may write: any tokens in any order."""
    architecture = draw(ARCHITECTURES)
    return architecture, draw(st.lists(st.integers(0, len(ours(architecture).pieces) - 1), max_size=30))


@given(written())
def test_whatever_is_written_decodes_as_in_the_library_and_grows_at_its_end(case: tuple[str, list[int]]) -> None:
    architecture, ids = case
    tokenizer = ours(architecture)
    decoded = tokenizer.decode(ids)
    expected = as_written(architecture).decode(ids, skip_special_tokens=True).strip()
    assert decoded.text in (expected, expected.removesuffix("\ufffd").rstrip())  # which may still become a character
    for count in range(len(ids)):
        assert decoded.text.startswith(tokenizer.decode(ids[:count]).text)


@given(written(), st.booleans())
def test_spans_of_what_is_written_quote_it(case: tuple[str, list[int]], tidy: bool) -> None:
    architecture, ids = case
    decoded = ours(architecture, tidy=tidy).decode(ids)
    edges = [(span.start, span.end) for span in decoded.spans]
    assert len(edges) == len(ids)
    assert all(decoded.text[start:end] == decoded.text[start:end].strip() for start, end in edges)
    assert [start for start, _ in edges] == sorted(start for start, _ in edges)
    assert [end for _, end in edges] == sorted(end for _, end in edges)
    covered = {index for start, end in edges for index in range(start, end)}
    assert covered == {index for index, character in enumerate(decoded.text) if not character.isspace()}


@pytest.mark.parametrize("architecture", ["t5", "pegasus", "mbart", "marian"])
def test_a_folder_that_tidies_its_texts_has_no_space_before_punctuation(architecture: str) -> None:
    raw, tidy = ours(architecture), ours(architecture, tidy=True)
    ids = raw.encode("The mayor , said it .  It rose . . .").ids
    assert raw.decode(ids).text == "The mayor , said it . It rose . . ."
    decoded = tidy.decode(ids)
    assert decoded.text == "The mayor, said it. It rose..."
    quoted = [decoded.text[span.start : span.end] for span in decoded.spans]
    assert quoted == [tidy.pieces[index].strip() for index in ids]
    for count in range(len(ids)):
        assert decoded.text.startswith(tidy.decode(ids[:count]).text)


@given(texts().filter(plain), st.sampled_from(["t5", "bart"]))
def test_a_prefix_is_read_as_in_one_text_but_is_no_part_of_it(text: str, architecture: str) -> None:
    tokenizer = ours(architecture, "summarize: ")
    before, after = tokenizer.around
    whole = as_written(architecture)("summarize: " + text)["input_ids"]
    assert [*before, *tokenizer.encode(text).ids, *after] == whole


def test_the_language_to_write_stands_before_a_source_of_marian() -> None:
    tokenizer = ours("marian", ">>fra<< ")
    before, after = tokenizer.around
    text = "The river rose."
    assert [*before, *tokenizer.encode(text).ids, *after] == as_written("marian")(">>fra<< " + text)["input_ids"]


def test_the_language_of_a_source_is_that_of_the_configuration(tmp_path: Path) -> None:
    size = write_mbart_tokenizer(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(config.read_text().replace('"src_lang": "en_XX"', '"src_lang": "de_DE"'))
    (tmp_path / "config.json").write_text('{"model_type": "mbart"}')
    write_manifest(tmp_path)
    library: Any = AutoTokenizer
    before, after = read_tokenizer(Checkpoint(tmp_path), size).around
    assert [*before, *after] == library.from_pretrained(tmp_path)("")["input_ids"]
    assert after != ours("mbart").around[1]


@pytest.mark.parametrize("architecture", sorted(WRITE_TOKENIZER))
def test_pieces_write_a_text_with_the_space_before_each_word(architecture: str) -> None:
    tokenizer = ours(architecture)
    ids = tokenizer.encode(SENTENCES[1]).ids
    assert "".join(tokenizer.pieces[index] for index in ids).strip() == SENTENCES[1]
    special: Sequence[int] = as_written(architecture).all_special_ids
    assert {tokenizer.pieces[index] for index in special} == {""}


def test_a_character_cut_short_is_left_out_until_it_is_whole() -> None:
    tokenizer = ours("bart")
    ids = tokenizer.encode("a 漢").ids
    assert [tokenizer.decode(ids[:count]).text for count in range(1, len(ids) + 1)][-2:] == ["a", "a 漢"]
    assert [(span.start, span.end) for span in tokenizer.decode(ids).spans][-1] == (2, 3)
