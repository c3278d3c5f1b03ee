"""ROUGE with confidence intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

MEASURES = ("rouge1", "rouge2", "rougeL")
RESAMPLES = 1000
Scores = NDArray[np.float64]  # (rows, measures), F1 in percent


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over rows with its 95 % confidence interval."""

    mean: float
    low: float
    high: float


def rouge(references: Sequence[Sequence[str]], summaries: Sequence[str], tokenizer: Tokenizer) -> Scores:
    """ROUGE-1/2/L F1 in percent (Lin 2004, as `rouge-score` computes it): (rows, 3).

    Of several references each measure takes the one it likes best (Cachola et al. 2020, section 4).
    """
    scorer = RougeScorer(MEASURES, tokenizer=tokenizer)
    rows = [scorer.score_multi(wanted, summary) for wanted, summary in zip(references, summaries, strict=True)]
    return np.array([[100 * row[measure].fmeasure for measure in MEASURES] for row in rows])


def bootstrap(scores: Scores, seed: int) -> tuple[Interval, ...]:
    """Percentile bootstrap over rows (Efron and Tibshirani 1993, section 13.3), one interval for each column.

    A resample is how often each row was drawn, so the same seed draws the same rows for every system.
    """
    rows = len(scores)
    drawn = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES)  # (resamples, rows)
    low, high = np.percentile(drawn @ scores / rows, (2.5, 97.5), axis=0)
    return tuple(map(Interval, scores.mean(0).tolist(), low.tolist(), high.tolist()))
