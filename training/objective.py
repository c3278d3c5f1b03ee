"""What a training step makes smaller: the references' negative log-likelihood, and what is added to it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from app.models.lstm.network import Memory, Seq2Seq, State
from app.models.lstm.tokenizer import PAD
from training.data import Batch
from training.loss import copy_loss
from training.risk import Reward, advantages, sample, take, without_ends

_LEAST_ATTENTION = 1e-6
_GROUPS = 4


@dataclass(frozen=True, slots=True)
class Objective:
    """The loss of a batch.

    attention_weight: every target token that occurs in the source adds that many times the negative logarithm of the
        attention on its occurrences, whether the token is copied or generated; so do the tokens of samples.
    reward, risk_share, samples: that share of the loss is the expected reward's (`training.risk`), with so many
        samples of at most `longest` tokens for each source.
    """

    dtype: torch.dtype
    attention_weight: float = 0.0
    risk_share: float = 0.0
    samples: int = 0
    longest: int = 32
    reward: Reward | None = None

    def __call__(self, model: Seq2Seq, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor, int]:
        """Summed loss, its likelihood part alone, and the number of target tokens, end tokens included."""
        memory, state = self._encode(model, batch)
        likelihood, unseen = self._read(model, memory, state, batch.inputs, batch.targets, None)
        loss = likelihood + self.attention_weight * unseen
        if self.reward is not None:
            risk = self._risk(model, batch, memory, state, generator)
            loss = (1 - self.risk_share) * loss + self.risk_share * risk
        return loss, likelihood.detach(), int((batch.targets != PAD).sum())

    def likelihood(self, model: Seq2Seq, batch: Batch) -> tuple[Tensor, int]:
        """Summed negative log-likelihood of a batch's targets, and their number."""
        memory, state = self._encode(model, batch)
        loss, _ = self._read(model, memory, state, batch.inputs, batch.targets, None)
        return loss, int((batch.targets != PAD).sum())

    def regret(self, model: Seq2Seq, batch: Batch) -> Tensor:
        """Sum over a batch of 1 less the reward of the greedy summary."""
        assert self.reward is not None
        with self._autocast(batch.source):
            _, targets = sample(model, *model.encode(batch.source, batch.lengths), self.longest, None)
        greedy = [[summary] for summary in without_ends(targets)]
        return (1 - self.reward(without_ends(batch.targets), greedy)).sum()

    def _encode(self, model: Seq2Seq, batch: Batch) -> tuple[Memory, State]:
        with self._autocast(batch.source):
            return model.encode(batch.source, batch.lengths)

    def _autocast(self, tokens: Tensor) -> torch.autocast:
        return torch.autocast(tokens.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def _read(
        self, model: Seq2Seq, memory: Memory, state: State, inputs: Tensor, targets: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Summed loss of the targets (B, T), each row's times its weight (B,), and that of the attention on them."""
        with self._autocast(inputs):
            decoded = model.decode(inputs, memory, state)
            matches = targets.unsqueeze(2) == memory.ids.unsqueeze(1)  # (B, T, S)
            copied = (decoded.attention * matches).sum(2)  # (B, T)
        real = targets != PAD  # (B, T)
        loss = copy_loss(
            decoded.features[real],
            model.embedding.weight,
            model.output_bias,
            decoded.gate[real],
            copied[real],
            targets[real],
            self.dtype,
            None if weights is None else weights.unsqueeze(1).expand_as(targets)[real],
        )
        return loss, -copied[matches.any(2) & real].clamp_min(_LEAST_ATTENTION).log().sum()

    def _risk(self, model: Seq2Seq, batch: Batch, memory: Memory, state: State, generator: torch.Generator) -> Tensor:
        assert self.reward is not None
        model.eval()  # what is drawn comes from the model as it will be served
        with torch.no_grad(), self._autocast(batch.source):
            copies = torch.arange(len(batch.lengths), device=batch.source.device).repeat_interleave(self.samples)
            served = take(*model.encode(batch.source, batch.lengths), copies)
            inputs, targets = sample(model, *served, self.longest, generator)  # (B K, T)
        model.train()
        texts = without_ends(targets)
        groups = [texts[start : start + self.samples] for start in range(0, len(texts), self.samples)]
        weights = (
            advantages(self.reward(without_ends(batch.targets), groups)).flatten().to(inputs.device) / self.samples
        )
        total = torch.zeros((), device=inputs.device)
        lengths = (targets != PAD).sum(1)  # (B K)
        for rows in lengths.argsort().chunk(_GROUPS):  # of like length, so that little padding is computed
            end, read = int(lengths[rows].max()), take(memory, state, rows // self.samples)
            loss, unseen = self._read(model, *read, inputs[rows, :end], targets[rows, :end], weights[rows])
            total = total + loss + self.attention_weight / self.samples * unseen
        return total
