from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from app.models.lstm.network import NetworkConfig, Seq2Seq
from benchmarks.counting import PRECISIONS, Bound, Load, Machine, Part, Shape, bounds, encoding, limit, step

SIZES = NetworkConfig(48, embedding_size=16, encoder_size=12, decoder_size=20, key_size=8)
LOAD = Load(texts=3, beams=1, source=7, own=0)


def counted(network: Seq2Seq, load: Load) -> tuple[int, int]:
    """Operations of products in an encoder pass, and in one decoder step with scores of the whole vocabulary."""
    ids = torch.ones(load.texts, load.source, dtype=torch.long)
    lengths = torch.full((load.texts,), load.source)
    network.double()  # in float32 an LSTM layer is one call of a library, which is not counted
    with torch.inference_mode():
        with FlopCounterMode(display=False) as encoder:
            memory, state = network.encode(ids, lengths)
        with FlopCounterMode(display=False) as decoder:
            decoded = network.decode(ids[:, :1], memory, state)
            F.linear(decoded.features, network.embedding.weight)
    return encoder.get_total_flops(), decoder.get_total_flops()


def operations(parts: list[Part]) -> int:
    return sum(part.times * part.operations for part in parts if part.shape)


@pytest.mark.parametrize(
    "config",
    [SIZES, replace(SIZES, encoder_layers=2), replace(SIZES, relevance_size=5)],
    ids=["one", "two", "relevance"],
)
@pytest.mark.parametrize("load", [LOAD, Load(texts=1, beams=1, source=1, own=0)])
def test_operations_are_those_of_the_network(config: NetworkConfig, load: Load) -> None:
    encoder, decoder = counted(Seq2Seq(config).eval(), load)
    for precision in PRECISIONS:
        assert operations(encoding(config, precision, load)) == encoder
        assert operations(step(config, precision, load, config.vocabulary_size)) == decoder


def test_a_token_is_scored_at_the_same_cost_whether_it_is_frequent_or_the_texts_own() -> None:
    whole = step(SIZES, "float32", LOAD, SIZES.vocabulary_size)
    parted = step(SIZES, "float32", LOAD._replace(own=9), SIZES.vocabulary_size - 9)
    assert operations(whole) == operations(parted)


def test_every_weight_is_read_once_in_its_own_precision() -> None:
    network = Seq2Seq(SIZES)
    decoder = network.decoder
    layers = [decoder.ask, decoder.write, decoder.output, decoder.gate, decoder.attention.query, network.embedding]
    weights = [weight for layer in layers for weight in layer.parameters() if weight.dim() == 2]
    numbers = sum(weight.numel() for weight in weights)
    for precision, size in (("float32", 4), ("bfloat16", 2), ("int8", 1)):
        parts = step(SIZES, precision, LOAD, SIZES.vocabulary_size)
        assert sum(part.weights for part in parts) == size * numbers


def test_beams_share_their_source() -> None:
    one, four = (step(SIZES, "int8", LOAD._replace(beams=beams), 40) for beams in (1, 4))
    for single, several in zip(one, four, strict=True):
        assert several.operations == 4 * single.operations
        assert several.weights == single.weights
        if single.name.startswith("attention"):
            assert several.own == single.own == 3 * 7 * 2 * (8 if single.name.endswith("keys") else 24)


def machine(throughput: float, bandwidth: dict[int, float], cores: int = 1) -> Machine:
    kinds = {(kind, shape): throughput for kind in PRECISIONS for shape in SHAPES}
    return Machine(cores, kinds, bandwidth)


SHAPES = [Shape(1, 4, 10, 10), Shape(1, 4, 20, 5)]
FIRST = Part("first", "int8", operations=1000, weights=100, own=20, shape=SHAPES[0])
AGAIN = Part("again", "int8", operations=1000, weights=50, own=0, shape=SHAPES[1], times=7)


def test_a_part_takes_as_long_as_its_operations_or_its_bytes_whichever_is_longer() -> None:
    assert bounds([FIRST], machine(100.0, {200: 60.0})) == [Bound(operations=10.0, bytes=2.0)]
    assert bounds([FIRST], machine(100.0, {200: 60.0}))[0].seconds == 10.0
    assert bounds([FIRST], machine(1000.0, {200: 6.0}))[0].seconds == 20.0


def test_what_is_repeated_finds_its_bytes_near() -> None:
    first, again = bounds([FIRST, AGAIN], machine(1e9, {64: 100.0, 150: 10.0, 1000: 1.0}))
    assert first.bytes == 12.0
    assert again.bytes == 7 * 50 / 100.0


def test_cores_share_weights_but_not_rows() -> None:
    """One core's 120 bytes fit where 140 of two cores do not."""
    bandwidth = {130: 10.0, 1000: 1.0}
    assert [bounds([FIRST], machine(1e9, bandwidth, cores))[0].bytes for cores in (1, 2)] == [12.0, 120.0]


def test_a_working_set_beyond_all_that_were_measured_is_read_like_the_largest() -> None:
    assert machine(1.0, {10: 5.0, 20: 3.0}).reads(21) == 3.0


def test_the_limit_counts_all_cores_and_every_step() -> None:
    found = limit([FIRST], [FIRST], machine(100.0, {1000: 60.0}, cores=2), texts=3, steps=4.0)
    assert (found.encode, found.decode, found.memory) == (10.0, 40.0, 0.0)
    assert found.rate == pytest.approx(2 * 3 / 50)


def test_at_its_peak_every_product_is_as_fast_as_the_fastest_of_its_type() -> None:
    measured = replace(machine(1.0, {1: 1.0}), throughput={("int8", SHAPES[0]): 5.0, ("int8", SHAPES[1]): 9.0})
    assert set(measured.at_peak().throughput.values()) == {9.0}
