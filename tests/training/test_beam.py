"""The beam that training ranks is that of the service, and its weights are the gradient of the expected reward."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.engine.engine import Engine
from app.engine.request import SummaryRequest
from app.models.base import DecodingOptions
from app.models.lstm.backends import TorchBackend
from app.models.lstm.network import NetworkConfig, Seq2Seq
from app.models.lstm.tokenizer import END, PAD, START
from tests.models.lstm.checkpoints import model_of
from training import beam
from training.risk import take, without_ends

NETWORK = NetworkConfig(320, embedding_size=32, encoder_size=32, decoder_size=32, key_size=32)
TEXTS = ("the old bridge was closed on monday", "a river rose by night", "council", "the council approved a bridge")


def network(ending: float) -> Seq2Seq:
    """Random weights, of such a size that no distribution is even."""
    torch.manual_seed(3)
    model = Seq2Seq(NETWORK).eval()
    with torch.no_grad():
        model.embedding.weight.mul_(8)
        model.output_bias[END] = ending
    return model


def padded(rows: list[tuple[int, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=PAD)
    return ids, torch.tensor([len(row) for row in rows])


@pytest.mark.parametrize("ending", [-9.0, 0.0, 3.0, 6.0])
@pytest.mark.parametrize("width", [1, 2, 4])
def test_the_best_that_it_finds_is_what_the_service_writes(width: int, ending: float) -> None:
    model = model_of(network(ending))
    options = DecodingOptions(width, max_length=6, numbers_from_source=False)
    requests = [SummaryRequest(text, options, attention=True) for text in TEXTS]
    with Engine(model, max_rows=16, max_queue=16) as engine:
        served = [future.result() for future in engine.submit(requests)]
    assert isinstance(model.backend, TorchBackend)
    encoded = model.backend.model.encode(*padded([model.tokenize(text).ids for text in TEXTS]))
    found = beam.search(model.backend.model, *encoded, width, 6)
    for summary, ids, score in zip(served, without_ends(found.targets)[::width], found.scores[:, 0], strict=True):
        assert summary.attention is not None
        assert summary.attention.summary.ids == tuple(ids)
        assert summary.score == pytest.approx(float(score), abs=1e-4)


def test_hypotheses_are_many_and_sorted_and_scored_by_the_model_itself() -> None:
    model = network(3.0)
    memory, state = model.encode(torch.randint(3, 320, (5, 7)), torch.tensor([7, 3, 1, 5, 2]))
    found = beam.search(model, memory, state, 4, 6)
    assert found.scores.shape == (5, 4)
    assert (found.scores.diff(dim=1) <= 0).all()
    assert len({tuple(row) for row in found.targets[:4].tolist()}) == 4
    rows = torch.arange(5).repeat_interleave(4)
    decoded = model.decode(found.inputs, *take(memory, state, rows))
    chosen = model.log_probabilities(decoded, memory.ids[rows]).gather(2, found.targets.unsqueeze(2)).squeeze(2)
    real = found.targets != PAD
    torch.testing.assert_close((chosen * real).sum(1) / real.sum(1), found.scores.flatten())
    assert (found.inputs[:, 0] == START).all()
    assert torch.equal(found.inputs[:, 1:], found.targets[:, :-1].where(real[:, 1:], PAD))


@given(st.integers(0, 2**20))
def test_weights_are_the_gradient_of_the_expected_reward(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores, rewards = (torch.rand(3, 4, generator=generator) for _ in range(2))
    lengths = torch.randint(1, 9, (3, 4), generator=generator)
    likelihoods = (scores * lengths).requires_grad_()
    expected = (torch.softmax(likelihoods / lengths / beam.TEMPERATURE, dim=1) * rewards).sum()
    (gradient,) = torch.autograd.grad(expected, likelihoods)
    weights = beam.ranking(scores, rewards, lengths)
    unit = float(gradient.abs().max() / weights.abs().max())
    torch.testing.assert_close(unit * weights, gradient, atol=1e-5, rtol=1e-4)
