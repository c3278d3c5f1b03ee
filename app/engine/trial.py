"""The first texts of an engine: one that cannot do them as it should is not served."""

from dataclasses import replace

import numpy as np

from app.alignment import Attention
from app.engine.engine import Engine
from app.engine.request import Summary, SummaryRequest
from app.errors import CheckpointError, in_one_line

TEXT = (
    "Heavy rain closed the coastal road on Monday and left two villages without power. The mayor said that repairs "
    "would take three days, and that nobody was hurt."
)
COPIES = 4  # at once, so that several lanes have something to do
FEWEST_TOKENS, MOST_TOKENS = 4, 16
SECONDS = 60.0
TOLERANCE = 1e-3  # of a row's sum


def try_out(engine: Engine) -> None:
    """Greedy search with attention over a fixed text, alone, alone again, and several times at once.

    The engine must be started. Raises CheckpointError, in one line, when that fails, when a number is not finite or a
    row of attention is no distribution, or when the second time is not like the first.
    """
    info = engine.info
    longest = min(MOST_TOKENS, info.limits.max_summary_tokens)
    options = replace(info.defaults, num_beams=1, max_length=longest, min_length=min(FEWEST_TOKENS, longest))
    request = SummaryRequest(TEXT, options, attention=True, timeout=SECONDS)
    try:
        (first,), (second,) = _summaries(engine, request), _summaries(engine, request)
        for summary in (first, second, *_summaries(engine, request, COPIES)):
            _check(summary)
        if not _same(first, second):
            raise ValueError("the same text became two different summaries")
    except Exception as error:
        raise CheckpointError(f"{info.name}: the trial after loading failed: {in_one_line(error)}") from error


def _summaries(engine: Engine, request: SummaryRequest, copies: int = 1) -> list[Summary]:
    return [future.result(2 * SECONDS) for future in engine.submit([request] * copies)]


def _check(summary: Summary) -> None:
    attention = _attention(summary)
    numbers = (attention.weights, attention.log_probabilities, attention.copied)
    if not all(np.isfinite(each).all() for each in numbers if each is not None):
        raise ValueError("a number is not finite")
    if (attention.weights < 0).any() or (np.abs(attention.weights.sum(1) - 1) > TOLERANCE).any():
        raise ValueError("a row of attention is no distribution")


def _same(one: Summary, other: Summary) -> bool:
    return one.text == other.text and np.array_equal(_attention(one).weights, _attention(other).weights)


def _attention(summary: Summary) -> Attention:
    assert summary.attention is not None  # it was asked for
    return summary.attention
