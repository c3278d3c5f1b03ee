"""Small checkpoints of the native family, made on the spot."""

from pathlib import Path

import torch

from app.models.base import DecodingOptions, Limits, ModelInfo, Special
from app.models.lstm.family import LSTMModel
from app.models.lstm.network import NetworkConfig, Seq2Seq
from app.models.lstm.tokenizer import END, PAD, START
from tests.texts import trained_tokenizer
from training.export import Card, export

LIMITS = Limits(400, 64)
SMALL = NetworkConfig(320, embedding_size=16, encoder_size=12, decoder_size=20, key_size=8)


def model_of(network: Seq2Seq) -> LSTMModel:
    """A network at the seam, with random weights and a tokenizer that does not matter."""
    dtype = str(network.embedding.weight.dtype).removeprefix("torch.")
    special = Special(START, END, (PAD, START))
    info = ModelInfo("random", "lstm", "sha256:0", "en", "", LIMITS, DecodingOptions(), "", 0, dtype, "cpu", special)
    return LSTMModel(network, trained_tokenizer(), info)


def write_checkpoint(store: Path, name: str = "small", network: NetworkConfig = SMALL, language: str = "en") -> Path:
    """An untrained checkpoint as training would publish it."""
    torch.manual_seed(0)
    store.mkdir(parents=True, exist_ok=True)
    trained_tokenizer(language=language).save(store.parent / "tokenizer.json")
    card = Card(language, "For tests.", LIMITS, DecodingOptions(num_beams=2, max_length=10), "# small\n")
    export(Seq2Seq(network), store.parent / "tokenizer.json", store / name, card)
    return store / name
