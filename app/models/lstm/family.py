"""The native family at the seam: sources are encoded by `network.py`, rows are stepped by `step.py` or `native.py`.

A result never depends on who shared the batch. In int8, kernels of our own compute each row by itself. The matrix
kernels of torch change with the number of rows; so shapes come from a small fixed family whose members were measured to
be bit-equal row by row (`tests/models/lstm/test_invariance.py`): never fewer than four rows, then multiples of eight;
source lengths in multiples of 16, whatever the others need.
A GPU has its own shapes (`buckets.py`), step (`fixed.py`), memory for rows (`slots.py`) and runner (`graphs.py`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from app.errors import CheckpointError, ConfigurationError
from app.models.base import (
    Candidates,
    DecoderState,
    DecodingOptions,
    Limits,
    Memory,
    ModelInfo,
    Seq2SeqModel,
    Shared,
    Special,
    StepOutput,
    Tokens,
)
from app.models.checkpoint import read_json, verify
from app.models.lstm import kernels, network
from app.models.lstm.arithmetic import Arithmetic, padded_rows
from app.models.lstm.buckets import ENCODED_ROWS, bucket_width, encoder_passes
from app.models.lstm.encoding import Encoded, computed, encode, encode_padded
from app.models.lstm.fixed import FixedStep
from app.models.lstm.graphs import CudaRunner, Runner
from app.models.lstm.native import NativeReading, NativeState, NativeStep, Source
from app.models.lstm.native_encoding import NativeEncoder
from app.models.lstm.slots import FixedState
from app.models.lstm.step import RaggedStep, Reading, Run, Sources
from app.models.lstm.tokenizer import END, PAD, START, Tokenizer
from app.models.transfer import upload

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.bfloat16}  # of what torch computes
PRECISIONS = tuple(DTYPES)
FILES = ("config.json", "model.safetensors", "tokenizer.json")
FREQUENT_FILE = "frequent.json"  # optional: ids of the tokens that every summary can be written with


@dataclass(frozen=True, slots=True)
class LSTMMemory(Memory):
    """One source, ready to be read by the decoder."""

    reading: Reading | NativeReading
    candidates: Candidates
    source_tokens: int
    encoded: torch.cuda.Event | None = None  # on a GPU, whose streams do not wait for one another

    @property
    def ready(self) -> bool:
        return self.encoded is None or bool(self.encoded.query())  # type: ignore[no-untyped-call]


class LSTMState(DecoderState):
    """Slots as columns of a few tensors, of which a step gathers those in use; each keeps the source that it asks."""

    def __init__(self, step: RaggedStep, capacity: int, size: int, device: torch.device) -> None:
        self._step, self._device = step, device
        self._cell = torch.zeros(2, capacity, size, device=device)
        self._hidden = step.arithmetic.bounded(self._cell).clone()
        self._prior = torch.full((capacity, 1), -torch.inf, device=device)
        self._positions = torch.zeros(2, capacity, 1, dtype=torch.long, device=device)  # columns, and the first of each
        self._readings: dict[int, Reading] = {}
        self._asking: tuple[list[int], Tensor, Sources] | None = None  # of the last step's rows

    @torch.inference_mode()
    def join(self, rows: Sequence[int], memory: Memory) -> None:
        assert isinstance(memory, LSTMMemory)
        assert isinstance(memory.reading, Reading)
        reading = memory.reading
        wider = len(reading) - self._prior.shape[1]
        if wider > 0:
            self._prior = F.pad(self._prior, (0, wider), value=-torch.inf)
            self._positions = torch.cat([self._positions, self._positions[..., :1].expand(-1, -1, wider)], dim=2)
        hidden = self._step.arithmetic.bounded(reading.start[0::2])
        for row in rows:
            self._readings[row] = reading
            self._hidden[:, row], self._cell[:, row] = hidden, reading.start[1::2]
            _write(self._prior[row], reading.prior, -torch.inf)
            _write(self._positions[0, row], reading.columns, int(reading.columns[0]))
            _write(self._positions[1, row], reading.first, 0)
        self._asking = None

    @torch.inference_mode()
    def step(self, rows: Sequence[int], tokens: Sequence[int]) -> StepOutput:
        count = len(rows)
        index, sources = self._ask(rows)
        written = torch.tensor([*tokens, *repeat(PAD, len(index) - count)], device=self._device)
        stepped = self._step(written, self._hidden[:, index], self._cell[:, index], sources)
        used = index[:count]
        self._hidden[:, used], self._cell[:, used] = stepped.hidden[:, :count], stepped.cell[:, :count]
        return StepOutput(stepped.log_probabilities[:count], stepped.attention[:count], stepped.copied[:count])

    @torch.inference_mode()
    def reorder(self, rows: Sequence[int], parents: Sequence[int]) -> None:
        source = torch.tensor(parents, device=self._device)
        target = torch.tensor(rows, device=self._device)
        # Beams of one source share its memory: only the recurrent state moves.
        self._hidden[:, target], self._cell[:, target] = self._hidden[:, source], self._cell[:, source]

    def leave(self, rows: Sequence[int]) -> None:
        for row in rows:
            del self._readings[row]
        self._asking = None

    def _ask(self, rows: Sequence[int]) -> tuple[Tensor, Sources]:
        """The slots that are computed for these rows, and what they ask."""
        if self._asking is None or self._asking[0] != rows:
            index = torch.tensor([*rows, *repeat(rows[0], padded_rows(len(rows)) - len(rows))], device=self._device)
            runs = [
                Run(numbers[0], numbers[-1] + 1, self._readings[rows[numbers[0]]])
                for numbers in ([number for number, _ in run] for _, run in groupby(enumerate(rows), self._source))
            ]
            width = max(len(run.reading) for run in runs)
            columns, first = self._positions[:, index, :width]
            sources = Sources(runs, self._prior[index, :width], columns, first, self._step.shared)
            self._asking = list(rows), index, sources
        return self._asking[1:]

    def _source(self, row: tuple[int, int]) -> int:
        return id(self._readings[row[1]])


def _write(row: Tensor, values: Tensor, rest: float) -> None:
    row[: len(values)] = values
    row[len(values) :] = rest


class LSTMFixedState(FixedState):
    """Slots in memory that never moves, as a GPU has them."""

    def join(self, rows: Sequence[int], memory: Memory) -> None:
        assert isinstance(memory, LSTMMemory)
        assert isinstance(memory.reading, Reading)
        if memory.encoded:
            torch.cuda.current_stream(memory.reading.prior.device).wait_event(memory.encoded)
        self.enter(rows, memory.reading)


class LSTMNativeState(NativeState):
    """Slots that are computed in int8."""

    def join(self, rows: Sequence[int], memory: Memory) -> None:
        assert isinstance(memory, LSTMMemory)
        assert isinstance(memory.reading, NativeReading)
        self.enter(rows, memory.reading)


class LSTMModel(Seq2SeqModel):
    """A checkpoint of the native family, on its device."""

    def __init__(
        self,
        model: network.Seq2Seq,
        tokenizer: Tokenizer,
        info: ModelInfo,
        frequent: Sequence[int] | None = None,
        runner: Runner | None = None,
    ) -> None:
        """model: with float32 weights. frequent: what every row can write; None is the whole vocabulary.

        runner: of a device that takes its work in fixed shapes.
        """
        tokens = range(model.config.vocabulary_size) if frequent is None else tuple(frequent)
        self._tokenizer, self.info = tokenizer, info
        self._device = torch.device(info.device)
        self._shared = Shared(tokens)
        self._columns = np.full(model.config.vocabulary_size, -1, np.int32)  # of the frequent tokens
        self._columns[list(tokens)] = np.arange(len(tokens))
        self._runner = runner
        dtype, frequent_tokens = DTYPES[info.precision], torch.tensor(tokens, device=self._device)
        self._step: RaggedStep | FixedStep | NativeStep
        self._native: NativeEncoder | None = None
        with torch.inference_mode():
            network.fold_values(model)
            if info.precision == "int8":
                self._step, self._native = NativeStep(model, frequent_tokens), NativeEncoder(model)
            else:
                self._step = (FixedStep if runner else RaggedStep)(model, Arithmetic(dtype), frequent_tokens)
        self._model = model.to(dtype)  # from here on it only encodes

    def tokenize(self, text: str) -> Tokens:
        return self._tokenizer.encode(text)

    def tokenize_summary(self, text: str) -> Tokens:
        return self._tokenizer.encode(text.strip())  # as detokenize() gives it: no white space at its edges

    def detokenize(self, ids: Sequence[int]) -> Tokens:
        return self._tokenizer.decode(ids)

    @property
    def pieces(self) -> tuple[str, ...]:
        return self._tokenizer.pieces

    @property
    def shared(self) -> Shared:
        return self._shared

    @torch.inference_mode()
    def encode(self, sources: Sequence[Sequence[int]], given: Sequence[Sequence[int]] = ()) -> list[Memory]:
        given = given or [()] * len(sources)
        if self._native:
            return list(map(self._native_memory, sources, given, self._native(sources)))
        if self._runner is None:
            return list(map(self._memory, sources, given, encode(self._model, sources)))
        memories: dict[int, Memory] = {}
        with self._runner.beside() as ready:
            for numbers, width in encoder_passes([len(source) for source in sources]):
                encoded = encode_padded(self._model, [sources[number] for number in numbers], ENCODED_ROWS, width)
                for number, one in zip(numbers, encoded, strict=True):
                    memories[number] = self._memory(sources[number], given[number], one, ready)
        return [memories[number] for number in range(len(sources))]

    def _memory(
        self,
        source: Sequence[int],
        given: Sequence[int],
        encoded: Encoded,
        ready: torch.cuda.Event | None = None,
    ) -> LSTMMemory:
        columns, own = self._places(source, given)
        candidates = Candidates(self._shared, own)
        _, first, same = np.unique(columns, return_index=True, return_inverse=True)
        positions = np.zeros((2, len(encoded.prior)), np.int64)
        positions[0] = columns[0]
        positions[:, : len(source)] = columns, first[same]
        places, tokens = upload([torch.from_numpy(positions), torch.tensor(own, dtype=torch.long)], self._device)
        reading = Reading(
            encoded.keys.float(), encoded.values.float(), encoded.prior, places[0], places[1], tokens, encoded.start
        )
        return LSTMMemory(reading, candidates, len(source), ready)

    def _native_memory(self, source: Sequence[int], given: Sequence[int], encoded: Source) -> LSTMMemory:
        columns, own = self._places(source, given)
        return LSTMMemory(NativeReading(encoded, columns, own), Candidates(self._shared, own), len(source))

    def _places(self, source: Sequence[int], given: Sequence[int]) -> tuple[NDArray[np.int32], list[int]]:
        """Where the output holds the token of each position, and the tokens that are not frequent, in this order."""
        columns = self._columns[list(source)]
        seldom = np.flatnonzero(columns < 0).tolist()
        more = (token for token in given if self._columns[token] < 0)
        own = list(dict.fromkeys([*(source[position] for position in seldom), *more]))
        place = {token: column for column, token in enumerate(own, len(self._shared.tokens))}
        columns[seldom] = [place[source[position]] for position in seldom]
        return columns, own

    def positions(self, lengths: Sequence[int]) -> int:
        if self._native:
            return sum(lengths)
        if self._runner is None:
            return computed(lengths)
        return sum(ENCODED_ROWS * width for _, width in encoder_passes(lengths))

    def open(self, capacity: int) -> DecoderState:
        with torch.inference_mode():
            if isinstance(self._step, FixedStep):
                assert self._runner is not None
                limits = self.info.limits
                widest = bucket_width(limits.max_source_tokens, limits.max_source_tokens + limits.max_summary_tokens)
                return LSTMFixedState(self._step, capacity, widest, self._runner)
            if isinstance(self._step, NativeStep):
                return LSTMNativeState(self._step, capacity)
            return LSTMState(self._step, capacity, self._model.config.decoder_size, self._device)


def load(folder: Path, *, device: str, precision: str, runner: Runner | None = None) -> LSTMModel:
    """Verify the manifest, build the network of `config.json` and fill it. A GPU has a runner of its own.

    Raises CheckpointError naming the file that is missing, damaged or does not fit the others.
    """
    frequent = folder / FREQUENT_FILE
    digest = verify(folder, [*FILES, FREQUENT_FILE] if frequent.exists() else FILES)
    config = read_json(folder / "config.json")
    chosen = _device(device)
    precision = _precision(precision, chosen)
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
    model.to(device=chosen).eval().requires_grad_(False)
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
        precision=precision,
        device=str(chosen),
        special=Special(start=START, end=END, suppressed=(PAD, START)),
    )
    if chosen.type == "cuda":
        runner = CudaRunner(chosen)
    return LSTMModel(model, tokenizer, info, _frequent(frequent, sizes.vocabulary_size), runner)


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


def _precision(name: str, device: torch.device) -> str:
    """`auto` is the fastest that the device multiplies in; the ROUGE of all is within 0.1 (`benchmarks/RESULTS.md`)."""
    if name == "auto":
        return _fastest(device)
    if name not in PRECISIONS:
        raise ConfigurationError(f"PRECIS_PRECISION={name}: not one of auto, {', '.join(PRECISIONS)}")
    if name == "int8" and device.type != "cpu":
        raise ConfigurationError(f"PRECIS_PRECISION={name}: only on a CPU; on {device} use bfloat16 or auto")
    if name == "int8" and (missing := kernels.missing()):
        raise ConfigurationError(f"PRECIS_PRECISION={name}: {missing}; use auto")
    return name


def _fastest(device: torch.device) -> str:
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    if not kernels.missing():
        return "int8"
    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"


def _frequent(path: Path, vocabulary_size: int) -> list[int] | None:
    """The ids of the frequent tokens; None without such a file.

    Raises CheckpointError when they are not ids of the vocabulary, each once, the end token among them.
    """
    if not path.exists():
        return None
    try:
        tokens = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: {type(error).__name__}: {error}") from error
    known = range(vocabulary_size)
    if not isinstance(tokens, list) or not all(type(token) is int and token in known for token in tokens):
        raise CheckpointError(f"{path}: not a list of token ids under {vocabulary_size}")
    if len(set(tokens)) < len(tokens) or END not in tokens:
        raise CheckpointError(f"{path}: holds an id twice, or not the end token {END}")
    return tokens
