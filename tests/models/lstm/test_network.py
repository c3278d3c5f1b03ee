"""The network computes the formula it claims, learns, and never looks at padding."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from app.models.lstm.network import Attention, Dropout, Memory, NetworkConfig, Relevance, Seq2Seq, lstm, reverse
from app.models.lstm.tokenizer import END, PAD, START
from training.data import Batch
from training.loss import copy_loss

SMALL = NetworkConfig(30, embedding_size=16, encoder_size=12, decoder_size=20, key_size=8, dropout=0.0)


def small_network(seed: int = 0, config: NetworkConfig = SMALL) -> Seq2Seq:
    torch.manual_seed(seed)
    return Seq2Seq(config).eval()


def wide(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float64)


@torch.no_grad()
@pytest.mark.parametrize("relevant", [0.0, 2.0])
def test_attention_equals_a_float64_numpy_reference_of_the_formula(relevant: float) -> None:
    torch.manual_seed(0)
    attention = Attention(SMALL)
    encoded, embedded, hidden = torch.randn(3, 7, 24), torch.randn(3, 7, 16), torch.randn(3, 5, 20)
    lengths = torch.tensor([7, 4, 1])
    assert isinstance(attention.value, torch.nn.Linear)
    keys, values = attention.project(torch.cat([encoded, embedded], dim=2), encoded)
    relevance = -relevant * torch.rand(3, 7)
    prior = relevance.masked_fill(torch.arange(7) >= lengths.unsqueeze(1), -torch.inf)
    attended, weights = attention(hidden, Memory(keys, values, torch.zeros(3, 7, dtype=torch.long), prior))

    for row, length in enumerate(lengths.tolist()):
        sources = np.concatenate([wide(encoded[row]), wide(embedded[row])], axis=1)[:length]
        q = wide(hidden[row]) @ wide(attention.query.weight).T
        k = sources @ wide(attention.key.weight).T
        v = wide(encoded[row])[:length] @ wide(attention.value.weight).T
        scores = q @ k.T / np.sqrt(k.shape[1]) + wide(relevance[row, :length])
        expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(wide(weights[row])[:, :length], expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(wide(attended[row]), expected @ v, rtol=1e-4, atol=1e-6)
        assert (weights[row, :, length:] == 0).all()


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 5, 60])
def test_relevance_equals_a_float64_numpy_reference_position_by_position(length: int) -> None:
    torch.manual_seed(0)
    relevance = Relevance(replace(SMALL, relevance_size=6))
    nn.init.normal_(relevance.begins.weight, std=2.0)
    both = torch.randn(2, 60, 40)
    real = torch.arange(60) < torch.tensor([[length], [60]])
    given = wide(both[0, :length])
    tokens = np.tanh(given @ wide(relevance.token.weight).T + wide(relevance.token.bias))
    lasting = 0.0
    for here in range(length):
        before = [tokens[max(0, here - size) : here].sum(0) / max(1, min(here, size)) for size in (8, 24, 60)]
        after = [tokens[here : here + size].sum(0) / size for size in (8, 24)]
        alike = [one * after[1] * 6 for one in before[1:]]
        last = tokens[here - 1] if here else np.zeros(6)
        seen = np.concatenate([*before, *after, *alike, last, tokens[here]])
        inner = np.maximum(0, wide(relevance.compare.weight) @ seen + wide(relevance.compare.bias))
        logit = float((wide(relevance.begins.weight) @ inner + wide(relevance.begins.bias)).item())
        lasting -= np.log1p(np.exp(logit)) if here else 0.0
        assert relevance(both, real)[0, here].item() == pytest.approx(lasting, rel=1e-4, abs=1e-5)
    assert lasting < -0.001 or length == 1


def test_reverse_turns_real_positions_and_leaves_padding_at_the_end() -> None:
    sequence = torch.arange(10).view(2, 5, 1)
    assert reverse(sequence, torch.tensor([5, 3])).squeeze(2).tolist() == [[4, 3, 2, 1, 0], [7, 6, 5, 8, 9]]


@torch.no_grad()
def test_the_encoder_is_a_packed_bidirectional_lstm() -> None:
    network = small_network()
    forwards, backwards = network.encoder.forwards[0], network.encoder.backwards[0]
    reference = nn.LSTM(16, 12, batch_first=True, bidirectional=True)
    for suffix, half in (("", forwards), ("_reverse", backwards)):
        for name, parameter in half.named_parameters():
            getattr(reference, name + suffix).copy_(parameter)
    embedded, lengths = torch.randn(3, 6, 16), torch.tensor([6, 4, 2])
    outputs, last = network.encoder(embedded, lengths)
    packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths, batch_first=True)
    expected, (hidden, _) = reference(packed)
    unpacked, _ = nn.utils.rnn.pad_packed_sequence(expected, batch_first=True)
    real = torch.arange(6) < lengths.unsqueeze(1)
    torch.testing.assert_close(outputs[real], unpacked[real])
    torch.testing.assert_close(last, torch.cat([hidden[0], hidden[1]], dim=1))


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_a_single_position_computed_as_a_cell_is_the_lstms(dtype: torch.dtype, rounding: float) -> None:
    torch.manual_seed(0)
    layer = nn.LSTM(64, 32, batch_first=True).to(dtype)
    sequence, hidden, cell = (torch.randn(shape).to(dtype) for shape in ((4, 1, 64), (4, 32), (4, 32)))
    expected = lstm(layer.train(), sequence, hidden, cell)
    for got, wanted in zip(lstm(layer.eval(), sequence, hidden, cell), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=rounding, atol=rounding)


@torch.no_grad()
def test_steps_one_at_a_time_equal_all_positions_at_once() -> None:
    network = small_network()
    ids, lengths = torch.randint(3, 30, (2, 9)), torch.tensor([9, 6])
    targets = torch.randint(3, 30, (2, 5))
    memory, state = network.encode(ids, lengths)
    whole = network.decode(targets, memory, state)
    for position in range(5):
        step = network.decode(targets[:, position : position + 1], memory, state)
        state = step.state
        torch.testing.assert_close(step.features[:, 0], whole.features[:, position])
        torch.testing.assert_close(step.attention[:, 0], whole.attention[:, position])


@torch.no_grad()
def test_probabilities_sum_to_one_and_copying_reaches_source_tokens_only() -> None:
    network = small_network()
    ids = torch.tensor([[5, 6, 5, 7]])
    memory, state = network.encode(ids, torch.tensor([4]))
    decoded = network.decode(torch.tensor([[START]]), memory, state)
    copying = decoded._replace(gate=torch.full_like(decoded.gate, -100.0))
    probabilities = network.log_probabilities(copying, ids).exp()[0, 0]
    assert abs(float(network.log_probabilities(decoded, ids).exp().sum()) - 1) < 1e-5
    torch.testing.assert_close(probabilities[5], decoded.attention[0, 0, 0] + decoded.attention[0, 0, 2])
    assert float(probabilities[[5, 6, 7]].sum()) > 0.9999


def test_the_attended_result_is_an_input_of_the_decoder() -> None:
    network = small_network()
    memory, state = network.encode(torch.randint(3, 30, (1, 6)), torch.tensor([6]))
    values = memory.values.detach().requires_grad_()
    after = network.decode(torch.tensor([[START]]), memory._replace(values=values), state).state
    after.write_hidden.sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert float(values.grad.abs().sum()) > 0


def test_the_fused_loss_has_the_gradients_of_the_plain_one() -> None:
    torch.manual_seed(0)
    shapes = {"features": (600, 16), "weight": (30, 16), "bias": (30,), "gate": (600,)}
    leaves = {name: torch.randn(shape, requires_grad=True) for name, shape in shapes.items()}
    copied = torch.rand(600, requires_grad=True)
    targets = torch.randint(0, 30, (600,))
    copy_loss(**leaves, copied=copied, targets=targets, dtype=torch.float32).backward()  # type: ignore[no-untyped-call]
    fused = [leaf.grad for leaf in (*leaves.values(), copied)]
    for leaf in (*leaves.values(), copied):
        leaf.grad = None
    logits = leaves["features"] @ leaves["weight"].T + leaves["bias"]
    chosen = torch.softmax(logits, 1).gather(1, targets.unsqueeze(1)).squeeze(1)
    generate = torch.sigmoid(leaves["gate"])
    plain = -(generate * chosen + (1 - generate) * copied).log().sum()
    plain.backward()  # type: ignore[no-untyped-call]
    for leaf, expected in zip((*leaves.values(), copied), fused, strict=True):
        torch.testing.assert_close(leaf.grad, expected, rtol=1e-4, atol=1e-5)


def reversal_batch(size: int, length: int) -> Batch:
    source = torch.randint(3, 30, (size, length))
    backwards = source.flip(1)
    start, end = torch.full((size, 1), START), torch.full((size, 1), END)
    inputs, targets = torch.cat([start, backwards], 1), torch.cat([backwards, end], 1)
    lengths = torch.full((size,), length)
    return Batch(source, lengths, inputs, targets)


def test_it_learns_to_reverse_and_its_attention_turns_antidiagonal() -> None:
    """Seconds on a CPU: the toy task that nothing but working attention solves."""
    network = small_network(config=NetworkConfig(30, 32, 32, 1, 64, 32, 0.0)).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for step in range(300):
        torch.manual_seed(step)
        batch = reversal_batch(64, 4 + step % 5)
        decoded = network.decode(batch.inputs, *network.encode(batch.source, batch.lengths))
        chosen = network.log_probabilities(decoded, batch.source).gather(2, batch.targets.unsqueeze(2))
        optimizer.zero_grad()
        (-chosen.mean()).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    torch.manual_seed(10_000)
    batch = reversal_batch(50, 8)
    network.eval()
    with torch.no_grad():
        memory, state = network.encode(batch.source, batch.lengths)
        decoded = network.decode(batch.inputs, memory, state)
        written = network.log_probabilities(decoded, batch.source).argmax(2)
    assert float((written == batch.targets).float().mean()) > 0.98
    looked_at = decoded.attention[:, :8].argmax(2)
    antidiagonal = torch.arange(7, -1, -1).expand_as(looked_at)
    assert float((looked_at == antidiagonal).float().mean()) > 0.95


@torch.no_grad()
def test_padding_changes_nothing() -> None:
    network = small_network()
    ids = torch.randint(3, 30, (1, 5))
    padded = torch.cat([ids, torch.full((1, 4), PAD)], dim=1)
    lengths = torch.tensor([5])
    start = torch.tensor([[START]])
    alone = network.decode(start, *network.encode(ids, lengths))
    wider = network.decode(start, *network.encode(padded, lengths))
    torch.testing.assert_close(wider.features, alone.features)
    torch.testing.assert_close(wider.attention[:, :, :5], alone.attention)
    assert (wider.attention[:, :, 5:] == 0).all()


def test_dropout_hides_the_same_units_at_every_position_and_keeps_the_mean() -> None:
    dropout, values = Dropout(0.25), torch.ones(200, 6, 50)
    dropout.generator = torch.Generator().manual_seed(0)
    dropped = dropout(values)
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.03)
    assert not torch.equal(dropped[0], dropped[1])


def test_dropout_draws_from_its_own_generator_and_does_nothing_in_service() -> None:
    dropout, values = Dropout(0.5), torch.ones(4, 3, 8)
    drawn = []
    for _ in range(2):
        dropout.generator = torch.Generator().manual_seed(7)
        drawn.append(dropout(values))
        torch.rand(5)
    assert torch.equal(*drawn)
    assert torch.equal(dropout.eval()(values), values)
