"""One decoder step of rows that each have a position of their own, over the weights of `architectures.py`.

Numbers between products are float32 whatever the products multiply in, so that little is rounded. What rows attend to,
their own past and their source, is kept elsewhere (`state.py`) and asked through `Attention`.

A result depends on no other row: products are given a number of rows that `padded_rows` allows, and all else is done
row by row (`tests/models/transformers/test_invariance.py`).
"""

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from app.models.transformers.architectures import Decoder, Layer, Linear, Norm

Product = Callable[[Tensor], Tensor]  # rows (B, I) -> rows (B, O)
USUAL_ROWS = 64  # that the layout of weights is chosen for


class Attention(Protocol):
    """What the rows of one step attend to. B rows, A numbers of all heads; idle rows at the end get zeros."""

    def own(self, layer: int, projected: Tensor) -> Tensor:
        """Queries, keys and values (B, 3 A) of the rows -> what they attend to (B, A), themselves included."""

    def source(self, layer: int, queries: Tensor) -> Tensor:
        """Queries (B, A) -> what they attend to in their own source (B, A)."""


def packed(linear: Linear) -> Product:
    """Multiplied in the type of the weights, which are laid out as the processor reads them."""
    weight, bias = linear.weight, linear.bias
    if not _can_lay_out(weight):
        return lambda rows: F.linear(rows, weight, bias)
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, USUAL_ROWS)
    return lambda rows: torch.ops.mkldnn._linear_pointwise(rows, laid_out, bias, "none", [], "")


def _can_lay_out(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    in_half = weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return in_half or weight.dtype == torch.float32


class TorchProduct:
    """Multiplied in the type of the weights, for rows in a wider one."""

    def __init__(self, linear: Linear) -> None:
        self._type, self._wide = linear.weight.dtype, wide(linear.weight.dtype)
        self._multiply = packed(linear)

    def __call__(self, rows: Tensor) -> Tensor:
        return self._multiply(rows.to(self._type)).to(self._wide)


class _LayerStep:
    def __init__(self, layer: Layer, prepare: Callable[[Linear], Product]) -> None:
        self.own, self.own_output = prepare(layer.own), prepare(layer.own_output)
        self.query, self.source_output = prepare(layer.query), prepare(layer.source_output)
        self.enter, self.leave = prepare(layer.enter), prepare(layer.leave)
        norms = layer.own_norm, layer.source_norm, layer.feed_norm
        self.own_norm, self.source_norm, self.feed_norm = map(_Normalised, norms)


class Step:
    """tokens -> logits of the next, for rows at any positions."""

    def __init__(self, decoder: Decoder, prepare: Callable[[Linear], Product] = TorchProduct) -> None:
        """prepare: makes the products of the decoder's weights."""
        self.architecture, self.layers = decoder.architecture, len(decoder.layers)
        self.attended = decoder.layers[0].query.weight.shape[0]  # A
        self.device, self.dtype = decoder.embedding.device, wide(decoder.embedding.dtype)
        self._embedding, self._positions = decoder.embedding, decoder.positions
        self._relative = None if decoder.relative is None else decoder.relative.to(self.dtype)
        self._embedding_norm = decoder.embedding_norm and _Normalised(decoder.embedding_norm)
        self._steps = [_LayerStep(layer, prepare) for layer in decoder.layers]
        self._final_norm = decoder.final_norm and _Normalised(decoder.final_norm)
        self._output = prepare(decoder.output)

    def __call__(self, tokens: Tensor, positions: Tensor, attention: Attention) -> Tensor:
        """tokens (B) written last, at positions (B) from 0 on -> logits (B, V) of the next."""
        rows = self._embedded(tokens, positions)
        for number, step in enumerate(self._steps):
            rows = self._layer(number, step, rows, attention)
        if self._final_norm:
            rows = self._final_norm(rows)
        if self.architecture.output_scale != 1:
            rows = rows * self.architecture.output_scale
        return self._output(rows)

    def relative(self, length: int) -> Tensor | None:
        """What is added to the scores of so many tokens (1, H, 1, length) in the eyes of the last; None for nothing."""
        return None if self._relative is None else self._relative[None, :, None, -length:]

    def _embedded(self, tokens: Tensor, positions: Tensor) -> Tensor:
        rows = self._embedding[tokens].to(self.dtype) * self.architecture.embedding_scale  # (B, D)
        if self._positions is not None:
            rows = rows + self._positions[positions + self.architecture.position_offset]
        return self._embedding_norm(rows) if self._embedding_norm else rows

    def _layer(self, number: int, step: _LayerStep, rows: Tensor, attention: Attention) -> Tensor:
        def own(read: Tensor) -> Tensor:
            return step.own_output(attention.own(number, step.own(read)))

        def source(read: Tensor) -> Tensor:
            return step.source_output(attention.source(number, step.query(read)))

        def feed(read: Tensor) -> Tensor:
            return step.leave(self._activated(step.enter(read)))

        for part, norm in ((own, step.own_norm), (source, step.source_norm), (feed, step.feed_norm)):
            rows = rows + part(norm(rows)) if self.architecture.norm_first else norm(rows + part(rows))
        return rows

    def _activated(self, values: Tensor) -> Tensor:
        if not self.architecture.gated:
            return self.architecture.activation(values)
        gate, gated = values.chunk(2, dim=1)
        return self.architecture.activation(gate) * gated


class _Normalised:
    def __init__(self, norm: Norm) -> None:
        dtype = wide(norm.weight.dtype)
        self._weight, self._bias = norm.weight.to(dtype), None if norm.bias is None else norm.bias.to(dtype)
        self._epsilon, self._centred = norm.epsilon, norm.centred

    def __call__(self, rows: Tensor) -> Tensor:
        if self._centred:
            return F.layer_norm(rows, self._weight.shape, self._weight, self._bias, self._epsilon)
        return rows * torch.rsqrt(rows.square().mean(1, keepdim=True) + self._epsilon) * self._weight


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type between products in `dtype`."""
    return torch.promote_types(dtype, torch.float32)


def merged(weights: Tensor, reduce: Literal["mean", "max"], heads: int) -> Tensor:
    """What several heads attend to (…, positions), as one distribution. heads: their dimension."""
    if reduce == "mean":
        return weights.mean(heads)
    largest = weights.amax(heads)
    return largest / largest.sum(-1, keepdim=True)
