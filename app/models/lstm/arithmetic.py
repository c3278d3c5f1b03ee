"""The precisions that a checkpoint is served in: how products are computed, and how attention is.

Hidden states, and what is attended of the encoder's, lie within -1 and 1: one scale does for all of them in int8, and
they are turned into it once.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

FEWEST_ROWS = 4
ROW_STEP = 8
READ_AT_ONCE = 16  # numbers of a row that the kernels of int8 attention read, whether they are there or not
UNIT = 126.0  # int8 for 1: what is attended may be a little more by rounding
_TINY = torch.finfo(torch.float32).tiny


def padded_rows(count: int) -> int:
    """Number of rows that are computed for `count` of them: 4, 8, 16, 24, …"""
    return FEWEST_ROWS if count <= FEWEST_ROWS else -(-count // ROW_STEP) * ROW_STEP


class Product(ABC):
    """rows (B, I) -> rows W^T + b (B, O) float32, with W and b prepared. Rows are float32, or bounded ones."""

    @abstractmethod
    def __call__(self, rows: Tensor) -> Tensor: ...


class FloatProduct(Product):
    """Multiplied in `dtype`."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        self._weight, self._bias = weight.to(dtype).contiguous(), bias.to(dtype)

    def __call__(self, rows: Tensor) -> Tensor:
        return F.linear(rows.to(self._weight.dtype), self._weight, self._bias).float()


class Int8Product(Product):
    """Each output, and each row that is not bounded, is scaled by its own largest number; sums are exact."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        scale = weight.abs().amax(1).clamp_min(_TINY) / 127.0  # (O)
        self._weight = (weight / scale.unsqueeze(1)).round().to(torch.int8).t()  # (I, O)
        self._scale, self._bounded_scale, self._bias = scale, scale / UNIT, bias.float()

    def __call__(self, rows: Tensor) -> Tensor:
        if rows.dtype == torch.int8:
            return torch._int_mm(rows, self._weight).float().mul_(self._bounded_scale).add_(self._bias)
        scale = rows.abs().amax(1, keepdim=True).clamp_min(_TINY) / 127.0  # (B, 1)
        sums = torch._int_mm((rows / scale).round().to(torch.int8), self._weight)  # (B, O)
        return sums.float().mul_(scale).mul_(self._scale).add_(self._bias)


class Asked(NamedTuple):
    """What attention has of a source of S positions, in the form of its arithmetic."""

    keys: Tensor  # (S, K)
    values: Tensor  # (S, H), or transposed
    scales: Tensor  # (S) of the keys
    units: Tensor  # (H) of the values, all 1


@dataclass(frozen=True)
class Arithmetic:
    """Products in `dtype`, which is also the encoder's; attention in float32."""

    dtype: torch.dtype

    def prepare(self, weight: Tensor, bias: Tensor) -> Product:
        return FloatProduct(weight, bias, self.dtype)

    def bounded(self, values: Tensor) -> Tensor:
        """Numbers within -1 and 1, as the rows of a product."""
        return values.to(self.dtype)

    def store(self, keys: Tensor, values: Tensor) -> Asked:
        """keys (S, K) and values (S, H) of one source; values lie within -1 and 1."""
        return Asked(keys.float(), values.float(), keys.new_ones(len(keys)), keys.new_ones(values.shape[1]))

    def asking(self, rows: Tensor) -> Tensor:
        """Queries, or weights, as `score` and `attend` take them."""
        return rows

    def score(self, queries: Tensor, asked: Asked) -> Tensor:
        """(n, K) -> (n, S)"""
        return _multiplied(queries, asked.keys.t())

    def attend(self, weights: Tensor, asked: Asked) -> Tensor:
        """(n, S) -> (n, H), as `attended` takes them."""
        return _multiplied(weights, asked.values)

    def attended(self, values: Tensor) -> Tensor:
        """As the rows of a product."""
        return self.bounded(values)


class Int8Arithmetic(Arithmetic):
    """Weights, keys and values in int8, a position's key with a scale of its own; the encoder in bfloat16."""

    def __init__(self) -> None:
        super().__init__(torch.bfloat16)

    def prepare(self, weight: Tensor, bias: Tensor) -> Product:
        return Int8Product(weight, bias)

    def bounded(self, values: Tensor) -> Tensor:
        return (values * UNIT).round_().to(torch.int8)

    def store(self, keys: Tensor, values: Tensor) -> Asked:
        keys = _whole(keys.float())
        scales = (keys.abs().amax(1).clamp_min_(_TINY) / 127.0).to(self.dtype)  # (S)
        rounded = (keys / scales.float().unsqueeze(1)).round_().to(torch.int8)
        return Asked(rounded, self.bounded(values.float()).t().contiguous(), scales, scales.new_ones(values.shape[1]))

    def asking(self, rows: Tensor) -> Tensor:
        return _whole(rows.to(self.dtype))

    def score(self, queries: Tensor, asked: Asked) -> Tensor:
        return torch._weight_int8pack_mm(queries, asked.keys, asked.scales)

    def attend(self, weights: Tensor, asked: Asked) -> Tensor:
        return torch._weight_int8pack_mm(weights.contiguous(), asked.values, asked.units)

    def attended(self, values: Tensor) -> Tensor:
        return values.round_().to(torch.int8)


def _whole(rows: Tensor) -> Tensor:
    """With zeros up to what is read at once. (The positions of a source are a multiple of it anyhow.)"""
    missing = -rows.shape[1] % READ_AT_ONCE
    return F.pad(rows, (0, missing)) if missing else rows


def _multiplied(rows: Tensor, columns: Tensor) -> Tensor:
    """Never with fewer than four rows: kernels for these add in another order."""
    idle = padded_rows(len(rows)) - len(rows)
    return (F.pad(rows, (0, 0, 0, idle)) @ columns)[: len(rows)]
