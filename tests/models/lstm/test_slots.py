"""Rows in memory that never moves come to what they come to on a CPU, whatever happens around them."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from app.models.lstm.graphs import Eager
from app.models.lstm.network import NetworkConfig, Seq2Seq
from app.models.lstm.tokenizer import START
from app.search import Ask, select
from tests.models.lstm.checkpoints import model_of
from tests.models.lstm.company import Company, own

SIZES = NetworkConfig(320, embedding_size=32, encoder_size=32, decoder_size=64, key_size=32, relevance_size=8)
FREQUENT = [2, *range(40, 200)]
LENGTHS = (129, 1, 150, 9, 2, 128, 100)
CAPACITY = 24


def network_of(seed: int) -> Seq2Seq:
    torch.manual_seed(seed)
    network = Seq2Seq(SIZES).eval()
    torch.nn.init.normal_(network.output_bias)
    return network


def source(length: int, seed: int) -> list[int]:
    generator = random.Random(seed)
    return [generator.randrange(3, SIZES.vocabulary_size) for _ in range(length)]


@given(st.integers(0, 2**20), st.sampled_from([None, FREQUENT]))
@settings(max_examples=6)
def test_fixed_shapes_come_to_the_same_as_the_cpu(seed: int, frequent: list[int] | None) -> None:
    network = network_of(seed)
    models = [model_of(network, "float32", frequent, runner) for runner in (None, Eager())]
    memories = [model.encode([source(length, seed + length) for length in LENGTHS]) for model in models]
    company = Company(seed, memories, [model.open(CAPACITY) for model in models], CAPACITY)
    for _ in range(12):
        rows, (expected, got) = company.turn()
        for number, row in enumerate(rows):
            memory = memories[0][row.source]
            for one, other in zip(own(got, number, memory), own(expected, number, memory), strict=True):
                torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_row_is_the_same_alone_and_in_any_company(precision: str, beams: int, seed: int) -> None:
    model = model_of(network_of(seed), precision, FREQUENT, Eager())
    memories = model.encode([source(length, seed + length) for length in LENGTHS])
    watched, (alone_memory,) = memories[seed], model.encode([source(LENGTHS[seed], seed + LENGTHS[seed])])
    alone, among = model.open(CAPACITY + beams), model.open(CAPACITY + beams)
    company = Company(seed, [memories], [among], CAPACITY)
    slots = range(CAPACITY, CAPACITY + beams)
    for step in range(12):
        company.turn()
        if not step:
            alone.join(range(beams), alone_memory)
            among.join(slots, watched)
        tokens = source(beams, step)
        expected, got = alone.step(range(beams), tokens), among.step(slots, tokens)
        for row in range(beams):
            for one, other in zip(own(got, row, watched), own(expected, row, watched), strict=True):
                assert torch.equal(one, other)
        alone.reorder(range(beams), [0] * beams)
        among.reorder(slots, [CAPACITY] * beams)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_row_of_a_full_bucket_is_as_it_is_alone(precision: str) -> None:
    model = model_of(network_of(0), precision, FREQUENT, Eager())
    memories = model.encode([source(1 + 4 * seed, seed) for seed in range(CAPACITY)])
    together, alone = model.open(CAPACITY), model.open(CAPACITY)
    for slot, memory in enumerate(memories):
        together.join([slot], memory)
    tokens = [source(CAPACITY, step) for step in range(3)]
    steps: list[list[tuple[Tensor, ...]]] = []
    for written in tokens:
        output = together.step(range(CAPACITY), written)
        steps.append([own(output, slot, memory) for slot, memory in enumerate(memories)])
    for slot, memory in enumerate(memories):
        alone.join([0], memory)
        for written, rows in zip(tokens, steps, strict=True):
            expected = own(alone.step([0], [written[slot]]), 0, memory)
            assert all(torch.equal(*pair) for pair in zip(rows[slot], expected, strict=True))
        alone.leave([0])


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What operations ran, in what shapes, and which memory that was there before each of them was given."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[tuple[str, list[tuple[torch.Size, int | None]]]] = []
        self._made: set[int] = set()

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [(tensor.shape, self._outside(tensor)) for tensor in _tensors((args, kwargs))]
        self.operations.append((str(function), given))
        result = function(*args, **(kwargs or {}))
        known = {_address(tensor) for tensor in _tensors((args, kwargs))}
        self._made |= {_address(tensor) for tensor in _tensors(result)} - known
        return result

    def _outside(self, tensor: Tensor) -> int | None:
        return None if _address(tensor) in self._made else tensor.data_ptr()


def _tensors(values: object) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class Watched(Eager):
    """As a graph would be replayed: the operations and addresses of the first run must be those of every other."""

    def __init__(self) -> None:
        self.prepared = self.runs = 0

    def prepare(self, step: Callable[[], None]) -> Callable[[], None]:
        def traced() -> list[tuple[str, list[tuple[torch.Size, int | None]]]]:
            trace = Trace()
            with trace:
                step()
            return trace.operations

        self.prepared += 1
        captured = traced()

        def replay() -> None:
            self.runs += 1
            assert traced() == captured

        return replay


def test_a_bucket_is_prepared_once_and_always_runs_over_the_same_memory() -> None:
    runner = Watched()
    model = model_of(network_of(1), "float32", FREQUENT, runner)
    memories = model.encode([source(length, length) for length in LENGTHS])
    company = Company(3, [memories], [model.open(CAPACITY)], CAPACITY)
    for _ in range(30):
        company.turn()
    assert runner.prepared <= 12 < 60 < runner.runs, "two widths, beams of 1, 2, 3 and 8, and at most two buckets each"


def test_preparing_changes_no_row() -> None:
    model = model_of(network_of(1), "float32", FREQUENT, Watched())
    memories = model.encode([source(5, seed) for seed in range(9)])
    state, undisturbed = model.open(CAPACITY), model.open(CAPACITY)
    for one in (state, undisturbed):
        one.join([0], memories[0])
        one.step([0], [START])
    for slot, memory in enumerate(memories[1:], start=1):
        state.join([slot], memory)
    output = state.step(range(9), [7] * 9)  # a bucket that was not in use before
    expected = own(undisturbed.step([0], [7]), 0, memories[0])
    assert all(torch.equal(*pair) for pair in zip(own(output, 0, memories[0]), expected, strict=True))


@torch.inference_mode()
def test_a_step_and_its_questions_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(network_of(0), "float32", FREQUENT, Eager())
    state = model.open(CAPACITY)
    for slot, memory in enumerate(model.encode([source(20, seed) for seed in range(4)])):
        state.join([slot], memory)
    asks = [Ask(), Ask(4), Ask(wanted=(5,)), Ask(wanted=(8, 9))]
    select(state.step(range(4), [START] * 4).log_probabilities, asks)
    reads: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        read = getattr(Tensor, name)

        def method(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            reads.append(name)
            return read(tensor, *args, **kwargs)

        return method

    monkeypatch.setattr("app.search.top", lambda *_: None)  # what reads them where there is no GPU
    for name in ("tolist", "item", "cpu", "numpy", "nonzero", "__bool__", "__int__", "__float__", "__index__"):
        monkeypatch.setattr(Tensor, name, counted(name))
    select(state.step(range(4), [5] * 4).log_probabilities, asks)
    assert reads == ["cpu", "tolist", "tolist"], "what was copied is read twice"
