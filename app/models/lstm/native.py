"""The decoder in int8 on a CPU: what its kernel is given (`kernels/step.c`), and the rows that are live.

A step is one call, which computes each row by itself: there is nothing to pad, and no shape to choose.
"""

from collections.abc import Sequence
from ctypes import Structure, addressof, byref, c_int64, c_void_p, memmove
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from app.models.base import DecoderState, StepOutput
from app.models.kernels import UNIT, Int8Weights, Packed, brief, library, padded, whole
from app.models.lstm.network import Seq2Seq
from app.models.lstm.step import COLUMN_STEP

POSITION_STEP = 16
_STEP = 32  # sizes that the kernel reads are multiples of it
_whole, _padded = partial(whole, step=_STEP), partial(padded, step=_STEP)
_TINY = torch.finfo(torch.float32).tiny


class Source(NamedTuple):
    """What the decoder reads of one source of S positions, none of them padding.

    int8 cannot say that a number is not finite: the scale of a position whose key or value is not finite is NaN.
    """

    keys: Tensor  # (S, K) int8
    scales: Tensor  # (S) float32: what 1 stands for in the key of a position
    values: Tensor  # (S, H) int8: 126 for 1
    prior: Tensor  # (S) float32, added to the scores
    start: Tensor  # (4, D) float32, the decoder's first state: hidden and cell of either layer


class _Weights(Structure):
    """`Step` of step.c."""

    _fields_ = (
        *((name, Packed) for name in ("ask", "query", "write", "features", "logits")),
        *((name, c_void_p) for name in ("inputs", "outputs", "scale", "bias")),
        *((name, c_int64) for name in ("embedded", "encoded", "decoder", "key", "frequent")),
    )


class _Source(Structure):
    """`Source` of step.c."""

    _fields_ = (
        *((name, c_void_p) for name in ("keys", "scales", "values", "prior", "columns", "distinct", "own")),
        *((name, c_int64) for name in ("positions", "different", "tokens")),
    )


class _State(Structure):
    """`State` of step.c."""

    _fields_ = (
        *((name, c_void_p) for name in ("hidden", "cell", "sources", "rows", "numbers", "units", "excess", "shares")),
        *((name, c_int64) for name in ("slots", "width")),
    )


class NativeReading:
    """A source as the kernel reads it, and where the output holds its tokens; `packed` is good while this is there."""

    def __init__(self, source: Source, columns: NDArray[np.int32], own: Sequence[int]) -> None:
        """columns (S): where the output holds the token of each position. own (N): the tokens that are not frequent, in
        the order of their columns."""
        assert len(columns) == len(source.keys) == len(source.values)
        self.source, self.positions, self.tokens = source, len(columns), len(own)
        hidden, self.cell = _padded(source.start, 1).view(2, 2, -1).unbind(1)  # (2, D)
        self.hidden, self.cell = in_int8(hidden), self.cell + 0 * hidden  # NaN where int8 cannot say it
        distinct = np.unique(columns)
        self.read = (
            _padded(source.keys, 1),
            source.scales,
            _padded(source.values, 1),
            source.prior,
            torch.from_numpy(columns),
            torch.from_numpy(distinct),
            torch.tensor(own, dtype=torch.int32),
        )
        assert all(tensor.is_contiguous() for tensor in self.read)
        self.packed = _Source(*map(Tensor.data_ptr, self.read), len(columns), len(distinct), len(own))


class NativeStep:
    """The decoder of a network whose values are what was encoded, as the kernel reads it. Threads may share it."""

    def __init__(self, model: Seq2Seq, frequent: Tensor) -> None:
        config, decoder = model.config, model.decoder
        embedded, encoded, size = config.embedding_size, 2 * config.encoder_size, config.decoder_size
        self.encoded, self.decoder, self.key = map(_whole, (encoded, size, config.key_size))
        self.embedded, self.shared = _whole(embedded), len(frequent)
        embedding, bias = _padded(model.embedding.weight.float(), 1), model.output_bias.float()
        unit = float(embedding.abs().max())
        query = decoder.attention.query.weight * decoder.attention.scale
        self._products = (
            _gates(decoder.ask, (embedded, size), unit),
            Int8Weights(_padded(_padded(query, 1), 0), torch.zeros(self.key)),
            _gates(decoder.write, (size, encoded, size)),
            _features(model, unit),
            Int8Weights(embedding[frequent], bias[frequent]),
        )
        scale = embedding.abs().amax(1).clamp_min(_TINY) / 127  # (V)
        self._tensors = (
            in_int8(embedding / unit),
            ((embedding / scale.unsqueeze(1)).round() + 128).to(torch.uint8),
            scale,
            bias.clone(),  # the model's own becomes another where it changes its type
        )
        self.weights = _Weights(
            *(product.packed for product in self._products),
            *(tensor.data_ptr() for tensor in self._tensors),
            *(self.embedded, self.encoded, self.decoder, self.key, self.shared),
        )
        self.width = max(product.packed.outputs for product in self._products[:-1])
        kernels, quick = library(), brief()
        assert kernels
        assert quick
        self.compute, self.reorder = kernels.precis_step, quick.precis_reorder


class NativeState(DecoderState):
    """Slots in memory that never moves. What a step returns stands in memory that the next step writes."""

    def __init__(self, step: NativeStep, capacity: int) -> None:
        self._step = step
        self._hidden = torch.zeros(2, capacity, step.decoder, dtype=torch.int8)
        self._cell = torch.zeros(2, capacity, step.decoder)
        self._readings: dict[int, NativeReading] = {}
        self._sources = (_Source * capacity)()
        self._room = (
            torch.empty(capacity, 2 * step.embedded + 2 * step.decoder + step.encoded, dtype=torch.int8),
            torch.empty(capacity, step.width),
            torch.empty(capacity),
            torch.empty(capacity, dtype=torch.int32),
        )
        self._state = _State(
            self._hidden.data_ptr(),
            self._cell.data_ptr(),
            addressof(self._sources),
            *(tensor.data_ptr() for tensor in self._room),
            None,
            capacity,
            step.width,
        )
        self._pointers = byref(step.weights), byref(self._state)
        self._capacity, self._columns, self._width = capacity, 0, 0
        self._copied = torch.empty(capacity)
        self._outputs: dict[tuple[int, int], StepOutput] = {}  # by rows and columns

    def enter(self, rows: Sequence[int], reading: NativeReading) -> None:
        """Start decoding a source in these slots."""
        if reading.positions > self._width:
            self._widen(whole(reading.positions, POSITION_STEP))
        for row in rows:
            for state, start in ((self._hidden, reading.hidden), (self._cell, reading.cell)):
                size = start.nbytes // 2  # of each layer
                for layer in range(2):
                    place = state.data_ptr() + (layer * self._capacity + row) * size
                    memmove(place, start.data_ptr() + layer * size, size)
            self._readings[row], self._sources[row] = reading, reading.packed

    def step(self, rows: Sequence[int], tokens: Sequence[int]) -> StepOutput:
        count, readings = len(rows), [self._readings[row] for row in rows]
        columns = whole(self._step.shared + max(reading.tokens for reading in readings), COLUMN_STEP)
        output = self._outputs.get((count, columns)) or self._output(count, columns)
        numbers = c_int64 * count
        self._step.compute(
            *self._pointers,
            numbers(*rows),
            numbers(*tokens),
            c_int64(count),
            c_void_p(output.log_probabilities.data_ptr()),
            c_int64(columns),
            c_void_p(output.attention.data_ptr()),
            c_int64(self._width),
            c_void_p(self._copied.data_ptr()),
        )
        return output

    def reorder(self, rows: Sequence[int], parents: Sequence[int]) -> None:
        # Beams of one source share its memory: only the recurrent state moves.
        numbers = c_int64 * len(rows)
        self._step.reorder(*self._pointers, numbers(*rows), numbers(*parents), c_int64(len(rows)))

    def leave(self, rows: Sequence[int]) -> None:
        for row in rows:
            del self._readings[row]

    @torch.inference_mode()
    def _output(self, count: int, columns: int) -> StepOutput:
        """Where a step of this shape writes, in memory for the output of all slots."""
        if columns > self._columns:
            self._columns, self._scores = columns, torch.empty(self._capacity * columns)
            self._outputs.clear()
        scores = self._scores[: count * columns].view(count, columns)
        output = StepOutput(scores, self._attention[:count], self._copied[:count])
        self._outputs[count, columns] = output
        return output

    @torch.inference_mode()
    def _widen(self, width: int) -> None:
        """Room for the attention of sources of so many positions."""
        self._width, self._attention = width, torch.empty(self._capacity, width)
        self._shares = torch.empty(width, dtype=torch.int16)
        self._state.shares = self._shares.data_ptr()
        self._outputs.clear()


def in_int8(numbers: Tensor) -> Tensor:
    """Numbers within -1 and 1."""
    return (numbers * UNIT).round_().to(torch.int8)


def _gates(layer: nn.LSTM, inputs: Sequence[int], unit: float = 1.0) -> Int8Weights:
    """An LSTM layer as one product over its input and its state. unit: what 1 stands for in the input."""
    inner, outer, inner_bias, outer_bias = layer.all_weights[0]
    weight, bias = torch.cat([unit * inner, outer], dim=1), inner_bias + outer_bias
    enter, forget, change, leave = zip(weight.chunk(4), bias.chunk(4), strict=True)
    weights, biases = zip(enter, forget, leave, change, strict=True)
    sizes = 4 * [layer.hidden_size]
    wide = _padded(_padded(torch.cat(weights), 1, inputs), 0, sizes)
    return Int8Weights(wide, _padded(torch.cat(biases), 0, sizes))


def _features(model: Seq2Seq, unit: float) -> Int8Weights:
    """Output layer and copy gate as one product over what was attended and written, and the last token."""
    config, output, gate = model.config, model.decoder.output, model.decoder.gate
    written, attended, embedded = config.decoder_size, 2 * config.encoder_size, config.embedding_size
    weight = torch.cat([F.pad(output.weight, (0, embedded)), gate.weight])  # (E + 1, D + H + E)
    one, two, three = weight.split_with_sizes([written, attended, embedded], 1)
    wide = _padded(torch.cat([two, one, unit * three], dim=1), 1, (attended, written, embedded))
    sizes = (embedded, 1)
    return Int8Weights(_padded(wide, 0, sizes), _padded(torch.cat([output.bias, gate.bias]), 0, sizes))
