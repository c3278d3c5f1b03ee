"""The attention that was used while a source was decoded, kept until its winning hypothesis is known."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.alignment import normalised
from app.models.base import StepOutput
from app.search import Hypothesis

TOP_SOURCES = 5


def top_sources(attention: Tensor, rows: Sequence[int], *, whole: bool = True) -> list[tuple[tuple[int, float], ...]]:
    """For each of these rows of a step, (rows, source), its largest weights as (column, weight), largest first.

    whole: as `AttentionInfo`; rows that are not are divided by their sums.
    """
    asked = attention[list(rows)]
    if not whole:
        asked = asked / asked.sum(1, keepdim=True).clamp_min(torch.finfo(asked.dtype).tiny)
    weights, columns = asked.topk(min(TOP_SOURCES, attention.shape[1]))
    pairs = zip(columns.tolist(), weights.tolist(), strict=True)
    # A row is zero beyond its own source.
    return [tuple((column, weight) for column, weight in zip(*pair, strict=True) if weight > 0) for pair in pairs]


def keep(output: StepOutput) -> StepOutput:
    """A step whose attention stays as it is: one copy for all who ask for theirs."""
    copied = None if output.copied is None else output.copied.clone()
    return replace(output, attention=output.attention.clone(), copied=copied)


class Followed(NamedTuple):
    """(summary, source) weights; (summary,) copied and dropped shares: as `Attention`."""

    weights: NDArray[np.float32]
    copied: NDArray[np.float32] | None = None
    dropped: NDArray[np.float32] | None = None


class AttentionTrail:
    """Every step's attention over one source for every live hypothesis, on the device, in the order of the steps."""

    def __init__(self, source: Sequence[int], *, whole: bool = True) -> None:
        """whole: as `AttentionInfo`."""
        self._source, self._whole = np.array(source), whole
        self._weights: list[Tensor] = []  # (hypotheses, source) each
        self._gates: list[Tensor] = []  # (hypotheses,) each; none without a copy mechanism

    def record(self, output: StepOutput, rows: slice) -> None:
        """Remember the part of a kept step that belongs to this source."""
        self._weights.append(output.attention[rows, : len(self._source)])
        if output.copied is not None:
            self._gates.append(output.copied[rows])

    def follow(self, winner: Hypothesis) -> Followed:
        """Along the rows that wrote the hypothesis."""
        if not winner.rows:
            weights, none = np.zeros((0, len(self._source)), np.float32), np.zeros(0, np.float32)
            return Followed(weights, none if self._gates else None, None if self._whole else none)
        weights = _along(self._weights, winner.rows)
        if not np.isfinite(weights).all():
            raise ArithmeticError("the attention is not finite")
        copied = self._copied(winner, weights) if self._gates else None
        if self._whole:
            return Followed(weights, copied)
        weights, dropped = normalised(weights)
        return Followed(weights, copied, dropped)

    def _copied(self, winner: Hypothesis, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """The share of each token's probability that came from copying it: (summary,)."""
        same = np.array(winner.tokens)[:, None] == self._source[None, :]  # (summary, source)
        attended = np.where(same, weights, 0.0).sum(1, dtype=np.float64)
        probability = np.exp(np.array(winner.log_probabilities, np.float64))
        shares: NDArray[np.float32] = np.clip(_along(self._gates, winner.rows) * attended / probability, 0.0, 1.0)
        return shares.astype(np.float32)


def _along(steps: Sequence[Tensor], rows: Sequence[int]) -> NDArray[np.float32]:
    path = torch.stack([step[row] for step, row in zip(steps, rows, strict=False)])  # the end token's step is left out
    array: NDArray[np.float32] = path.float().cpu().numpy()
    return array
