"""The step that is served computes what the network computes, with nothing of one source in another."""

import random
import weakref

import pytest
import torch

from app.models.lstm.backends import LSTMMemory, LSTMState
from app.models.lstm.family import LSTMModel
from app.models.lstm.network import NetworkConfig, Seq2Seq
from app.models.lstm.step import Reading
from app.models.lstm.tokenizer import PAD, START
from tests.models.lstm.checkpoints import ON_A_CPU, WITH_KERNELS, model_of

SIZES = NetworkConfig(320, embedding_size=32, encoder_size=32, decoder_size=64, key_size=32, dropout=0.0)
FREQUENT = [2, *range(40, 200)]


@pytest.fixture(scope="module")
def network() -> Seq2Seq:
    torch.manual_seed(0)
    return Seq2Seq(SIZES).eval()


def source(length: int, seed: int) -> list[int]:
    generator = random.Random(seed)
    return [generator.randrange(3, SIZES.vocabulary_size) for _ in range(length)]


def expected(network: Seq2Seq, ids: list[int], written: list[int], model: LSTMModel) -> tuple[torch.Tensor, ...]:
    """Probabilities of a source's candidates, and attention, by the network that trains: (T, C), (T, S)."""
    with torch.no_grad():
        memory, state = network.encode(torch.tensor([ids]), torch.tensor([len(ids)]))
        decoded = network.decode(torch.tensor([written]), memory, state)
        logits = torch.nn.functional.linear(decoded.features, network.embedding.weight, network.output_bias)
        own = [token for token in dict.fromkeys(ids) if token not in model.shared.columns]
        candidates = torch.tensor([*model.shared.tokens, *own])
        mixture = torch.zeros_like(logits)
        mixture[..., candidates] = torch.softmax(logits[..., candidates], 2) * decoded.shares[0].unsqueeze(2)
        index = memory.ids.unsqueeze(1).expand_as(decoded.attention)
        mixture.scatter_add_(2, index, decoded.attention * decoded.shares[1].unsqueeze(2))
    return mixture[0][:, candidates], decoded.attention[0]


@pytest.mark.parametrize("frequent", [None, FREQUENT])
@pytest.mark.parametrize(
    ("precision", "error"), [("float32", 2e-6), ("bfloat16", 0.02), pytest.param("int8", 0.02, marks=WITH_KERNELS)]
)
def test_steps_are_those_of_the_network_over_the_candidates(
    network: Seq2Seq, frequent: list[int] | None, precision: str, error: float
) -> None:
    model = model_of(network, precision, frequent)
    sources = [source(length, length) for length in (1, 9, 140, 30)]
    state = model.open(8)
    for row, memory in enumerate(model.encode(sources)):
        state.join([row], memory)
    written = [[START, *source(4, seed)] for seed in range(4)]
    references = [expected(network, ids, tokens, model) for ids, tokens in zip(sources, written, strict=True)]
    for step in range(5):
        output = state.step(range(4), [tokens[step] for tokens in written])
        for row, (probabilities, attention) in enumerate(references):
            count, length = probabilities.shape[1], attention.shape[1]
            got = output.log_probabilities[row].exp()
            torch.testing.assert_close(got[:count], probabilities[step], atol=error, rtol=0)
            torch.testing.assert_close(output.attention[row, :length], attention[step], atol=error, rtol=0)
            assert (got[count:] == 0).all()
            assert abs(float(got.sum()) - 1) < 1e-4


def test_beams_of_one_source_ask_one_reading(network: Seq2Seq) -> None:
    model = model_of(network, "float32", FREQUENT)
    ids = source(20, 1)
    (memory,) = model.encode([ids])
    assert isinstance(memory, LSTMMemory)
    state, alone = model.open(8), model.open(8)
    state.join([5, 2, 7], memory)
    alone.join([0], memory)
    together = state.step([5, 2, 7], [START, 9, START])
    assert isinstance(state, LSTMState)
    assert state._readings[5] is state._readings[2] is memory.reading
    for row in (0, 2):
        assert torch.equal(together.log_probabilities[row], together.log_probabilities[0])
    assert not torch.equal(together.log_probabilities[1], together.log_probabilities[0])
    assert torch.equal(alone.step([0], [START]).log_probabilities[0], together.log_probabilities[0])


def test_what_leaves_frees_its_memory(network: Seq2Seq) -> None:
    model = model_of(network, "float32", FREQUENT)
    state = model.open(8)
    (memory,) = model.encode([source(20, 1)])
    assert isinstance(memory, LSTMMemory)
    assert isinstance(memory.reading, Reading)
    state.join([0, 1], memory)
    state.step([0, 1], [START, START])
    kept = weakref.ref(memory.reading.keys)
    del memory
    state.leave([0, 1])
    assert kept() is None


@pytest.mark.parametrize("precision", ON_A_CPU)
@torch.inference_mode()
def test_a_source_that_is_not_finite_is_gone_with_its_slot(network: Seq2Seq, precision: str) -> None:
    model = model_of(network, precision, FREQUENT)
    short, long = model.encode([source(3, 1), source(100, 2)])
    assert isinstance(long, LSTMMemory)
    reading = long.reading
    prior, first = (
        (reading.prior, reading.start) if isinstance(reading, Reading) else (reading.source.prior, reading.cell)
    )
    for tensor in (prior, first):
        tensor.fill_(torch.nan)
    state, fresh = model.open(8), model.open(8)
    state.join([4], long)
    assert state.step([4], [START]).log_probabilities.isnan().any()
    state.leave([4])
    state.join([4], short)
    fresh.join([4], short)
    assert torch.equal(state.step([4], [START]).log_probabilities, fresh.step([4], [START]).log_probabilities)


def test_a_given_summary_can_be_written_though_no_text_has_it(network: Seq2Seq) -> None:
    model = model_of(network, "float32", FREQUENT)
    given = [250, 50, 251]
    plain, wanted = model.encode([[60, 201], [60, 201]], [[], given])
    assert plain.candidates.columns([201, *given]) == [len(FREQUENT), FREQUENT.index(50)]
    assert [wanted.candidates.token(column) for column in wanted.candidates.columns(given)] == given
    assert len(wanted.candidates) == len(FREQUENT) + 3
    assert wanted.candidates.column(PAD) is None
