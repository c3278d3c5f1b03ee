"""The encoder in int8: sources of different lengths in one call of C, of which no padding is computed (`encode.c`)."""

import ctypes
from collections.abc import Sequence
from ctypes import byref
from functools import partial
from itertools import chain, repeat

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.models.kernels import Int8Weights, Packed, library, padded, whole
from app.models.lstm.native import Source
from app.models.lstm.network import COMPARED, WINDOWS, Relevance, Seq2Seq

LANES = 16  # numbers that are computed together; sizes are rounded up to it
_up, _lanes = partial(whole, step=LANES), partial(padded, step=LANES)


class _Encoder(ctypes.Structure):
    """`Encoder` of encode.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("layers", "embedding", "units", "keys", "relevance")),
        *((name, ctypes.c_int64) for name in ("phrase", "sentence")),
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

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("sources", "positions", "distinct")),
        *((name, ctypes.c_void_p) for name in ("lengths", "tokens", "embedded", "units")),
    )


class _Encoded(ctypes.Structure):
    """`Encoded` of encode.c."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("values", "keys", "scales", "prior", "start"))


class NativeEncoder:
    """The encoder of a network, with keys, prior and the decoder's start; its weights in int8."""

    def __init__(self, model: Seq2Seq) -> None:
        """model: with float32 weights, its values' projection folded into others (`network.fold_values`)."""
        kernels = library()
        assert kernels is not None
        self._kernels, self._config = kernels, model.config
        self._embedded, self._units = _rounded(_lanes(model.embedding.weight, 1))  # (V, E), (V)
        self._weights: list[Int8Weights] = []  # what C reads must stay
        self._begins = torch.zeros(0)
        self._encoder = self._prepare(model)

    @torch.inference_mode()
    def __call__(self, sources: Sequence[Sequence[int]]) -> list[Source]:
        """Token ids of some sources, none of them empty -> what the encoder makes of each, in the order given."""
        order = sorted(range(len(sources)), key=lambda place: -len(sources[place]))
        rows = [sources[place] for place in order]
        lengths = torch.tensor([len(row) for row in rows])
        distinct, tokens = torch.unique(torch.tensor(list(chain.from_iterable(rows))), return_inverse=True)
        count, encoder = len(tokens), self._encoder
        values = torch.empty(count, 2, encoder.units, dtype=torch.int8)
        keys = torch.empty(count, encoder.keys, dtype=torch.int8)
        scales, prior = torch.empty(2, count)
        start = torch.empty(len(rows), encoder.bridge.outputs)
        embedded, units = (table.index_select(0, distinct) for table in (self._embedded, self._units))
        read = lengths, tokens, embedded, units
        batch = _Batch(len(rows), count, len(distinct), *map(Tensor.data_ptr, read))
        encoded = _Encoded(*map(Tensor.data_ptr, (values, keys, scales, prior, start)))
        room = torch.empty(self._kernels.precis_encode_room(byref(encoder), byref(batch)), dtype=torch.uint8)
        self._kernels.precis_encode(byref(encoder), byref(batch), byref(encoded), ctypes.c_void_p(room.data_ptr()))
        keys = keys[:, : self._config.key_size].contiguous()
        values = values[:, :, : self._config.encoder_size].reshape(count, -1)
        starts = start[:, : 4 * self._config.decoder_size].reshape(len(rows), 4, -1)
        parts = (tensor.split(lengths.tolist()) for tensor in (keys, scales, values, prior))
        found = dict(zip(order, map(Source, *parts, starts), strict=True))
        return [found[place] for place in range(len(sources))]

    def _prepare(self, model: Seq2Seq) -> _Encoder:
        sizes, relevance, bridge = model.config, model.relevance, model.bridge
        projection = _lanes(model.decoder.attention.key.weight, 0)  # (K, H + E)
        keys, bias, compare, begins_bias = len(projection), torch.zeros(len(projection)), list[Packed](), 0.0
        if relevance is not None:
            projection = torch.cat([projection, _lanes(relevance.token.weight, 0)])  # (K + R, H + E)
            bias = torch.cat([bias, _lanes(relevance.token.bias, 0)])
            compare = self._compare(relevance)
            self._begins = F.pad(relevance.begins.weight[0], (0, compare[0].outputs - sizes.relevance_size))
            begins_bias = float(relevance.begins.bias)
        encoded, embedded = projection[:, : 2 * sizes.encoder_size], projection[:, 2 * sizes.encoder_size :]
        directions = [
            product
            for number, layers in enumerate(zip(model.encoder.forwards, model.encoder.backwards, strict=True))
            for layer in layers
            for product in self._direction(layer, of_tokens=number == 0)
        ]
        return _Encoder(
            sizes.encoder_layers,
            self._embedded.shape[1],
            _up(sizes.encoder_size),
            keys,
            _up(sizes.relevance_size),
            *WINDOWS,
            (Packed * len(directions))(*directions),
            self._product(_of_both(encoded), torch.zeros(len(encoded))),
            self._product(_lanes(embedded, 1), bias),
            (Packed * len(compare))(*compare),
            self._begins.data_ptr(),
            begins_bias,
            sizes.relevance_size,
            self._product(_of_both(bridge.weight), bridge.bias),
        )

    def _direction(self, layer: nn.Module, of_tokens: bool) -> list[Packed]:
        """The products of the input, with both biases, and of the state."""
        assert isinstance(layer, nn.LSTM)
        of_input, of_state, *biases = layer.all_weights[0]
        rows, bias = _lanes(of_input, 1) if of_tokens else _of_both(of_input), _gates(biases[0] + biases[1])
        return [
            self._product(_gates(rows), bias),
            self._product(_gates(_lanes(of_state, 1)), torch.zeros_like(bias)),
        ]

    def _compare(self, relevance: Relevance) -> list[Packed]:
        """The product of what is compared, vector by vector: each of these has a scale of its own."""
        weights, bias = relevance.compare.weight.chunk(COMPARED, 1), relevance.compare.bias
        biases = [bias, *repeat(torch.zeros_like(bias), COMPARED - 1)]
        return [self._product(_lanes(weight, 1), own) for weight, own in zip(weights, biases, strict=True)]

    def _product(self, weight: Tensor, bias: Tensor) -> Packed:
        self._weights.append(Int8Weights(weight, bias))
        return self._weights[-1].packed


def _of_both(weight: Tensor) -> Tensor:
    """(O, H): each direction's half of the inputs with zeros of its own."""
    return _lanes(weight.reshape(len(weight), 2, -1), 2).flatten(1)


def _gates(rows: Tensor) -> Tensor:
    """(4 U, …), gate by gate -> the four gates of sixteen units, then of the next."""
    rest = rows.shape[1:]
    return _lanes(rows.reshape(4, -1, *rest), 1).reshape(4, -1, LANES, *rest).transpose(0, 1).flatten(0, 2)


def _rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(n, I) -> int8 (n, I), and what 1 stands for in each row (n)."""
    units = rows.abs().amax(1).clamp_min(torch.finfo(rows.dtype).tiny) / 127.0
    return (rows / units.unsqueeze(1)).round().to(torch.int8), units
