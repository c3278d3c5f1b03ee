"""The products of a module of the library by kernels of our own, several times as fast as torch's on some processors.

Each row is computed by itself, so that a result depends neither on the number of rows nor on what stands in them.
"""

from copy import deepcopy
from typing import TypeVar

from torch import Tensor, nn

from app.models.kernels import LANES, FloatWeights, Int8Weights, padded

Module = TypeVar("Module", bound=nn.Module)


class KernelLinear(nn.Module):
    """What `nn.Linear` is, in float32 or in int8."""

    weight = None  # T5 looks for its type

    def __init__(self, linear: nn.Linear, *, rounded: bool) -> None:
        super().__init__()
        weight = padded(linear.weight.detach(), 1, step=LANES)
        bias = weight.new_zeros(len(weight)) if linear.bias is None else linear.bias.detach()
        self._weights = (Int8Weights if rounded else FloatWeights)(weight, bias)

    def forward(self, values: Tensor) -> Tensor:
        """(…, I) -> (…, O)"""
        rows = padded(values.flatten(0, -2), 1, step=LANES)
        return self._weights(rows).unflatten(0, values.shape[:-1])


def with_kernels(module: Module, *, rounded: bool) -> Module:
    """The same module with other products; all else, weights too, is shared. rounded: to int8."""
    products = [part for part in module.modules() if type(part) is nn.Linear]
    shared = [*module.parameters(), *module.buffers()]
    memo = {id(tensor): tensor for tensor in shared}
    return deepcopy(module, memo | {id(product): KernelLinear(product, rounded=rounded) for product in products})
