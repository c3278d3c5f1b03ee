"""The decoder's live rows on a CPU: what each has written so far, in slots, and the source that it asks.

Rows of one source that stand at the same position are asked together, and with nobody else: how many they are and how
long they are is their own. So nothing is padded, and nothing that is computed for a row depends on other sources.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, repeat
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from app.models.base import AttentionOptions, DecoderState, Memory, StepOutput
from app.models.rows import padded_rows
from app.models.transformers.decoder import Step, merged
from app.models.transformers.encoding import TransformersMemory

POSITION_STEP = 32  # that slots grow by


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """A source that was joined: each time is one of its own, whoever else reads the same memory."""

    memory: TransformersMemory
    attention: AttentionOptions | None


class Run(NamedTuple):
    """Rows of a step, one after the other, of one source and at the same position.

    places: the slots of these rows where they stand side by side, with the rows that stand there.
    length: tokens that they have written, the last one included.
    """

    rows: slice
    places: list[tuple[slice, slice]]
    length: int
    joined: Joined


class Cache:
    """Keys and values of L layers, A numbers each, for every slot and position: (L, slots, positions, A)."""

    def __init__(self, step: Step, slots: int) -> None:
        empty = torch.zeros(step.layers, slots, 0, step.attended, dtype=step.dtype, device=step.device)
        self.kept = empty, empty

    def widen(self, positions: int) -> None:
        missing = positions - self.kept[0].shape[2]
        if missing > 0:
            grown = -(-missing // POSITION_STEP) * POSITION_STEP
            keys, values = (F.pad(kept, (0, 0, 0, grown)) for kept in self.kept)
            self.kept = keys, values

    def move(self, slots: Sequence[int], parents: Sequence[int], length: int) -> None:
        for kept in self.kept:
            kept[:, slots, :length] = kept[:, parents, :length]


class TransformersState(DecoderState):
    """Slots of one cache; each keeps the source that it asks."""

    def __init__(self, step: Step, capacity: int) -> None:
        self._step = step
        self._cache = Cache(step, capacity)
        self._lengths = [0] * capacity
        self._joined: dict[int, Joined] = {}

    def join(self, rows: Sequence[int], memory: Memory, attention: AttentionOptions | None = None) -> None:
        assert isinstance(memory, TransformersMemory)
        joined = Joined(memory, attention)
        for row in rows:
            self._joined[row], self._lengths[row] = joined, 0

    @torch.inference_mode()
    def step(self, rows: Sequence[int], tokens: Sequence[int]) -> StepOutput:
        count = len(rows)
        positions = [self._lengths[row] for row in rows]
        self._cache.widen(max(positions) + 1)
        idle = padded_rows(count) - count
        written, places = torch.tensor(
            [[*tokens, *repeat(tokens[0], idle)], [*positions, *repeat(0, idle)]], device=self._step.device
        )
        slots = torch.tensor(rows, device=self._step.device)
        asking = Asking(self._step, self._cache, self._runs(rows, positions), (slots, places[:count]))
        logits = self._step(written, places, asking)[:count]
        for row in rows:
            self._lengths[row] += 1
        scores = logits.log_softmax(1)
        return StepOutput(scores, asking.weights(), None, logits.amax(1) - scores.amax(1))

    @torch.inference_mode()
    def reorder(self, rows: Sequence[int], parents: Sequence[int]) -> None:
        # Beams of one source share its memory: only what they wrote moves.
        lengths = [self._lengths[parent] for parent in parents]
        self._cache.move(rows, parents, max(lengths))
        for row, length in zip(rows, lengths, strict=True):
            self._lengths[row] = length

    def leave(self, rows: Sequence[int]) -> None:
        for row in rows:
            del self._joined[row]

    def _runs(self, rows: Sequence[int], positions: Sequence[int]) -> list[Run]:
        alike = groupby(range(len(rows)), lambda number: (id(self._joined[rows[number]]), positions[number]))
        runs = []
        for numbers in (list(numbers) for _, numbers in alike):
            first, stop = numbers[0], numbers[-1] + 1
            length, joined = positions[first] + 1, self._joined[rows[first]]
            runs.append(Run(slice(first, stop), _side_by_side(rows, numbers), length, joined))
        return runs


def _side_by_side(slots: Sequence[int], numbers: Sequence[int]) -> list[tuple[slice, slice]]:
    """Ranges of slots, each with the range of the `numbers` that stand there."""
    places = []
    for _, part in groupby(numbers, lambda number: slots[number] - number):
        together = list(part)
        first, last = together[0], together[-1]
        places.append((slice(slots[first], slots[last] + 1), slice(first, last + 1)))
    return places


class Past(NamedTuple):
    """What rows side by side have written: keys, values (L, n, H, length, A / H); bias is added to their scores."""

    rows: slice
    bias: Tensor | None
    keys: Tensor
    values: Tensor


class Asking:
    """What the rows of one step attend to: `decoder.Attention`."""

    def __init__(self, step: Step, cache: Cache, runs: Sequence[Run], index: tuple[Tensor, Tensor]) -> None:
        """index: the slot and the position of each row (rows), of those that are idle none."""
        self._step, self._cache, self._runs, self._index = step, cache, runs, index
        self._heads, self._scale = step.architecture.heads, step.architecture.attention_scale
        self._past = [
            Past(rows, step.relative(run.length), *(self._split(kept[:, slots, : run.length]) for kept in cache.kept))
            for run in runs
            for slots, rows in run.places
        ]
        self._weights = {run.rows.start: Weights(run, step) for run in runs if run.joined.attention}

    def own(self, layer: int, projected: Tensor) -> Tensor:
        queries, *written = projected.chunk(3, dim=1)
        for kept, new in zip(self._cache.kept, written, strict=True):
            kept[layer].index_put_(self._index, new[: len(self._index[0])])
        asked = self._split(queries.unsqueeze(1))  # (B, H, 1, A / H)
        return self._attended(
            queries,
            [
                F.scaled_dot_product_attention(
                    asked[past.rows], past.keys[layer], past.values[layer], past.bias, scale=self._scale
                )
                for past in self._past
            ],
        )

    def source(self, layer: int, queries: Tensor) -> Tensor:
        attended = []
        for run in self._runs:
            memory = run.joined.memory
            keys, values = (self._split(read[layer].unsqueeze(0)) for read in (memory.keys, memory.values))
            asked = self._split(queries[run.rows].unsqueeze(0))  # (1, H, n, A / H)
            attended.append(F.scaled_dot_product_attention(asked, keys, values, scale=self._scale))
            if run.rows.start in self._weights:
                self._weights[run.rows.start].add(layer, asked[0], keys[0])
        return self._attended(queries, attended)

    def weights(self) -> Tensor:
        """Of the content of each row's source (rows, widest source); zeros where nobody asked."""
        width = max(run.joined.memory.source_tokens for run in self._runs)
        weights = self._index[0].new_zeros(len(self._index[0]), width, dtype=self._step.dtype)
        for run in self._runs:
            if run.rows.start in self._weights:
                own = self._weights[run.rows.start].reduced()
                weights[run.rows, : own.shape[1]] = own
        return weights

    def _split(self, tensor: Tensor) -> Tensor:
        """(…, positions, A) -> (…, H, positions, A / H)"""
        return tensor.view(*tensor.shape[:-1], self._heads, -1).transpose(-2, -3)

    def _attended(self, queries: Tensor, parts: Sequence[Tensor]) -> Tensor:
        """Parts (…, H, …, A / H) of the rows, in their order -> (B, A), and zeros for those that are idle."""
        rows = torch.cat([part.transpose(1, 2).reshape(-1, queries.shape[1]) for part in parts])
        return F.pad(rows, (0, 0, 0, len(queries) - len(rows)))


class Weights:
    """What the rows of one run attend to in their source, in the layers and heads that were asked for."""

    def __init__(self, run: Run, step: Step) -> None:
        memory, options = run.joined.memory, run.joined.attention
        assert options
        assert options.layers
        assert options.heads
        self._layers, self._heads, self._reduce = options.layers, list(options.heads), options.reduce
        self._scale = step.architecture.attention_scale
        self._content = slice(memory.before, memory.before + memory.source_tokens)
        self._told: list[Tensor] = []

    def add(self, layer: int, queries: Tensor, keys: Tensor) -> None:
        """queries (H, n, A / H), keys (H, S, A / H)."""
        if layer in self._layers:
            scores = queries[self._heads] @ keys[self._heads].transpose(1, 2) * self._scale
            self._told.append(scores.softmax(2))  # (heads, n, S)

    def reduced(self) -> Tensor:
        """(n, content)"""
        return merged(torch.cat(self._told), self._reduce, 0)[:, self._content]
