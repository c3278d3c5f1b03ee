"""What a training step makes smaller: the references' negative log-likelihood, and what is added to it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from app.models.lstm.network import Decoded, Memory, Seq2Seq, State
from app.models.lstm.tokenizer import PAD
from training.beam import Hypotheses, ranking, search
from training.data import Batch
from training.loss import copy_loss
from training.risk import Reward, Samples, advantages, decisive, sample, take, without_ends

_LEAST_ATTENTION = 1e-6
_GROUPS = 4
_DECISIVE = 0.6  # share of a source's samples that are learned from


@dataclass(frozen=True, slots=True)
class Objective:
    """The loss of a batch.

    attention_weight: every target token that occurs in the source adds that many times the negative logarithm of the
        attention on its occurrences, whether the token is copied or generated; so do the tokens of samples.
    reward, risk_share, samples: that share of the loss is the expected reward's (`training.risk`), with so many
        samples of at most `longest` tokens for each source; or, with `beams`, that of the hypotheses of a beam so wide
        (`training.beam`).
    """

    dtype: torch.dtype
    attention_weight: float = 0.0
    risk_share: float = 0.0
    samples: int = 0
    beams: int = 0
    longest: int = 32
    reward: Reward | None = None

    def __call__(self, model: Seq2Seq, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor, int]:
        """Summed loss, its likelihood part alone, and the number of target tokens, end tokens included."""
        memory, state = self._encode(model, batch)
        likelihood, unseen = self._read(model, memory, state, batch.inputs, batch.targets)
        loss = likelihood + self.attention_weight * unseen
        if self.reward is not None:
            risk = self._risk(model, batch, memory, state, generator)
            loss = (1 - self.risk_share) * loss + self.risk_share * risk
        return loss, likelihood.detach(), int((batch.targets != PAD).sum())

    def likelihood(self, model: Seq2Seq, batch: Batch) -> tuple[Tensor, int]:
        """Summed negative log-likelihood of a batch's targets, and their number."""
        memory, state = self._encode(model, batch)
        loss, _ = self._read(model, memory, state, batch.inputs, batch.targets)
        return loss, int((batch.targets != PAD).sum())

    def regret(self, model: Seq2Seq, batch: Batch) -> Tensor:
        """Sum over a batch of 1 less the reward of the greedy summary."""
        assert self.reward is not None
        with self._autocast(batch.source):
            written = sample(model, *model.encode(batch.source, batch.lengths), self.longest, None)
        greedy = [[summary] for summary in without_ends(written.targets)]
        return (1 - self.reward(without_ends(batch.targets), greedy)).sum()

    def _encode(self, model: Seq2Seq, batch: Batch) -> tuple[Memory, State]:
        with self._autocast(batch.source):
            return model.encode(batch.source, batch.lengths)

    def _autocast(self, tokens: Tensor) -> torch.autocast:
        return torch.autocast(tokens.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def _read(
        self,
        model: Seq2Seq,
        memory: Memory,
        state: State,
        inputs: Tensor,
        targets: Tensor,
        weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Summed loss of the targets (B, T), each row's times its weight (B,), and that of the attention on them."""
        decoded, matches, copied = self._decode(model, memory, state, inputs, targets)
        real = targets != PAD  # (B, T)
        loss = copy_loss(
            decoded.features[real],
            model.embedding.weight,
            model.output_bias,
            decoded.gate[real],
            copied[real],
            targets[real],
            self.dtype,
            None if weights is None else weights.unsqueeze(1).expand_as(copied)[real],
        )
        return loss, _unseen(copied[matches & real])

    def _read_samples(
        self, model: Seq2Seq, memory: Memory, state: State, samples: Samples, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same of samples, each row's loss times its weight (B,), with the way in which each token was drawn."""
        inputs, targets, generated = samples
        decoded, matches, copied = self._decode(model, memory, state, inputs, targets)
        weights = weights.unsqueeze(1).expand_as(copied)  # (B, T)
        real = targets != PAD
        drawn, taken = real & generated, real & ~generated
        loss = copy_loss(
            decoded.features[drawn],
            model.embedding.weight,
            model.output_bias,
            decoded.gate[drawn],
            torch.zeros_like(copied[drawn]),
            targets[drawn],
            self.dtype,
            weights[drawn],
        )
        copying = F.logsigmoid(-decoded.gate[taken]) + copied[taken].clamp_min(_LEAST_ATTENTION).log()
        return loss - (weights[taken] * copying).sum(), _unseen(copied[matches & real])

    def _decode(
        self, model: Seq2Seq, memory: Memory, state: State, inputs: Tensor, targets: Tensor
    ) -> tuple[Decoded, Tensor, Tensor]:
        """What is decoded, and for each target whether the source has it and the attention on it: (B, T) both."""
        with self._autocast(inputs):
            decoded = model.decode(inputs, memory, state)
            matches = targets.unsqueeze(2) == memory.ids.unsqueeze(1)  # (B, T, S)
            return decoded, matches.any(2), (decoded.attention * matches).sum(2)

    def _risk(self, model: Seq2Seq, batch: Batch, memory: Memory, state: State, generator: torch.Generator) -> Tensor:
        assert self.reward is not None
        count = self.beams or self.samples
        model.eval()  # what is written comes from the model as it will be served
        with torch.no_grad(), self._autocast(batch.source):
            written = self._write(model, *model.encode(batch.source, batch.lengths), generator)  # (B K, T)
        model.train()
        texts = without_ends(written.targets)
        groups = [texts[start : start + count] for start in range(0, len(texts), count)]
        rewards = self.reward(without_ends(batch.targets), groups).to(memory.ids.device)  # (B, K)
        if isinstance(written, Hypotheses):
            weights = ranking(written.scores, rewards, (written.targets != PAD).sum(1).view_as(rewards))
        else:
            weights = advantages(rewards) / count
        total = torch.zeros((), device=memory.ids.device)
        for rows, end, share in _groups(written.targets, weights):
            read, own = take(memory, state, rows // count), weights.flatten()[rows]
            if isinstance(written, Hypotheses):
                loss, unseen = self._read(model, *read, written.inputs[rows, :end], written.targets[rows, :end], own)
            else:
                loss, unseen = self._read_samples(model, *read, Samples(*(field[rows, :end] for field in written)), own)
            total = total + loss + self.attention_weight * share * unseen
        return total

    def _write(self, model: Seq2Seq, memory: Memory, state: State, generator: torch.Generator) -> Hypotheses | Samples:
        """K summaries for each of B sources: what a beam finds, or samples."""
        if self.beams:
            return search(model, memory, state, self.beams, self.longest)
        copies = torch.arange(len(memory.ids), device=memory.ids.device).repeat_interleave(self.samples)
        return sample(model, *take(memory, state, copies), self.longest, generator)


def _groups(targets: Tensor, weights: Tensor) -> Iterator[tuple[Tensor, int, float]]:
    """The decisive ones of K summaries for each of B sources, in groups of like length: little padding is computed.

    targets (B K, T), weights (B, K) -> rows of them, their greatest length, and what one of a source's is of all.
    """
    count = math.ceil(_DECISIVE * weights.shape[1])
    lengths = (targets != PAD).sum(1)  # (B K)
    chosen = decisive(weights, count)
    for rows in chosen[lengths[chosen].argsort()].chunk(_GROUPS):
        yield rows, int(lengths[rows].max()), 1 / count


def _unseen(attention: Tensor) -> Tensor:
    return -attention.clamp_min(_LEAST_ATTENTION).log().sum()
