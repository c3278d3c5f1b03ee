"""Negative log-likelihood of the generate/copy mixture, without ever holding all logits.

The output layer is most of the arithmetic and almost all of the memory of a training step. Its loss needs only the
target's probability, and the mixture's gate and copy share are known beforehand; so gradients are computed right in
the forward pass, a block of rows at a time that fits the cache; under `torch.no_grad` there are none.
"""

from typing import Any

import torch
from torch import Tensor

_ROWS = 256  # logits of a block: 256 x 16,000 float32 are 16 MB
_TINY = 1e-9


class _CopyLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        gate: Tensor,
        copied: Tensor,
        targets: Tensor,
        weights: Tensor,
        dtype: torch.dtype,
        learning: bool,
    ) -> Tensor:
        hidden, table = features.detach().to(dtype), weight.detach().to(dtype)
        grad_features = torch.empty_like(hidden)
        grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        generate = torch.sigmoid(gate)  # (N)
        grad_gate, grad_copied = torch.empty_like(gate), torch.empty_like(copied)
        total = torch.zeros((), dtype=torch.float32, device=features.device)
        for start in range(0, len(targets), _ROWS):
            rows = slice(start, start + _ROWS)
            target = targets[rows].unsqueeze(1)  # (n, 1)
            logits = torch.mm(hidden[rows], table.t()).float().add_(bias)  # (n, V)
            softmax = torch.softmax(logits, dim=1)
            vocabulary = softmax.gather(1, target).squeeze(1)  # (n)
            g, c, w = generate[rows], copied[rows], weights[rows]
            probability = g * vocabulary + (1 - g) * c + _TINY
            total -= (w * probability.log()).sum()
            if not learning:
                continue
            share = w * g * vocabulary / probability  # how much of the token is owed to generating
            softmax.mul_(share.unsqueeze(1)).scatter_add_(1, target, -share.unsqueeze(1))  # d loss / d logits
            grad_gate[rows] = -w * (vocabulary - c) / probability * g * (1 - g)
            grad_copied[rows] = -w * (1 - g) / probability
            grad_bias += softmax.sum(0)
            grad_logits = softmax.to(dtype)
            grad_features[rows] = torch.mm(grad_logits, table)
            grad_weight += torch.mm(grad_logits.t(), hidden[rows])
        context.save_for_backward(grad_features.to(features.dtype), grad_weight, grad_bias, grad_gate, grad_copied)
        return total

    @staticmethod
    def backward(context: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *(saved * grads[0] for saved in context.saved_tensors), None, None, None, None


def copy_loss(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    gate: Tensor,
    copied: Tensor,
    targets: Tensor,
    dtype: torch.dtype,
    weights: Tensor | None = None,
) -> Tensor:
    """Sum over N targets of -w log(g softmax(features W^T + b)[target] + (1 - g) copied), g = sigmoid(gate).

    features (N, E), weight (V, E), bias (V,), gate and copied (N,) float32, targets (N,), weights w (N,), else all 1;
    products run in `dtype`. See et al. 2017, eq. 9.
    """
    learning = torch.is_grad_enabled()  # asked here: within the function it is always off
    weights = torch.ones_like(gate) if weights is None else weights
    return _CopyLoss.apply(features, weight, bias, gate, copied, targets, weights, dtype, learning)  # type: ignore[no-any-return, no-untyped-call]
