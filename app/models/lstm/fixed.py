"""One decoder step in fixed shapes, for a GPU: every row computed, all memory given, nothing waited for.

The same network as in `step.py`; what is there to save work on a CPU is not here. Products run in the type of the
weights, the rest in float32.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.models.lstm.network import Seq2Seq
from app.models.lstm.step import Reading

COLUMN_STEP = 32  # softmax reads rows from whole vectors on: each must begin with one, or its sums depend on its place
_TINY = torch.finfo(torch.float32).tiny
_ONE = 2.0**62  # a probability of 1 as an integer


class Sources(NamedTuple):
    """Sources side by side, each padded to W positions and W / 2 tokens of its own."""

    keys: Tensor  # (P, W, K)
    values: Tensor  # (P, W, H)
    prior: Tensor  # (P, W) float32, added to the scores: minus infinity on padding
    columns: Tensor  # (P, W) where the output holds the token of each position
    first: Tensor  # (P, W) the first position with the same token
    tokens: Tensor  # (P, W / 2, E) embeddings of the own tokens
    bias: Tensor  # (P, W / 2) float32: minus infinity where there is none

    def head(self, places: int) -> "Sources":
        return Sources(*(field[:places] for field in self))


class Advanced(NamedTuple):
    """What a step comes to, float32: (B, C) columns, (B, W), (B), and the new state (4, B, D)."""

    log_probabilities: Tensor
    attention: Tensor
    copied: Tensor
    state: Tensor


class Product:
    """rows (B, I) float32 -> rows W^T + b (B, O) float32, multiplied in one type."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        self._weight, self._bias = weight.to(dtype).contiguous(), bias.to(dtype)

    def __call__(self, rows: Tensor) -> Tensor:
        return F.linear(rows.to(self._weight.dtype), self._weight, self._bias).float()


class Cell:
    """An LSTM layer, one position at a time."""

    def __init__(self, layer: nn.LSTM, dtype: torch.dtype) -> None:
        inner, outer, inner_bias, outer_bias = layer.all_weights[0]
        self._product = Product(torch.cat([inner, outer], dim=1), inner_bias + outer_bias, dtype)

    def __call__(self, inputs: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """inputs (B, I), hidden and cell (B, D) -> the state after them."""
        enter, forget, change, leave = self._product(torch.cat([inputs, hidden], dim=1)).chunk(4, dim=1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * change.tanh()
        return leave.sigmoid() * cell.tanh(), cell


class FixedStep:
    """The decoder of a network, prepared. Rows are as many to a place; they stand in the order of the places."""

    def __init__(self, model: Seq2Seq, dtype: torch.dtype, shared: Tensor) -> None:
        """model: with float32 weights. shared: the tokens that every row can write."""
        config, decoder, embedding = model.config, model.decoder, model.embedding.weight
        self.dtype, self.device = dtype, embedding.device
        self.key_size, self.value_size = config.key_size, 2 * config.encoder_size
        self.embedding_size, self.decoder_size = config.embedding_size, config.decoder_size
        self.vocabulary_size, self.shared = config.vocabulary_size, len(shared)
        self._embedding, self._bias = embedding.float(), model.output_bias.float()
        self._ask, self._write = Cell(decoder.ask, dtype), Cell(decoder.write, dtype)
        query = decoder.attention.query.weight * decoder.attention.scale
        self._query = Product(query, query.new_zeros(len(query)), dtype)
        self._output = Product(decoder.output.weight, decoder.output.bias, dtype)
        self._gate = Product(decoder.gate.weight, decoder.gate.bias, dtype)
        self._logits = Product(self._embedding[shared], self._bias[shared], dtype)

    def room(self, places: int, width: int) -> Sources:
        """For so many sources, with none in it yet."""

        def zeros(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(places, *size, dtype=dtype, device=self.device)

        return Sources(
            keys=zeros(width, self.key_size, dtype=self.dtype),
            values=zeros(width, self.value_size, dtype=self.dtype),
            prior=zeros(width),
            columns=zeros(width, dtype=torch.long),
            first=zeros(width, dtype=torch.long),
            tokens=zeros(width // 2, self.embedding_size, dtype=self.dtype),
            bias=zeros(width // 2),
        )

    def store(self, sources: Sources, place: int, reading: Reading) -> None:
        """Write a source into its place. What stays of another is cleared: NaN times a weight of zero is still NaN."""
        same = reading.columns.unsqueeze(1) == reading.columns  # (S, S)
        tokens, bias = self._embedding[reading.own], self._bias[reading.own]
        for field, given, rest in (
            (sources.keys, reading.keys, 0.0),
            (sources.values, reading.values, 0.0),
            (sources.prior, reading.prior, -torch.inf),
            (sources.columns, reading.columns, 0),
            (sources.first, same.to(torch.uint8).argmax(1), 0),  # the first of equals
            (sources.tokens, tokens, 0.0),
            (sources.bias, bias, -torch.inf),
        ):
            field[place, : len(given)].copy_(given)
            field[place, len(given) :].fill_(rest)

    def columns(self, width: int) -> int:
        """Of the output, for sources of this width."""
        return -(-(self.shared + width // 2) // COLUMN_STEP) * COLUMN_STEP

    def __call__(self, tokens: Tensor, state: Tensor, sources: Sources) -> Advanced:
        """tokens (B) written last, state (4, B, D), sources of P places with B / P rows each."""
        embedded = self._embedding[tokens]  # (B, E)
        ask_hidden, ask_cell = self._ask(embedded, state[0], state[1])
        attended, attention = self._attend(self._query(ask_hidden), sources)  # (B, H), (B, W)
        seen = torch.cat([ask_hidden, attended], dim=1)
        write_hidden, write_cell = self._write(seen, state[2], state[3])
        written = torch.cat([write_hidden, attended], dim=1)
        gate = self._gate(torch.cat([written, embedded], dim=1))  # (B, 1)
        shares = torch.cat([gate, torch.zeros_like(gate)], dim=1).softmax(1)  # of generating, of copying
        logits = self._score(self._output(written), sources)
        mixture = logits.softmax(1) * shares[:, :1]
        mixture.scatter_add_(1, _by_row(sources.columns, tokens), _copied(attention * shares[:, 1:], sources, tokens))
        scores = mixture.clamp_min_(_TINY).log_().masked_fill_(logits == -torch.inf, -torch.inf)
        state = torch.stack([ask_hidden, ask_cell, write_hidden, write_cell])
        return Advanced(scores, attention, shares[:, 1], state)

    def _attend(self, queries: Tensor, sources: Sources) -> tuple[Tensor, Tensor]:
        """queries (B, K) -> attended (B, H) and weights (B, W), zero beyond a row's own source."""
        places = len(sources.keys)
        asked = queries.to(self.dtype).view(places, -1, self.key_size)
        scores = torch.bmm(asked, sources.keys.mT).float() + sources.prior.unsqueeze(1)  # (P, B / P, W)
        weights = scores.softmax(2)
        attended = torch.bmm(weights.to(self.dtype), sources.values).float()
        return attended.flatten(0, 1), weights.flatten(0, 1)

    def _score(self, features: Tensor, sources: Sources) -> Tensor:
        """features (B, E) -> logits (B, C), minus infinity where a row has no token."""
        places, width = sources.columns.shape
        asked = features.to(self.dtype).view(places, -1, self.embedding_size)
        own = torch.bmm(asked, sources.tokens.mT).float() + sources.bias.unsqueeze(1)
        padding = features.new_full((len(features), self.columns(width) - self.shared - width // 2), -torch.inf)
        return torch.cat([self._logits(features), own.flatten(0, 1), padding], dim=1)


def _by_row(places: Tensor, rows: Tensor) -> Tensor:
    """places (P, W) -> (B, W): each for all of its rows."""
    return places.repeat_interleave(len(rows) // len(places), dim=0, output_size=len(rows))


def _copied(copies: Tensor, sources: Sources, rows: Tensor) -> Tensor:
    """copies (B, W) of each position -> those of each token, where it stands first; zero elsewhere.

    Many positions may add to one sum, at once and in any order on a GPU: as integers, for these do not round. What
    follows adds each sum to a number of its own, and so is exact in any order too.
    """
    sums = torch.zeros_like(copies, dtype=torch.long)
    sums.scatter_add_(1, _by_row(sources.first, rows), copies.double().mul(_ONE).long())
    return sums.double().div(_ONE).float()
