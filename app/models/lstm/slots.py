"""The decoder's live rows in memory that never moves, for a GPU: a step is one copy of integers and one replay.

A source's width and the number of rows that ask it are its own, and decide its block. A block has a fixed place for
each source and a fixed lane for each row of a place, so that nothing is gathered: beams read the one place they share.
How many places are computed depends on who else is there, and so is one of a few numbers (a bucket), each of which was
found to be bit-equal to the others on the very device.
"""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from app.models.base import DecoderState, StepOutput
from app.models.lstm.buckets import Shape, bucket_width, buckets_in_use
from app.models.lstm.fixed import FixedStep
from app.models.lstm.graphs import Runner
from app.models.lstm.step import Reading, Stepped
from app.models.lstm.tokenizer import PAD
from app.models.transfer import upload


class Output(NamedTuple):
    """A step's output. One more row than can be asked for: what is computed for nobody goes there."""

    log_probabilities: Tensor  # (rows + 1, C)
    attention: Tensor  # (rows + 1, W)
    copied: Tensor  # (rows + 1)

    @property
    def nobody(self) -> int:
        return len(self.copied) - 1

    def write(self, rows: Tensor, stepped: Stepped) -> None:
        """rows (B): where each computed row belongs."""
        scores, attention = stepped.log_probabilities, stepped.attention
        missing = self.log_probabilities.shape[1] - scores.shape[1]
        self.log_probabilities.index_copy_(0, rows, F.pad(scores, (0, missing), value=-torch.inf))
        self.attention.index_copy_(0, rows, F.pad(attention, (0, self.attention.shape[1] - attention.shape[1])))
        self.copied.index_copy_(0, rows, stepped.copied)


class AskedRow(NamedTuple):
    """One row of a step: its lane, the token that it wrote last, and which row of the output is its own."""

    lane: int
    token: int
    row: int


class Block:
    """Places for sources of one shape, and for each bucket a step over the first so many of them."""

    def __init__(self, step: FixedStep, shape: Shape, capacity: int, output: Output, runner: Runner) -> None:
        """capacity: most rows that are live at once."""
        self._buckets = buckets_in_use(step, shape, capacity // shape.queries)
        places = self._buckets[-1]
        self._compute, self._queries, self._output, self._runner = step, shape.queries, output, runner
        lanes = places * shape.queries
        self._sources = step.room(places, shape.width)
        self._cell = torch.zeros(2, lanes, step.config.decoder_size, device=step.device)
        self._hidden = step.arithmetic.bounded(self._cell).clone()
        self._parents = list(range(lanes))  # the lane that each goes on from in the next step
        self._idle = torch.tensor([[PAD, lane, output.nobody] for lane in range(lanes)], device=step.device)
        self._inputs = self._idle.clone()  # (lanes, 3)
        self._ready: dict[int, Callable[[], None]] = {}
        self._free = list(range(places))  # a heap

    def enter(self, reading: Reading) -> list[int]:
        """Store a source; the lanes of its rows, at their start."""
        place = heappop(self._free)
        self._compute.store(self._sources, place, reading)
        first = place * self._queries
        lanes = range(first, first + self._queries)
        self._hidden[:, lanes.start : lanes.stop] = reading.start[0::2].unsqueeze(1)
        self._cell[:, lanes.start : lanes.stop] = reading.start[1::2].unsqueeze(1)
        self._parents[lanes.start : lanes.stop] = lanes
        return list(lanes)

    def leave(self, lane: int) -> None:
        """The source of this lane has left with all of its rows."""
        heappush(self._free, lane // self._queries)

    def reorder(self, lanes: Sequence[int], parents: Sequence[int]) -> None:
        """Nothing is moved: it becomes part of the next step's input."""
        parents = [self._parents[parent] for parent in parents]
        for lane, parent in zip(lanes, parents, strict=True):
            self._parents[lane] = parent

    def advance(self, asked: Sequence[AskedRow]) -> None:
        places = self._bucket(max(asked).lane // self._queries + 1)
        lanes = places * self._queries
        step = self._ready.get(places) or self._prepare(places)
        inputs = [[PAD, parent, self._output.nobody] for parent in self._parents[:lanes]]
        for lane, token, row in asked:
            inputs[lane] = [token, self._parents[lane], row]
        (packed,) = upload([torch.tensor(inputs)], self._compute.device)
        self._inputs[:lanes].copy_(packed)
        step()
        self._parents[:lanes] = range(lanes)

    def _bucket(self, places: int) -> int:
        return next(size for size in self._buckets if size >= places)

    def _prepare(self, places: int) -> Callable[[], None]:
        self._inputs.copy_(self._idle)  # so that a step changes no row
        self._ready[places] = self._runner.prepare(lambda: self._step(places))
        return self._ready[places]

    def _step(self, places: int) -> None:
        """Rows that were not asked for stay, or become what they go on from."""
        lanes = places * self._queries
        tokens, parents, rows = self._inputs[:lanes].unbind(1)
        hidden, cell = self._hidden[:, parents], self._cell[:, parents]  # (2, B, D)
        stepped = self._compute(tokens, hidden, cell, self._sources.head(places))
        asked = (rows != self._output.nobody).unsqueeze(1)  # (B, 1)
        self._hidden[:, :lanes] = torch.where(asked, stepped.hidden, hidden)
        self._cell[:, :lanes] = torch.where(asked, stepped.cell, cell)
        self._output.write(rows, stepped)


class FixedState(DecoderState):
    """Slots in blocks. What a step returns stands in memory that the next step writes."""

    def __init__(self, step: FixedStep, capacity: int, max_width: int, runner: Runner) -> None:
        """max_width: of the widest source that can join."""
        self._step, self._capacity, self._runner = step, capacity, runner
        rows = capacity + 1
        self._output = Output(
            torch.zeros(rows, step.columns(max_width), device=step.device),
            torch.zeros(rows, max_width, device=step.device),
            torch.zeros(rows, device=step.device),
        )
        self._blocks: dict[Shape, Block] = {}
        self._slots: dict[int, tuple[Block, int]] = {}

    @torch.inference_mode()
    def enter(self, rows: Sequence[int], reading: Reading) -> None:
        """Start decoding a source in these slots."""
        shape = Shape(bucket_width(len(reading), len(reading.own)), len(rows))
        block = self._blocks.get(shape) or self._open(shape)
        for row, lane in zip(rows, block.enter(reading), strict=True):
            self._slots[row] = block, lane

    @torch.inference_mode()
    def step(self, rows: Sequence[int], tokens: Sequence[int]) -> StepOutput:
        asked: dict[Block, list[AskedRow]] = {}
        for number, (slot, token) in enumerate(zip(rows, tokens, strict=True)):
            block, lane = self._slots[slot]
            asked.setdefault(block, []).append(AskedRow(lane, token, number))
        for block, lanes in asked.items():
            block.advance(lanes)
        return StepOutput(*(field[: len(rows)] for field in self._output))

    def reorder(self, rows: Sequence[int], parents: Sequence[int]) -> None:
        moves: dict[Block, list[tuple[int, int]]] = {}
        for slot, parent in zip(rows, parents, strict=True):
            block, lane = self._slots[slot]
            moves.setdefault(block, []).append((lane, self._slots[parent][1]))
        for block, moved in moves.items():
            block.reorder(*zip(*moved, strict=True))

    def leave(self, rows: Sequence[int]) -> None:
        left = [self._slots.pop(row) for row in rows]
        block, lane = left[0]
        block.leave(lane)

    def _open(self, shape: Shape) -> Block:
        self._blocks[shape] = Block(self._step, shape, self._capacity, self._output, self._runner)
        return self._blocks[shape]
