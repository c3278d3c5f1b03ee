"""Long input: unrelated texts are appended, and the first one's headline is still wanted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from app.engine.engine import Engine
from app.engine.request import Summary, SummaryRequest, Truncation
from app.models.base import DecodingOptions
from training.data import Pair
from training.evaluation.rouge import Interval, Scores, bootstrap, rouge
from training.evaluation.summarizing import DAY, summarize
from training.evaluation.writing import Writing, writing


@dataclass(frozen=True, slots=True)
class LongInput:
    """One length and one truncation, over so many rows.

    length: mean units (words or characters) of the texts; truncated: share of the texts that were not read whole.
    rouge: F1 against the first text's own headline; change: the same less that of the plain texts, row by row.
    """

    system: str
    rows: int
    length: float
    truncated: float
    rouge: tuple[Interval, ...]
    change: tuple[Interval, ...]


def appended(pairs: Sequence[Pair], rows: Sequence[int], length: int, script: Writing, seed: int) -> list[str]:
    """The text of each row, followed by those of random other rows up to this many units; never cut itself."""
    random = np.random.default_rng([seed, length])
    texts = []
    for row in rows:
        units = list(script.units(pairs[row].text))
        own = len(units)
        while len(units) < length:
            other = (row + int(random.integers(1, len(pairs)))) % len(pairs)
            units += script.units(pairs[other].text)
        texts.append(script.glue.join(units[: max(length, own)]) if len(units) > own else pairs[row].text)
    return texts


def long_input(
    engine: Engine,
    pairs: Sequence[Pair],
    written: Sequence[Summary],
    rows: Sequence[int],
    options: DecodingOptions,
    seed: int,
) -> list[LongInput]:
    """Some rows as they were summarized, then in every length with `head`, and with `chunk` where `head` cuts."""
    if len(pairs) < 2 or not rows:
        return []
    script = writing(engine.info.language)
    references = [pairs[row].wanted for row in rows]
    plain_texts, plain = [pairs[row].text for row in rows], [written[row] for row in rows]
    plain_scores = rouge(references, [summary.text for summary in plain], script.rouge())
    found = [_measured("plain", plain_texts, plain, plain_scores, plain_scores, script, seed)]
    for length in script.lengths:
        texts = appended(pairs, rows, length, script, seed)
        if texts == plain_texts:
            continue
        for name, answers, summaries in _systems(engine, texts, options):
            scores = rouge(references, summaries, script.rouge())
            found.append(_measured(f"{length}, {name}", texts, answers, scores, plain_scores, script, seed))
    return found


def _systems(
    engine: Engine, texts: Sequence[str], options: DecodingOptions
) -> Iterator[tuple[str, list[Summary], list[str]]]:
    """Name, answers and summaries of every way to read texts of one length."""

    def answer(truncation: Truncation) -> list[Summary]:
        requests = [SummaryRequest(text, options, truncation, timeout=DAY) for text in texts]
        return summarize(engine, requests, f"long input, {truncation}")

    answers = answer("head")
    yield "head", answers, [summary.text for summary in answers]
    if any(summary.source.truncated for summary in answers):
        answers = answer("chunk")
        yield "chunk, first piece", answers, [first_piece(summary) for summary in answers]
        yield "chunk, joined", answers, [summary.text for summary in answers]


def _measured(
    system: str,
    texts: Sequence[str],
    answers: Sequence[Summary],
    scores: Scores,
    plain_scores: Scores,
    script: Writing,
    seed: int,
) -> LongInput:
    return LongInput(
        system,
        rows=len(texts),
        length=float(np.mean([len(script.units(text)) for text in texts])),
        truncated=float(np.mean([summary.source.truncated for summary in answers])),
        rouge=bootstrap(scores, seed),
        change=bootstrap(scores - plain_scores, seed),
    )


def first_piece(summary: Summary) -> str:
    """What a text's first chunk became."""
    assert summary.parts
    span = summary.parts[0].summary
    return summary.text[span.start : span.end]
