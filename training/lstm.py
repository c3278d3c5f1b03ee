"""The native family's network as something that learns."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from app.models.lstm.network import NetworkConfig, Seq2Seq
from app.models.lstm.tokenizer import Tokenizer
from training.data import Batch, Packed
from training.export import Card, export, frequent_tokens
from training.objective import Objective
from training.risk import Reward
from training.train import TrainingConfig, choose_device, choose_precision
from training.workers import Workers


@dataclass(frozen=True, slots=True)
class Aims:
    """What is learned beside the references' likelihood.

    attention_weight: how much attention is drawn to the target's own words in the source (`Objective`).
    risk_share, samples: part of the loss that is the measure itself; summaries drawn for each source to estimate it.
    risk_beams: width of the beam whose hypotheses are ranked by the measure instead; 0 draws samples.
    """

    attention_weight: float = 0.0
    risk_share: float = 0.0
    samples: int = 0
    risk_beams: int = 0


class LSTMLearner:
    """Of a prepared run. On a CPU one thread for each core takes a share of a batch."""

    def __init__(
        self,
        run: Path,
        network: NetworkConfig,
        config: TrainingConfig,
        aims: Aims,
        card: Card,
        weights: Path | None = None,
    ) -> None:
        self.card, self._tokenizer = card, run / "tokenizer.json"
        self._frequent = frequent_tokens([Packed.load(run / "train.npz").summary_ids], network.vocabulary_size)
        self.device = choose_device(config.device)
        torch.manual_seed(config.seed)
        self.model = Seq2Seq(network)
        if weights is not None:
            self.model.load_state_dict(load_file(weights))
        self.model.to(self.device)
        self._workers = Workers(self.model, torch.get_num_threads() if self.device.type == "cpu" else 1)
        reward = Reward(Tokenizer.load(self._tokenizer), card.language) if aims.risk_share else None
        self._objective = Objective(
            choose_precision(config.precision, self.device),
            aims.attention_weight,
            aims.risk_share,
            aims.samples,
            aims.risk_beams,
            reward=reward,
        )

    def gradients(self, batch: Batch, seed: int) -> tuple[float, int]:
        return self._workers.gradients(batch, self._objective, seed)

    def loss(self, batch: Batch) -> tuple[float, int]:
        """Of tokens; where the measure itself is trained on, 1 less the reward of the greedy summary, of each text."""
        if self._objective.reward is not None:
            return self._objective.regret(self.model, batch).item(), len(batch.lengths)
        loss, tokens = self._objective.likelihood(self.model, batch)
        return loss.item(), tokens

    def publish(self, target: Path) -> None:
        export(self.model, self._tokenizer, target, self.card, self._frequent)
