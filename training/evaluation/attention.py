"""Whether the attention can be believed: it should stand where a word came from, and matter for what is written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from app.alignment import Aligned, Floats, align
from app.engine.engine import Engine
from app.engine.request import Summary, SummaryRequest
from app.models.base import DecodingOptions
from training.evaluation.summarizing import DAY, summarize
from training.evaluation.truth import Share, share

REMOVED = 3


@dataclass(frozen=True, slots=True)
class Belief:
    """Over all words of all summaries, pooled; punctuation in a summary is left out, in a source it is not.

    on_match: of the words that the source holds exactly once (capitals aside), those whose largest weight is there.
    copied_on_match: the same for words of which at least half was copied.
    weight_on_match: mean weight of that one source word.
    entropy: mean, in nats; normalized: divided by that of weights spread evenly over the source's words.
    sink: share of a summary's attention on its most attended source word, mean over summaries.
    punctuation: share of all attention that falls on source items without a letter or digit.
    """

    summaries: int
    words: int
    on_match: Share
    copied_on_match: Share
    weight_on_match: float
    entropy: float
    normalized: float
    sink: float
    punctuation: float


@dataclass(frozen=True, slots=True)
class Erasure:
    """What becomes of summaries when some words are removed from their sources.

    changed: share of the summaries that are no longer the same. drop: mean fall of the log-probability of the first
    summary, in nats a token.
    """

    changed: Share
    drop: float


@dataclass(frozen=True, slots=True)
class LeaveOut:
    """Without the three most attended source words, and without three random ones."""

    attended: Erasure
    random: Erasure

    @property
    def ratio(self) -> float | None:
        """How many times more often a summary changes without what was attended most."""
        return self.attended.changed.count / self.random.changed.count if self.random.changed.count else None


def is_word(text: str) -> bool:
    return any(map(str.isalnum, text))


def aligned_words(summary: Summary) -> Aligned:
    """Attention between words of a summary that was asked for with attention and is not empty."""
    assert summary.attention is not None
    return align(summary.attention, level="word", language=summary.model.language)


def believe(aligned: Iterable[Aligned]) -> Belief:
    """Measure attention between words."""
    matched: list[tuple[bool, bool, float]] = []  # on its match, copied, weight there
    entropies, normalized, sinks = [], [], []
    on_punctuation = total = 0.0
    for one in aligned:
        rows = [index for index, item in enumerate(one.summary) if is_word(item.text)]
        matched += [found for row in rows if (found := _on_match(one, row)) is not None]
        entropy = _entropy(one.weights[rows])
        entropies.append(entropy)
        normalized.append(entropy / np.log(max(2, len(one.source))))
        sinks.append(one.coverage.max() / one.coverage.sum())
        on_punctuation += sum(
            float(weight) for weight, item in zip(one.coverage, one.source, strict=True) if not is_word(item.text)
        )
        total += float(one.coverage.sum())
    pooled = np.concatenate(entropies)
    return Belief(
        summaries=len(sinks),
        words=len(pooled),
        on_match=share(there for there, _, _ in matched),
        copied_on_match=share(there for there, copied, _ in matched if copied),
        weight_on_match=float(np.mean([weight for _, _, weight in matched])) if matched else 0.0,
        entropy=float(pooled.mean()),
        normalized=float(np.concatenate(normalized).mean()),
        sink=float(np.mean(sinks)),
        punctuation=on_punctuation / total,
    )


def _on_match(aligned: Aligned, row: int) -> tuple[bool, bool, float] | None:
    """None for a word that the source does not hold, or holds more than once."""
    word = aligned.summary[row]
    matches = [index for index, item in enumerate(aligned.source) if item.text.casefold() == word.text.casefold()]
    if len(matches) != 1:
        return None
    weights = aligned.weights[row]
    return int(weights.argmax()) == matches[0], (word.copied or 0.0) >= 0.5, float(weights[matches[0]])


def _entropy(weights: Floats) -> Floats:
    """Of each row, in nats: (rows,)."""
    positive = np.where(weights > 0, weights, 1.0)
    entropy: Floats = -(weights * np.log(positive)).sum(1)
    return entropy


def leave_out(
    engine: Engine, written: Sequence[tuple[str, Summary]], options: DecodingOptions, seed: int
) -> LeaveOut | None:
    """Remove words of each text and summarize again (Li, Monroe and Jurafsky 2016, "Understanding Neural Networks
    through Representation Erasure"). The summaries of the texts have attention.

    None when no text has words enough to choose from.
    """
    random = np.random.default_rng(seed)
    first, attended, drawn = [], [], []
    for text, summary in written:
        aligned = aligned_words(summary)
        candidates = [index for index, item in enumerate(aligned.source) if is_word(item.text)]
        if len(candidates) < 2 * REMOVED:
            continue
        first.append(summary)
        ranked = sorted(candidates, key=lambda index: -aligned.coverage[index])
        attended.append(_without(text, aligned, ranked[:REMOVED]))
        drawn.append(_without(text, aligned, random.choice(candidates, REMOVED, replace=False).tolist()))
    if not first:
        return None
    return LeaveOut(_erasure(engine, attended, first, options), _erasure(engine, drawn, first, options))


def _without(text: str, aligned: Aligned, removed: Sequence[int]) -> str:
    for index in sorted(removed, reverse=True):
        text = text[: aligned.source[index].start] + text[aligned.source[index].end :]
    return text


def _erasure(engine: Engine, texts: Sequence[str], first: Sequence[Summary], options: DecodingOptions) -> Erasure:
    """Summarize what is left of the texts, and score the first summaries on it."""
    again = [SummaryRequest(text, options, timeout=DAY) for text in texts]
    given = [SummaryRequest(text, options, given=old.text, timeout=DAY) for text, old in zip(texts, first, strict=True)]
    answers = summarize(engine, [*again, *given], "words left out")
    rows = list(zip(first, answers[: len(first)], answers[len(first) :], strict=True))
    changed = share(new.text != old.text for old, new, _ in rows)
    return Erasure(changed, float(np.mean([old.score - scored.score for old, _, scored in rows])))
