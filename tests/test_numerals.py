"""Whatever the model prefers, a summary has no number that its source has not."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.models.base import DecodingOptions, Special
from app.numerals import Numerals, SourceNumbers
from app.search import BeamSearch, CandidateSelector

PIECES = ("", "", " the", "s", " ", ",", ".", *"0123456789", " 1", " 2", " 15", "00", "000", " 20", "22", "1st")
START, END = 0, 1
SPECIAL = Special(start=START, end=END, suppressed=(START,))
NUMERALS = Numerals(PIECES)
DIGITS = {piece for piece in PIECES if re.search(r"\d", piece)}


def tokens(*pieces: str) -> list[int]:
    return [PIECES.index(piece) for piece in pieces]


def allowed_after(source: list[int], written: list[int]) -> set[str]:
    banned = set(SourceNumbers(NUMERALS, source).banned(written).tolist())
    return {piece for number, piece in enumerate(PIECES) if number not in banned}


def written_with(numbers: SourceNumbers | None, options: DecodingOptions, seed: int) -> tuple[tuple[int, ...], bool]:
    """What a search finds in a random distribution that likes numbers; and whether it ended."""
    search, selector = BeamSearch(options, SPECIAL, numbers), CandidateSelector(SPECIAL, max_beams=4)
    generator = torch.Generator().manual_seed(seed)
    while search.found is None:
        asks = search.asks()
        logits = torch.randn(len(asks), len(PIECES), generator=generator) * 2
        search.advance(selector.select(logits.log_softmax(1), asks))
    return search.found.hypothesis.tokens, search.found.finish_reason == "stop"


@given(
    st.lists(st.sampled_from(range(2, len(PIECES))), max_size=12),
    st.builds(
        DecodingOptions,
        num_beams=st.integers(1, 4),
        max_length=st.integers(1, 12),
        min_length=st.integers(0, 1),
        no_repeat_ngram_size=st.integers(0, 3),
    ),
    st.integers(0, 2**31),
)
@settings(max_examples=300)
def test_every_number_of_a_summary_that_ended_is_a_number_of_its_source(
    source: list[int], options: DecodingOptions, seed: int
) -> None:
    written, ended = written_with(SourceNumbers(NUMERALS, source), options, seed)
    number = re.compile(r"\d+(?:[.,]\d+)*")
    text, known = ("".join(PIECES[token] or " " for token in some) for some in (written, source))
    found = number.findall(text if ended else re.sub(r"[\d.,]+\Z", "", text))
    assert set(found) <= set(number.findall(known))


def test_without_the_source_numbers_are_invented() -> None:
    options = DecodingOptions(1, max_length=12)
    assert any(DIGITS & {PIECES[token] for token in written_with(None, options, seed)[0]} for seed in range(5))


def test_only_the_beginnings_of_the_sources_numbers_may_begin_one() -> None:
    source = tokens(" 15", ",", "000", " the", " 20", "22")
    assert allowed_after(source, []) & DIGITS == {"1", "2", " 1", " 2", " 15", " 20"}
    assert allowed_after([], []) & DIGITS == set()


@pytest.mark.parametrize(
    ("written", "next_pieces"),
    [
        ([" 1"], {"5"}),  # 15 is the shortest that can be meant, and a mere part of 15,000
        ([" 15"], {","}),
        ([" 15", ","], {"0", "00", "000"}),
        ([" 15", ",", "00"], {"0"}),
        ([" 20"], {"2", "22"}),
    ],
)
def test_a_part_of_a_number_goes_on_until_it_is_whole(written: list[str], next_pieces: set[str]) -> None:
    source = tokens(" 15", ",", "000", " the", " 20", "22")
    assert allowed_after(source, tokens(*written)) == next_pieces
    assert SourceNumbers(NUMERALS, source).must_go_on(tokens(*written))


def test_after_a_whole_number_anything_may_follow_but_more_of_it() -> None:
    source = tokens(" 15", " 20", "22", " 20")
    assert allowed_after(source, tokens(" 15")) == {"", " the", "s", " ", ",", ".", " 1", " 2", " 15", " 20"}
    assert allowed_after(source, tokens(" 15", ",")) & DIGITS == {" 1", " 2", " 15", " 20"}
    assert allowed_after(source, tokens(" 20")) & DIGITS == {"2", "22", " 1", " 2", " 15", " 20"}


def test_digits_of_a_name_are_its_own() -> None:
    assert allowed_after(tokens("1st"), tokens("s")) & DIGITS == {"1", " 1", "1st"}


def test_a_number_that_has_begun_is_finished_even_where_that_repeats_an_ngram() -> None:
    numbers = SourceNumbers(NUMERALS, tokens(" 15", ",", "000"))
    options = DecodingOptions(1, max_length=9, no_repeat_ngram_size=1)
    search = BeamSearch(options, SPECIAL, numbers)
    selector = CandidateSelector(SPECIAL, max_beams=1)
    wanted = tokens(" 15", ",", "000", " the", " 1", "5", ",", "000", "s")
    for token in [*wanted, END]:
        logits = torch.zeros(1, len(PIECES))
        logits[0, token] = 9
        search.advance(selector.select(logits.log_softmax(1), search.asks()))
    assert search.found
    assert search.found.hypothesis.tokens == tuple(wanted)
