"""Rows in memory that never moves come to what they come to on a CPU, whatever happens around them."""

import random
from collections.abc import Sequence

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from app.models.base import DecoderState, Memory, StepOutput
from app.models.lstm.graphs import Eager
from app.models.lstm.network import NetworkConfig, Seq2Seq
from tests.models.lstm.checkpoints import model_of

SIZES = NetworkConfig(320, embedding_size=32, encoder_size=32, decoder_size=64, key_size=32, relevance_size=8)
FREQUENT = [2, *range(40, 200)]
CAPACITY = 24


def network_of(seed: int) -> Seq2Seq:
    torch.manual_seed(seed)
    network = Seq2Seq(SIZES).eval()
    torch.nn.init.normal_(network.output_bias)
    return network


def source(length: int, seed: int) -> list[int]:
    generator = random.Random(seed)
    return [generator.randrange(3, SIZES.vocabulary_size) for _ in range(length)]


def own(output: StepOutput, row: int, memory: Memory) -> tuple[Tensor, Tensor, Tensor]:
    """What a row has of its own; the rest must be as nothing."""
    columns, width = len(memory.candidates), memory.source_tokens
    assert (output.log_probabilities[row, columns:] == -torch.inf).all()
    assert (output.attention[row, width:] == 0).all()
    assert output.copied is not None
    return output.log_probabilities[row, :columns].clone(), output.attention[row, :width].clone(), output.copied[row]


class Company:
    """Searches that come, go on from one another's rows, rest and leave, by chance; several states take part alike."""

    def __init__(self, seed: int, memories: Sequence[Sequence[Memory]], states: Sequence[DecoderState]) -> None:
        """memories: of the same sources for each state."""
        self._random, self._memories, self._states = random.Random(seed), memories, states
        self._free = list(range(CAPACITY))
        self._live: list[tuple[int, list[int]]] = []  # source, slots

    def turn(self) -> tuple[list[tuple[int, int]], list[StepOutput]]:
        """One step of some of the rows, (slot, source) each, and what each state says."""
        while self._random.random() < 0.6:
            self._join()
        if len(self._live) > 1 and self._random.random() < 0.4:
            self._leave()
        for _, slots in self._live:
            if self._random.random() < 0.5:
                self._reorder(slots)
        rows = [(slot, source) for source, slots in self._live for slot in slots if self._random.random() < 0.8]
        if not rows:
            return self.turn()
        self._random.shuffle(rows)
        tokens = [self._random.randrange(SIZES.vocabulary_size) for _ in rows]
        return rows, [state.step([slot for slot, _ in rows], tokens) for state in self._states]

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


@given(st.integers(0, 2**20), st.sampled_from([None, FREQUENT]))
@settings(max_examples=15)
def test_fixed_shapes_come_to_the_same_as_the_cpu(seed: int, frequent: list[int] | None) -> None:
    network = network_of(seed)
    models = [model_of(network, "float32", frequent, runner) for runner in (None, Eager())]
    sources = [source(length, seed + length) for length in (1, 2, 9, 100, 128, 129, 150)]
    memories = [model.encode(sources) for model in models]
    company = Company(seed, memories, [model.open(CAPACITY) for model in models])
    for _ in range(12):
        rows, (expected, got) = company.turn()
        for row, (_, number) in enumerate(rows):
            for one, other in zip(
                own(got, row, memories[0][number]), own(expected, row, memories[0][number]), strict=True
            ):
                torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
