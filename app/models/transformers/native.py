"""The decoder on a CPU, by a kernel of our own (`kernels/transformer.c`): what it is given, and the live rows.

A step is one call, which computes each row by itself: there is nothing to pad, and no shape to choose. All is float32;
or weights, what enters their products, and the keys and values that rows attend to are int8, the latter with a scale
for each head and position.
"""

from collections.abc import Sequence
from ctypes import Structure, addressof, byref, c_float, c_int64, c_void_p

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from app.models.base import AttentionOptions, Candidates, DecoderState, Memory, StepOutput
from app.models.kernels import LANES, PANEL, FloatWeights, Int8Weights, Packed, library, padded, whole
from app.models.transformers.architectures import Activation, Architecture, Decoder, Layer, Linear, Norm
from app.models.transformers.decoder import Product
from app.models.transformers.encoding import multiply_by

LONGEST_HEAD = 512  # as in attend.h
_ACTIVATIONS: tuple[Activation, ...] = (  # in the order of transformer.c
    F.relu,
    F.gelu,
    lambda values: F.gelu(values, approximate="tanh"),
    F.silu,
)
_BLOCK = 32  # tokens of each slot that memory is taken for at once: as in transformer.c


class _Norm(Structure):
    """`Norm` of transformer.c."""

    _fields_ = (("weight", c_void_p), ("bias", c_void_p), ("epsilon", c_float))


class _Layer(Structure):
    """`Layer` of transformer.c."""

    _fields_ = (
        *((name, Packed) for name in ("own", "own_output", "query", "source", "source_output", "enter", "leave")),
        *((name, _Norm) for name in ("own_norm", "source_norm", "feed_norm")),
    )


class _Decoder(Structure):
    """`Decoder` of transformer.c."""

    _fields_ = (
        ("layers", c_void_p),
        ("output", Packed),
        *((name, c_void_p) for name in ("embedding", "positions", "relative")),
        *((name, _Norm) for name in ("embedding_norm", "final_norm")),
        *((name, c_int64) for name in ("depth", "size", "width", "heads", "head", "inner", "longest")),
        *((name, c_int64) for name in ("activation", "gated", "norm_first", "centred", "rounded")),
        ("embedding_scale", c_float),
    )


# `Row` of transformer.c
_ROW = np.dtype(
    [
        (name, np.int64)
        for name in ("source", "positions", "before", "shown", "kept", "length", "token", "shares", "largest")
    ]
)


def missing(decoder: Decoder) -> str | None:
    """Why the kernel cannot step a decoder; None if it can."""
    if _activation(decoder.architecture.activation) is None:
        return "its activation is none of ReLU, GELU and SiLU"
    if len(decoder.layers[0].query.weight) > LONGEST_HEAD * decoder.architecture.heads:
        return f"its heads are larger than {LONGEST_HEAD}"
    return None


class NativeStep:
    """A decoder's weights as the kernel reads them. Threads may share it."""

    def __init__(self, decoder: Decoder, *, rounded: bool) -> None:
        """rounded: to int8."""
        assert missing(decoder) is None
        kernels = library()
        assert kernels
        architecture, layers = decoder.architecture, decoder.layers
        vocabulary, size = decoder.output.weight.shape
        self._heads, self._head = architecture.heads, len(layers[0].query.weight) // architecture.heads
        # Between T5's feed-forwards some numbers are far larger than others; its library, too, rounds less of them.
        self._rounded, self._split = rounded, not layers[0].own_norm.centred
        self._weights: list[Tensor | FloatWeights | Int8Weights] = []  # what C has the addresses of
        self._layers = (_Layer * len(layers))(*(self._layer(layer, architecture) for layer in layers))
        relative = None if decoder.relative is None else decoder.relative.flip(1)  # by distance
        positions = None if decoder.positions is None else decoder.positions[architecture.position_offset :]
        longest = len(positions) if positions is not None else relative.shape[1] if relative is not None else 0
        self._packed = _Decoder(
            addressof(self._layers),
            self._product(_beyond(decoder.output, architecture.output_scale)),
            self._address(decoder.embedding),
            self._address(positions),
            self._address(relative),
            self._norm(decoder.embedding_norm),
            self._norm(decoder.final_norm),
            *(len(layers), size, whole(size, PANEL), architecture.heads, whole(self._head, LANES)),
            *(whole(layers[0].leave.weight.shape[1], PANEL), longest),
            _activation(architecture.activation) or 0,
            *(architecture.gated, architecture.norm_first, layers[0].own_norm.centred, rounded),
            architecture.embedding_scale,
        )
        self.decoder = byref(self._packed)
        self.layers, self.heads, self.longest = len(layers), architecture.heads, longest
        self.columns = whole(vocabulary, PANEL)
        self.decode, self._read, self._room = kernels.precis_decode, kernels.precis_read, kernels.precis_decode_room
        self._source_bytes = kernels.precis_source_bytes
        self.kept_bytes: int = kernels.precis_kept_bytes(self.decoder)

    def room(self, rows: int, longest: int) -> Tensor:
        """What a step of so many rows needs beside its results, where no source or summary is longer."""
        return torch.empty(self._room(self.decoder, c_int64(rows), c_int64(longest)), dtype=torch.uint8)

    def product(self, linear: Linear) -> Product:
        """One of the encoder's, by the same kernels."""
        outputs, inputs = linear.weight.shape
        weights = self._prepared(linear, split=self._split and inputs > outputs)
        return lambda rows: weights(padded(rows, 1, step=LANES))

    def read(self, encoded: Tensor) -> Tensor:
        """encoded (S, D) -> keys and values of all layers."""
        encoded = padded(encoded.float(), 1, step=LANES).contiguous()
        positions = c_int64(len(encoded))
        source = torch.zeros(self._source_bytes(self.decoder, positions), dtype=torch.uint8)
        room = self.room(1, 1)
        self._read(self.decoder, _pointer(encoded), positions, _pointer(source), _pointer(room))
        return source

    def _layer(self, layer: Layer, architecture: Architecture) -> _Layer:
        scale = architecture.attention_scale
        inner = layer.leave.weight.shape[1]
        parts = [inner] * (2 if architecture.gated else 1)
        return _Layer(
            self._heads_of(_first_scaled(layer.own, scale, 3)),
            self._product(layer.own_output, self._heads * [self._head]),
            self._heads_of(_first_scaled(layer.query, scale, 1)),
            self._heads_of(layer.source),
            self._product(layer.source_output, self._heads * [self._head]),
            self._product(layer.enter, outputs=parts),
            self._product(layer.leave, split=self._split),
            *map(self._norm, (layer.own_norm, layer.source_norm, layer.feed_norm)),
        )

    def _heads_of(self, linear: Linear) -> Packed:
        """With each head's numbers up to a multiple of LANES."""
        sizes = [self._head] * (len(linear.weight) // self._head)
        weight, bias = (padded(part, 0, sizes, step=LANES) for part in (linear.weight, _bias(linear)))
        return self._product(Linear(weight, bias))

    def _product(
        self, linear: Linear, inputs: Sequence[int] = (), outputs: Sequence[int] = (), *, split: bool = False
    ) -> Packed:
        """With zeros after each of the parts of the input, and of the output."""
        weight = padded(padded(linear.weight.float(), 1, inputs, step=LANES), 0, outputs, step=PANEL)
        weights = self._prepared(Linear(weight, padded(_bias(linear), 0, outputs, step=PANEL)), split=split)
        self._weights.append(weights)
        return weights.packed

    def _prepared(self, linear: Linear, *, split: bool) -> FloatWeights | Int8Weights:
        weight = padded(linear.weight.float(), 1, step=LANES)
        if self._rounded:
            return Int8Weights(weight, _bias(linear), split=split)
        return FloatWeights(weight, _bias(linear))

    def _norm(self, norm: Norm | None) -> _Norm:
        return _Norm() if norm is None else _Norm(self._padded(norm.weight), self._padded(norm.bias), norm.epsilon)

    def _padded(self, tensor: Tensor | None) -> int | None:
        return None if tensor is None else self._address(padded(tensor, 0, step=PANEL))

    def _address(self, tensor: Tensor | None) -> int | None:
        if tensor is None:
            return None
        kept = tensor.float().contiguous()
        self._weights.append(kept)
        return kept.data_ptr()


class NativeMemory(Memory):
    """One source as the kernel reads it."""

    def __init__(self, source: Tensor, positions: int, before: int, candidates: Candidates, source_tokens: int) -> None:
        """before: positions before the first that is the caller's."""
        self.source, self.positions, self.before = source, positions, before
        self._candidates, self._source_tokens = candidates, source_tokens

    @property
    def candidates(self) -> Candidates:
        return self._candidates

    @property
    def source_tokens(self) -> int:
        return self._source_tokens


class NativeEncoder:
    """The library's encoder with products of our own, and what the kernel reads of its result."""

    def __init__(self, module: nn.Module, step: NativeStep) -> None:
        """The module's linear layers are replaced."""
        self._module, self._step = multiply_by(step.product, module), step

    def __call__(
        self, before: Sequence[int], content: Sequence[int], after: Sequence[int], candidates: Candidates
    ) -> NativeMemory:
        ids = torch.tensor([[*before, *content, *after]])
        source = self._step.read(self._module(input_ids=ids).last_hidden_state[0])
        return NativeMemory(source, ids.shape[1], len(before), candidates, len(content))


class Kept:
    """What slots have written: memory that never moves. Each slot writes at places of its own, one after the other, and
    a row is a list of such places: beams that go on from one another share what was written before, and copy nothing.
    """

    def __init__(self, slots: int, layers: int, size: int) -> None:
        """size: bytes of a token in one layer."""
        self._slots, self._layers, self._size = slots, layers, size
        self._blocks: list[Tensor] = []
        self._starts = np.zeros(0, np.int64)  # of blocks
        self._written = np.zeros(slots, np.int64)
        self.places = np.zeros((slots, 0), np.int64)
        self.lengths = np.zeros(slots, np.int64)

    def empty(self, rows: Sequence[int]) -> None:
        """Only where no other row holds what these have written."""
        self._written[rows] = self.lengths[rows] = 0

    def add(self, rows: Sequence[int]) -> None:
        """A place for one token more of each of these, which is not counted yet."""
        number, length = self._written[rows], self.lengths[rows]
        while number.max() >= _BLOCK * len(self._blocks):
            shape = self._slots, self._layers, _BLOCK, self._size
            self._blocks.append(torch.empty(shape, dtype=torch.uint8))
            self._starts = np.append(self._starts, self._blocks[-1].data_ptr())
        if length.max() >= self.places.shape[1]:
            self.places = np.pad(self.places, ((0, 0), (0, _BLOCK)))
        within = np.asarray(rows) * self._layers * _BLOCK + number % _BLOCK  # in the first layer
        self.places[rows, length] = self._starts[number // _BLOCK] + within * self._size
        self._written[rows] += 1

    def move(self, rows: Sequence[int], parents: Sequence[int]) -> None:
        self.places[rows], self.lengths[rows] = self.places[parents], self.lengths[parents]


class NativeState(DecoderState):
    """Slots of rows. What a step returns stands in memory that the next step writes."""

    def __init__(self, step: NativeStep, capacity: int) -> None:
        self._step, self._capacity = step, capacity
        self._kept = Kept(capacity, step.layers, step.kept_bytes)
        self._rows = np.zeros(capacity, _ROW)
        self._joined: dict[int, tuple[NativeMemory, Tensor | None]] = {}
        self._scores, self._normalizers = torch.empty(capacity, step.columns), torch.empty(capacity)
        self._longest, self._room, self._attention = 0, torch.empty(0), torch.empty(0)

    def join(self, rows: Sequence[int], memory: Memory, attention: AttentionOptions | None = None) -> None:
        assert isinstance(memory, NativeMemory)
        shares = None if attention is None else self._shares(attention)
        for row in rows:
            self._joined[row] = memory, shares
        for name, number in {
            "source": memory.source.data_ptr(),
            "positions": memory.positions,
            "before": memory.before,
            "shown": memory.source_tokens,
            "shares": 0 if shares is None else shares.data_ptr(),
            "largest": attention is not None and attention.reduce == "max",
        }.items():
            self._rows[name][rows] = number
        self._kept.empty(rows)

    def step(self, rows: Sequence[int], tokens: Sequence[int]) -> StepOutput:
        count, kept, step = len(rows), self._kept, self._step
        assert kept.lengths[rows].max() < step.longest
        kept.add(rows)
        asked: NDArray[np.void] = self._rows[rows]
        asked["kept"] = kept.places.ctypes.data + np.asarray(rows) * kept.places.strides[0]
        asked["length"], asked["token"] = kept.lengths[rows], tokens
        columns = whole(int(asked["positions"].max()), LANES)
        self._make_room(max(columns, kept.places.shape[1]))
        scores, attention = self._scores[:count], self._attention[: count * columns].view(count, columns)
        step.decode(
            step.decoder,
            c_void_p(asked.ctypes.data),
            c_int64(count),
            c_int64(self._longest),
            _pointer(scores),
            _pointer(self._normalizers),
            _pointer(attention),
            c_int64(columns),
            _pointer(self._room),
        )
        kept.lengths[rows] += 1
        return StepOutput(scores, attention, None, self._normalizers[:count])

    def reorder(self, rows: Sequence[int], parents: Sequence[int]) -> None:
        # Beams of one source share its memory: only what they wrote moves.
        self._kept.move(rows, parents)

    def leave(self, rows: Sequence[int]) -> None:
        for row in rows:
            del self._joined[row]

    def _shares(self, attention: AttentionOptions) -> Tensor:
        """What each head counts for: (layers, heads)."""
        step = self._step
        layers = range(step.layers) if attention.layers is None else attention.layers
        heads = range(step.heads) if attention.heads is None else attention.heads
        shares = torch.zeros(step.layers, step.heads)
        shares[torch.tensor(layers).unsqueeze(1), torch.tensor(heads)] = 1 / (len(layers) * len(heads))
        return shares

    def _make_room(self, longest: int) -> None:
        if longest <= self._longest:
            return
        self._longest = longest
        self._room = self._step.room(self._capacity, longest)
        self._attention = torch.empty(self._capacity * longest)


def _activation(activation: Activation) -> int | None:
    """Which of those that the kernel has: known by what it computes, for the library has many names and classes."""
    values = torch.linspace(-6, 6, 97)
    same = (torch.allclose(known(values), activation(values), atol=1e-5) for known in _ACTIVATIONS)
    return next((number for number, found in enumerate(same) if found), None)


def _first_scaled(linear: Linear, scale: float, parts: int) -> Linear:
    """With the first of its parts, queries, multiplied by the scale of their scores."""
    factor = torch.ones(parts)
    factor[0] = scale
    factor = factor.repeat_interleave(len(linear.weight) // parts)
    return Linear(factor.unsqueeze(1) * linear.weight, factor * _bias(linear))


def _beyond(output: Linear, scale: float) -> Linear:
    """The output layer, scaled: what is beyond the vocabulary is never written."""
    bias = F.pad(_bias(output), (0, -len(output.weight) % PANEL), value=-torch.inf)
    return Linear(padded(scale * output.weight, 0, step=PANEL), bias)


def _bias(linear: Linear) -> Tensor:
    return torch.zeros(len(linear.weight)) if linear.bias is None else linear.bias.float()


def _pointer(tensor: Tensor) -> c_void_p:
    return c_void_p(tensor.data_ptr())
