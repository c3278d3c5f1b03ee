"""What may be written, and what it counts, against the same said plainly."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.models.base import Candidates, DecodingOptions, Shared, Special
from app.rules import Candidate, Rules, repeated_ngram_tokens

START, END, FORCED, OTHER_END = 0, 1, 2, 3
SPECIAL = Special(start=START, end=END)
COLUMNS = 12
CANDIDATES = Candidates(Shared(range(COLUMNS - 2)), own=(70, 80))

texts = st.lists(st.integers(4, 7), max_size=8)


def rules(special: Special = SPECIAL, **options: int | float) -> Rules:
    return Rules(replace(DecodingOptions(), **options), special, CANDIDATES, None)  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 4))
def test_exactly_the_tokens_that_repeat_an_ngram_are_banned(tokens: list[int], size: int) -> None:
    for token in range(4):
        repeats = not ngrams_are_unique((*tokens, token), size) and ngrams_are_unique(tuple(tokens), size)
        if ngrams_are_unique(tuple(tokens), size):
            assert (token in repeated_ngram_tokens(tokens, size)) == repeats


def ngrams_are_unique(tokens: tuple[int, ...], size: int) -> bool:
    ngrams = [tokens[start : start + size] for start in range(len(tokens) - size + 1)]
    return size == 0 or len(set(ngrams)) == len(ngrams)


def test_ngrams_begin_with_what_the_decoder_was_given() -> None:
    of_two = rules(replace(SPECIAL, forced=(FORCED,)), no_repeat_ngram_size=2)
    assert not of_two.allow((START,), FORCED)
    assert of_two.allow((), FORCED)
    assert not rules(replace(SPECIAL, start=END), no_repeat_ngram_size=1).allow((5,), END)


@given(texts, st.lists(st.lists(st.integers(4, 7), min_size=1, max_size=3).map(tuple), max_size=3), st.integers(4, 7))
def test_a_bad_word_is_never_completed(tokens: list[int], words: list[tuple[int, ...]], token: int) -> None:
    text = "".join(map(str, [START, *tokens, token]))
    completed = any(text.endswith("".join(map(str, word))) for word in words)
    assert rules(replace(SPECIAL, bad_words=tuple(words))).allow(tokens, token) != completed


def test_a_bad_word_may_begin_with_what_the_decoder_was_given() -> None:
    of_start = rules(replace(SPECIAL, forced=(FORCED,), bad_words=((START, FORCED, 5),)))
    assert not of_start.allow((), 5)
    assert of_start.allow((4,), 5)


def test_some_tokens_are_never_written_and_some_not_at_first() -> None:
    some = rules(replace(SPECIAL, suppressed=(5,), suppressed_first=(6,)))
    assert [some.allow((), token) for token in (5, 6, 7)] == [False, False, True]
    assert [some.allow((7,), token) for token in (5, 6, 7)] == [False, True, True]


@pytest.mark.parametrize("end", [END, OTHER_END])
def test_every_end_waits_for_the_fewest_tokens(end: int) -> None:
    of_two = rules(replace(SPECIAL, other_ends=(OTHER_END,)), min_length=2)
    assert [of_two.allow(tokens, end) for tokens in ((5,), (5, 6), (5, 6, 7))] == [False, True, True]


@given(
    st.lists(st.floats(-9, 0), min_size=COLUMNS, max_size=COLUMNS),
    st.lists(st.sampled_from([4, 5, 6, 70]), max_size=4),
    st.floats(1.01, 5),
    st.floats(-3, 9),
)
def test_what_is_written_already_counts_less_and_comes_where_that_puts_it(
    values: list[float], tokens: list[int], penalty: float, normalizer: float
) -> None:
    candidates: list[Candidate] = sorted(enumerate(values), key=lambda one: -one[1])
    weighed = [*rules(repetition_penalty=penalty).weighed(tokens, candidates, normalizer)]

    def counted(column: int) -> float:
        logit = values[column] + normalizer
        if CANDIDATES.token(column) not in (START, *tokens):
            return values[column]
        return (logit * penalty if logit < 0 else logit / penalty) - normalizer

    assert sorted(one[:2] for one in weighed) == sorted(candidates)
    assert [one[2] for one in weighed] == pytest.approx(sorted(map(counted, range(COLUMNS)), reverse=True))
    assert all(one[2] == pytest.approx(counted(one[0])) for one in weighed)
