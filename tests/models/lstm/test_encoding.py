"""The encoder as it is served is the network's own, without its padding, and kernels that stop and go on never show."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.models.lstm.encoding import FEWEST_ROWS, PIECES, Encoded, computed, encode, padded_length
from app.models.lstm.network import NetworkConfig, Seq2Seq

CONFIG = NetworkConfig(60, embedding_size=32, encoder_size=32, decoder_size=32, key_size=32, relevance_size=32)
LENGTHS = st.lists(st.integers(1, 90), min_size=1, max_size=7)


def sources(lengths: Sequence[int]) -> list[list[int]]:
    return [[3 + (7 * row + 5 * place) % 57 for place in range(length)] for row, length in enumerate(lengths)]


def network(config: NetworkConfig = CONFIG) -> Seq2Seq:
    torch.manual_seed(0)
    return Seq2Seq(config).eval()


@torch.inference_mode()
@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, encoder_layers=2), replace(CONFIG, relevance_size=0)])
def test_it_is_the_networks_encoder(config: NetworkConfig) -> None:
    model, lengths = network(config), [40, 1, 90, 16, 17]
    ids = torch.zeros(5, 90, dtype=torch.long)
    for row, source in enumerate(sources(lengths)):
        ids[row, : len(source)] = torch.tensor(source)
    memory, state = model.encode(ids, torch.tensor(lengths))
    start = torch.stack(state, dim=1)
    for row, one in enumerate(encode(model, sources(lengths))):
        length = lengths[row]
        torch.testing.assert_close(one.keys[:length], memory.keys[row, :length])
        torch.testing.assert_close(one.values[:length], memory.values[row, :length])
        torch.testing.assert_close(one.prior[:length], memory.prior[row, :length])
        torch.testing.assert_close(one.start, start[row])
        assert len(one.prior) == padded_length(length)
        assert (one.prior[length:] == -torch.inf).all()


def equal(one: Encoded, other: Encoded) -> bool:
    return all(map(torch.equal, one, other))


@torch.inference_mode()
@settings(max_examples=30)
@given(LENGTHS)
def test_a_source_is_the_same_whoever_ends_before_it(lengths: list[int]) -> None:
    model = network()
    given_sources = sources(lengths)
    for source, among in zip(given_sources, encode(model, given_sources), strict=True):
        assert equal(encode(model, [source])[0], among)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernels_of_the_real_size_give_the_same_bits_in_any_pieces_and_with_any_rows_from_two_on(
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(0)
    layer = torch.nn.LSTM(256, 256).to(dtype).eval()
    inputs = torch.randn(128, 33, 256).to(dtype)
    whole, _ = layer(inputs)
    for rows in range(FEWEST_ROWS, 34):
        for piece in PIECES:
            state = None
            for start in range(0, 128, piece):
                outputs, state = layer(inputs[start : start + piece, :rows].contiguous(), state)
                assert torch.equal(outputs, whole[start : start + piece, :rows]), (rows, piece, start)


@given(LENGTHS)
def test_no_padding_is_computed_but_to_round_up_and_to_have_two_rows(lengths: list[int]) -> None:
    padded = sorted(map(padded_length, lengths), reverse=True)
    alone = padded[0] - padded[1] if len(padded) > 1 else padded[0]
    assert computed(lengths) == sum(padded) + alone


@torch.inference_mode()
def test_the_order_of_sources_is_kept() -> None:
    model = network()
    first, second, third = sources([5, 50, 20])
    forth, back = encode(model, [first, second, third]), encode(model, [third, second, first])
    assert all(map(equal, forth, reversed(back)))
