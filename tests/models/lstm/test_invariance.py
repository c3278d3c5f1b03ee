"""Promise 1 at the seam: bit for bit, a row's result depends on nothing but the row, in every shape that is in use."""

import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from app.models.base import DecoderState, Memory, StepOutput
from app.models.lstm.backends import LSTMMemory
from app.models.lstm.family import LSTMModel
from app.models.lstm.native import NativeReading
from app.models.lstm.network import NetworkConfig, Seq2Seq
from app.models.lstm.step import Reading
from app.models.lstm.tokenizer import START
from tests.models.lstm.checkpoints import ON_A_CPU, model_of

SIZES = NetworkConfig(16_000, relevance_size=128)  # the real sizes: kernels are chosen by them
FREQUENT = range(2, 4_098)
STEPS = 4


@pytest.fixture(scope="module", params=ON_A_CPU)
def model(request: pytest.FixtureRequest) -> LSTMModel:
    torch.manual_seed(0)
    network = Seq2Seq(SIZES)
    assert network.relevance is not None
    torch.nn.init.normal_(network.relevance.begins.weight)  # else every position is nearly as relevant
    return model_of(network, request.param, FREQUENT)


def source(length: int, seed: int) -> list[int]:
    generator = random.Random(seed)
    return [generator.randrange(3, SIZES.vocabulary_size) for _ in range(length)]


def rows_of(state: DecoderState, rows: Sequence[int], tokens: Sequence[int], width: int) -> list[tuple[Tensor, Tensor]]:
    output = state.step(rows, tokens)
    return [(written(output, i), output.attention[i, :width]) for i in range(len(rows))]


def tensors(reading: Reading | NativeReading, length: int) -> list[Tensor]:
    """All that a source is decoded from, without the padding of keys and values, whose weights are zero."""
    if isinstance(reading, NativeReading):
        return [*reading.read, reading.hidden, reading.cell]
    real = [reading.keys[:length], reading.values[:length]]
    return [*real, reading.prior, reading.columns, reading.first, reading.own, reading.start]


def written(output: StepOutput, row: int) -> Tensor:
    """The log-probabilities of a row's own candidates: how many columns follow depends on its neighbours."""
    scores = output.log_probabilities[row]
    return scores[scores > -torch.inf]


@pytest.mark.parametrize("length", [1, 15, 16, 17, 90, 400])
def test_an_encoded_source_is_the_same_in_any_company(model: LSTMModel, length: int) -> None:
    ids = source(length, 1)
    (alone,) = model.encode([ids])
    for company, place in ((1, 0), (3, 3), (4, 2), (9, 9), (31, 5)):
        others = [source(1 + (37 * i) % 120, i) for i in range(company)]
        among = model.encode([*others[:place], ids, *others[place:]])[place]
        assert isinstance(alone, LSTMMemory)
        assert isinstance(among, LSTMMemory)
        both = zip(tensors(among.reading, length), tensors(alone.reading, length), strict=True)
        for number, (one, other) in enumerate(both):
            assert torch.equal(one, other), (number, company)


@pytest.mark.parametrize("length", [1, 17, 90])
@pytest.mark.parametrize(("company", "row"), [(0, 0), (1, 1), (3, 2), (7, 4), (15, 9), (31, 20), (63, 63)])
def test_a_row_is_the_same_in_every_shape(model: LSTMModel, length: int, company: int, row: int) -> None:
    (memory,) = model.encode([source(length, 1)])
    alone = model.open(64)
    alone.join([0], memory)
    among = model.open(64)
    among.join([row], memory)
    neighbours: list[Memory] = model.encode([source(5 + (41 * i) % 100, i) for i in range(max(company, 1))])
    others = [slot for slot in range(company + 1) if slot != row][:company]
    for slot, neighbour in zip(others, neighbours, strict=False):
        among.join([slot], neighbour)
    tokens = [START, *source(STEPS, 2)]
    for step in range(STEPS):
        expected = rows_of(alone, [0], [tokens[step]], length)[0]
        together = [row, *others]
        got = rows_of(among, together, [tokens[step], *source(len(others), step)], length)[0]
        assert torch.equal(got[0], expected[0])
        assert torch.equal(got[1], expected[1])


@pytest.mark.parametrize("count", [4, 8, 16, 32, 64])
def test_every_row_of_a_full_batch_is_as_it_is_alone(model: LSTMModel, count: int) -> None:
    """Many rows and tokens: elementwise functions differ in the last bit only for some values in some places."""
    memories = model.encode([source(3 + 5 * i, i) for i in range(count)])
    together = model.open(count)
    for row, memory in enumerate(memories):
        together.join([row], memory)
    alone = [model.open(1) for _ in range(count)]
    for state, memory in zip(alone, memories, strict=True):
        state.join([0], memory)
    for step in range(5):
        tokens = source(count, 100 + step)
        output = together.step(range(count), tokens)
        assert output.copied is not None
        for row, state in enumerate(alone):
            single = state.step([0], [tokens[row]])
            assert single.copied is not None
            assert torch.equal(written(output, row), written(single, 0))
            assert torch.equal(output.copied[row], single.copied[0])
            width = memories[row].source_tokens
            assert torch.equal(output.attention[row, :width], single.attention[0, :width])


@pytest.mark.parametrize("beams", [5, 8])
def test_beams_of_a_source_are_the_same_alone_and_among_others(model: LSTMModel, beams: int) -> None:
    memories = model.encode([source(20 + 31 * i, i) for i in range(6)])
    alone, among = model.open(64), model.open(64)
    alone.join(range(beams), memories[2])
    for number, memory in enumerate(memories):
        among.join(range(number * beams, (number + 1) * beams), memory)
    own = range(2 * beams, 3 * beams)
    for step in range(STEPS):
        tokens = source(6 * beams, step)
        expected = alone.step(range(beams), [tokens[slot] for slot in own])
        got = among.step(range(6 * beams), tokens)
        for row, slot in enumerate(own):
            assert torch.equal(written(got, slot), written(expected, row))
            width = memories[2].source_tokens
            assert torch.equal(got.attention[slot, :width], expected.attention[row, :width])


def test_joins_leaves_and_reorders_leave_the_other_rows_alone(model: LSTMModel) -> None:
    generator = random.Random(5)
    memories = model.encode([source(1 + 23 * i, i) for i in range(16)])
    watched, state = model.open(16), model.open(16)
    watched.join([0], memories[3])
    state.join([7], memories[3])
    live = {7}
    for step in range(12):
        for slot in [slot for slot in range(16) if slot != 7]:
            if slot in live and generator.random() < 0.4:
                state.leave([slot])
                live.discard(slot)
            elif slot not in live and generator.random() < 0.5:
                state.join([slot], generator.choice(memories))
                live.add(slot)
        others = sorted(live - {7})
        if len(others) > 1:
            state.reorder(others[:2], [others[1], others[1]])
        token = source(12, 9)[step]
        expected = rows_of(watched, [0], [token], memories[3].source_tokens)[0]
        got = rows_of(state, [*others, 7], [*source(len(others), step), token], memories[3].source_tokens)[-1]
        assert torch.equal(got[0], expected[0])
        assert torch.equal(got[1], expected[1])


def test_a_longer_source_that_joins_leaves_the_live_rows_alone(model: LSTMModel) -> None:
    short, long = model.encode([source(5, 1), source(300, 2)])
    alone, among = model.open(4), model.open(4)
    for state in (alone, among):
        state.join([0], short)
    among.join([1], long)
    for step in range(STEPS):
        expected = rows_of(alone, [0], [source(STEPS, 3)[step]], 5)[0]
        got = rows_of(among, [0, 1], [source(STEPS, 3)[step], step], 5)[0]
        assert torch.equal(got[0], expected[0])
        assert torch.equal(got[1], expected[1])


def test_a_step_advances_only_the_rows_it_was_given(model: LSTMModel) -> None:
    (memory,) = model.encode([source(20, 1)])
    once, twice = model.open(4), model.open(4)
    for state in (once, twice):
        state.join([0, 1], memory)
    twice.step([1], [START])  # row 0 waits
    assert torch.equal(once.step([0], [START]).log_probabilities, twice.step([0], [START]).log_probabilities)


def test_columns_beyond_a_rows_own_source_are_exactly_zero(model: LSTMModel) -> None:
    short, long = model.encode([source(5, 1), source(200, 2)])
    state = model.open(8)
    state.join([0], short)
    state.join([1], long)
    attention = state.step([0, 1], [START, START]).attention
    assert (attention[0, 5:] == 0).all()
    torch.testing.assert_close(attention.sum(1), torch.ones(2))
