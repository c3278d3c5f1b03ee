"""One decoder step as torch computes it: the network of `network.py`, with fewer and cheaper operations.

- Each LSTM layer is one product over its input and its state together; each gate is a sigmoid, which is several times
  cheaper than tanh: tanh(x) is 2 sigmoid(2 x) - 1, and the first doubling is in the weights.
- The output layer scores the frequent tokens and those of the row's own source (Jean et al. 2015, section 3.2).
- Logarithms are those of one softmax over all of these, and once more of what is copied.
- What a source gives to attention is stored once, however many beams follow it, and asked by them alone.

How many positions of a row's source are computed is its own; how many rows there are (in steps of eight), how long the
other sources are, and how many columns the output has, is not: over all of these its result was measured to be the
same, bit for bit (`tests/models/lstm/test_invariance.py`).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from app.models.lstm.arithmetic import Arithmetic, multiplied
from app.models.lstm.network import Seq2Seq

COLUMN_STEP = 64
TINY = torch.finfo(torch.float32).tiny
SourcesT = TypeVar("SourcesT")


class Cell:
    """An LSTM layer, one position at a time."""

    def __init__(self, layer: nn.LSTM, arithmetic: Arithmetic) -> None:
        inner, outer, inner_bias, outer_bias = layer.all_weights[0]
        weight, bias = torch.cat([inner, outer], dim=1), inner_bias + outer_bias
        enter, forget, change, leave = zip(weight.chunk(4), bias.chunk(4), strict=True)
        weights, biases = zip(enter, forget, leave, (2 * part for part in change), strict=True)
        self._product = arithmetic.prepare(torch.cat(weights), torch.cat(biases))
        self._bounded = arithmetic.bounded

    def __call__(self, inputs: list[Tensor], cell: Tensor) -> tuple[Tensor, Tensor]:
        """inputs (B, any) side by side, the hidden state last, and cell (B, D) -> the state after them."""
        gates = self._product(torch.cat(inputs, dim=1)).sigmoid_()  # (B, 4 D)
        enter, forget, leave, change = gates.chunk(4, dim=1)
        cell = (forget * cell).addcmul_(enter, change.mul_(2).sub_(1))
        return self._bounded(leave * (2 * cell).sigmoid_().mul_(2).sub_(1)), cell


@dataclass(frozen=True, slots=True)
class Reading:
    """What the decoder needs of one source of S positions, padding included, with N tokens of its own.

    keys (S, K) and values (S, H): float32. prior (S): float32, added to the scores; minus infinity on padding.
    columns (S): where a step's output holds the token of each position; on padding that of the first position.
    first (S): the first position with the same column.
    own (N): its own tokens, in the order of their columns.
    start: (4, D) float32, the decoder's first state.
    """

    keys: Tensor
    values: Tensor
    prior: Tensor
    columns: Tensor
    first: Tensor
    own: Tensor
    start: Tensor

    def __len__(self) -> int:
        return len(self.prior)


class Run(NamedTuple):
    """Rows of a step, one after the other, that ask one source."""

    start: int
    stop: int
    reading: Reading


class Sources:
    """What the rows of a step (B, of which some may be computed for nobody) ask: sources of at most W positions."""

    def __init__(self, runs: Sequence[Run], prior: Tensor, columns: Tensor, first: Tensor, shared: int) -> None:
        """prior, columns and first of every row (B, W); the number of columns that all rows have."""
        self.runs, self.prior, self.positions, self.first = runs, prior, columns, first
        counts = [(len(run.reading.own), run) for run in runs]
        self.width = shared + -(-max(count for count, _ in counts) // COLUMN_STEP) * COLUMN_STEP  # C
        own = [run.reading.own for run in runs for _ in range(run.start, run.stop)]
        numbers = torch.tensor([len(tokens) for tokens in own], device=prior.device)
        self.own = torch.cat(own)  # (T) the own tokens of all rows
        self.rows = torch.repeat_interleave(numbers)  # (T) whose they are
        before = (numbers.cumsum(0) - numbers)[self.rows]  # (T)
        # where they stand in (B, C), flattened
        self.places = torch.arange(len(self.own), device=prior.device) - before + shared + self.rows * self.width


class Stepped(NamedTuple):
    """What a step comes to: (B, C) over what each row can write, (B, W), (B), and the new state 2 x (2, B, D)."""

    log_probabilities: Tensor
    attention: Tensor
    copied: Tensor
    hidden: Tensor
    cell: Tensor


class Step(ABC, Generic[SourcesT]):
    """The decoder of a network whose values are what was encoded, prepared."""

    def __init__(self, model: Seq2Seq, arithmetic: Arithmetic, frequent: Tensor) -> None:
        decoder, prepare = model.decoder, arithmetic.prepare
        self.arithmetic = arithmetic
        self.shared = len(frequent)
        self._embedding = model.embedding.weight.float()
        self._output_bias = model.output_bias.float()
        self._inputs = self._embedding.to(arithmetic.dtype)
        self._ask, self._write = Cell(decoder.ask, arithmetic), Cell(decoder.write, arithmetic)
        query = decoder.attention.query.weight * decoder.attention.scale
        self._query = prepare(query, torch.zeros(len(query), device=query.device))
        self._features = prepare(*_features(model))
        self._logits = prepare(self._embedding[frequent], self._output_bias[frequent])

    def __call__(self, tokens: Tensor, hidden: Tensor, cell: Tensor, sources: SourcesT) -> Stepped:
        """tokens (B) written last; hidden (2, B, D) as rows of a product, cell (2, B, D)."""
        embedded = self._inputs[tokens]  # (B, E)
        ask_hidden, ask_cell = self._ask([embedded, hidden[0]], cell[0])
        attended, attention = self._attend(self._query(ask_hidden), sources)  # (B, H), (B, W)
        write_hidden, write_cell = self._write([ask_hidden, attended, hidden[1]], cell[1])
        features = self._features(torch.cat([write_hidden, attended, embedded], dim=1))  # (B, E + 32)
        gate = features[:, embedded.shape[1] : embedded.shape[1] + 2].log_softmax(1)  # (B, 2) generating, copying
        scores = self._score(features[:, : embedded.shape[1]].contiguous(), sources).add_(gate[:, :1])
        copied = gate[:, 1].exp()
        columns, sums = self._copied(attention * copied.unsqueeze(1), sources)  # (B, W)
        # See et al. 2017, eq. 9
        scores.scatter_(1, columns, scores.gather(1, columns).exp_().add_(sums).clamp_min_(TINY).log_())
        return Stepped(
            scores, attention, copied, torch.stack([ask_hidden, write_hidden]), torch.stack([ask_cell, write_cell])
        )

    @abstractmethod
    def _attend(self, queries: Tensor, sources: SourcesT) -> tuple[Tensor, Tensor]:
        """queries (B, K) -> attended (B, H), a product's rows, and weights (B, W), zero beyond a row's own source."""

    @abstractmethod
    def _score(self, features: Tensor, sources: SourcesT) -> Tensor:
        """Log-probabilities (B, C) of generating what each row can write; minus infinity for what it cannot."""

    @abstractmethod
    def _copied(self, copies: Tensor, sources: SourcesT) -> tuple[Tensor, Tensor]:
        """Probabilities of copying each position (B, W) -> the column of its token, and the sum over all with it."""


class RaggedStep(Step[Sources]):
    """Each source is asked by itself, as long as it is: a CPU computes nothing for nobody."""

    def _attend(self, queries: Tensor, sources: Sources) -> tuple[Tensor, Tensor]:
        scores = torch.zeros_like(sources.prior)
        for start, stop, reading in sources.runs:
            scores[start:stop, : len(reading)] = multiplied(queries[start:stop], reading.keys.t())
        weights = torch.softmax(scores.add_(sources.prior), dim=1)
        attended = [
            multiplied(weights[start:stop, : len(reading)], reading.values) for start, stop, reading in sources.runs
        ]
        idle = attended[0].new_zeros(len(queries) - sources.runs[-1].stop, attended[0].shape[1])
        return self.arithmetic.bounded(torch.cat([*attended, idle])), weights

    def _score(self, features: Tensor, sources: Sources) -> Tensor:
        logits = features.new_empty(len(features), sources.width)
        logits[:, : self.shared] = self._logits(features)
        logits[:, self.shared :] = -torch.inf
        scored = (features[sources.rows] * self._embedding[sources.own]).sum(1) + self._output_bias[sources.own]  # (T)
        logits.view(-1)[sources.places] = scored
        return logits.log_softmax(1)

    def _copied(self, copies: Tensor, sources: Sources) -> tuple[Tensor, Tensor]:
        sums = torch.zeros_like(copies).scatter_add_(1, sources.first, copies).gather(1, sources.first)
        return sources.positions, sums


def _features(model: Seq2Seq) -> tuple[Tensor, Tensor]:
    """Output layer and copy gate as one product over what was written and attended, and the last token: (E + 32, I).

    The gate is a softmax over two logits, the second of them zero; 32 outputs, for sizes are multiples of 32.
    """
    output, gate = model.decoder.output, model.decoder.gate
    size = output.out_features
    weight = gate.weight.new_zeros(size + 32, gate.in_features)
    bias = gate.weight.new_zeros(size + 32)
    weight[:size, : output.in_features], bias[:size] = output.weight, output.bias
    weight[size : size + 1], bias[size : size + 1] = gate.weight, gate.bias
    return weight, bias
