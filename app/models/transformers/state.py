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
from app.models.transformers.decoder import Step, wide
from app.models.transformers.encoding import TransformersMemory

POSITION_STEP = 32  # that slots grow by


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """A source that was joined: each time is one of its own, whoever else reads the same memory."""

    memory: TransformersMemory
    attention: AttentionOptions | None


class Run(NamedTuple):
    """Rows of a step, one after the other, of one source and at the same position."""

    rows: slice
    slots: slice | list[int]  # a slice where they stand side by side: then nothing is copied
    length: int  # with the token that is written now
    joined: Joined


class Cache:
    """Keys and values of L layers, A numbers each, for every slot and position: (L, slots, positions, A)."""

    def __init__(self, step: Step, slots: int) -> None:
        shape = step.layers, slots, 0, step.attended
        self.keys, self.values = (torch.zeros(shape, dtype=step.dtype, device=step.device) for _ in range(2))

    def widen(self, positions: int) -> None:
        missing = positions - self.keys.shape[2]
        if missing > 0:
            grown = -(-missing // POSITION_STEP) * POSITION_STEP
            self.keys, self.values = (F.pad(kept, (0, 0, 0, grown)) for kept in (self.keys, self.values))

    def move(self, rows: Sequence[int], parents: Sequence[int], length: int) -> None:
        for kept in (self.keys, self.values):
            kept[:, rows, :length] = kept[:, parents, :length]


class TransformersState(DecoderState):
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
        scores = self._step(written, places, asking)
        for row in rows:
            self._lengths[row] += 1
        return StepOutput(scores[:count], asking.weights(), None)

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
        runs, start = [], 0
        alike = groupby(range(len(rows)), lambda number: (id(self._joined[rows[number]]), positions[number]))
        for _, numbers in alike:
            slots = [rows[number] for number in numbers]
            stop = start + len(slots)
            side_by_side = slots == list(range(slots[0], slots[0] + len(slots)))
            place = slice(slots[0], slots[-1] + 1) if side_by_side else slots
            runs.append(Run(slice(start, stop), place, positions[start] + 1, self._joined[slots[0]]))
            start = stop
        return runs


class Asking:
    """What the rows of one step attend to: `decoder.Attention`."""

    def __init__(self, step: Step, cache: Cache, runs: Sequence[Run], index: tuple[Tensor, Tensor]) -> None:
        """index: the slot and the position of each row (rows), of those that are idle none."""
        self._step, self._cache, self._runs, self._index = step, cache, runs, index
        self._heads, self._scale = step.architecture.heads, step.architecture.attention_scale
        self._weights = {run.rows.start: Weights(run, step) for run in runs if run.joined.attention}

    def own(self, layer: int, projected: Tensor) -> Tensor:
        all_keys, all_values = self._cache.keys[layer], self._cache.values[layer]  # (slots, positions, A)
        queries, keys, values = projected.to(all_keys.dtype).chunk(3, dim=1)
        count = len(self._index[0])
        all_keys[self._index], all_values[self._index] = keys[:count], values[:count]
        attended = torch.zeros_like(queries, memory_format=torch.contiguous_format, dtype=projected.dtype)
        for run in self._runs:
            own = F.scaled_dot_product_attention(
                self._split(queries[run.rows].unsqueeze(1)),  # (n, H, 1, A / H)
                self._split(all_keys[run.slots, : run.length]),
                self._split(all_values[run.slots, : run.length]),
                self._step.relative(run.length),
                scale=self._scale,
            )
            attended[run.rows] = own.flatten(1)
        return attended

    def source(self, layer: int, queries: Tensor) -> Tensor:
        attended = torch.zeros_like(queries)
        for run in self._runs:
            memory = run.joined.memory
            keys, values = self._split(memory.keys[layer]), self._split(memory.values[layer])  # (H, S, A / H)
            asked = self._split(queries[run.rows].to(keys.dtype))  # (H, n, A / H)
            read = F.scaled_dot_product_attention(asked[None], keys[None], values[None], scale=self._scale)
            attended[run.rows] = read[0].transpose(0, 1).flatten(1)
            if run.rows.start in self._weights:
                self._weights[run.rows.start].add(layer, asked, keys)
        return attended

    def weights(self) -> Tensor:
        """Of the content of each row's source (rows, widest source); zeros where nobody asked."""
        width = max(run.joined.memory.source_tokens for run in self._runs)
        weights = torch.zeros(len(self._index[0]), width, device=self._index[0].device, dtype=self._step.wide)
        for run in self._runs:
            if run.rows.start in self._weights:
                own = self._weights[run.rows.start].reduced()
                weights[run.rows, : own.shape[1]] = own
        return weights

    def _split(self, tensor: Tensor) -> Tensor:
        """(…, positions, A) -> (…, H, positions, A / H)"""
        return tensor.view(*tensor.shape[:-1], self._heads, -1).transpose(-2, -3)


class Weights:
    """What the rows of one run attend to in their source, over the layers and heads that were asked for."""

    def __init__(self, run: Run, step: Step) -> None:
        memory, options = run.joined.memory, run.joined.attention
        assert options
        self._options, self._scale = options, step.architecture.attention_scale
        self._content = slice(memory.before, memory.before + memory.source_tokens)
        self._layers: list[Tensor] = []

    def add(self, layer: int, queries: Tensor, keys: Tensor) -> None:
        """queries (H, n, A / H), keys (H, S, A / H)."""
        if self._options.layers is not None and layer not in self._options.layers:
            return
        if self._options.heads is not None:
            heads = list(self._options.heads)
            queries, keys = queries[heads], keys[heads]
        precise = wide(queries.dtype)
        scores = queries.to(precise) @ keys.to(precise).transpose(1, 2) * self._scale
        self._layers.append(scores.softmax(2))  # (heads, n, S)

    def reduced(self) -> Tensor:
        """(n, content)"""
        weights = torch.cat(self._layers)  # (layers and heads, n, S)
        if self._options.reduce == "mean":
            return weights.mean(0)[:, self._content]
        largest = weights.amax(0)
        return (largest / largest.sum(1, keepdim=True))[:, self._content]
