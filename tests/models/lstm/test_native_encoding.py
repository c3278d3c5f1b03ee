"""The encoder in int8 is the network's own but for rounding, and what it makes of a source is not of the others."""

import json
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from app.models.kernels import UNIT, library
from app.models.lstm.native import Source
from app.models.lstm.native_encoding import NativeEncoder
from app.models.lstm.network import NetworkConfig, Seq2Seq, fold_values
from app.models.lstm.tokenizer import Tokenizer
from training.data import read

pytestmark = pytest.mark.skipif(library() is None, reason="there are no int8 kernels here")

ROOT = Path(__file__).parents[3]
SMALL = NetworkConfig(320, embedding_size=32, encoder_size=32, decoder_size=64, key_size=32, relevance_size=32)
ODD = NetworkConfig(320, embedding_size=16, encoder_size=12, decoder_size=20, key_size=8, relevance_size=5)
SIDES, PARAMETERS = ("forwards", "backwards"), ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
RELEVANCE = [f"{layer}.{name}" for layer in ("token", "compare", "begins") for name in ("weight", "bias")]
LENGTHS = st.lists(st.integers(1, 90), min_size=1, max_size=9)


def source(length: int, seed: int) -> list[int]:
    generator = random.Random(seed)
    return [generator.randrange(3, SMALL.vocabulary_size) for _ in range(length)]


@torch.no_grad()
def network(config: NetworkConfig) -> Seq2Seq:
    torch.manual_seed(0)
    model = Seq2Seq(config).eval()
    fold_values(model)
    return model.requires_grad_(False)


@torch.no_grad()
def published(name: str) -> Seq2Seq:
    folder = ROOT / "model_store" / name
    model = Seq2Seq(NetworkConfig(**json.loads((folder / "config.json").read_text())["network"])).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    fold_values(model)
    return model.requires_grad_(False)


@torch.no_grad()
def expected(model: Seq2Seq, ids: list[int]) -> tuple[Tensor, ...]:
    """keys (S, K), values (S, H), prior (S) and start (4, D) of one source, by the network that trains."""
    memory, state = model.encode(torch.tensor([ids]), torch.tensor([len(ids)]))
    return memory.keys[0], memory.values[0], memory.prior[0], torch.cat(tuple(state))


def in_float(encoded: Source) -> tuple[Tensor, ...]:
    keys = encoded.keys.float() * encoded.scales.unsqueeze(1)
    return keys, encoded.values.float() / UNIT, encoded.prior, encoded.start


@pytest.mark.parametrize(
    "config",
    [SMALL, ODD, replace(SMALL, relevance_size=0), replace(SMALL, encoder_layers=2), replace(ODD, encoder_layers=3)],
)
def test_it_is_the_networks_encoder_but_for_rounding(config: NetworkConfig) -> None:
    model = network(config)
    sources = [source(length, length) for length in (1, 2, 7, 8, 25, 63, 64, 65, 129, 400)]
    for ids, encoded in zip(sources, NativeEncoder(model)(sources), strict=True):
        keys, values, prior, start = expected(model, ids)
        assert encoded.keys.shape == keys.shape
        assert encoded.values.shape == values.shape
        for one, other, error in zip(
            in_float(encoded), (keys, values, prior, start), (0.05, 0.02, 0.02, 0.02), strict=True
        ):
            torch.testing.assert_close(one, other, atol=error, rtol=0.02)


@pytest.mark.parametrize("config", [SMALL, ODD])
def test_what_is_compared_is_what_the_network_compares(config: NetworkConfig) -> None:
    """Vectors that differ, and likelihoods far from what an untrained network says."""
    model = network(config)
    assert model.relevance is not None
    model.relevance.token.weight *= 4
    model.relevance.begins.weight *= 10
    model.relevance.begins.bias.zero_()
    sources = [source(length, length) for length in (2, 9, 10, 25, 70, 200)]
    found = torch.cat([encoded.prior.diff() for encoded in NativeEncoder(model)(sources)])
    wanted = torch.cat([expected(model, ids)[2].diff() for ids in sources])
    assert wanted.std() > 0.08
    assert (found - wanted).square().mean().sqrt() < 0.0035
    assert (found - wanted).abs().max() < 0.03


@pytest.mark.parametrize("name", ["news-en", "news-zh"])
def test_real_texts_are_encoded_closely(name: str) -> None:
    """Each of them, and each with another one after it, which relevance has to find."""
    model, tokenizer = published(name), Tokenizer.load(ROOT / "model_store" / name / "tokenizer.json")
    texts = [pair.text for pair in read(f"{ROOT / 'training' / 'sample' / 'valid.jsonl.zst'}:20")]
    joined = [" ".join(pair) for pair in pairwise(texts)]
    sources = [list(tokenizer.encode(text).ids[:400]) for text in [*texts, *joined]]
    found = [in_float(encoded) for encoded in NativeEncoder(model)(sources)]
    wanted = [expected(model, ids) for ids in sources]
    keys, values, prior, start = (
        torch.cat([(one[part] - other[part]).flatten() for one, other in zip(found, wanted, strict=True)])
        for part in range(4)
    )
    likely = torch.cat([other[2] for other in wanted]) > -0.05
    assert keys.square().mean().sqrt() < 0.02  # of about 0.84
    assert values.square().mean().sqrt() < 0.004
    assert start.square().mean().sqrt() < 0.01
    assert prior[likely].abs().max() < 0.02
    assert prior.abs().max() < 0.2


@settings(max_examples=30, deadline=None)
@given(LENGTHS, st.randoms(use_true_random=False))
def test_a_source_is_the_same_in_any_company_and_order(lengths: list[int], chance: random.Random) -> None:
    encoder = NativeEncoder(network(SMALL))
    sources = [source(length, chance.randrange(1000)) for length in lengths]
    order = chance.sample(range(len(sources)), len(sources))
    among = encoder([sources[number] for number in order])
    for number, encoded in zip(order, among, strict=True):
        assert all(map(torch.equal, encoded, encoder([sources[number]])[0]))


@pytest.mark.parametrize("config", [replace(ODD, encoder_layers=2), NetworkConfig(320, relevance_size=128)])
def test_a_source_is_the_same_among_few_and_many(config: NetworkConfig) -> None:
    encoder = NativeEncoder(network(config))
    sources = [source(1 + 53 * number % 150, number) for number in range(100)]
    for count in (2, 5, 40, 100):
        for ids, encoded in zip(sources[:count], encoder(sources[:count]), strict=True):
            assert all(map(torch.equal, encoded, encoder([ids])[0]))


@pytest.mark.parametrize(
    "name",
    [
        "embedding.weight",
        *(f"encoder.{side}.{layer}.{name}_l0" for side in SIDES for layer in (0, 1) for name in PARAMETERS),
        "decoder.attention.key.weight",
        *(f"relevance.{name}" for name in RELEVANCE),
        "bridge.weight",
        "bridge.bias",
    ],
)
def test_a_weight_that_is_not_a_number_shows(name: str) -> None:
    model = network(replace(SMALL, encoder_layers=2))
    model.get_parameter(name).flatten()[0] = torch.nan
    (encoded,) = NativeEncoder(model)([[5, 0, 7, 8]])
    of_keys, of_prior, of_start = (bool(part.isnan().any()) for part in (encoded.scales, encoded.prior, encoded.start))
    recurrent = name.startswith(("embedding", "encoder"))
    assert of_keys == (recurrent or "key" in name)
    assert of_prior == (recurrent or "relevance" in name)
    assert of_start == (recurrent or "bridge" in name)


def test_a_source_that_is_not_a_number_leaves_the_others_as_they_are() -> None:
    model = network(SMALL)
    sources = [[5, 6, 7], [8, 9, 10, 11], [12, 5]]
    before = NativeEncoder(model)(sources)
    model.embedding.weight[9] = torch.nan
    first, spoilt, last = NativeEncoder(model)(sources)
    assert spoilt.scales.isnan().all()  # either direction reaches every position
    assert spoilt.start.isnan().all()
    assert all(map(torch.equal, first, before[0]))
    assert all(map(torch.equal, last, before[2]))


def test_an_unknown_token_is_an_error() -> None:
    with pytest.raises(IndexError):
        NativeEncoder(network(SMALL))([[5, SMALL.vocabulary_size]])
