"""The training loop: seeded, resumable after a kill at any moment, and the best checkpoint always published."""

import csv
import dataclasses
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from training.curves import draw
from training.data import Batch, Packed, collate, lengthen, plan_epoch

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PROGRESS = ("step", "pairs", "seconds", "best", "loss_sum", "token_sum")
FIXED = ("network", "batch_pairs", "batch_tokens", "seed")  # a run cannot go on with others: they decide its batches
MATRIX_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """What decides how anything is learned, besides the data and what is to learn. Steps are optimizer updates.

    network: its sizes.
    decay_share: the last part of the steps, in which the learning rate falls to zero; before, it is constant.
    longer_share: part of the sources that get unrelated text appended, up to `max_source` tokens.
    """

    network: "DataclassInstance"
    epochs: float = 1.0
    batch_pairs: int = 96
    batch_tokens: int = 8192
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    weight_decay: float = 0.01
    clip_norm: float = 2.0
    decay_share: float = 1.0
    longer_share: float = 0.0
    max_source: int = 400
    seed: int = 1
    precision: str = "auto"
    device: str = "auto"
    validate_every: int = 500
    save_seconds: float = 120.0


@dataclass(slots=True)
class Record:
    """One line of the curve; `validation_loss` is set where it was measured. Losses are per token, in nats."""

    step: int
    pairs: int
    seconds: float
    learning_rate: float
    training_loss: float
    validation_loss: float | None = None


def choose_device(name: str) -> torch.device:
    """Raises ValueError when there is no such device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is not one of auto, cpu, cuda, cuda:0, …") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r}: there is no such GPU here; use cpu or auto")
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies in it, float32 elsewhere; weights and optimizer are always float32."""
    if name != "auto":
        if name not in MATRIX_TYPES:
            raise ValueError(f"precision {name!r} is not one of auto, {', '.join(MATRIX_TYPES)}")
        return MATRIX_TYPES[name]
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def learning_rate(config: TrainingConfig, step: int, total: int) -> float:
    """Linear warm-up, constant, then linear decay to zero at `total`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    decay = min(config.decay_share * total, total - config.warmup_steps)
    return config.learning_rate * min(1.0, max(0.0, (total - step) / max(1.0, decay)))


class Learner(Protocol):
    """A network on its device, in training mode: how it learns from a batch, and how it is published."""

    @property
    def model(self) -> nn.Module: ...

    @property
    def device(self) -> torch.device: ...

    def gradients(self, batch: Batch, seed: int) -> tuple[float, int]:
        """Set each weight's gradient of the mean loss per token; the summed loss and number of tokens.

        Whatever is random depends on the seed alone: a resumed run needs no generator state.
        """
        ...

    def loss(self, batch: Batch) -> tuple[float, int]:
        """What validation makes small, summed, and what it is divided by; the model is in evaluation mode."""
        ...

    def publish(self, target: Path) -> None:
        """Write the checkpoint whole or not at all."""
        ...


class Trainer:
    """One run in one folder: `state.pt` (to go on from), `curve.csv`, `curve.png`, and the checkpoint it publishes."""

    def __init__(self, run: Path, config: TrainingConfig, learner: Learner, target: Path) -> None:
        self.run, self.config, self.learner, self.target = run, config, learner, target
        self.training, self.validation = Packed.load(run / "train.npz"), Packed.load(run / "valid.npz")
        if config.longer_share:
            self.training = lengthen(self.training, config.longer_share, config.max_source, config.seed)
        self.optimizer = torch.optim.AdamW(
            learner.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.step, self.pairs, self.seconds, self.best = 0, 0, 0.0, math.inf
        self.loss_sum, self.token_sum = 0.0, 0  # since the curve's last record
        self.curve: list[Record] = []
        self.steps_per_epoch = len(self._plan(0))
        self.total = max(1, round(config.epochs * self.steps_per_epoch))
        if (run / "state.pt").exists():
            self._restore()
            self._check_published()

    def _plan(self, epoch: int) -> list[Any]:
        return plan_epoch(self.training, epoch, self.config.seed, self.config.batch_pairs, self.config.batch_tokens)

    def _batches(self) -> Iterator[Batch]:
        """From the current step to the end; the order depends on nothing but the seed."""
        for epoch in range(self.step // self.steps_per_epoch, math.ceil(self.total / self.steps_per_epoch)):
            start = max(0, self.step - epoch * self.steps_per_epoch)
            end = min(self.steps_per_epoch, self.total - epoch * self.steps_per_epoch)
            for rows in self._plan(epoch)[start:end]:
                yield collate(self.training, rows)

    def fit(self) -> float:
        """Train to the end; the best validation loss."""
        last_save = last_time = time.monotonic()
        with _progress() as progress:
            task = progress.add_task("training", total=self.total, completed=self.step, loss=math.nan, rate=0.0)
            for batch in self._batches():
                loss, tokens = self._update(batch.to(self.learner.device))
                self.loss_sum, self.token_sum = self.loss_sum + loss, self.token_sum + tokens
                self.step, self.pairs = self.step + 1, self.pairs + len(batch.lengths)
                now = time.monotonic()
                self.seconds, last_time = self.seconds + now - last_time, now
                if self.step % 20 == 0 or self.step == self.total:
                    self._record(self.loss_sum / self.token_sum)
                    progress.update(task, loss=self.curve[-1].training_loss, rate=self.pairs / self.seconds)
                    if not progress.console.is_terminal:
                        self._tell()
                progress.update(task, completed=self.step)
                ends = self.step == self.total
                if self.step % self.config.validate_every == 0 or ends:
                    self._validate()
                if ends or now - last_save > self.config.save_seconds:
                    self._save()
                    last_save = time.monotonic()
        return self.best

    def _update(self, batch: Batch) -> tuple[float, int]:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step, self.total)
        loss, tokens = self.learner.gradients(batch, seed=self.config.seed * 1_000_003 + self.step)
        nn.utils.clip_grad_norm_(self.learner.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        return loss, tokens

    def _record(self, loss: float) -> None:
        rate = learning_rate(self.config, self.step, self.total)
        self.curve.append(Record(self.step, self.pairs, round(self.seconds, 1), rate, loss))
        self.loss_sum, self.token_sum = 0.0, 0

    def _tell(self) -> None:
        last = self.curve[-1]
        left = self.seconds / self.step * (self.total - self.step)
        text = f"step {self.step}/{self.total} loss {last.training_loss:.3f} {self.pairs / self.seconds:.1f} pairs/s"
        print(f"{text} {left / 60:.1f} min left", flush=True)

    def _validate(self) -> None:
        """The best checkpoint by validation loss goes to the model store."""
        loss = self._validation_loss()
        if not self.curve or self.curve[-1].step != self.step:
            self._record(self.loss_sum / self.token_sum)
        self.curve[-1].validation_loss = loss
        print(f"step {self.step}: validation loss {loss:.4f}", flush=True)
        if loss < self.best:
            self.best = loss
            self.learner.publish(self.target)

    @torch.no_grad()
    def _validation_loss(self) -> float:
        self.learner.model.eval()
        total, count = 0.0, 0
        for rows in plan_epoch(self.validation, 0, 0, self.config.batch_pairs, self.config.batch_tokens):
            loss, size = self.learner.loss(collate(self.validation, rows).to(self.learner.device))
            total, count = total + loss, count + size
        self.learner.model.train()
        return total / count

    def _save(self) -> None:
        state = {
            "model": self.learner.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": {name: getattr(self, name) for name in PROGRESS},
            "curve": [dataclasses.asdict(record) for record in self.curve],
            "config": json.dumps(dataclasses.asdict(self.config)),
        }
        draft = self.run / "state.pt.tmp"
        torch.save(state, draft)
        os.replace(draft, self.run / "state.pt")
        print(f"saved step {self.step}/{self.total}", flush=True)
        write_curve(self.curve, self.run / "curve.csv")
        draw(self.curve, self.run / "curve.png")

    def _restore(self) -> None:
        state = torch.load(self.run / "state.pt", map_location=self.learner.device, weights_only=True)
        before, now = json.loads(state["config"]), dataclasses.asdict(self.config)
        if changed := [name for name in FIXED if before[name] != now[name]]:
            told = ", ".join(f"{name} {before[name]}" for name in changed)
            raise ValueError(f"{self.run} holds a run with {told}; go on with the same, or use another folder")
        self.learner.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name in PROGRESS:
            setattr(self, name, state["progress"].get(name, 0))
        self.curve = [Record(**record) for record in state["curve"]]

    def _check_published(self) -> None:
        """What was published before may have been removed since."""
        if self.target.exists():
            return
        if self.step >= self.total:
            raise ValueError(f"this run is finished, but {self.target} is gone; remove {self.run} to train again")
        self.best = math.inf  # so that the next validation publishes again


def write_curve(curve: list[Record], path: Path) -> None:
    """The curve as CSV."""
    with path.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, [field.name for field in dataclasses.fields(Record)])
        writer.writeheader()
        writer.writerows(dataclasses.asdict(record) for record in curve)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  {task.fields[rate]:.0f} pairs/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
