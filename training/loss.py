"""Losses. Negative log-likelihood of the generate/copy mixture, without ever holding all logits.

The output layer is most of the arithmetic and almost all of the memory of a training step. Its loss needs only the
target's probability, and the mixture's gate and copy share are known beforehand; so gradients are computed right in
the forward pass, a block of rows at a time that fits the cache; under `torch.no_grad` there are none.
"""

from typing import Any

import torch
from torch import Tensor

from app.models.lstm.network import Seq2Seq
from app.models.lstm.tokenizer import PAD
from training.data import Batch

_ROWS = 256  # logits of a block: 256 x 16,000 float32 are 16 MB
_TINY = 1e-9
_LEAST_ATTENTION = 1e-6


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
            g, c = generate[rows], copied[rows]
            probability = g * vocabulary + (1 - g) * c + _TINY
            total -= probability.log().sum()
            if not learning:
                continue
            share = g * vocabulary / probability  # how much of the token is owed to generating
            softmax.mul_(share.unsqueeze(1)).scatter_add_(1, target, -share.unsqueeze(1))  # d loss / d logits
            grad_gate[rows] = -(vocabulary - c) / probability * g * (1 - g)
            grad_copied[rows] = -(1 - g) / probability
            grad_bias += softmax.sum(0)
            grad_logits = softmax.to(dtype)
            grad_features[rows] = torch.mm(grad_logits, table)
            grad_weight += torch.mm(grad_logits.t(), hidden[rows])
        context.save_for_backward(grad_features.to(features.dtype), grad_weight, grad_bias, grad_gate, grad_copied)
        return total

    @staticmethod
    def backward(context: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return *(saved * grads[0] for saved in context.saved_tensors), None, None, None


def copy_loss(
    features: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, copied: Tensor, targets: Tensor, dtype: torch.dtype
) -> Tensor:
    """Sum over N targets of -log(g softmax(features W^T + b)[target] + (1 - g) copied), g = sigmoid(gate).

    features (N, E), weight (V, E), bias (V,), gate and copied (N,) float32, targets (N,); products run in `dtype`.
    See et al. 2017, eq. 9.
    """
    learning = torch.is_grad_enabled()  # asked here: within the function it is always off
    return _CopyLoss.apply(features, weight, bias, gate, copied, targets, dtype, learning)  # type: ignore[no-any-return, no-untyped-call]


def batch_loss(model: Seq2Seq, batch: Batch, dtype: torch.dtype, attention_weight: float) -> tuple[Tensor, Tensor, int]:
    """Summed loss of a batch, its likelihood part alone, and the number of target tokens, end tokens included.

    With an `attention_weight` the loss of every target token that occurs in the source also has that many times the
    negative logarithm of the attention on its occurrences, whether the token is copied or generated.
    """
    device = batch.source.device.type
    with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
        memory, state = model.encode(batch.source, batch.lengths)
        decoded = model.decode(batch.inputs, memory, state)
        matches = batch.targets.unsqueeze(2) == batch.source.unsqueeze(1)  # (B, T, S)
        copied = (decoded.attention * matches).sum(2)  # (B, T)
    real = batch.targets != PAD  # (B, T)
    likelihood = copy_loss(
        decoded.features[real],
        model.embedding.weight,
        model.output_bias,
        decoded.gate[real],
        copied[real],
        batch.targets[real],
        dtype,
    )
    loss = likelihood
    if attention_weight:
        loss = loss - attention_weight * copied[matches.any(2) & real].clamp_min(_LEAST_ATTENTION).log().sum()
    return loss, likelihood.detach(), int(real.sum())
