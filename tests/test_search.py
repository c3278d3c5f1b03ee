"""Search against a plain reference, an exhaustive one, and itself in other company."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from app.models.base import Candidates, DecodingOptions, Shared, Special
from app.models.kernels import library, missing
from app.rules import Candidate, repeated_ngram_tokens
from app.search import (
    BLOCK,
    LOWEST_LOG_PROBABILITY,
    Answer,
    Ask,
    BeamSearch,
    ForcedDecoding,
    Found,
    GreedySearch,
    Search,
    select,
)

START, END = 0, 1
SPECIAL = Special(start=START, end=END, suppressed=(START,))
WIDEST = 8
CANDIDATES = Candidates(Shared(range(200)))  # a token stands in its own column
Distribution = Callable[[tuple[int, ...]], Tensor]  # summary so far -> (vocabulary,) log-probabilities


@pytest.fixture(scope="module", autouse=True, params=["kernels", "torch"])
def _reader(request: pytest.FixtureRequest) -> Iterator[None]:
    """Rows are read by either, with the same results."""
    if request.param == "kernels":
        if library() is None:
            pytest.skip(f"no kernels: {missing()}")
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.search.top", lambda *_: None)
        yield


def random_distribution(seed: int, vocabulary: int, steps: int = 0) -> Distribution:
    """A distribution for every prefix; with `steps`, log-probabilities fall on so few values that many are equal."""

    def distribution(prefix: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(hash((seed, prefix)) % 2**31)
        logits = torch.randn(vocabulary, generator=generator) * 2
        return (torch.round(logits * steps) / steps if steps else logits).log_softmax(0)

    return distribution


def run(searches: Sequence[Search], distributions: Sequence[Distribution]) -> list[Found]:
    """Decode all of them together, as the worker does; slots are simulated by the prefixes that they hold."""
    slots: list[list[tuple[int, ...]]] = [[()] * search.width for search in searches]
    while any(search.found is None for search in searches):
        live = [number for number, search in enumerate(searches) if search.found is None]
        rows: list[Tensor] = []
        asks: list[Ask] = []
        for number in live:
            for slot, token in enumerate(searches[number].written()):
                slots[number][slot] += (token,)
                rows.append(distributions[number](slots[number][slot][1:]))
            asks += searches[number].asks()
        answers = iter(select(torch.stack(rows), asks))
        for number in live:
            parents = searches[number].advance(list(itertools.islice(answers, len(searches[number].written()))))
            slots[number] = [slots[number][parent] for parent in parents] + slots[number][len(parents) :]
    return [search.found for search in searches if search.found]


def decode(options: DecodingOptions, distribution: Distribution) -> Found:
    return run([BeamSearch(options, SPECIAL, CANDIDATES)], [distribution])[0]


def penalised_score(log_probabilities: Sequence[float], length_penalty: float) -> float:
    """What hypotheses are ranked by."""
    return sum(log_probabilities) / math.pow(max(len(log_probabilities), 1), length_penalty)


def read(scores: Tensor, ask: Ask) -> list[Candidate]:
    """Every candidate of one row."""
    (answer,) = select(scores[None], [ask])
    return list(answer.candidates)


def greedy_reference(options: DecodingOptions, distribution: Distribution) -> tuple[tuple[int, ...], bool]:
    tokens: tuple[int, ...] = ()
    while True:
        scores = distribution(tokens).tolist()
        scores[START] = -math.inf
        if len(tokens) < options.min_length:
            scores[END] = -math.inf
        for token in repeated_ngram_tokens(tokens, options.no_repeat_ngram_size):
            scores[token] = -math.inf
        best = scores.index(max(scores))
        if max(scores) == -math.inf or best == END or len(tokens) == options.max_length:
            return tokens, best == END and max(scores) > -math.inf
        tokens += (best,)


def exhaustive_reference(options: DecodingOptions, distribution: Distribution, vocabulary: int) -> float:
    """The best penalised score of everything that could have been written."""
    scores = []
    for length in range(options.max_length + 1):
        for tokens in itertools.product(range(2, vocabulary), repeat=length):
            blocked = [
                tokens[i] in repeated_ngram_tokens(tokens[:i], options.no_repeat_ngram_size) for i in range(length)
            ]
            if any(blocked):
                continue
            paid = [float(distribution(tokens[:i])[token]) for i, token in enumerate(tokens)]
            if length >= options.min_length:
                end = float(distribution(tokens)[END])
                scores.append(penalised_score([*paid, end], options.length_penalty))
    return max(scores)


seeds = st.integers(0, 2**20)
mixed_options = st.builds(
    DecodingOptions,
    num_beams=st.integers(1, WIDEST),
    max_length=st.integers(1, 6),
    min_length=st.integers(0, 6),
    length_penalty=st.floats(-2, 3),
    no_repeat_ngram_size=st.integers(0, 3),
)


@given(seeds, mixed_options, st.sampled_from([0, 1]))
def test_a_beam_of_one_is_greedy(seed: int, options: DecodingOptions, steps: int) -> None:
    options = DecodingOptions(1, options.max_length, options.min_length, options.length_penalty, 2)
    distribution = random_distribution(seed, 7, steps)
    found = decode(options, distribution)
    assert (found.hypothesis.tokens, found.finish_reason == "stop") == greedy_reference(options, distribution)
    assert run([GreedySearch(options, SPECIAL, CANDIDATES)], [distribution]) == [found]


@given(seeds, st.integers(0, 3), st.floats(-1, 2), st.integers(0, 2))
@settings(deadline=None, max_examples=40)
def test_a_beam_wide_enough_to_hold_everything_finds_the_best_there_is(
    seed: int, min_length: int, length_penalty: float, ngram: int
) -> None:
    options = DecodingOptions(128, 3, min_length, length_penalty, ngram)
    distribution = random_distribution(seed, 5)
    found = decode(options, distribution)
    best = exhaustive_reference(options, distribution, 5)
    assert penalised_score(found.hypothesis.scored, length_penalty) == pytest.approx(best, abs=1e-5)
    assert found.finish_reason == "stop"


def beam_reference(options: DecodingOptions, distribution: Distribution) -> tuple[tuple[int, ...], float]:
    """Beam search over whole distributions, with the rules of `app.search` written down a second time."""
    width = options.num_beams
    live: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    done: list[tuple[float, tuple[int, ...]]] = []
    for length in range(options.max_length + 1):
        grown = []
        for total, tokens in live:
            scores = distribution(tokens).tolist()
            for token in range(START + 1, len(scores)):
                early = token == END and length < options.min_length
                if not early and token not in repeated_ngram_tokens(tokens, options.no_repeat_ngram_size):
                    grown.append((total + scores[token], (*tokens, token)))
        grown.sort(key=lambda one: -one[0])
        ended = [(total, tokens[:-1]) for total, tokens in grown[:width] if tokens[-1] == END]
        done += [(total / (length + 1) ** options.length_penalty, tokens) for total, tokens in ended]
        done = sorted(done, key=lambda one: -one[0])[:width]
        going_on = [(total, tokens) for total, tokens in grown if tokens[-1] != END][:width]
        if length == options.max_length or not going_on:
            kept = [one for one in live if one[1] not in [tokens for _, tokens in ended]]
            cut = [] if not going_on and done and length < options.max_length else kept
            done += [(total / max(length, 1) ** options.length_penalty, tokens) for total, tokens in cut]
            break
        live = going_on
        if len(done) == width and done[-1][0] >= live[0][0] / (length + 1) ** options.length_penalty:
            break
    score, tokens = max(done, key=lambda one: one[0])
    return tokens, score


@given(seeds, mixed_options)
@settings(deadline=None)
def test_beam_search_equals_the_reference_over_whole_distributions(seed: int, options: DecodingOptions) -> None:
    distribution = random_distribution(seed, 30)
    found = decode(options, distribution)
    tokens, score = beam_reference(options, distribution)
    assert found.hypothesis.tokens == tokens
    assert penalised_score(found.hypothesis.scored, options.length_penalty) == pytest.approx(score, abs=1e-5)


@given(st.lists(st.tuples(seeds, mixed_options, st.sampled_from([0, 1, 2])), min_size=1, max_size=5))
@settings(deadline=None)
def test_a_row_keeps_its_own_options_and_result_in_a_mixed_batch(
    mixed: list[tuple[int, DecodingOptions, int]],
) -> None:
    distributions = [random_distribution(seed, 40, steps) for seed, _, steps in mixed]
    kinds = [GreedySearch if options.num_beams == 1 else BeamSearch for _, options, _ in mixed]
    searches = [kind(options, SPECIAL, CANDIDATES) for kind, (_, options, _) in zip(kinds, mixed, strict=True)]
    together = run(searches, distributions)
    alone = [decode(options, distribution) for (_, options, _), distribution in zip(mixed, distributions, strict=True)]
    assert together == alone
    for (_, options, _), found in zip(mixed, together, strict=True):
        tokens = found.hypothesis.tokens
        assert len(tokens) <= options.max_length
        assert START not in tokens
        assert END not in tokens
        assert found.finish_reason == "length" or len(tokens) >= options.min_length
        assert ngrams_are_unique(tokens, options.no_repeat_ngram_size)


def ngrams_are_unique(tokens: tuple[int, ...], size: int) -> bool:
    ngrams = [tokens[start : start + size] for start in range(len(tokens) - size + 1)]
    return size == 0 or len(set(ngrams)) == len(ngrams)


@given(seeds, mixed_options)
@settings(deadline=None)
def test_recorded_log_probabilities_are_raw_and_the_end_token_counts(seed: int, options: DecodingOptions) -> None:
    distribution = random_distribution(seed, 12)
    hypothesis = decode(options, distribution).hypothesis
    expected = [float(distribution(hypothesis.tokens[:i])[token]) for i, token in enumerate(hypothesis.tokens)]
    if hypothesis.end_log_probability is not None:
        expected.append(float(distribution(hypothesis.tokens)[END]))
    assert hypothesis.scored == tuple(expected)


def test_a_summary_that_ends_right_after_its_last_allowed_token_is_not_cut() -> None:
    def ends_after_two(prefix: tuple[int, ...]) -> Tensor:
        return torch.tensor([-9.0, -0.1, -5.0]) if len(prefix) == 2 else torch.tensor([-9.0, -5.0, -0.1])

    assert decode(DecodingOptions(1, max_length=2), ends_after_two).finish_reason == "stop"
    assert decode(DecodingOptions(1, max_length=1), ends_after_two).finish_reason == "length"


def test_a_row_whose_tokens_are_all_blocked_is_cut_where_it_stands() -> None:
    def only_two(_: tuple[int, ...]) -> Tensor:
        return torch.tensor([-math.inf, -math.inf, -0.5])

    nothing = Special(start=START, end=END, suppressed=(2,))
    for kind, beams in ((GreedySearch, 1), (BeamSearch, 1), (BeamSearch, 3)):
        options = DecodingOptions(beams, max_length=5, no_repeat_ngram_size=1)
        for special, tokens in ((SPECIAL, (2,)), (nothing, ())):
            (found,) = run([kind(options, special, CANDIDATES)], [only_two])
            assert (found.hypothesis.tokens, found.finish_reason) == (tokens, "length")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_without_a_distribution_is_broken_and_its_neighbours_are_not(bad: float) -> None:
    scores = torch.randn(3, 20).log_softmax(1)
    scores[1, 7] = bad
    for ask in (Ask(), Ask(4), Ask(wanted=(3,))):
        answers = select(scores, [ask] * 3)
        assert [answer.broken for answer in answers] == [False, True, False]


@given(st.sampled_from([1, 2, 5, 16, 63]), seeds, st.integers(1, 1000), st.sampled_from([1, 7, BLOCK, 200, 40 * BLOCK]))
@settings(deadline=None)
def test_candidates_come_best_first_and_equal_ones_in_the_order_of_their_columns(
    count: int, seed: int, levels: int, columns: int
) -> None:
    values = torch.randint(-levels, 0, (columns,), generator=torch.Generator().manual_seed(seed)).float()
    values[columns // 2] = -math.inf
    values[0] = -0.5
    possible = [(column, value) for column, value in enumerate(values.tolist()) if value > -math.inf]
    expected = sorted(possible, key=lambda candidate: (-candidate[1], candidate[0]))
    assert read(values, Ask(count)) == expected


@given(
    seeds,
    st.lists(st.sampled_from([Ask(), Ask(4), Ask(6), Ask(wanted=(9, 4)), Ask(wanted=())]), min_size=1, max_size=9),
)
@settings(deadline=None)
def test_a_row_is_answered_the_same_whatever_the_others_ask(seed: int, asks: list[Ask]) -> None:
    rows = torch.randn(len(asks), 4 * BLOCK, generator=torch.Generator().manual_seed(seed)).log_softmax(1)
    together = [list(answer.candidates) for answer in select(rows, asks)]
    assert together == [read(row, ask) for row, ask in zip(rows, asks, strict=True)]


@given(seeds, st.lists(st.integers(2, 9), min_size=1, max_size=6))
@settings(deadline=None)
def test_a_given_summary_is_scored_token_by_token_with_its_end(seed: int, tokens: list[int]) -> None:
    distribution = random_distribution(seed, 10)
    beside = BeamSearch(DecodingOptions(3, max_length=4), SPECIAL, CANDIDATES)
    found, _ = run(
        [ForcedDecoding(tokens, SPECIAL, CANDIDATES), beside], [distribution, random_distribution(seed + 1, 10)]
    )
    sequence = (*tokens, END)
    assert found.finish_reason == "given"
    assert found.hypothesis.tokens == tuple(tokens)
    assert found.hypothesis.scored == tuple(
        float(distribution(sequence[:position])[token]) for position, token in enumerate(sequence)
    )


def test_a_given_token_that_the_model_cannot_write_counts_a_finite_number() -> None:
    found = run([ForcedDecoding([2], SPECIAL, CANDIDATES)], [lambda _: torch.tensor([-math.inf, -0.1, -math.inf])])[0]
    assert found.hypothesis.log_probabilities == (LOWEST_LOG_PROBABILITY,)


def test_the_rows_of_a_hypothesis_are_those_that_wrote_its_tokens() -> None:
    search = BeamSearch(DecodingOptions(2, max_length=2), SPECIAL, CANDIDATES)
    search.advance([Answer(((2, -1.0), (3, -2.0), (END, -9.0)))])
    parents = search.advance([Answer(((2, -8.0),)), Answer(((4, -0.1), (5, -0.2)))])
    assert parents == [1, 1]
    search.advance([Answer(((END, -0.1),)), Answer(())])
    assert search.found is not None
    assert (search.found.hypothesis.tokens, search.found.hypothesis.rows) == ((3, 4), (0, 1))


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 4))
def test_exactly_the_tokens_that_repeat_an_ngram_are_banned(tokens: list[int], size: int) -> None:
    for token in range(4):
        repeats = not ngrams_are_unique((*tokens, token), size) and ngrams_are_unique(tuple(tokens), size)
        if ngrams_are_unique(tuple(tokens), size):
            assert (token in repeated_ngram_tokens(tokens, size)) == repeats


def test_a_beam_stops_when_enough_have_ended_and_no_live_one_is_better() -> None:
    search = BeamSearch(DecodingOptions(2, max_length=9), SPECIAL, CANDIDATES)
    search.advance([Answer(((END, -0.5), (2, -0.6), (3, -3.0)))])
    assert search.found is None, "one of two has ended: a better one may follow"
    search.advance([Answer(((END, -0.01), (2, -5.0))), Answer(((2, -5.0), (3, -6.0)))])
    assert search.found is not None
    assert search.found.hypothesis.tokens == (2,)
