"""What computes a model of the native family: torch on a CPU, torch on a GPU, or kernels of our own in int8.

A result never depends on who shared the batch. In int8, kernels of our own compute each row by itself. The matrix
kernels of torch change with the number of rows; so shapes come from a small fixed family whose members were measured to
be bit-equal row by row (`tests/models/lstm/test_invariance.py`): never fewer than four rows, then multiples of eight;
source lengths in multiples of 16, whatever the others need.
A GPU has its own shapes (`buckets.py`), step (`fixed.py`), memory for rows (`slots.py`) and runner (`graphs.py`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, repeat
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from app.models.base import AttentionOptions, Candidates, DecoderState, Limits, Memory, StepOutput
from app.models.lstm.arithmetic import Arithmetic
from app.models.lstm.buckets import ENCODED_ROWS, bucket_width, encoder_passes
from app.models.lstm.encoding import Encoded, computed, encode, encode_padded
from app.models.lstm.fixed import FixedStep
from app.models.lstm.graphs import Runner
from app.models.lstm.native import NativeReading, NativeState, NativeStep
from app.models.lstm.native_encoding import NativeEncoder
from app.models.lstm.network import Seq2Seq
from app.models.lstm.slots import FixedState
from app.models.lstm.step import RaggedStep, Reading, Run, Sources
from app.models.lstm.tokenizer import PAD
from app.models.rows import padded_rows
from app.models.transfer import upload


class Text(NamedTuple):
    """A source of S tokens that is to be encoded, and what its rows can write.

    columns (S): where the output holds the token of each position. own: the tokens that are not frequent, in the order
    of their columns.
    """

    ids: Sequence[int]
    columns: NDArray[np.int32]
    own: Sequence[int]
    candidates: Candidates


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

    @override
    @torch.inference_mode()
    def join(self, rows: Sequence[int], memory: Memory, attention: AttentionOptions | None = None) -> None:
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

    @override
    def join(self, rows: Sequence[int], memory: Memory, attention: AttentionOptions | None = None) -> None:
        assert isinstance(memory, LSTMMemory)
        assert isinstance(memory.reading, Reading)
        if memory.encoded:
            torch.cuda.current_stream(memory.reading.prior.device).wait_event(memory.encoded)
        self.enter(rows, memory.reading)


class LSTMNativeState(NativeState):
    """Slots that are computed in int8."""

    @override
    def join(self, rows: Sequence[int], memory: Memory, attention: AttentionOptions | None = None) -> None:
        assert isinstance(memory, LSTMMemory)
        assert isinstance(memory.reading, NativeReading)
        self.enter(rows, memory.reading)


class Backend(ABC):
    """The encoder and the decoder of one network, on its device. calm_rows: as `Seq2SeqModel`."""

    calm_rows = math.inf

    @abstractmethod
    def encode(self, texts: Sequence[Text]) -> list[Memory]:
        """In the order given."""

    @abstractmethod
    def positions(self, lengths: Sequence[int]) -> int:
        """Number of source positions that are computed when sources of these lengths are encoded together."""

    @abstractmethod
    def open(self, capacity: int) -> DecoderState: ...


class NativeBackend(Backend):
    """int8 on a CPU: from four rows on a step costs 47 microseconds a row (`benchmarks/RESULTS.md`)."""

    calm_rows = 4.0

    def __init__(self, model: Seq2Seq, frequent: Tensor) -> None:
        self._encoder, self._step = NativeEncoder(model), NativeStep(model, frequent)

    def encode(self, texts: Sequence[Text]) -> list[Memory]:
        sources = self._encoder([text.ids for text in texts])
        return [
            LSTMMemory(NativeReading(source, text.columns, text.own), text.candidates, len(text.ids))
            for text, source in zip(texts, sources, strict=True)
        ]

    def positions(self, lengths: Sequence[int]) -> int:
        return sum(lengths)

    def open(self, capacity: int) -> DecoderState:
        return LSTMNativeState(self._step, capacity)


class TorchBackend(Backend):
    """float32 or bfloat16 on a CPU."""

    def __init__(self, model: Seq2Seq, dtype: torch.dtype, frequent: Tensor) -> None:
        self.step = RaggedStep(model, Arithmetic(dtype), frequent)
        self.model = model.to(dtype)  # from here on it only encodes

    def encode(self, texts: Sequence[Text]) -> list[Memory]:
        encoded = encode(self.model, [text.ids for text in texts])
        return [_memory(text, one) for text, one in zip(texts, encoded, strict=True)]

    def positions(self, lengths: Sequence[int]) -> int:
        return computed(lengths)

    def open(self, capacity: int) -> DecoderState:
        return LSTMState(self.step, capacity, self.model.config.decoder_size, self.model.embedding.weight.device)


class FixedBackend(Backend):
    """A device that takes its work in fixed shapes: a GPU."""

    def __init__(self, model: Seq2Seq, dtype: torch.dtype, frequent: Tensor, limits: Limits, runner: Runner) -> None:
        self.step = FixedStep(model, Arithmetic(dtype), frequent)
        self.model = model.to(dtype)  # from here on it only encodes
        self._runner = runner
        self._widest = bucket_width(limits.max_source_tokens, limits.max_source_tokens + limits.max_summary_tokens)

    def encode(self, texts: Sequence[Text]) -> list[Memory]:
        memories: dict[int, Memory] = {}
        with self._runner.beside() as ready:
            for numbers, width in encoder_passes([len(text.ids) for text in texts]):
                encoded = encode_padded(self.model, [texts[number].ids for number in numbers], ENCODED_ROWS, width)
                for number, one in zip(numbers, encoded, strict=True):
                    memories[number] = _memory(texts[number], one, ready)
        return [memories[number] for number in range(len(texts))]

    def positions(self, lengths: Sequence[int]) -> int:
        return sum(ENCODED_ROWS * width for _, width in encoder_passes(lengths))

    def open(self, capacity: int) -> DecoderState:
        return LSTMFixedState(self.step, capacity, self._widest, self._runner)


def _memory(text: Text, encoded: Encoded, ready: torch.cuda.Event | None = None) -> LSTMMemory:
    """What torch encoded, as a step of torch reads it."""
    columns, device = text.columns, encoded.prior.device
    _, first, same = np.unique(columns, return_index=True, return_inverse=True)
    positions = np.zeros((2, len(encoded.prior)), np.int64)
    positions[0] = columns[0]
    positions[:, : len(columns)] = columns, first[same]
    places, own = upload([torch.from_numpy(positions), torch.tensor(text.own, dtype=torch.long)], device)
    keys, values = encoded.keys.float(), encoded.values.float()
    reading = Reading(keys, values, encoded.prior, places[0], places[1], own, encoded.start)
    return LSTMMemory(reading, text.candidates, len(columns), ready)
