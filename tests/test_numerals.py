"""Whatever the model prefers, a summary has no number, and no name with a number, that its source has not."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.models.base import Candidates, DecodingOptions, Shared, Special
from app.numerals import Numerals, SourceNumbers
from app.search import BeamSearch, GreedySearch, select

PIECES = ("", "", " the", "s", " ", ",", ".", *"0123456789", " 1", " 2", " 15", "00", "000", " 20", "22", "1st", "Q")
START, END = 0, 1
SPECIAL = Special(start=START, end=END, suppressed=(START,))
NUMERALS = Numerals(PIECES)
CANDIDATES = Candidates(Shared(range(len(PIECES))))
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
NAME = re.compile(r"[A-Za-z]+\d+(?:[.,]\d+)*")
DIGITS = {piece for piece in PIECES if re.search(r"\d", piece)}


def tokens(*pieces: str) -> list[int]:
    return [PIECES.index(piece) for piece in pieces]


def numbers_of(*pieces: str) -> SourceNumbers:
    source = tokens(*pieces)
    return SourceNumbers(NUMERALS, source, range(len(source)))


def allowed_after(numbers: SourceNumbers, *written: str) -> set[str]:
    return {piece for token, piece in enumerate(PIECES) if numbers.allow(tokens(*written), token)}


def found(numbers: SourceNumbers | None, options: DecodingOptions, seed: int) -> tuple[int, ...]:
    """What a search finds in a random distribution over few tokens, most of which have digits."""
    search = BeamSearch(options, SPECIAL, CANDIDATES, numbers)
    generator = torch.Generator().manual_seed(seed)
    while search.found is None:
        asks = search.asks()
        logits = torch.randn(len(asks), len(PIECES), generator=generator) * 2
        search.advance(select(logits.log_softmax(1), asks))
    return search.found.hypothesis.tokens


def write(numbers: SourceNumbers, options: DecodingOptions, *wanted: str) -> list[str]:
    """What a greedy search writes whose model wants these pieces, one after the other, then the end."""
    search = GreedySearch(options, SPECIAL, CANDIDATES, numbers)
    for token in [*tokens(*wanted), END]:
        logits = torch.zeros(1, len(PIECES))
        logits[0, token] = 9
        search.advance(select(logits.log_softmax(1), search.asks()))
        if search.found:
            break
    assert search.found
    return [PIECES[token] for token in search.found.hypothesis.tokens]


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
def test_every_number_of_a_summary_is_a_number_of_its_source(
    source: list[int], options: DecodingOptions, seed: int
) -> None:
    numbers = SourceNumbers(NUMERALS, source, range(len(source)))
    written, known = (
        "".join(PIECES[token] or " " for token in some) for some in (found(numbers, options, seed), source)
    )
    assert set(NUMBER.findall(written)) <= set(NUMBER.findall(known))
    assert set(NAME.findall(written.lower())) <= set(NAME.findall(known.lower()))


@given(
    st.lists(st.sampled_from(range(2, len(PIECES))), max_size=12),
    st.lists(st.sampled_from(range(2, len(PIECES))), max_size=4),
)
def test_amid_a_number_and_only_there_what_may_follow_is_told_beforehand(source: list[int], written: list[int]) -> None:
    numbers = SourceNumbers(NUMERALS, source, range(len(source)))
    only = numbers.only(written)
    allowed = {token for token in range(len(PIECES)) if numbers.allow(written, token)}
    assert (only is None) == (END in allowed)
    assert only is None or set(only) == allowed


def test_without_the_source_numbers_are_invented() -> None:
    options = DecodingOptions(1, max_length=12)
    assert any(DIGITS & {PIECES[token] for token in found(None, options, seed)} for seed in range(5))


def test_only_the_beginnings_of_the_sources_numbers_may_begin_one() -> None:
    numbers = numbers_of(" 15", ",", "000", " the", " 20", "22")
    assert allowed_after(numbers) & DIGITS == {"1", "2", " 1", " 2", " 15", " 20"}
    assert allowed_after(numbers_of()) & DIGITS == set()


@pytest.mark.parametrize(
    ("written", "next_pieces"),
    [
        ([" 1"], {"5"}),
        ([" 15"], {","}),
        ([" 15", ","], {"0", "00", "000"}),
        ([" 15", ",", "00"], {"0"}),
        ([" 20"], {"2", "22"}),
    ],
)
def test_a_part_of_a_number_goes_on_until_it_is_whole(written: list[str], next_pieces: set[str]) -> None:
    assert allowed_after(numbers_of(" 15", ",", "000", " the", " 20", "22"), *written) == next_pieces


def test_after_a_whole_number_anything_may_follow_but_more_of_it() -> None:
    numbers = numbers_of(" 15", " 20", "22", " 20")
    assert allowed_after(numbers, " 15") == {"", " the", "s", "Q", " ", ",", ".", " 1", " 2", " 15", " 20"}
    assert allowed_after(numbers, " 15", ",") & DIGITS == {" 1", " 2", " 15", " 20"}
    assert allowed_after(numbers, " 20") & DIGITS == {"2", "22", " 1", " 2", " 15", " 20"}


def test_a_name_with_digits_is_written_as_the_source_has_it_in_either_case() -> None:
    numbers = numbers_of(" ", "Q", "1", "5", " the", " 15", ",", "000")
    assert allowed_after(numbers, "Q") & DIGITS == {"1", " 1", " 15"}
    assert allowed_after(numbers, "s", "Q") & DIGITS == {" 1", " 15"}
    assert allowed_after(numbers, "Q", "1") == {"5"}
    assert allowed_after(numbers, "Q", "1", "5") & DIGITS == {" 1", " 15"}
    assert allowed_after(numbers, "s") & DIGITS == allowed_after(numbers, " the") & DIGITS == {" 1", " 15"}
    wanted = ("Q", "1", "5", "s", " the", " 15", ",", "000")
    assert write(numbers, DecodingOptions(1, max_length=9), *wanted) == list(wanted)


def test_digits_of_a_name_count_as_a_number_of_the_source() -> None:
    assert allowed_after(numbers_of("s", "1"), " ") & DIGITS == {"1", " 1", "1st"}


@pytest.mark.parametrize("others", [(), (" the", " 15")])
def test_a_number_that_has_begun_is_finished_even_where_that_repeats_an_ngram(others: tuple[str, ...]) -> None:
    numbers = numbers_of(" 15", ",", "000", *others)
    wanted = (" 15", ",", "000", " the", " 1", "5", ",", "000", "s")
    assert write(numbers, DecodingOptions(1, max_length=9, no_repeat_ngram_size=1), *wanted) == list(wanted)


def test_a_summary_that_is_cut_amid_a_number_loses_the_part_of_it() -> None:
    numbers, wanted = numbers_of(" 15", ",", "000"), (" the", " 15", ",", "000")
    assert write(numbers, DecodingOptions(1, max_length=3), *wanted) == [" the"]
    assert write(numbers, DecodingOptions(1, max_length=1), " 15") == []
    assert write(numbers, DecodingOptions(1, max_length=4), *wanted) == list(wanted)


@given(st.lists(st.integers(2, len(PIECES) - 1), min_size=1, max_size=12), st.integers(0, 2**31), st.integers(1, 8))
def test_what_is_told_to_stay_of_a_summary_stays(source: list[int], seed: int, length: int) -> None:
    numbers = SourceNumbers(NUMERALS, source, range(len(source)))
    search = GreedySearch(DecodingOptions(1, length), SPECIAL, CANDIDATES, numbers)
    generator = torch.Generator().manual_seed(seed)
    told: list[int] = []
    kept = [0]
    while search.found is None:
        logits = torch.randn(1, len(PIECES), generator=generator) * 2
        search.advance(select(logits.log_softmax(1), search.asks()))
        latest = search.latest
        assert latest.place == len(told)
        if latest.token is not None:
            told.append(latest.token)
        kept.append(latest.kept)
    assert latest.token is None
    assert kept == sorted(kept)
    assert search.found.hypothesis.tokens == tuple(told[: kept[-1]])


def test_a_number_at_the_edge_of_a_part_belongs_to_it_as_a_whole() -> None:
    source = tokens(" the", " 15", ",", "000", " 20", "22", "s")
    assert NUMERALS.numbers(source, range(0, 2)) == {"15,000"}
    assert NUMERALS.numbers(source, range(3, 5)) == {"15,000", "2022"}
    assert NUMERALS.numbers(source, range(5, 7)) == {"2022"}
