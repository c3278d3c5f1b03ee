"""The encoder as it is served on a CPU: sources of different lengths in one pass, of which no padding is computed.

A recurrent kernel costs as much for each row and position, however many rows there are; so each source is computed as
far as it goes, rounded up to a few positions. The longest stands first. Where one ends the kernel stops, and goes on
with those before it: kernels that stop and go on, with two rows or more, give the same bits as those that never stop
(`tests/models/lstm/test_encoding.py`).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.models.lstm.network import Seq2Seq
from app.models.lstm.tokenizer import PAD
from app.models.rows import padded_rows
from app.models.transfer import upload

LENGTH_STEP = 16
PIECES = (128, 64, 32, LENGTH_STEP)  # positions of one call: a new shape takes as long as some hundred positions
FEWEST_ROWS = 2


class Encoded(NamedTuple):
    """One source of S positions, rounded up: keys (S, K), values (S, H), what `network.Memory` calls its prior (S), and
    the decoder's first state (4, D)."""

    keys: Tensor
    values: Tensor
    prior: Tensor
    start: Tensor


def padded_length(length: int) -> int:
    """Number of source positions that are encoded for `length` of them: a multiple of 16, for a new shape is slow."""
    return -(-length // LENGTH_STEP) * LENGTH_STEP


def computed(lengths: Sequence[int]) -> int:
    """Number of positions that one pass computes for sources of these lengths."""
    return sum((stop - start) * rows for start, stop, rows in _calls([padded_length(length) for length in lengths]))


def _calls(padded: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """From which position to which, for how many of the first rows."""
    start = 0
    for stop in sorted({*padded}):
        rows = max(FEWEST_ROWS, sum(length >= stop for length in padded))
        for piece in PIECES:
            while stop - start >= piece:
                yield start, start + piece, rows
                start += piece


def encode(model: Seq2Seq, sources: Sequence[Sequence[int]]) -> list[Encoded]:
    """Token ids of some sources -> what the encoder makes of each, in the order given."""
    order = sorted(range(len(sources)), key=lambda place: -len(sources[place]))
    rows = [sources[place] for place in [*order, *order[:1] * (FEWEST_ROWS - len(order))]]
    layout = _Layout([len(row) for row in rows], model.embedding.weight.device)
    ids = [token for row, length in zip(rows, layout.padded, strict=True) for token in _filled(row, length)]
    embedded = model.embedding(torch.tensor(ids, device=layout.device))  # (N, E)
    inputs, last = embedded, embedded
    for forwards, backwards in zip(model.encoder.forwards, model.encoder.backwards, strict=True):
        assert isinstance(forwards, nn.LSTM)
        assert isinstance(backwards, nn.LSTM)
        inputs, last = layout.run(forwards, backwards, inputs)  # (N, H), (B, H)
    both = torch.cat([inputs, embedded], dim=1)  # (N, H + E)
    keys, values = model.decoder.attention.project(both, inputs)
    starts = _starts(model, last)
    found: dict[int, Encoded] = {}
    for row, place in enumerate(order):
        own = layout.of(row)
        real = torch.arange(layout.padded[row], device=layout.device) < len(sources[place])
        prior = model.prior(both[own].unsqueeze(0), real.unsqueeze(0))[0]
        found[place] = Encoded(keys[own], values[own], prior, starts[row])
    return [found[place] for place in range(len(sources))]


def encode_padded(model: Seq2Seq, sources: Sequence[Sequence[int]], rows: int, width: int) -> list[Encoded]:
    """The same in one shape, whatever the sources are: what a GPU is fast at."""
    ids = torch.full((rows, width), PAD)  # (B, S)
    lengths = torch.ones(rows, dtype=torch.long)  # (B)
    for row, source in enumerate(sources):
        ids[row, : len(source)] = torch.tensor(source)
        lengths[row] = len(source)
    memory, state = model.encode(*upload([ids, lengths], model.embedding.weight.device))
    starts = torch.stack(state, dim=1).float()  # (B, 4, D)
    found = []
    for row, source in enumerate(sources):
        own = slice(padded_length(len(source)))
        found.append(Encoded(memory.keys[row, own], memory.values[row, own], memory.prior[row, own], starts[row]))
    return found


def _filled(row: Sequence[int], length: int) -> list[int]:
    return [*row, *[PAD] * (length - len(row))]


def _starts(model: Seq2Seq, last: Tensor) -> Tensor:
    """(B, H) -> (B, 4, D) float32; products of fewer than four rows add in another order."""
    idle = padded_rows(len(last)) - len(last)
    starts = torch.tanh(model.bridge(F.pad(last, (0, 0, 0, idle)))).float()
    return starts.view(len(starts), 4, -1)


class _Layout:
    """Where N positions of B sources, which stand end to end, are in rows of S positions, read from either side."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        """lengths: the longest first."""
        self.padded, self.device = list(map(padded_length, lengths)), device
        self._calls = list(_calls(self.padded))
        own, most = torch.tensor([lengths, self.padded], device=device)  # (B)
        count, first = torch.arange(len(lengths), device=device), most.cumsum(0) - most
        here = torch.arange(self.padded[0], device=device).unsqueeze(1)  # (S, 1)
        self._forth = first + here.minimum(most - 1)  # (S, B), of the N positions
        self._back = first + torch.where(here < own, own - 1 - here, here.minimum(most - 1))
        row = count.repeat_interleave(most)  # (N)
        position = torch.arange(len(row), device=device) - first[row]
        reverse = torch.where(position < own[row], own[row] - 1 - position, position)
        self._from_forth, self._from_back = position * len(lengths) + row, reverse * len(lengths) + row
        self._ends = (own - 1) * len(lengths) + count  # (B)

    def of(self, row: int) -> slice:
        """Where the N positions are those of a source."""
        start = sum(self.padded[:row])
        return slice(start, start + self.padded[row])

    def run(self, forwards: nn.LSTM, backwards: nn.LSTM, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """inputs (N, I) -> outputs (N, H), and the last of both directions for each source (B, H)."""
        left = self._read(forwards, inputs[self._forth])  # (S B, H / 2)
        right = self._read(backwards, inputs[self._back])
        outputs = torch.cat([left[self._from_forth], right[self._from_back]], dim=1)
        return outputs, torch.cat([left[self._ends], right[self._ends]], dim=1)

    def _read(self, layer: nn.LSTM, inputs: Tensor) -> Tensor:
        """inputs (S, B, I) -> outputs (S B, H / 2); what no source has is left out."""
        _, count, _ = inputs.shape
        outputs, weights = inputs.new_empty(len(inputs), count, layer.hidden_size), list[Tensor](layer.all_weights[0])
        hidden = cell = inputs.new_zeros(1, count, layer.hidden_size)
        for start, stop, rows in self._calls:
            state = hidden[:, :rows].contiguous(), cell[:, :rows].contiguous()
            outputs[start:stop, :rows], hidden, cell = torch.lstm(
                inputs[start:stop, :rows].contiguous(), state, weights, True, 1, 0.0, False, False, False
            )
        return outputs.flatten(0, 1)
