"""Long input: unrelated texts are appended, and the first one's headline is still wanted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.engine.engine import Engine
from app.engine.request import Summary, SummaryRequest, Truncation
from app.models.base import DecodingOptions
from training.data import Pair
from training.evaluation.rouge import Interval, Scores, bootstrap, rouge
from training.evaluation.summarizing import DAY, summarize
from training.evaluation.writing import Writing


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


def appended(pairs: Sequence[Pair], rows: Sequence[int], length: int, writing: Writing, seed: int) -> list[str]:
    """The text of each row, followed by those of random other rows up to this many units; never cut itself."""
    random = np.random.default_rng([seed, length])
    texts = []
    for row in rows:
        units = list(writing.units(pairs[row].text))
        own = len(units)
        while len(units) < length:
            other = (row + int(random.integers(1, len(pairs)))) % len(pairs)
            units += writing.units(pairs[other].text)
        texts.append(writing.glue.join(units[: max(length, own)]) if len(units) > own else pairs[row].text)
    return texts


def long_input(
    engine: Engine,
    pairs: Sequence[Pair],
    plain_written: Sequence[Summary],
    rows: Sequence[int],
    options: DecodingOptions,
    writing: Writing,
    seed: int,
) -> list[LongInput]:
    """Plain texts as they were summarized, then every length with `head`, and with `chunk` where `head` cuts."""
    if len(pairs) < 2 or not rows:
        return []
    references = [pairs[row].wanted for row in rows]
    plain_texts = [pairs[row].text for row in rows]

    def scores(summaries: Sequence[str]) -> Scores:
        return rouge(references, summaries, writing.rouge())

    def run(texts: Sequence[str], truncation: Truncation) -> list[Summary]:
        requests = [SummaryRequest(text, options, truncation, timeout=DAY) for text in texts]
        return summarize(engine, requests, f"long input, {truncation}")

    def entry(system: str, texts: Sequence[str], written: Sequence[Summary], found: Scores) -> LongInput:
        length = float(np.mean([len(writing.units(text)) for text in texts]))
        truncated = float(np.mean([summary.source.truncated for summary in written]))
        return LongInput(system, len(rows), length, truncated, bootstrap(found, seed), bootstrap(found - plain, seed))

    written = [plain_written[row] for row in rows]
    plain = scores([summary.text for summary in written])
    entries = [entry("plain", plain_texts, written, plain)]
    for length in writing.lengths:
        texts = appended(pairs, rows, length, writing, seed)
        if texts == plain_texts:
            continue
        written = run(texts, "head")
        entries.append(entry(f"{length}, head", texts, written, scores([summary.text for summary in written])))
        if any(summary.source.truncated for summary in written):
            written = run(texts, "chunk")
            whole = scores([summary.text for summary in written])
            first = scores([first_piece(summary) for summary in written])
            entries.append(entry(f"{length}, chunk, first piece", texts, written, first))
            entries.append(entry(f"{length}, chunk, joined", texts, written, whole))
    return entries


def first_piece(summary: Summary) -> str:
    """What a text's first chunk became."""
    assert summary.parts
    span = summary.parts[0].summary
    return summary.text[span.start : span.end]
