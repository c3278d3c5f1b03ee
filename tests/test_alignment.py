"""Attention over tokens becomes attention over spans without losing weight or place."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.alignment import Attention, Level, align, group_words, normalised, top, without_sinks
from app.models.base import Span, Tokens
from tests.texts import texts, trained_tokenizer


def tokens(text: str, *bounds: tuple[int, int]) -> Tokens:
    return Tokens(text, tuple(range(len(bounds))), tuple(Span(*pair) for pair in bounds))


def attention(source: Tokens, summary: Tokens, seed: int = 0) -> Attention:
    random = np.random.default_rng(seed)
    rows, columns = len(summary.ids), len(source.ids)
    weights = random.dirichlet(np.ones(columns), size=rows).astype(np.float32)
    return Attention(
        source,
        summary,
        weights,
        -random.random(rows).astype(np.float32),
        random.random(rows).astype(np.float32),
    )


def test_tokens_of_one_word_are_one_group() -> None:
    assert group_words(tokens("unhappy cat", (0, 2), (2, 7), (8, 11)), "en") == [range(2), range(2, 3)]


def test_punctuation_is_a_word_of_its_own() -> None:
    assert group_words(tokens("cat, dog", (0, 3), (3, 4), (5, 8)), "en") == [range(1), range(1, 2), range(2, 3)]


def test_words_that_share_a_token_are_one() -> None:
    assert group_words(tokens("cat, dog", (0, 4), (5, 8)), "en") == [range(1), range(1, 2)]
    assert group_words(tokens("a-b", (0, 1), (1, 3)), "en") == [range(1), range(1, 2)]


def test_a_token_without_characters_goes_with_the_next_or_at_the_end_with_the_last() -> None:
    assert group_words(tokens("a b", (0, 1), (2, 2), (2, 3), (3, 3)), "en") == [range(1), range(1, 4)]


def test_chinese_is_cut_into_words_not_characters() -> None:
    text = "昨天在北京会见"
    singles = tokens(text, *((i, i + 1) for i in range(len(text))))
    words = [text[group.start : group.stop] for group in group_words(singles, "zh")]
    assert words == ["昨天", "在", "北京", "会见"]


def test_offsets_count_code_points_after_an_emoji() -> None:
    text = "😀 cat"
    aligned = align(attention(tokens(text, (0, 1), (2, 4), (4, 5)), tokens("a", (0, 1))), level="word", language="en")
    assert [(item.text, item.start, item.end) for item in aligned.source] == [("😀", 0, 1), ("cat", 2, 5)]


def test_word_level_sums_columns_averages_rows_and_sums_log_probabilities() -> None:
    source, summary = tokens("ab cd", (0, 1), (1, 2), (3, 5)), tokens("xy", (0, 1), (1, 2))
    weights = np.array([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4]], dtype=np.float32)
    log_probabilities, copied = np.array([-1.0, -2.0], np.float32), np.array([0.5, 1.0], np.float32)
    aligned = align(Attention(source, summary, weights, log_probabilities, copied), level="word", language="en")
    np.testing.assert_allclose(aligned.weights, [[0.45, 0.55]], rtol=1e-6)
    assert aligned.summary[0].log_probability == pytest.approx(-3.0)
    assert aligned.summary[0].copied == pytest.approx(0.75)


@given(source=texts(), summary=texts(), seed=st.integers(0, 1000), level=st.sampled_from(["token", "word"]))
def test_rows_sum_to_one_spans_quote_the_text_and_never_cross(source: str, summary: str, seed: int, level: str) -> None:
    tokenizer = trained_tokenizer()
    given_source = tokenizer.encode(source)
    written = tokenizer.decode(tokenizer.encode(summary).ids)
    aligned = align(attention(given_source, written, seed), level="word" if level == "word" else "token", language="en")
    np.testing.assert_allclose(aligned.weights.sum(axis=1), 1, rtol=1e-4)
    np.testing.assert_allclose(aligned.coverage, aligned.weights.sum(axis=0), rtol=1e-5)
    for items, text in ((aligned.source, source), (aligned.summary, written.text)):
        assert all(item.text == text[item.start : item.end] == item.text.strip() for item in items)
        starts_and_ends = [(item.start, item.end) for item in items]
        assert starts_and_ends == sorted(starts_and_ends)


@given(source=texts(), summary=texts(), seed=st.integers(0, 1000))
def test_a_word_has_the_mass_of_all_its_columns_and_the_mean_of_its_rows(source: str, summary: str, seed: int) -> None:
    tokenizer = trained_tokenizer()
    whole = attention(tokenizer.encode(source), tokenizer.encode(summary), seed)
    columns, rows = group_words(whole.source, "en"), group_words(whole.summary, "en")
    expected = [[whole.weights[np.ix_(row, column)].sum() / len(row) for column in columns] for row in rows]
    aligned = align(whole, level="word", language="en")
    np.testing.assert_allclose(aligned.weights, expected, rtol=1e-4)


@given(text=texts(), language=st.sampled_from(["en", "zh", "ar", "xx"]))
def test_every_token_belongs_to_exactly_one_word(text: str, language: str) -> None:
    encoded = trained_tokenizer().encode(text)
    grouped = [index for group in group_words(encoded, language) for index in group]
    assert grouped == list(range(len(encoded.ids)))


def test_top_is_largest_first_with_the_earlier_column_on_a_tie() -> None:
    weights = np.array([[0.25, 0.5, 0.25], [1.0, 0.0, 0.0]], dtype=np.float32)
    assert top(weights, 2) == [[(1, 0.5), (0, 0.25)], [(0, 1.0), (1, 0.0)]]
    assert [len(row) for row in top(weights, 9)] == [3, 3]


def test_an_empty_summary_has_no_rows() -> None:
    aligned = align(attention(tokens("a b", (0, 1), (2, 3)), Tokens("", (), ())), level="word", language="en")
    assert aligned.weights.shape == (0, 2)
    assert aligned.summary == ()
    assert aligned.coverage.tolist() == [0.0, 0.0]


def test_rows_are_made_to_sum_to_one_and_what_they_lacked_is_told() -> None:
    tiny = np.finfo(np.float32).smallest_subnormal
    weights, dropped = normalised(np.array([[0.1, 0.3], [0, 0], [0.5, 0.5], [tiny, 0]], np.float32))
    np.testing.assert_allclose(weights, [[0.25, 0.75], [0.0, 0.0], [0.5, 0.5], [1.0, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(dropped, [0.6, 1, 0, 1], rtol=1e-6)


def test_punctuation_is_a_sink_and_what_has_no_characters_too() -> None:
    text = "“No”, 5 % — 3 $。"
    spans = [(0, 1), (1, 3), (3, 5), (6, 7), (8, 9), (10, 11), (11, 11), (12, 13), (14, 15), (15, 16)]
    marked = align(attention(tokens(text, *spans), tokens("a", (0, 1))), level="token", language="en").source
    assert [item.text for item in marked if item.sink] == ["“", "”,", "%", "—", "", "。"]


def test_sinks_that_are_dropped_leave_their_columns_and_the_mass_of_what_was_dropped_before() -> None:
    source, summary = tokens("cat, dog.", (0, 3), (3, 4), (5, 8), (8, 9)), tokens("a b", (0, 1), (2, 3))
    weights = np.array([[0.2, 0.5, 0.2, 0.1], [0, 0.5, 0, 0.5]], np.float32)
    whole = Attention(source, summary, weights, np.zeros(2, np.float32), None)
    kept = without_sinks(whole)
    np.testing.assert_allclose(kept.weights, [[0.5, 0.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]], rtol=1e-6)
    assert kept.dropped == pytest.approx([0.6, 1])
    partly = without_sinks(replace(whole, dropped=np.array([0.5, 0.5], np.float32)))
    np.testing.assert_array_equal(partly.weights, kept.weights)
    assert partly.dropped == pytest.approx([0.8, 1])
    np.testing.assert_array_equal(weights[0], np.array([0.2, 0.5, 0.2, 0.1], np.float32))


def test_a_word_is_the_mean_of_those_of_its_rows_that_saw_something() -> None:
    source, summary = tokens("ab cd", (0, 2), (3, 5)), tokens("xy z", (0, 1), (1, 2), (3, 4))
    weights = np.array([[0.25, 0.75], [0, 0], [0, 0]], np.float32)
    shares = np.array([0.5, 1, 1], np.float32)
    aligned = align(Attention(source, summary, weights, shares, None, shares), level="word", language="en")
    np.testing.assert_array_equal(aligned.weights, np.array([[0.25, 0.75], [0, 0]], np.float32))
    assert [item.dropped for item in aligned.summary] == [0.75, 1]


@given(source=texts(), summary=texts(), seed=st.integers(0, 1000), level=st.sampled_from(["token", "word"]))
def test_without_sinks_rows_sum_to_one_or_to_nothing_and_no_mass_is_lost(
    source: str, summary: str, seed: int, level: str
) -> None:
    tokenizer = trained_tokenizer()
    written = tokenizer.decode(tokenizer.encode(summary).ids)
    whole = attention(tokenizer.encode(source), written, seed)
    some = np.random.default_rng(seed).random(len(written.ids)).astype(np.float32)
    whole = replace(whole, dropped=some)
    options: Level = "word" if level == "word" else "token"
    aligned = align(whole, level=options, language="en", drop_sinks=True)
    sums, dropped = aligned.weights.sum(axis=1), np.array([item.dropped for item in aligned.summary])
    assert np.isfinite(aligned.weights).all()
    assert all(total == pytest.approx(1, abs=1e-4) for total, share in zip(sums, dropped, strict=True) if share < 1)
    assert all(total == 0 for total, share in zip(sums, dropped, strict=True) if share == 1)
    assert all(0 <= share <= 1 for share in dropped)
    assert not aligned.weights[:, [item.sink for item in aligned.source]].any()
    if level == "token":
        sinks = [column for column, item in enumerate(aligned.source) if item.sink]
        lost = whole.weights[:, sinks].sum(axis=1)
        np.testing.assert_allclose(1 - dropped, (1 - some) * (1 - lost), atol=1e-5)
