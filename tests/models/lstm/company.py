"""Rows that come and go by chance, and what each of them has of its own."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from app.models.base import DecoderState, Memory, StepOutput

FEWEST_TOKENS = 320  # of the vocabularies that are used


def own(output: StepOutput, row: int, memory: Memory) -> tuple[Tensor, Tensor, Tensor]:
    """What a row has of its own; the rest must be as nothing."""
    columns, width = len(memory.candidates), memory.source_tokens
    assert (output.log_probabilities[row, columns:] == -torch.inf).all()
    assert (output.attention[row, width:] == 0).all()
    assert output.copied is not None
    return (
        output.log_probabilities[row, :columns].clone(),
        output.attention[row, :width].clone(),
        output.copied[row].clone(),
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """One row of a turn: what it wrote last, and the number of its source."""

    slot: int
    token: int
    source: int


class Company:
    """Searches that come, go on from one another's rows, rest and leave, by chance; several states take part alike."""

    def __init__(
        self, seed: int, memories: Sequence[Sequence[Memory]], states: Sequence[DecoderState], capacity: int
    ) -> None:
        """memories: of the same sources for each state. capacity: slots from 0 on that may be used."""
        self._random, self._memories, self._states = random.Random(seed), memories, states
        self._free = list(range(capacity))
        self._live: list[tuple[int, list[int]]] = []  # source, slots

    def turn(self) -> tuple[list[Asked], list[StepOutput]]:
        """One step of some of the rows, and what each state says."""
        while self._random.random() < 0.6:
            self._join()
        if len(self._live) > 1 and self._random.random() < 0.4:
            self._leave()
        for _, slots in self._live:
            if self._random.random() < 0.5:
                self._reorder(slots)
        rows = [
            Asked(slot, self._random.randrange(FEWEST_TOKENS), source)
            for source, slots in self._live
            for slot in slots
            if self._random.random() < 0.8
        ]
        if not rows:
            return self.turn()
        self._random.shuffle(rows)
        slots, tokens = [row.slot for row in rows], [row.token for row in rows]
        return rows, [state.step(slots, tokens) for state in self._states]

    def _join(self) -> None:
        beams = self._random.choice([1, 1, 2, 3, 8])
        if beams > len(self._free):
            return
        self._random.shuffle(self._free)
        number = self._random.randrange(len(self._memories[0]))
        slots, self._free = self._free[:beams], self._free[beams:]
        self._live.append((number, slots))
        for state, memories in zip(self._states, self._memories, strict=True):
            state.join(slots, memories[number])

    def _leave(self) -> None:
        _, slots = self._live.pop(self._random.randrange(len(self._live)))
        self._free += slots
        for state in self._states:
            state.leave(slots)

    def _reorder(self, slots: Sequence[int]) -> None:
        moved = self._random.sample(slots, self._random.randint(1, len(slots)))
        parents = self._random.choices(slots, k=len(moved))
        for state in self._states:
            state.reorder(moved, parents)
