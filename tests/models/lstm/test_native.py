"""The step in int8 is near the one in float32, is the same in any company, and says what is no number."""

import random
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from app.models.base import DecoderState, Memory, StepOutput
from app.models.checkpoint import Checkpoint
from app.models.lstm.backends import LSTMMemory
from app.models.lstm.family import LSTMModel, load
from app.models.lstm.native import NativeReading, NativeState, Source
from app.models.lstm.network import NetworkConfig, Seq2Seq
from app.models.lstm.tokenizer import START
from app.search import Ask, select
from tests.models.lstm.checkpoints import FREQUENT, SMALL, WITH_KERNELS, model_of
from tests.models.lstm.company import own
from tests.texts import CORPUS

pytestmark = WITH_KERNELS
STORE = Path(__file__).parents[3] / "model_store"
SIZES = NetworkConfig(320, embedding_size=32, encoder_size=48, decoder_size=64, key_size=32, relevance_size=8)


def source(length: int, seed: int) -> list[int]:
    generator = random.Random(seed)
    return [generator.randrange(3, SIZES.vocabulary_size) for _ in range(length)]


def network_of(config: NetworkConfig = SIZES) -> Seq2Seq:
    torch.manual_seed(0)
    network = Seq2Seq(config).eval()
    torch.nn.init.normal_(network.output_bias)
    return network


@pytest.fixture(scope="module")
def model() -> LSTMModel:
    return model_of(network_of(), "int8", FREQUENT)


def reading_of(memory: Memory) -> NativeReading:
    assert isinstance(memory, LSTMMemory)
    assert isinstance(memory.reading, NativeReading)
    return memory.reading


def joined(model: LSTMModel, memories: Sequence[Memory]) -> DecoderState:
    state = model.open(len(memories))
    for slot, memory in enumerate(memories):
        state.join([slot], memory)
    return state


def assert_same(got: StepOutput, row: int, expected: StepOutput, other: int, memory: Memory) -> None:
    for one, two in zip(own(got, row, memory), own(expected, other, memory), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("name", ["news-en", "news-zh"])
def test_a_checkpoint_says_in_int8_what_it_says_in_float32(name: str) -> None:
    """Over sixteen steps, of the tokens that float32 prefers."""
    models = [load(Checkpoint(STORE / name), device="cpu", precision=precision) for precision in ("float32", "int8")]
    sources = [models[0].tokenize(text * times).ids for text in CORPUS[:4] for times in (1, 5)]
    memories = [model.encode(sources) for model in models]
    states = [joined(*both) for both in zip(models, memories, strict=True)]
    rows, tokens, off = range(len(sources)), [START] * len(sources), []
    for _ in range(16):
        exact, got = (state.step(rows, tokens) for state in states)
        for row, memory in enumerate(memories[0]):
            for one, other in zip(own(exact, row, memory), own(got, row, memory), strict=True):
                off.append(float((one.exp() - other.exp()).abs().max()))
        best = exact.log_probabilities.argmax(1).tolist()
        tokens = [memory.candidates.token(column) for memory, column in zip(memories[0], best, strict=True)]
    assert max(off) < 0.1
    assert sum(off) / len(off) < 0.01


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        SIZES,
        NetworkConfig(320, embedding_size=96, encoder_size=80, decoder_size=160, key_size=544, encoder_layers=2),
    ],
)
@pytest.mark.parametrize("frequent", [None, FREQUENT, range(2, 3)])
def test_every_size_and_length_comes_to_what_float32_comes_to(
    config: NetworkConfig, frequent: Sequence[int] | None
) -> None:
    network = network_of(config)
    lengths = (1, 2, 3, 15, 16, 17, 31, 33, 100, 399, 400)
    models = [model_of(network, precision, frequent) for precision in ("float32", "int8")]
    memories = [model.encode([source(length, length) for length in lengths]) for model in models]
    states = [joined(*both) for both in zip(models, memories, strict=True)]
    for step in range(4):
        exact, got = (state.step(range(len(lengths)), source(len(lengths), step)) for state in states)
        for row, memory in enumerate(memories[1]):
            for one, other in zip(own(got, row, memory), own(exact, row, memory), strict=True):
                torch.testing.assert_close(one.exp(), other.exp(), atol=0.02, rtol=0.0)
        torch.testing.assert_close(got.log_probabilities.exp().sum(1), torch.ones(len(lengths)))
        torch.testing.assert_close(got.attention.sum(1), torch.ones(len(lengths)))


def test_scores_of_large_keys_are_not_too_large() -> None:
    """As products of int16 and int8 they would be, if nothing was done about it."""
    network = network_of(replace(SIZES, key_size=1024))
    torch.nn.init.ones_(network.decoder.attention.query.weight)
    keys = torch.zeros(3, 1024, dtype=torch.int8)
    keys[0], keys[1, :512] = 127, 127
    values = torch.zeros(3, 2 * SIZES.encoder_size, dtype=torch.int8)
    start = torch.full((4, SIZES.decoder_size), 0.1)
    three = Source(keys, torch.full((3,), 1e-3), values, torch.zeros(3), start)
    state = model_of(network, "int8").open(1)
    assert isinstance(state, NativeState)
    state.enter([0], NativeReading(three, np.arange(3, dtype=np.int32), []))
    whole, half, none = state.step([0], [START]).attention[0, :3]
    assert abs(float((whole / none).log())) > 1e-3
    torch.testing.assert_close(whole * none, half * half)


def test_a_source_of_frequent_tokens_alone_has_no_columns_of_its_own(model: LSTMModel) -> None:
    ids = [*FREQUENT[:5], *FREQUENT[:5]]
    (memory,) = model.encode([ids])
    assert len(memory.candidates) == len(FREQUENT)
    output = joined(model, [memory]).step([0], [START])
    assert int((output.log_probabilities > -torch.inf).sum()) == len(FREQUENT)
    assert output.copied is not None
    for place in range(5):
        weight = output.copied[0] * output.attention[0, [place, place + 5]].sum()
        assert output.log_probabilities[0, place].exp() >= weight * (1 - 1e-6)


def test_a_row_is_the_same_in_every_number_of_rows_order_and_slot(model: LSTMModel) -> None:
    """Beams that share a source among them: three slots have each."""
    generator = random.Random(3)
    memories = model.encode([source(1 + 29 * number, number) for number in range(14)])
    alone = [joined(model, [memory]) for memory in memories for _ in range(3)]
    together = model.open(len(alone))
    for number, memory in enumerate(memories):
        together.join(range(3 * number, 3 * number + 3), memory)
    for count in range(1, 34):
        slots = generator.sample(range(len(alone)), count)
        tokens = source(count, count)
        output = together.step(slots, tokens)
        for row, (slot, token) in enumerate(zip(slots, tokens, strict=True)):
            assert_same(output, row, alone[slot].step([0], [token]), 0, memories[slot // 3])


def test_a_row_goes_on_from_what_another_held(model: LSTMModel) -> None:
    (memory,) = model.encode([source(40, 1)])
    state, alone = model.open(4), model.open(4)
    state.join([0, 1, 2], memory)
    alone.join([0, 1, 2], memory)
    for each in (state, alone):
        each.step([0, 1, 2], [5, 6, 7])
    state.reorder([0, 1, 2], [1, 2, 1])  # all are read before any is written
    got, expected = state.step([0, 1, 2], [8, 8, 9]), alone.step([1, 2], [8, 8])
    for row, parent in ((0, 0), (1, 1)):
        assert_same(got, row, expected, parent, memory)
    assert not torch.equal(got.log_probabilities[2], got.log_probabilities[0])


def test_a_slot_keeps_its_state_when_it_rests_and_starts_anew_when_it_is_joined(model: LSTMModel) -> None:
    one, other = model.encode([source(9, 1), source(300, 2)])
    state, fresh = joined(model, [one, other]), joined(model, [one])
    for token in (START, 7, 8):
        state.step([1], [token])
    assert_same(state.step([0], [START]), 0, fresh.step([0], [START]), 0, one)
    state.leave([1])
    state.join([1], one)
    assert_same(state.step([0, 1], [9, START]), 1, joined(model, [one]).step([0], [START]), 0, one)


def test_what_leaves_is_not_kept(model: LSTMModel) -> None:
    (memory,) = model.encode([source(9, 1)])
    state, kept = model.open(2), weakref.ref(reading_of(memory))
    state.join([0, 1], memory)
    state.step([0, 1], [START, START])
    del memory
    assert kept() is not None
    state.leave([0, 1])
    assert kept() is None


def test_threads_share_a_model(model: LSTMModel) -> None:
    memories = model.encode([source(3 + 40 * number, number) for number in range(8)])

    def steps(_: int) -> list[Tensor]:
        state = joined(model, memories)
        return [state.step(range(8), source(8, step)).log_probabilities.clone() for step in range(20)]

    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(steps, range(3))
    assert all(torch.equal(one, two) for other in others for one, two in zip(first, other, strict=True))


def assert_broken(output: StepOutput, row: int, memory: Memory) -> None:
    """In all that it says, and seen by every search."""
    scores = output.log_probabilities
    assert scores[row, : len(memory.candidates)].isnan().all()
    for ask in (Ask(), Ask(8)):
        answers = select(scores, [ask] * len(scores))
        assert [answer.broken for answer in answers] == [number == row for number in range(len(scores))]


@pytest.mark.parametrize(
    ("field", "value"), [("scales", torch.nan), ("prior", torch.nan), ("prior", torch.inf), ("cell", torch.nan)]
)
@torch.inference_mode()
def test_a_source_that_is_not_finite_breaks_its_own_row_alone(model: LSTMModel, field: str, value: float) -> None:
    memories = model.encode([source(20, number) for number in range(4)])
    state, whole = joined(model, memories), joined(model, memories)
    (broken,) = model.encode([source(20, 9)])
    reading = reading_of(broken)
    numbers = {"scales": reading.source.scales, "prior": reading.source.prior, "cell": reading.cell[0]}
    numbers[field][7] = value
    state.leave([2])
    state.join([2], broken)
    for step in range(3):
        tokens = source(4, step)
        output, expected = state.step(range(4), tokens), whole.step(range(4), tokens)
        assert_broken(output, 2, broken)
        for row in (0, 1, 3):
            assert_same(output, row, expected, row, memories[row])


@pytest.mark.parametrize("layer", range(4))
def test_a_first_state_that_is_not_finite_breaks_its_row(model: LSTMModel, layer: int) -> None:
    (memory,) = model.encode([source(20, 9)])
    reading = reading_of(memory)
    start = torch.zeros(4, SIZES.decoder_size)
    start[layer, 5] = torch.nan
    broken = NativeReading(reading.source._replace(start=start), np.zeros(20, np.int32), [])
    state = model.open(1)
    assert isinstance(state, NativeState)
    state.enter([0], broken)
    for _ in range(3):
        assert_broken(state.step([0], [START]), 0, memory)


@pytest.mark.parametrize("name", [name for name, _ in Seq2Seq(SIZES).named_parameters()])
def test_a_weight_that_is_not_finite_breaks_every_row(name: str) -> None:
    network = network_of()
    with torch.no_grad():
        network.get_parameter(name).view(-1)[-1] = torch.nan
    model = model_of(network, "int8")
    (memory,) = model.encode([[*source(20, 1), SIZES.vocabulary_size - 1]])
    state = joined(model, [memory])
    for _ in range(3):
        assert_broken(state.step([0], [START]), 0, memory)
