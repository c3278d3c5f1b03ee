"""Small checkpoints of the native family, made on the spot."""

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from app.models import kernels
from app.models.base import DecodingOptions, Limits, ModelInfo, Special
from app.models.devices import PRECISIONS
from app.models.lstm.family import LSTMModel
from app.models.lstm.graphs import Runner
from app.models.lstm.network import NetworkConfig, Seq2Seq
from app.models.lstm.tokenizer import END, PAD, START
from tests.texts import trained_tokenizer
from training.export import Card, export

LIMITS = Limits(400, 64)
SMALL = NetworkConfig(320, embedding_size=16, encoder_size=12, decoder_size=20, key_size=8)

WITH_KERNELS = pytest.mark.skipif(kernels.missing() is not None, reason=f"int8: {kernels.missing()}")
ON_A_CPU = [pytest.param(name, marks=WITH_KERNELS if name == "int8" else ()) for name in PRECISIONS]

FREQUENT = range(2, 160)  # half of the vocabulary; the rest is written where the source has it


def model_of(
    network: Seq2Seq,
    precision: str = "float32",
    frequent: Sequence[int] | None = None,
    runner: Runner | None = None,
    device: str = "cpu",
) -> LSTMModel:
    """A copy of a network at the seam, with a tokenizer that does not matter."""
    special = Special(START, END, (PAD, START))
    info = ModelInfo(
        "random", "lstm", "sha256:0", "en", "", LIMITS, DecodingOptions(), "", 0, precision, device, special
    )
    return LSTMModel(copy.deepcopy(network).eval().to(device), trained_tokenizer(), info, frequent, runner)


def write_checkpoint(store: Path, name: str = "small", network: NetworkConfig = SMALL, language: str = "en") -> Path:
    """An untrained checkpoint as training would publish it."""
    torch.manual_seed(0)
    store.mkdir(parents=True, exist_ok=True)
    trained_tokenizer(language=language).save(store.parent / "tokenizer.json")
    card = Card(language, "For tests.", LIMITS, DecodingOptions(num_beams=2, max_length=10), "# small\n")
    export(Seq2Seq(network), store.parent / "tokenizer.json", store / name, card, FREQUENT)
    return store / name
