"""Each part of the loss does what it is there for."""

import numpy as np
import pytest
import torch

from app.models.lstm.network import NetworkConfig, Seq2Seq
from app.models.lstm.tokenizer import PAD
from tests.texts import trained_tokenizer
from training.data import Batch, collate, end_to_end
from training.objective import Objective
from training.risk import Reward, Samples

NETWORK = NetworkConfig(320, embedding_size=32, encoder_size=32, decoder_size=32, key_size=32, dropout=0.0)


def batch_of(texts: list[tuple[str, str]]) -> Batch:
    sources, summaries = (
        [np.array(trained_tokenizer().encode(pair[side]).ids, dtype=np.uint16) for pair in texts] for side in (0, 1)
    )
    return collate(end_to_end(sources, summaries), np.arange(len(texts)))


BATCH = batch_of([("the old bridge was closed on monday", "bridge closed"), ("a river rose by night", "the river")])


def model_of() -> Seq2Seq:
    torch.manual_seed(0)
    return Seq2Seq(NETWORK)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_attention_is_asked_for_exactly_where_a_target_token_occurs_in_the_source() -> None:
    model = model_of()
    plain, likelihood, tokens = Objective(torch.float32)(model, BATCH, generator())
    drawn, _, _ = Objective(torch.float32, attention_weight=0.5)(model, BATCH, generator())
    decoded = model.decode(BATCH.inputs, *model.encode(BATCH.source, BATCH.lengths))
    expected = 0.0
    for row, targets in enumerate(BATCH.targets.tolist()):
        for step, target in enumerate(targets):
            places = BATCH.source[row] == target
            if target != PAD and places.any():
                expected -= decoded.attention[row, step][places].sum().log().item()
    assert expected > 0
    assert (drawn - plain).item() == pytest.approx(0.5 * expected, rel=1e-4)
    assert plain.item() == likelihood.item()
    assert tokens == int((BATCH.targets != PAD).sum())


def learn(model: Seq2Seq, objective: Objective, batch: Batch, steps: int) -> None:
    optimizer, draws = torch.optim.Adam(model.parameters(), lr=5e-3), generator()
    for _ in range(steps):
        optimizer.zero_grad()
        objective(model.train(), batch, draws)[0].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.eval()


@pytest.mark.parametrize("way", [{"samples": 16}, {"beams": 4}])
def test_training_on_the_measure_alone_prefers_what_the_measure_prefers(way: dict[str, int]) -> None:
    source = "the old bridge was closed"
    good, bad = batch_of([(source, "bridge")] * 4), batch_of([(source, "old")] * 4)
    model, likelihood = model_of(), Objective(torch.float32)

    def preference() -> float:
        return (likelihood.likelihood(model, bad)[0] - likelihood.likelihood(model, good)[0]).item() / 4

    learn(model, likelihood, batch_of([(source, "bridge"), (source, "old")] * 2), steps=40)
    assert abs(preference()) < 1, "both are as likely"
    measure = Objective(torch.float32, risk_share=1.0, longest=3, reward=Reward(trained_tokenizer(), "en"), **way)
    before = measure.regret(model, good).item()
    learn(model, measure, good, steps=30)
    assert preference() > 3
    assert measure.regret(model, good).item() <= before


def test_a_token_that_is_drawn_either_way_has_the_probability_of_the_mixture() -> None:
    model, objective = model_of().eval(), Objective(torch.float32)
    batch = batch_of([("the old bridge was closed", "bridge")])
    memory, state = model.encode(batch.source, batch.lengths)
    token = batch.inputs[:, :1], batch.targets[:, :1]
    both, unseen = objective._read(model, memory, state, *token)
    ways = [
        objective._read_samples(model, memory, state, Samples(*token, torch.tensor([[generated]])), torch.ones(1))
        for generated in (True, False)
    ]
    probability = sum(torch.exp(-loss) for loss, _ in ways)
    torch.testing.assert_close(probability, torch.exp(-both))
    assert all(other == unseen for _, other in ways)
