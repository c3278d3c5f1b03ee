"""A trained network as a checkpoint of the model store."""

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from app.models.base import DecodingOptions, Limits
from app.models.checkpoint import publish, read_json, verify
from app.models.lstm.family import FREQUENT_FILE
from app.models.lstm.network import Seq2Seq
from app.models.lstm.tokenizer import END, PAD, START

FREQUENT_TOKENS = 10_240
QUERY = "decoder.attention.query.weight"


@dataclass(frozen=True, slots=True)
class Card:
    """What a checkpoint says of itself; `readme` is its model card in Markdown."""

    language: str
    description: str
    limits: Limits
    decoding: DecodingOptions
    readme: str


def frequent_tokens(
    data: Sequence[NDArray[np.uint16]], vocabulary_size: int, count: int = FREQUENT_TOKENS
) -> list[int]:
    """The end token, and those that summaries most often hold: what every row may write.

    data: the ids of all summaries of each data set; a small one counts as much as a large one. The tokens of a row's
    own source are added to them (Jean et al. 2015, section 3.2; Nallapati et al. 2016, section 2.2).
    """
    shares = np.sum([np.bincount(ids, minlength=vocabulary_size) / max(1, len(ids)) for ids in data], axis=0)
    shares[END] = len(data) + 1
    order = [int(token) for token in np.argsort(-shares, kind="stable") if token not in (PAD, START)]
    return order[:count]


def export(model: Seq2Seq, tokenizer: Path, target: Path, card: Card, frequent: Sequence[int]) -> None:
    """Write `target` whole or not at all; weights in half precision."""
    with draft_of(target) as draft:
        _write_frequent(draft, frequent)
        _write_weights(draft, model)
        shutil.copyfile(tokenizer, draft / "tokenizer.json")
        config = {
            "family": "lstm",
            "language": card.language,
            "description": card.description,
            "network": dataclasses.asdict(model.config),
            "limits": dataclasses.asdict(card.limits),
            "decoding": dataclasses.asdict(card.decoding),
        }
        _write(draft, config, card.readme)


def refit(model: Seq2Seq, source: Path, target: Path) -> None:
    """The checkpoint `source` as `target`, with this network in place of its own.

    Raises CheckpointError when `source` is not whole.
    """
    verify(source)
    config = read_json(source / "config.json") | {"network": dataclasses.asdict(model.config)}
    with draft_of(target) as draft:
        _write_weights(draft, model)
        _copy_words(source, draft)
        _write(draft, config, (source / "README.md").read_text(encoding="utf-8"))


def describe(
    source: Path,
    target: Path,
    readme: str | None = None,
    description: str | None = None,
    frequent: Sequence[int] | None = None,
    sharpen: float = 1.0,
    **decoding: float | None,
) -> None:
    """Publish the checkpoint `source` as `target` (which may be the same) with another card and other defaults.

    What is None stays as it is. sharpen: what the attention's scores are multiplied by, so that it is more decided.
    Raises CheckpointError when `source` is not whole.
    """
    verify(source)
    config = read_json(source / "config.json")
    config["description"] = config["description"] if description is None else description
    config["decoding"] |= {name: value for name, value in decoding.items() if value is not None}
    with draft_of(target) as draft:
        weights = load_file(source / "model.safetensors")
        weights[QUERY] = (weights[QUERY].float() * sharpen).to(weights[QUERY].dtype)
        save_file(weights, draft / "model.safetensors")
        _copy_words(source, draft)
        if frequent is not None:
            _write_frequent(draft, frequent)
        _write(draft, config, (source / "README.md").read_text(encoding="utf-8") if readme is None else readme)


@contextmanager
def draft_of(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its place in the end, or vanishes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    draft.chmod(0o755)
    try:
        yield draft
        for path in draft.iterdir():  # readable by whatever user the service runs as
            path.chmod(0o644)
        publish(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _write_weights(draft: Path, model: Seq2Seq) -> None:
    weights = {name: tensor.detach().to("cpu", torch.float16) for name, tensor in model.state_dict().items()}
    save_file(weights, draft / "model.safetensors")


def _copy_words(source: Path, draft: Path) -> None:
    """The tokenizer, and the frequent tokens where there are any."""
    for name in ("tokenizer.json", FREQUENT_FILE):
        if (source / name).exists():
            shutil.copyfile(source / name, draft / name)


def _write(draft: Path, config: dict[str, Any], readme: str) -> None:
    (draft / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (draft / "README.md").write_text(readme, encoding="utf-8")


def _write_frequent(draft: Path, frequent: Sequence[int]) -> None:
    (draft / FREQUENT_FILE).write_text(json.dumps(list(frequent), separators=(",", ":")) + "\n", encoding="utf-8")
