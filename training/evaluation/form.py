"""The form of summaries: how long, whether ended, whether they repeat themselves."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluation.writing import words, writing


@dataclass(frozen=True, slots=True)
class Form:
    """Over all summaries of a system.

    length: mean number of units (words or characters); ratio: that over the references' own.
    repeated_bigrams, repeated_words: share of the summaries in which a pair of words stands twice, or one word stands
    twice in a row. ended: share that the model ended by itself; None where nothing is generated.
    """

    length: float
    ratio: float
    repeated_bigrams: float
    repeated_words: float
    ended: float | None = None


def form(
    summaries: Sequence[str], references: Sequence[Sequence[str]], language: str, ended: float | None = None
) -> Form:
    units = writing(language).units
    length = float(np.mean([len(units(summary)) for summary in summaries]))
    wanted = float(np.mean([np.mean([len(units(one)) for one in several]) for several in references]))
    pairs = [list(itertools.pairwise(words(summary, language))) for summary in summaries]
    return Form(
        length,
        length / wanted,
        float(np.mean([len(set(found)) < len(found) for found in pairs])),
        float(np.mean([any(first == second for first, second in found) for found in pairs])),
        ended,
    )
