"""Encoding: the library's own encoder over one source, and what every layer of the decoder reads of it.

On a CPU a source is encoded by itself, without padding, so that its result cannot depend on anybody.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from app.models.base import Candidates, Memory
from app.models.transformers.architectures import Decoder, Linear
from app.models.transformers.decoder import Product, TorchProduct


@dataclass(frozen=True, slots=True)
class TransformersMemory(Memory):
    """One source of S positions, special ones included, as L layers read it.

    keys, values: (S, A) for each layer. before: positions before the first that is the caller's.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    before: int
    source_tokens: int
    candidates: Candidates


class Encoder:
    """The library's encoder, and the keys and values of the decoder's layers."""

    def __init__(self, module: nn.Module, decoder: Decoder) -> None:
        self._module, self._device = module, decoder.embedding.device
        self._sources = [TorchProduct(layer.source) for layer in decoder.layers]

    def __call__(
        self, before: Sequence[int], content: Sequence[int], after: Sequence[int], candidates: Candidates
    ) -> TransformersMemory:
        ids = torch.tensor([[*before, *content, *after]], device=self._device)
        encoded = self._module(input_ids=ids).last_hidden_state[0]  # (S, D)
        keys, values = zip(*(source(encoded).chunk(2, dim=1) for source in self._sources), strict=True)
        return TransformersMemory(keys, values, len(before), len(content), candidates)


class Multiplied(nn.Module):
    """A product in the place of a layer of the library's."""

    def __init__(self, layer: nn.Linear, prepare: Callable[[Linear], Product]) -> None:
        super().__init__()
        self.weight = layer.weight.new_empty(0)  # T5 asks for its type
        self._product = prepare(Linear(layer.weight.detach(), None if layer.bias is None else layer.bias.detach()))

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, I) -> (…, O)"""
        return self._product(inputs.flatten(0, -2)).view(*inputs.shape[:-1], -1)


def multiply_by(prepare: Callable[[Linear], Product], module: nn.Module) -> nn.Module:
    """Put products in the place of all linear layers."""
    for parent in list(module.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, nn.Linear):
                setattr(parent, name, Multiplied(layer, prepare))
    return module
