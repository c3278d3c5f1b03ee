"""One decoder step as it is served: the network of `network.py`, computed with fewer and cheaper operations.

- Each LSTM layer is one product over its input and its state together; each gate is a sigmoid, which is several times
  cheaper than tanh: tanh(x) is 2 sigmoid(2 x) - 1, and the first doubling is in the weights.
- Products run in float32 or in bfloat16; in int8, with a scale for each row and each output, those that have weights.
  The rest is float32.
- The output layer scores the frequent tokens and those of the row's own source (Jean et al. 2015, section 3.2).
- What a source gives to attention is stored once, however many beams follow it, together with those of the same shape.

How wide a row's source is computed is its own; how many rows there are (in steps of eight), how many sources of that
width, and how many columns the output has, is not: over all of these its result was measured to be the same, bit for
bit (`tests/models/lstm/test_invariance.py`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.models.lstm.network import Seq2Seq

WIDTH_STEP = 128
FEWEST_PLACES = 4
_TINY = torch.finfo(torch.float32).tiny


class Product(ABC):
    """rows (B, I) float32 -> rows W^T + b (B, O) float32, with W and b prepared."""

    @abstractmethod
    def __call__(self, rows: Tensor) -> Tensor: ...


class FloatProduct(Product):
    """Multiplied in `dtype`."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        self._weight, self._bias = weight.to(dtype).contiguous(), bias.to(dtype)

    def __call__(self, rows: Tensor) -> Tensor:
        return F.linear(rows.to(self._weight.dtype), self._weight, self._bias).float()


class Int8Product(Product):
    """Each row and each output is scaled to -127 … 127 by its own largest number; sums are exact."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        scale = weight.abs().amax(1).clamp_min(_TINY) / 127.0  # (O)
        self._weight = (weight / scale.unsqueeze(1)).round().to(torch.int8).t()  # (I, O)
        self._scale, self._bias = scale, bias.float()

    def __call__(self, rows: Tensor) -> Tensor:
        scale = rows.abs().amax(1, keepdim=True).clamp_min(_TINY) / 127.0  # (B, 1)
        sums = torch._int_mm((rows / scale).round().to(torch.int8), self._weight)  # (B, O)
        return sums.float().mul_(scale).mul_(self._scale).add_(self._bias)


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """A precision: the type of the encoder and the attention, and whether the decoder's products are int8."""

    dtype: torch.dtype
    int8: bool = False

    def prepare(self, weight: Tensor, bias: Tensor) -> Product:
        return Int8Product(weight, bias) if self.int8 else FloatProduct(weight, bias, self.dtype)


class Cell:
    """An LSTM layer, one position at a time."""

    def __init__(self, layer: nn.LSTM, arithmetic: Arithmetic) -> None:
        inner, outer, inner_bias, outer_bias = layer.all_weights[0]
        weight, bias = torch.cat([inner, outer], dim=1), inner_bias + outer_bias
        enter, forget, change, leave = zip(weight.chunk(4), bias.chunk(4), strict=True)
        gates = [enter, forget, leave, tuple(2 * part for part in change)]
        weights, biases = zip(*gates, strict=True)
        self._product = arithmetic.prepare(torch.cat(weights), torch.cat(biases))

    def __call__(self, inputs: Iterable[Tensor], hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """inputs (B, any) side by side, hidden and cell (B, D) -> the state after them."""
        gates = self._product(torch.cat([*inputs, hidden], dim=1)).sigmoid_()  # (B, 4 D)
        enter, forget, leave, change = gates.chunk(4, dim=1)
        cell = (forget * cell).addcmul_(enter, change.mul_(2).sub_(1))
        return leave * _tanh(cell), cell


def _tanh(values: Tensor) -> Tensor:
    return (2 * values).sigmoid_().mul_(2).sub_(1)


@dataclass(frozen=True, slots=True)
class Reading:
    """What the decoder needs of one source of S positions with N tokens of its own.

    keys (S, K), values (S, H): of the encoder's type. prior (S): float32, added to the scores.
    columns (S): where a step's output holds the token of each position.
    own (N): its own tokens, in the order of their columns.
    start: (4, D) float32, the decoder's first state.
    """

    keys: Tensor
    values: Tensor
    prior: Tensor
    columns: Tensor
    own: Tensor
    start: Tensor

    @property
    def width(self) -> int:
        """Positions that are computed for it, whoever else is there: a multiple of 128, and at least 2 N."""
        return -(-max(len(self.keys), 2 * len(self.own)) // WIDTH_STEP) * WIDTH_STEP


class _Stored(NamedTuple):
    """Readings side by side. What is beyond a reading's own S positions and N tokens is zero, or minus infinity."""

    keys: Tensor  # (places, W, K)
    values: Tensor  # (places, W, H)
    columns: Tensor  # (places, W)
    prior: Tensor  # (places, W) what is added to the scores: minus infinity on padding
    tokens: Tensor  # (places, W / 2, E) embeddings of the own tokens
    bias: Tensor  # (places, W / 2)


class Group:
    """Readings of one width W that are asked by at most `queries` rows each."""

    def __init__(self, step: "Step", width: int, queries: int) -> None:
        self.width, self.queries = width, queries
        self._step = step
        self._free: list[int] = []
        self._count = 0
        self.own = width // 2

        def empty(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(0, *size, dtype=dtype, device=step.device)

        self._stored = _Stored(
            keys=empty(width, step.key_size, dtype=step.dtype),
            values=empty(width, step.value_size, dtype=step.dtype),
            columns=empty(width, dtype=torch.long),
            prior=empty(width),
            tokens=empty(self.own, step.embedding_size, dtype=step.dtype),
            bias=empty(self.own),
        )

    def enter(self, reading: Reading) -> int:
        """Store a reading; its place."""
        if not self._free:
            self._grow()
        place, length, count = self._free.pop(0), len(reading.keys), len(reading.own)
        own = _Stored(*(field[place] for field in self._stored))
        # What stays of another reading is cleared: a NaN times a weight of zero would still be NaN.
        for field, given in ((own.keys, reading.keys), (own.values, reading.values), (own.columns, reading.columns)):
            field[:length] = given
            field[length:] = 0
        own.prior[:length], own.prior[length:] = reading.prior, -torch.inf
        own.tokens[:count], own.bias[:count] = self._step.scorers(reading.own)
        own.tokens[count:], own.bias[count:] = 0, -torch.inf
        return place

    def leave(self, place: int) -> None:
        self._free = sorted([*self._free, place])

    @property
    def empty(self) -> bool:
        return len(self._free) == self._count

    def attend(self, queries: Tensor, used: int) -> tuple[Tensor, Tensor]:
        """queries (places x queries, K) of the first `used` places -> attended (…, H), weights (…, W)."""
        stored = self._stored
        spread = queries.to(stored.keys.dtype).view(used, self.queries, -1)
        scores = torch.bmm(spread, stored.keys[:used].mT).float() + stored.prior[:used].unsqueeze(1)  # (n, G, W)
        weights = torch.softmax(scores, dim=2)
        attended = torch.bmm(weights.to(stored.values.dtype), stored.values[:used])  # (n, G, H)
        return attended.float().flatten(0, 1), weights.flatten(0, 1)

    def score(self, features: Tensor, used: int) -> Tensor:
        """features (places x queries, E) -> logits of each source's own tokens (…, W / 2)."""
        stored = self._stored
        spread = features.to(stored.tokens.dtype).view(used, self.queries, -1)
        return (torch.bmm(spread, stored.tokens[:used].mT).float() + stored.bias[:used].unsqueeze(1)).flatten(0, 1)

    def columns(self, places: Tensor) -> Tensor:
        """Where a step's output holds the tokens of these places' positions (…, W)."""
        return self._stored.columns[places]

    def _grow(self) -> None:
        more = max(FEWEST_PLACES, self._count)
        grown = (torch.cat([field, field.new_zeros(more, *field.shape[1:])]) for field in self._stored)
        self._stored = _Stored(*grown)
        self._free += range(self._count, self._count + more)
        self._count += more


@dataclass(frozen=True, slots=True)
class Places:
    """The rows of a step that ask one group (n), and where each asks (n), among those of the first `used` places."""

    group: Group
    rows: Tensor
    cells: Tensor
    used: int

    def spread(self, values: Tensor) -> Tensor:
        """values (B, N) of the step's rows -> (used x queries, N) of the group's, zero where nobody asks."""
        laid = values.new_zeros(self.used * self.group.queries, values.shape[1])
        laid[self.cells] = values[self.rows]
        return laid


class Stepped(NamedTuple):
    """What a step comes to, float32: (B, C) over what each row can write, (B, W), (B), and the new state (4, B, D)."""

    log_probabilities: Tensor
    attention: Tensor
    copied: Tensor
    state: Tensor


class Step:
    """The decoder of a network, prepared."""

    def __init__(self, model: Seq2Seq, arithmetic: Arithmetic, frequent: Tensor) -> None:
        decoder, prepare = model.decoder, arithmetic.prepare
        self.dtype, self.device = arithmetic.dtype, model.embedding.weight.device
        self.key_size, self.value_size = model.config.key_size, 2 * model.config.encoder_size
        self.embedding_size = model.config.embedding_size
        self._embedding = model.embedding.weight.float()
        self._output_bias = model.output_bias.float()
        self._shared = frequent.shape[0]
        self._ask, self._write = Cell(decoder.ask, arithmetic), Cell(decoder.write, arithmetic)
        query = decoder.attention.query.weight * decoder.attention.scale
        self._query = prepare(query, torch.zeros(len(query), device=query.device))
        self._features = prepare(*_features(model))
        self._logits = prepare(self._embedding[frequent], self._output_bias[frequent])

    def scorers(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What scores these tokens (N): embeddings (N, E) and biases (N)."""
        return self._embedding[tokens].to(self.dtype), self._output_bias[tokens]

    def __call__(self, tokens: Tensor, state: Tensor, places: Sequence[Places]) -> Stepped:
        """tokens (B) written last, state (4, B, D). Rows that no place names are computed for nobody."""
        embedded = self._embedding[tokens]  # (B, E)
        ask_hidden, ask_cell = self._ask([embedded], state[0], state[1])
        attended, attention = self._attend(self._query(ask_hidden), places)  # (B, H), (B, W)
        write_hidden, write_cell = self._write([ask_hidden, attended], state[2], state[3])
        features = self._features(torch.cat([write_hidden, attended, embedded], dim=1))  # (B, E + 32)
        gate = features[:, embedded.shape[1] : embedded.shape[1] + 2].softmax(1)  # (B, 2) generating, copying
        features = features[:, : embedded.shape[1]].contiguous()
        scores = self._mix(features, gate, attention, places)
        state = torch.stack([ask_hidden, ask_cell, write_hidden, write_cell])
        return Stepped(scores, attention, gate[:, 1], state)

    def _attend(self, queries: Tensor, places: Sequence[Places]) -> tuple[Tensor, Tensor]:
        """queries (B, K) -> attended (B, H) and weights (B, W), zero beyond a row's own source."""
        read = [(place, *place.group.attend(place.spread(queries), place.used)) for place in places]
        attended = queries.new_zeros(len(queries), read[0][1].shape[1])
        weights = queries.new_zeros(len(queries), max(place.group.width for place in places))
        for place, values, shares in read:
            attended[place.rows] = values[place.cells]
            weights[:, : place.group.width].index_copy_(0, place.rows, shares[place.cells])
        return attended, weights

    def _mix(self, features: Tensor, gate: Tensor, attention: Tensor, places: Sequence[Places]) -> Tensor:
        """The mixture of generating and copying (See et al. 2017, eq. 9), over what each row can write: (B, C)."""
        count, own = len(features), max(place.group.own for place in places)
        logits = features.new_empty(count, self._shared + own)
        logits[:, : self._shared] = self._logits(features)
        ours = logits[:, self._shared :].fill_(-torch.inf)
        columns = torch.zeros_like(attention, dtype=torch.long)
        for place in places:
            group, sources = place.group, place.cells // place.group.queries
            scored = group.score(place.spread(features), place.used)[place.cells]  # (n, W / 2)
            ours[:, : group.own].index_copy_(0, place.rows, scored)
            columns[:, : group.width].index_copy_(0, place.rows, group.columns(sources))
        absent = ours == -torch.inf
        mixture = torch.softmax(logits, dim=1).mul_(gate[:, :1])
        mixture.scatter_add_(1, columns, attention * gate[:, 1:])
        scores = mixture.clamp_min_(_TINY).log_()
        scores[:, self._shared :].masked_fill_(absent, -torch.inf)
        return scores


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
