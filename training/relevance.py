"""Where a text ends: the relevance of source positions is trained, and all else of a network stays as it is.

Texts are put end to end, as pages and feeds have them, and each position learns whether another one begins there
(`app.models.lstm.network.Relevance`). No summary is needed, and what becomes of a text alone hardly changes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from app.models.checkpoint import read_json
from app.models.lstm.network import NetworkConfig, Seq2Seq
from training.data import Packed, pad
from training.train import choose_precision

ALONE = 0.15  # share of the texts that nothing follows
BATCH = 64
POOL = 8  # batches whose texts are sorted by length together, so that little is padded
WARMUP = 50  # steps
CLIP_NORM = 5.0
TELL_EVERY = 100  # steps
NEXT = 30  # tokens


@dataclass(frozen=True, slots=True)
class Joined:
    """Texts end to end: source (B, S), lengths (B,), and where another one begins, (B, S) bool."""

    source: Tensor
    lengths: Tensor
    begins: Tensor

    @property
    def real(self) -> Tensor:
        """Where there is no padding, (B, S)."""
        return torch.arange(self.source.shape[1]) < self.lengths.unsqueeze(1)


@dataclass(frozen=True, slots=True)
class Told:
    """loss: cross-entropy, in nats a text. kept: mean relevance of what is the first text's own; passed_over: one less
    that of the `NEXT` tokens behind it, or as many as there are.
    """

    loss: float
    kept: float
    passed_over: float


def joined(packed: Packed, longest: int, random: np.random.Generator) -> Iterator[Joined]:
    """Batches without end of texts with random others behind them, at most `longest` tokens in all.

    Their lengths are spread evenly on a logarithmic scale: the first text that follows is the hardest to tell.
    """
    while True:
        pool = sorted((_join(packed, longest, random) for _ in range(POOL * BATCH)), key=lambda one: len(one[0]))
        for start in BATCH * random.permutation(POOL):
            sources, begins = zip(*pool[start : start + BATCH], strict=True)
            lengths = torch.tensor([len(source) for source in sources])
            yield Joined(pad(sources), lengths, pad(begins).bool())


def _join(packed: Packed, longest: int, random: np.random.Generator) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    parts = [packed.source(int(random.integers(len(packed))))]
    wanted = length = len(parts[0])
    if random.random() >= ALONE:
        wanted = round(length * max(1.0, longest / length) ** random.random()) + 1
    while length < wanted:
        parts.append(packed.source(int(random.integers(len(packed)))))
        length += len(parts[-1])
    begins = np.zeros(length, np.int64)
    begins[np.cumsum([len(part) for part in parts[:-1]], dtype=np.int64)] = 1
    end = min(length, longest)
    return np.concatenate(parts)[:end], begins[:end]


def with_relevance(source: Path, size: int, seed: int) -> tuple[Seq2Seq, int]:
    """The network of a checkpoint, with relevance of this size that knows nothing yet; and how much it reads."""
    config = read_json(source / "config.json")
    torch.manual_seed(seed)
    model = Seq2Seq(replace(NetworkConfig(**config["network"]), relevance_size=size))
    own = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("relevance.")}
    model.load_state_dict(load_file(source / "model.safetensors") | own)
    return model, int(config["limits"]["max_source_tokens"])


def train(
    model: Seq2Seq, packed: Packed, *, longest: int, steps: int, learning_rate: float, seed: int
) -> Iterator[tuple[int, float]]:
    """Train `model.relevance`, which must be there. Tells now and then how many steps were done and their loss."""
    assert model.relevance is not None
    model.eval()
    parameters = list(model.relevance.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    batches, losses = joined(packed, longest, np.random.default_rng(seed)), list[float]()
    for step, batch in enumerate(islice(batches, steps), start=1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, step / WARMUP, 2 * (1 - step / (steps + 1)))
        loss = _loss(model, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # so in torch
        nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        losses.append(loss.item())
        if step % TELL_EVERY == 0 or step == steps:
            yield step, float(np.mean(losses))
            losses.clear()


@torch.no_grad()
def make_ready(model: Seq2Seq, readiness: float) -> None:
    """Let another text begin more readily, or less: to miss an end costs a summary more than to see one too early."""
    assert model.relevance is not None
    model.relevance.begins.bias.add_(readiness)


@torch.no_grad()
def tell(model: Seq2Seq, packed: Packed, *, longest: int, texts: int, seed: int) -> Told:
    """Measure a trained one."""
    model.eval()
    losses, kept, passed_over = [], [], []
    for batch in islice(joined(packed, longest, np.random.default_rng(seed)), -(-texts // BATCH)):
        losses.append(_loss(model, batch).item())
        with autocast():
            relevance = model.encode(batch.source, batch.lengths)[0].prior.exp()
        own = batch.begins.cumsum(1) == 0
        near = (F.pad(own, (NEXT, 0), value=True)[:, : own.shape[1]]) & ~own & batch.real
        kept.append(relevance[own & batch.real].mean().item())
        passed_over.append(1 - relevance[near].mean().item())
    return Told(*(float(np.mean(values)) for values in (losses, kept, passed_over)))


def _loss(model: Seq2Seq, batch: Joined) -> Tensor:
    """Cross-entropy summed over all positions but the first; its mean over texts."""
    assert model.relevance is not None
    with autocast():
        with torch.no_grad():
            embedded = model.embedding(batch.source)
            both = torch.cat([model.encoder(embedded, batch.lengths)[0], embedded], dim=2)
        logits = model.relevance.logits(both, batch.real)[:, 1:]
    asked, wanted = batch.real[:, 1:], batch.begins[:, 1:].float()
    return F.binary_cross_entropy_with_logits(logits[asked], wanted[asked], reduction="sum") / len(logits)


def autocast() -> torch.autocast:
    dtype = choose_precision("auto", torch.device("cpu"))
    return torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32)
