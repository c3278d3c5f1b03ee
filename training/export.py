"""A trained network as a checkpoint of the model store."""

import dataclasses
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from app.models.base import DecodingOptions, Limits
from app.models.checkpoint import publish
from app.models.lstm.network import Seq2Seq


@dataclass(frozen=True, slots=True)
class Card:
    """What a checkpoint says of itself; `readme` is its model card in Markdown."""

    language: str
    description: str
    limits: Limits
    decoding: DecodingOptions
    readme: str


def export(model: Seq2Seq, tokenizer: Path, target: Path, card: Card) -> None:
    """Write `target` whole or not at all; weights in half precision."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    draft.chmod(0o755)
    try:
        weights = {name: tensor.detach().to("cpu", torch.float16) for name, tensor in model.state_dict().items()}
        save_file(weights, draft / "model.safetensors")
        shutil.copyfile(tokenizer, draft / "tokenizer.json")
        config = {
            "family": "lstm",
            "language": card.language,
            "description": card.description,
            "network": dataclasses.asdict(model.config),
            "limits": dataclasses.asdict(card.limits),
            "decoding": dataclasses.asdict(card.decoding),
        }
        (draft / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (draft / "README.md").write_text(card.readme, encoding="utf-8")
        for path in draft.iterdir():  # readable by whatever user the service runs as
            path.chmod(0o644)
        publish(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
