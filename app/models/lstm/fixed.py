"""One decoder step in fixed shapes, for a GPU: every row computed, all memory given, nothing waited for."""

from typing import NamedTuple

import torch
from torch import Tensor

from app.models.lstm.arithmetic import Arithmetic
from app.models.lstm.network import Seq2Seq
from app.models.lstm.step import COLUMN_STEP, Reading, Step

_ONE = 2.0**62  # a probability of 1 as an integer


class Sources(NamedTuple):
    """Sources side by side, each padded to W positions and W / 2 tokens of its own."""

    keys: Tensor  # (P, W, K)
    values: Tensor  # (P, W, H)
    prior: Tensor  # (P, W) float32, added to the scores: minus infinity on padding
    columns: Tensor  # (P, W) where the output holds the token of each position; on padding that of the first position
    first: Tensor  # (P, W) the first position with the same column
    tokens: Tensor  # (P, W / 2, E) embeddings of the own tokens
    bias: Tensor  # (P, W / 2) float32: minus infinity where there is none

    def head(self, places: int) -> "Sources":
        return Sources(*(field[:places] for field in self))


class FixedStep(Step[Sources]):
    """As many rows to a source; they stand in the order of the places."""

    def __init__(self, model: Seq2Seq, arithmetic: Arithmetic, frequent: Tensor) -> None:
        super().__init__(model, arithmetic, frequent)
        self.config, self.device = model.config, frequent.device

    def room(self, places: int, width: int) -> Sources:
        """For so many sources, with none in it yet."""
        config, dtype = self.config, self.arithmetic.dtype

        def zeros(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(places, *size, dtype=dtype, device=self.device)

        return Sources(
            keys=zeros(width, config.key_size, dtype=dtype),
            values=zeros(width, 2 * config.encoder_size, dtype=dtype),
            prior=zeros(width),
            columns=zeros(width, dtype=torch.long),
            first=zeros(width, dtype=torch.long),
            tokens=zeros(width // 2, config.embedding_size, dtype=dtype),
            bias=zeros(width // 2),
        )

    def store(self, sources: Sources, place: int, reading: Reading) -> None:
        """Write a source into its place. What stays of another is cleared: NaN times a weight of zero is still NaN."""
        for field, given, rest in (
            (sources.keys, reading.keys, 0.0),
            (sources.values, reading.values, 0.0),
            (sources.prior, reading.prior, -torch.inf),
            (sources.columns, reading.columns, reading.columns[0]),
            (sources.first, reading.first, 0),
            (sources.tokens, self._embedding[reading.own], 0.0),
            (sources.bias, self._output_bias[reading.own], -torch.inf),
        ):
            field[place, : len(given)].copy_(given)
            field[place, len(given) :].fill_(rest)

    def columns(self, width: int) -> int:
        """Of the output, for sources of this width."""
        return -(-(self.shared + width // 2) // COLUMN_STEP) * COLUMN_STEP

    def _attend(self, queries: Tensor, sources: Sources) -> tuple[Tensor, Tensor]:
        asked = queries.to(self.arithmetic.dtype).view(len(sources.keys), -1, queries.shape[1])  # (P, B / P, K)
        scores = torch.bmm(asked, sources.keys.mT).float() + sources.prior.unsqueeze(1)  # (P, B / P, W)
        weights = scores.softmax(2)
        attended = torch.bmm(weights.to(self.arithmetic.dtype), sources.values)
        return attended.flatten(0, 1), weights.flatten(0, 1)

    def _score(self, features: Tensor, sources: Sources) -> Tensor:
        places, width = sources.columns.shape
        asked = features.to(self.arithmetic.dtype).view(places, -1, features.shape[1])  # (P, B / P, E)
        own = torch.bmm(asked, sources.tokens.mT).float() + sources.bias.unsqueeze(1)
        padding = features.new_full((len(features), self.columns(width) - self.shared - width // 2), -torch.inf)
        return torch.cat([self._logits(features), own.flatten(0, 1), padding], dim=1).log_softmax(1)

    def _copied(self, copies: Tensor, sources: Sources) -> tuple[Tensor, Tensor]:
        """Many positions may add to one sum, at once and in any order on a GPU: as integers, for these do not round."""
        queries = len(copies) // len(sources.columns)
        columns, first = (
            places.repeat_interleave(queries, dim=0, output_size=len(copies))
            for places in (sources.columns, sources.first)
        )
        whole = copies.double().mul_(_ONE).long()
        sums = torch.zeros_like(whole).scatter_add_(1, first, whole).gather(1, first)
        return columns, sums.double().div_(_ONE).float()
