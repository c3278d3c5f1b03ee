"""From attention over tokens to attention over spans of the caller's text. Pure functions over arrays."""

import itertools
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from icu4py.breakers import WordBreaker
from numpy.typing import NDArray

from app.models.base import Span, Tokens

Level = Literal["token", "word"]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Attention:
    """Token-level attention of a finished summary.

    weights: (summary tokens, source tokens); each row sums to 1; no row or column for special tokens.
    log_probabilities: (summary tokens,), natural logarithm, raw.
    copied: (summary tokens,), share of the token's probability that came from copying; None without such a mechanism.
    dropped: (summary tokens,), share of the weight that fell on what has no column, before the rows were made to sum to
        1; None where none can. A row whose whole weight did is all zero.
    """

    source: Tokens
    summary: Tokens
    weights: Floats
    log_probabilities: Floats
    copied: Floats | None
    dropped: Floats | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """A source token or word: `text == source[start:end]`."""

    text: str
    start: int
    end: int

    @property
    def sink(self) -> bool:
        """Nothing but punctuation (Unicode's category P), which attracts weight that means nothing in particular."""
        return is_sink(self.text)


@dataclass(frozen=True, slots=True)
class SummaryItem:
    """A summary token or word, with how likely it was, how much of it was copied and what its row lacked."""

    text: str
    start: int
    end: int
    log_probability: float
    copied: float | None
    dropped: float | None = None


@dataclass(frozen=True, slots=True)
class Aligned:
    """Attention at the level that was asked for: weights (summary items, source items), coverage (source items,)."""

    source: tuple[Item, ...]
    summary: tuple[SummaryItem, ...]
    weights: Floats
    coverage: Floats


def align(attention: Attention, *, level: Level, language: str, drop_sinks: bool = False) -> Aligned:
    """Attention between spans of the two texts.

    At word level columns are summed and rows averaged, so that rows still sum to 1; `log_probability` is summed,
    `copied` and `dropped` are averaged. `language` is a BCP 47 tag that the word breaker may use.
    """
    if drop_sinks:
        attention = without_sinks(attention)
    grouping = _each if level == "token" else _words_in(language)
    columns, rows = grouping(attention.source), grouping(attention.summary)
    weights = _reduce(_reduce(attention.weights, columns, axis=1), rows, axis=0)
    seeing = np.asarray(attention.weights.any(axis=1), np.float32)  # a row that is all zero is no part of a mean
    weights /= np.maximum(_reduce(seeing, rows, axis=0), 1)[:, np.newaxis]
    log_probabilities = _reduce(attention.log_probabilities, rows, axis=0)
    copied, dropped = _averaged(attention.copied, rows), _averaged(attention.dropped, rows)
    source = tuple(Item(*_cover(attention.source, group)) for group in columns)
    summary = tuple(
        SummaryItem(
            *_cover(attention.summary, group),
            float(log_probabilities[index]),
            None if copied is None else float(copied[index]),
            None if dropped is None else float(dropped[index]),
        )
        for index, group in enumerate(rows)
    )
    return Aligned(source, summary, weights, weights.sum(axis=0))


def without_sinks(attention: Attention) -> Attention:
    """Nothing on sinks, the rest of each row divided by its sum; what they had is dropped."""
    spans, text = attention.source.spans, attention.source.text
    sinks = [column for column, span in enumerate(spans) if is_sink(text[span.start : span.end])]
    kept = attention.weights.copy()
    kept[:, sinks] = 0
    weights, lost = normalised(kept)
    left = 1 - lost if attention.dropped is None else (1 - attention.dropped) * (1 - lost)
    return replace(attention, weights=weights, dropped=1 - left)


def is_sink(text: str) -> bool:
    return all(unicodedata.category(character).startswith("P") for character in text)


def normalised(weights: Floats) -> tuple[Floats, Floats]:
    """Rows divided by their sums, and what each lacked of 1. A row that is all zero stays so, and has lost all."""
    sums = weights.sum(axis=1, dtype=np.float64)
    divisors = np.where(sums > 0, sums, 1).astype(np.float32)
    return weights / divisors[:, np.newaxis], np.clip(1 - sums, 0, 1).astype(np.float32)


def top(weights: Floats, count: int) -> list[list[tuple[int, float]]]:
    """For each row its `count` largest weights as (column, weight), largest first, the earlier column on a tie."""
    order = np.argsort(-weights, axis=1, kind="stable")[:, :count]
    largest = np.take_along_axis(weights, order, axis=1)
    rows = zip(order.tolist(), largest.tolist(), strict=True)
    return [list(zip(columns, values, strict=True)) for columns, values in rows]


def group_words(tokens: Tokens, language: str) -> list[range]:
    """Consecutive runs of tokens, one for each word: every token belongs to exactly one.

    Words are those of Unicode's segmentation (UAX #29) as ICU does it, with its dictionary for Chinese. Words that
    share a token are one; a token without characters of its own goes with the token after it, or before it at the end.
    """
    end_of_word = _ends_of_words(tokens.text, language)
    starts: list[int] = []
    reach = -1  # end of the word that the current run lies in
    blank_since: int | None = None
    for index, span in enumerate(tokens.spans):
        if span.start == span.end:
            blank_since = index if blank_since is None else blank_since
            continue
        if span.start >= reach:
            starts.append(index if blank_since is None else blank_since)
        reach = max(reach, end_of_word[span.end - 1])
        blank_since = None
    if not starts and tokens.ids:
        starts = [0]
    return [range(start, end) for start, end in itertools.pairwise([*starts, len(tokens.ids)])]


def _ends_of_words(text: str, language: str) -> list[int]:
    """For each character the end of its word. Lengths are counted here: the library's own offsets are UTF-16."""
    ends: list[int] = []
    for word in WordBreaker(text, language):
        ends.extend([len(ends) + len(word)] * len(word))
    return ends


def _words_in(language: str) -> Callable[[Tokens], Sequence[range]]:
    return lambda tokens: group_words(tokens, language)


def _each(tokens: Tokens) -> Sequence[range]:
    return [range(index, index + 1) for index in range(len(tokens.ids))]


def _sizes(groups: Sequence[range]) -> Floats:
    return np.array([len(group) for group in groups], dtype=np.float32)


def _reduce(values: Floats, groups: Sequence[range], axis: int) -> Floats:
    """Sum over each group along an axis."""
    starts = np.array([group.start for group in groups], dtype=np.intp)
    reduced: Floats = np.add.reduceat(values, starts, axis=axis)
    return reduced


def _averaged(shares: Floats | None, groups: Sequence[range]) -> Floats | None:
    return None if shares is None else _reduce(shares, groups, axis=0) / _sizes(groups)


def _cover(tokens: Tokens, group: range) -> tuple[str, int, int]:
    """Text and span of a run of tokens; those without characters do not stretch it."""
    spans = [tokens.spans[index] for index in group]
    real = [span for span in spans if span.start < span.end] or spans
    whole = Span(real[0].start, max(span.end for span in real))
    return tokens.text[whole.start : whole.end], whole.start, whole.end
