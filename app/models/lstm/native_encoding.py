"""The encoder in int8: sources of different lengths in one call of C, of which no padding is computed (`encode.c`)."""

import ctypes
from collections.abc import Sequence
from ctypes import byref
from itertools import chain, repeat

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.models.lstm.kernels import Int8Weights, Packed, library
from app.models.lstm.native import Source
from app.models.lstm.network import COMPARED, Seq2Seq

LANES = 16  # numbers that are computed together; sizes are rounded up to it


class _Encoder(ctypes.Structure):
    """`Encoder` of encode.c."""

    _fields_ = (
        ("layers", ctypes.c_int64),
        ("embedding", ctypes.c_int64),
        ("units", ctypes.c_int64),
        ("keys", ctypes.c_int64),
        ("relevance", ctypes.c_int64),
        ("directions", ctypes.POINTER(Packed)),
        ("encoded", Packed),
        ("embedded", Packed),
        ("compare", ctypes.POINTER(Packed)),
        ("begins", ctypes.c_void_p),
        ("begins_bias", ctypes.c_float),
        ("compared", ctypes.c_float),
        ("bridge", Packed),
    )


class _Batch(ctypes.Structure):
    """`Batch` of encode.c."""

    _fields_ = (("count", ctypes.c_int64), ("lengths", ctypes.c_void_p))


class NativeEncoder:
    """The encoder of a network, with keys, prior and the decoder's start; its weights in int8."""

    def __init__(self, model: Seq2Seq) -> None:
        """model: with float32 weights, its values' projection folded into others (`network.fold_values`)."""
        kernels = library()
        assert kernels is not None
        kernels.precis_encode_room.restype = ctypes.c_int64
        self._kernels, self._config = kernels, model.config
        self._embedded, self._units = rounded(_lanes(model.embedding.weight, 1))  # (V, E), (V)
        self._weights: list[Int8Weights] = []  # what C reads must stay
        self._begins = torch.zeros(0)
        self._encoder = self._prepare(model)

    @torch.inference_mode()
    def __call__(self, sources: Sequence[Sequence[int]]) -> list[Source]:
        """Token ids of some sources, none of them empty -> what the encoder makes of each, in the order given."""
        order = sorted(range(len(sources)), key=lambda place: -len(sources[place]))
        rows = [sources[place] for place in order]
        lengths = torch.tensor([len(row) for row in rows])
        ids = torch.tensor(list(chain.from_iterable(rows)))
        encoder, batch = self._encoder, _Batch(len(rows), lengths.data_ptr())
        room = torch.empty(self._kernels.precis_encode_room(byref(encoder), byref(batch)), dtype=torch.uint8)
        values = torch.empty(len(ids), 2, encoder.units, dtype=torch.int8)
        keys = torch.empty(len(ids), encoder.keys, dtype=torch.int8)
        scales, prior = torch.empty(2, len(ids))
        start = torch.empty(len(rows), encoder.bridge.outputs)
        tensors = self._embedded[ids], self._units[ids], room, values, keys, scales, prior, start
        self._kernels.precis_encode(
            byref(encoder), byref(batch), *(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors)
        )
        keys = keys[:, : self._config.key_size].contiguous()
        values = values[:, :, : self._config.encoder_size].reshape(len(ids), -1)
        starts = start[:, : 4 * self._config.decoder_size].reshape(len(rows), 4, -1)
        parts = (tensor.split(lengths.tolist()) for tensor in (keys, scales, values, prior))
        found = dict(zip(order, map(Source, *parts, starts), strict=True))
        return [found[place] for place in range(len(sources))]

    def _prepare(self, model: Seq2Seq) -> _Encoder:
        sizes, key, relevance = model.config, model.decoder.attention.key.weight, model.relevance
        projection = _lanes(key, 0)  # (K, H + E)
        bias = torch.zeros(len(projection))
        compare: list[Packed] = []
        begins_bias = 0.0
        if relevance is not None:
            projection = torch.cat([projection, _lanes(relevance.token.weight, 0)])  # (K + R, H + E)
            bias = torch.cat([bias, _lanes(relevance.token.bias, 0)])
            nothing = torch.zeros(sizes.relevance_size)
            biases = [relevance.compare.bias, *repeat(nothing, COMPARED - 1)]
            for weight, own in zip(relevance.compare.weight.chunk(COMPARED, 1), biases, strict=True):
                compare.append(self._product(_lanes(weight, 1), own))
            self._begins = F.pad(relevance.begins.weight[0], (0, compare[0].outputs - sizes.relevance_size))
            begins_bias = float(relevance.begins.bias)
        encoded, embedded = projection[:, : 2 * sizes.encoder_size], projection[:, 2 * sizes.encoder_size :]
        directions = [
            product
            for layers in zip(model.encoder.forwards, model.encoder.backwards, strict=True)
            for layer in layers
            for product in self._direction(layer)
        ]
        return _Encoder(
            sizes.encoder_layers,
            self._embedded.shape[1],
            _up(sizes.encoder_size),
            len(_lanes(key, 0)),
            _up(sizes.relevance_size),
            (Packed * len(directions))(*directions),
            self._product(self._of_both(encoded), torch.zeros(len(encoded))),
            self._product(_lanes(embedded, 1), bias),
            (Packed * len(compare))(*compare),
            self._begins.data_ptr(),
            begins_bias,
            sizes.relevance_size,
            self._product(self._of_both(model.bridge.weight), model.bridge.bias),
        )

    def _direction(self, layer: nn.Module) -> list[Packed]:
        """The products of the input, with both biases, and of the state; gates of sixteen units stand together."""
        assert isinstance(layer, nn.LSTM)
        of_input, of_state, *biases = layer.all_weights[0]
        columns = _lanes(of_input, 1) if layer.input_size == self._config.embedding_size else self._of_both(of_input)
        return [
            self._product(_gates(columns), _gates(biases[0] + biases[1])),
            self._product(_gates(_lanes(of_state, 1)), torch.zeros(4 * _up(layer.hidden_size))),
        ]

    def _of_both(self, weight: Tensor) -> Tensor:
        """(O, H), H being of both directions."""
        return _lanes(weight.reshape(len(weight), 2, -1), 2).flatten(1)

    def _product(self, weight: Tensor, bias: Tensor) -> Packed:
        self._weights.append(Int8Weights(weight, bias))
        return self._weights[-1].packed


def _up(size: int) -> int:
    return -(-size // LANES) * LANES


def _lanes(tensor: Tensor, dim: int) -> Tensor:
    """With zeros up to a multiple of LANES in one dimension."""
    missing = list(tensor.shape)
    missing[dim] = -tensor.shape[dim] % LANES
    return torch.cat([tensor, tensor.new_zeros(missing)], dim)


def _gates(rows: Tensor) -> Tensor:
    """(4 U, …), gate by gate -> the four gates of sixteen units, then of the next."""
    rest = rows.shape[1:]
    return _lanes(rows.reshape(4, -1, *rest), 1).reshape(4, -1, LANES, *rest).transpose(0, 1).flatten(0, 2)


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(n, I) -> int8 (n, I), and what 1 stands for in each row (n)."""
    units = rows.abs().amax(1).clamp_min(torch.finfo(rows.dtype).tiny) / 127.0
    return (rows / units.unsqueeze(1)).round().to(torch.int8), units
