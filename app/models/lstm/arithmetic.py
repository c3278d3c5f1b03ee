"""The types that torch multiplies in."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from app.models.rows import padded_rows


class Product:
    """rows (B, I) -> rows W^T + b (B, O) float32, multiplied in `dtype`."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        self._weight, self._bias = weight.to(dtype).contiguous(), bias.to(dtype)

    def __call__(self, rows: Tensor) -> Tensor:
        return F.linear(rows.to(self._weight.dtype), self._weight, self._bias).float()


@dataclass(frozen=True)
class Arithmetic:
    """Products with weights in `dtype`, which is also the encoder's; attention on a CPU in float32."""

    dtype: torch.dtype

    def prepare(self, weight: Tensor, bias: Tensor) -> Product:
        return Product(weight, bias, self.dtype)

    def bounded(self, values: Tensor) -> Tensor:
        """Numbers within -1 and 1, as the rows of a product."""
        return values.to(self.dtype)


def multiplied(rows: Tensor, columns: Tensor) -> Tensor:
    """(n, I), (I, O) -> (n, O), never with fewer than four rows: kernels for these add in another order."""
    idle = padded_rows(len(rows)) - len(rows)
    return (F.pad(rows, (0, 0, 0, idle)) @ columns)[: len(rows)]
