"""The reward is the library's ROUGE, samples come from the model's own distribution, and weights favour the better."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from app.models.lstm.network import NetworkConfig, Seq2Seq
from app.models.lstm.tokenizer import END, PAD, START
from tests.texts import trained_tokenizer
from training.risk import Reward, _draw, _index, advantages, decisive, sample, take, without_ends

NETWORK = NetworkConfig(40, embedding_size=32, encoder_size=32, decoder_size=32, key_size=32)


def small() -> tuple[Seq2Seq, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return Seq2Seq(NETWORK).eval(), torch.randint(3, 40, (5, 7)), torch.tensor([7, 3, 1, 6, 7])


def test_the_reward_is_the_mean_of_the_librarys_three_measures() -> None:
    tokenizer = trained_tokenizer()
    reference, good, bad = "the bridge was closed on monday", "the bridges are closed", "a dog"
    ids = [tokenizer.encode(text).ids for text in (reference, good, bad)]
    rewards = Reward(tokenizer, "en")([ids[0]], [ids[1:]])
    scorer = RougeScorer(("rouge1", "rouge2", "rougeL"), use_stemmer=True)
    expected = [sum(score.fmeasure for score in scorer.score(reference, text).values()) / 3 for text in (good, bad)]
    assert rewards.tolist() == [pytest.approx(expected)]
    assert rewards[0, 0] > rewards[0, 1] == 0


def test_chinese_is_rewarded_by_its_characters() -> None:
    tokenizer = trained_tokenizer()
    ids = [tokenizer.encode(text).ids for text in ("大桥正式通车", "大桥通车", "天气")]
    rewards = Reward(tokenizer, "zh")([ids[0]], [ids])
    assert rewards[0, 0] == 1.0
    assert 1.0 > rewards[0, 1] > 0.5
    assert rewards[0, 2] == 0.0


@given(rewards=st.lists(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), min_size=1, max_size=6))
def test_weights_of_a_source_sum_to_nothing_and_follow_the_order_of_its_rewards(rewards: list[list[float]]) -> None:
    given_rewards = torch.tensor(rewards)
    weights = advantages(given_rewards)
    torch.testing.assert_close(weights.sum(1), torch.zeros(len(rewards)), atol=1e-3, rtol=0)
    for row, weight in zip(given_rewards, weights, strict=True):
        assert torch.equal(weight[row.argsort(stable=True)], weight.sort().values)


def test_a_greedy_summary_takes_the_most_likely_token_at_every_step() -> None:
    model, source, lengths = small()
    memory, state = model.encode(source, lengths)
    inputs, targets, _ = sample(model, memory, state, 9, None)
    scores = model.log_probabilities(model.decode(inputs, memory, state), memory.ids)
    scores[..., [PAD, START]] = -torch.inf
    written = targets != PAD
    assert torch.equal(scores.argmax(2)[written], targets[written])
    assert inputs[:, 0].tolist() == [START] * 5


def test_after_its_end_a_sample_is_padding_and_inputs_are_targets_shifted() -> None:
    model, source, lengths = small()
    with torch.no_grad():
        model.output_bias[END] = 3.0
    memory, state = take(*model.encode(source, lengths), torch.arange(5).repeat_interleave(20))
    inputs, targets, generated = sample(model, memory, state, 6, torch.Generator().manual_seed(1))
    assert generated.shape == targets.shape
    assert targets.shape[1] <= 7
    for given_row, row in zip(inputs.tolist(), targets.tolist(), strict=True):
        end = row.index(END) if END in row else len(row)
        assert all(token not in (PAD, START, END) for token in row[:end])
        assert set(row[end + 1 :]) <= {PAD}
        kept = min(end, len(row) - 1)
        assert given_row[1 : kept + 1] == row[:kept]
        assert set(given_row[kept + 1 :]) <= {PAD}


def test_a_step_draws_every_token_as_often_as_the_mixture_of_generating_and_copying_says() -> None:
    model, source, lengths = small()
    with torch.no_grad():
        model.output_bias[[PAD, START]] = -30.0  # never drawn, and with next to no probability to be missed
    memory, state = take(*model.encode(source, lengths), torch.zeros(50_000, dtype=torch.long))
    decoded = model.decode(torch.full((50_000, 1), START), memory, state)
    drawn, generated = _draw(model, decoded, memory.ids, torch.Generator().manual_seed(0))
    likely = model.log_probabilities(decoded, memory.ids)[0, 0].exp()
    torch.testing.assert_close(torch.bincount(drawn, minlength=40) / 50_000, likely, atol=0.01, rtol=0)
    torch.testing.assert_close(generated.float().mean(), decoded.shares[0][0, 0], atol=0.01, rtol=0)
    assert set(drawn[~generated].tolist()) <= set(source[0].tolist())


def test_the_decisive_samples_of_a_source_are_those_farthest_from_their_mean() -> None:
    weights = torch.tensor([[0.1, -0.9, 0.8, 0.0], [-0.2, 0.3, -0.1, 0.0]])
    assert sorted(decisive(weights, 2).tolist()) == [1, 2, 4, 5]


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.2]).expand(20_000, 4)
    drawn = _index(probabilities, torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(shares, probabilities[0], atol=0.015, rtol=0)
    assert shares[1] == 0


def test_ids_stop_where_the_summary_does() -> None:
    assert without_ends(torch.tensor([[5, 6, END, PAD], [7, 8, 9, 10]])) == [[5, 6], [7, 8, 9, 10]]
