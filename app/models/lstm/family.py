"""The native family at the seam: the network of `network.py`, one step at a time, over numbered slots.

A result never depends on who shared the batch. Matrix kernels change with the number of rows; so shapes come from a
small fixed family whose members were measured to be bit-equal row by row (`tests/models/lstm/test_invariance.py`):
never fewer than four rows, row counts that double, source widths in multiples of sixteen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from app.errors import CheckpointError, ConfigurationError
from app.models.base import (
    DecoderState,
    DecodingOptions,
    Limits,
    Memory,
    ModelInfo,
    Seq2SeqModel,
    Special,
    StepOutput,
    Tokens,
)
from app.models.checkpoint import read_json, verify
from app.models.lstm import network
from app.models.lstm.tokenizer import END, PAD, START, Tokenizer

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FEWEST_ROWS = 4
WIDTH_STEP = 16
FILES = ("config.json", "model.safetensors", "tokenizer.json")


def padded_rows(count: int) -> int:
    """Number of rows that are computed for `count` of them: 4, 8, 16, 32, …"""
    return max(FEWEST_ROWS, 1 << (count - 1).bit_length())


def padded_width(length: int) -> int:
    """Number of source positions that are computed for `length` of them: a multiple of 16."""
    return -(-length // WIDTH_STEP) * WIDTH_STEP


@dataclass(frozen=True, slots=True)
class LSTMMemory(Memory):
    """One source: keys (S, K), values (S, H), ids (S), and the decoder's first state (4, D); no padding."""

    keys: Tensor
    values: Tensor
    ids: Tensor
    start: Tensor

    @property
    def source_tokens(self) -> int:
        return len(self.ids)


class LSTMState(DecoderState):
    """Slots as rows of a few large tensors; a step computes the smallest shape that covers the rows in use."""

    def __init__(self, model: network.Seq2Seq, capacity: int, max_source: int, device: torch.device) -> None:
        config, dtype = model.config, model.embedding.weight.dtype
        rows, width = padded_rows(capacity), padded_width(max_source)
        self._model, self._device = model, device
        self._keys = torch.zeros(rows, width, config.key_size, dtype=dtype, device=device)
        self._values = torch.zeros(rows, width, 2 * config.encoder_size, dtype=dtype, device=device)
        self._ids = torch.full((rows, width), PAD, device=device)
        self._lengths = torch.ones(rows, dtype=torch.long, device=device)  # a free slot attends to one zero
        self._state = torch.zeros(4, rows, config.decoder_size, dtype=dtype, device=device)
        self._widths = [0] * rows  # the same lengths on the host; 0 is free
        self._positions = torch.arange(width, device=device)

    @torch.inference_mode()
    def join(self, rows: Sequence[int], memory: Memory) -> None:
        assert isinstance(memory, LSTMMemory)
        length = memory.source_tokens
        for row in rows:
            self._keys[row, :length] = memory.keys
            self._values[row, :length] = memory.values
            self._values[row, length:] = 0  # a stale NaN times a weight of zero would still be NaN
            self._keys[row, length:] = 0
            self._ids[row, :length] = memory.ids
            self._ids[row, length:] = PAD
            self._lengths[row] = length
            self._state[:, row] = memory.start
            self._widths[row] = length

    @torch.inference_mode()
    def step(self, rows: Sequence[int], tokens: Sequence[int]) -> StepOutput:
        count, width = padded_rows(max(rows) + 1), padded_width(max(self._widths))
        index = torch.tensor(rows, device=self._device)
        written = torch.full((count, 1), PAD, device=self._device)  # (B, 1)
        written[index, 0] = torch.tensor(tokens, device=self._device)
        ids = self._ids[:count, :width]  # (B, S)
        memory = network.Memory(
            self._keys[:count, :width],  # (B, S, K)
            self._values[:count, :width],  # (B, S, H)
            ids,
            self._positions[:width] < self._lengths[:count].unsqueeze(1),  # (B, S)
        )
        decoded = self._model.decode(written, memory, network.State(*self._state[:, :count].unbind(0)))
        self._state[:, index] = torch.stack(decoded.state)[:, index]
        log_probabilities = self._model.log_probabilities(decoded, ids).squeeze(1)  # (B, V)
        return StepOutput(
            log_probabilities[index],
            decoded.attention.squeeze(1)[index],
            decoded.shares[1].squeeze(1)[index],
        )

    @torch.inference_mode()
    def reorder(self, rows: Sequence[int], parents: Sequence[int]) -> None:
        source = torch.tensor(parents, device=self._device)
        target = torch.tensor(rows, device=self._device)
        # Beams of one source share its memory: only the recurrent state moves.
        self._state[:, target] = self._state[:, source]

    @torch.inference_mode()
    def leave(self, rows: Sequence[int]) -> None:
        for row in rows:
            self._widths[row] = 0
            self._lengths[row] = 1


class LSTMModel(Seq2SeqModel):
    """A checkpoint of the native family, on its device."""

    def __init__(self, model: network.Seq2Seq, tokenizer: Tokenizer, info: ModelInfo) -> None:
        self._model, self._tokenizer, self.info = model, tokenizer, info
        self._device = torch.device(info.device)

    def tokenize(self, text: str) -> Tokens:
        return self._tokenizer.encode(text)

    def tokenize_summary(self, text: str) -> Tokens:
        return self._tokenizer.encode(text.strip())  # as detokenize() gives it: no white space at its edges

    def detokenize(self, ids: Sequence[int]) -> Tokens:
        return self._tokenizer.decode(ids)

    @property
    def pieces(self) -> tuple[str, ...]:
        return self._tokenizer.pieces

    @torch.inference_mode()
    def encode(self, sources: Sequence[Sequence[int]]) -> list[Memory]:
        count, width = padded_rows(len(sources)), padded_width(max(len(ids) for ids in sources))
        ids = torch.full((count, width), PAD)  # (B, S)
        lengths = torch.ones(count, dtype=torch.long)  # (B)
        for row, source in enumerate(sources):
            ids[row, : len(source)] = torch.tensor(source)
            lengths[row] = len(source)
        memory, state = self._model.encode(ids.to(self._device), lengths.to(self._device))
        start = torch.stack(state)  # (4, B, D)
        return [
            LSTMMemory(
                memory.keys[row, :length].clone(),
                memory.values[row, :length].clone(),
                memory.ids[row, :length].clone(),
                start[:, row].clone(),
            )
            for row, length in enumerate(len(source) for source in sources)
        ]

    def open(self, capacity: int) -> LSTMState:
        with torch.inference_mode():
            return LSTMState(self._model, capacity, self.info.limits.max_source_tokens, self._device)


def load(folder: Path, *, device: str, precision: str) -> LSTMModel:
    """Verify the manifest, build the network of `config.json` and fill it.

    Raises CheckpointError naming the file that is missing, damaged or does not fit the others.
    """
    digest = verify(folder, FILES)
    config = read_json(folder / "config.json")
    chosen, dtype = _device(device), _precision(precision)
    tokenizer = _tokenizer(folder / "tokenizer.json")
    try:
        sizes = network.NetworkConfig(**config["network"])
        limits, defaults = Limits(**config["limits"]), DecodingOptions(**config["decoding"])
        _check_defaults(defaults, limits)
        description, language = str(config["description"]), str(config["language"])
        model = network.Seq2Seq(sizes)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{folder / 'config.json'}: {type(error).__name__}: {error}") from error
    if tokenizer.vocabulary_size != sizes.vocabulary_size:
        words = f"{tokenizer.vocabulary_size} tokens, but config.json says {sizes.vocabulary_size}"
        raise CheckpointError(f"{folder / 'tokenizer.json'}: {words}")
    _fill(model, folder / "model.safetensors")
    model.to(device=chosen, dtype=dtype).eval().requires_grad_(False)
    card = folder / "README.md"
    info = ModelInfo(
        name=folder.name,
        family="lstm",
        digest=digest,
        language=language,
        description=description,
        limits=limits,
        defaults=defaults,
        card=card.read_text(encoding="utf-8") if card.exists() else "",
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        precision=str(dtype).removeprefix("torch."),
        device=str(chosen),
        special=Special(start=START, end=END, suppressed=(PAD, START)),
    )
    return LSTMModel(model, tokenizer, info)


def _check_defaults(defaults: DecodingOptions, limits: Limits) -> None:
    """Raises ValueError when a request that names no parameter would be refused."""
    if not 1 <= defaults.num_beams <= limits.max_beams:
        raise ValueError(f"num_beams {defaults.num_beams} is not between 1 and max_beams {limits.max_beams}")
    longest = limits.max_summary_tokens
    if not 1 <= defaults.max_length <= longest:
        raise ValueError(f"max_length {defaults.max_length} is not between 1 and max_summary_tokens {longest}")
    if not 0 <= defaults.min_length <= defaults.max_length:
        raise ValueError(f"min_length {defaults.min_length} is not between 0 and max_length {defaults.max_length}")


def _fill(model: network.Seq2Seq, path: Path) -> None:
    try:
        weights: dict[str, Any] = load_file(path)
        model.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: {reason}") from error


def _tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.load(path)
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"{path}: not a tokenizer ({error})") from error


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(f"PRECIS_DEVICE={name}: not a device (auto, cpu, cuda, cuda:0, …)") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError(f"PRECIS_DEVICE={name}: there is no such GPU here; use cpu or auto")
    return device


def _precision(name: str) -> torch.dtype:
    if name == "auto":
        return torch.float32
    if name not in PRECISIONS:
        raise ConfigurationError(f"PRECIS_PRECISION={name}: not one of auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[name]
