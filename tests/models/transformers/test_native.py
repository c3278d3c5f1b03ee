"""The kernel's decoder is the library's: in float32, and in int8 with all that is rounded; row by row, in any company.

The library's is `decoder.Step` in float64, as `test_parity.py` compares it with the library itself.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from app.models.base import AttentionOptions, Candidates, Shared
from app.models.transformers.architectures import Decoder, Linear, read_decoder
from app.models.transformers.decoder import Product, Step
from app.models.transformers.native import NativeEncoder, NativeMemory, NativeState, NativeStep, missing
from tests.models.lstm.checkpoints import WITH_KERNELS
from tests.models.transformers.networks import (
    AFTER,
    BEFORE,
    CONFIGURATIONS,
    CONTENT,
    START,
    VOCABULARY,
    network_of,
)

LONGEST = 60
BEFORE_CONTENT, AFTER_CONTENT = 2, 1  # positions of a source that are not the caller's
LAYERS, HEADS = 2, 4
ALL = AttentionOptions((0, 1), (0, 1, 2, 3))
LARGEST = AttentionOptions((0, 1), (1, 2), "max")
T5_KINDS = tuple(kind for kind in CONFIGURATIONS if "t5" in kind)

IN_BOTH = pytest.mark.parametrize("rounded", [False, True], ids=["float32", "int8"])
Rounding = Callable[[Tensor], Tensor]


def to_int8(numbers: Tensor) -> Tensor:
    """Rounded in units of the largest of each row."""
    unit = numbers.abs().amax(-1, keepdim=True).clamp_min(1e-30) / 127
    return (numbers / unit).round() * unit


def as_it_is(numbers: Tensor) -> Tensor:
    return numbers


class Reference:
    """One row in float64, with what enters products, and what is attended to, rounded."""

    def __init__(self, decoder: Decoder, encoded: Tensor, rounding: Rounding) -> None:
        # What T5 reads here is rounded to two bytes: as good as not at all.
        split = [id(layer.leave) for layer in decoder.layers if not layer.own_norm.centred]

        def prepare(linear: Linear) -> Product:
            weight, bias = rounding(linear.weight), linear.bias
            round_rows = as_it_is if id(linear) in split else rounding
            return lambda rows: F.linear(round_rows(rows), weight, bias)

        self._step, self._rounding = Step(decoder, prepare), rounding
        self._heads = decoder.architecture.heads
        sources = [prepare(layer.source)(encoded.double()) for layer in decoder.layers]
        self._read = [rounding(read.view(len(encoded), 2, self._heads, -1)) for read in sources]
        self._kept = [read[:0] for read in self._read]
        self.weights = torch.zeros(len(sources), self._heads, len(encoded), dtype=torch.float64)

    def step(self, token: int) -> Tensor:
        position = len(self._kept[0])
        self.logits = self._step(torch.tensor([token]), torch.tensor([position]), self)[0]
        return self.logits.log_softmax(0)

    def own(self, layer: int, projected: Tensor) -> Tensor:
        query, *written = projected.view(3, self._heads, -1).unbind()
        kept = torch.cat([self._kept[layer], self._rounding(torch.stack(written))[None]])
        self._kept[layer] = kept
        relative = self._step.relative(len(kept))
        return self._attend(query, kept, 0 if relative is None else relative.view(self._heads, -1))[0]

    def source(self, layer: int, queries: Tensor) -> Tensor:
        attended, self.weights[layer] = self._attend(queries.view(self._heads, -1), self._read[layer])
        return attended

    def _attend(self, query: Tensor, kept: Tensor, bias: Tensor | float = 0) -> tuple[Tensor, Tensor]:
        """query (H, n), kept (T, 2, H, n), bias (H, T) -> attended (1, H n), weights (H, T)."""
        keys, values = kept.unbind(1)
        scores = torch.einsum("hn,thn->ht", query, keys) * self._step.architecture.attention_scale
        weights = (scores + bias).softmax(1)
        return torch.einsum("ht,thn->hn", weights, values).reshape(1, -1), weights

    def attention(self, options: AttentionOptions) -> Tensor:
        layers, heads = torch.tensor(options.layers), torch.tensor(options.heads)
        chosen = self.weights[layers][:, heads].flatten(0, 1)
        if options.reduce == "mean":
            return chosen.mean(0)
        largest = chosen.amax(0)
        return largest / largest.sum()


@cache
def decoder_of(kind: str, dtype: torch.dtype, **sizes: Any) -> Decoder:
    return read_decoder(network_of(kind, dtype, **sizes), LONGEST)


@cache
def step_of(kind: str, rounded: bool, **sizes: Any) -> NativeStep:
    return NativeStep(decoder_of(kind, torch.float32, **sizes), rounded=rounded)


def encoded_of(kind: str, length: int, seed: int, **sizes: Any) -> Tensor:
    size = decoder_of(kind, torch.float32, **sizes).embedding.shape[1]
    return torch.randn(length, size, generator=torch.Generator().manual_seed(seed))


def memory_of(step: NativeStep, encoded: Tensor) -> NativeMemory:
    content = len(encoded) - BEFORE_CONTENT - AFTER_CONTENT
    return NativeMemory(
        step.read(encoded), len(encoded), BEFORE_CONTENT, Candidates(Shared(range(VOCABULARY))), content
    )


def tokens_of(seed: int, count: int) -> list[int]:
    generator = random.Random(seed)
    return [generator.choice(CONTENT) for _ in range(count)]


def check_parity(kind: str, rounded: bool, length: int, seed: int, options: AttentionOptions, **sizes: Any) -> None:
    """What a row is told in some steps, against float64: within 1e-4 of it in float32. In int8, what lies half-way may
    be rounded either way, and T5 multiplies that: its scores are not scaled. What is wrong differs by all of it."""
    tolerance, told_tolerance = (0.2, 0.1) if rounded else (1e-4, 1e-4)
    step, encoded = step_of(kind, rounded, **sizes), encoded_of(kind, length, seed, **sizes)
    reference = Reference(decoder_of(kind, torch.float64, **sizes), encoded, to_int8 if rounded else as_it_is)
    state = NativeState(step, 1)
    state.join([0], memory_of(step, encoded), options)
    for token in [START, *tokens_of(seed, 4)]:
        expected, output = reference.step(token), state.step([0], [token])
        got = output.log_probabilities[0].double()
        assert torch.all(got[VOCABULARY:] == -torch.inf)
        error = (got[:VOCABULARY] - expected).norm() / (expected - expected.mean()).norm()
        assert error < tolerance
        assert output.normalizers is not None
        normalizer, scale = reference.logits.logsumexp(0), reference.logits.std()
        assert (output.normalizers[0] - normalizer).abs() < tolerance * scale
        told = reference.attention(options)[BEFORE_CONTENT : length - AFTER_CONTENT]
        assert torch.allclose(output.attention[0, : len(told)].double(), told, atol=told_tolerance)
        assert torch.all(output.attention[0, len(told) :] == 0)


@WITH_KERNELS
@IN_BOTH
@pytest.mark.parametrize("options", [ALL, LARGEST], ids=["mean", "max"])
@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_a_step_is_the_librarys(kind: str, options: AttentionOptions, rounded: bool) -> None:
    check_parity(kind, rounded, 19, 0, options)


@WITH_KERNELS
@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_in_int8_nothing_else_is_rounded(kind: str) -> None:
    """Where no number lay half-way, and that is one step of four at least, the rest is as exact as float32."""
    first, told, scores = AttentionOptions((0,), (0, 1, 2, 3)), [], []
    for seed in range(4):
        encoded = encoded_of(kind, 19, seed)
        reference = Reference(decoder_of(kind, torch.float64), encoded, to_int8)
        state = NativeState(step_of(kind, True), 1)
        state.join([0], memory_of(step_of(kind, True), encoded), first)
        for token in [START, *tokens_of(seed, 4)]:
            expected, output = reference.step(token), state.step([0], [token])
            scores.append((output.log_probabilities[0, :VOCABULARY] - expected).abs().max())
            content = reference.attention(first)[BEFORE_CONTENT:-AFTER_CONTENT]
            told.append((output.attention[0, : len(content)] - content).abs().max())
    assert torch.stack(told).median() < 1e-4
    assert torch.stack(scores).quantile(0.2) < 1e-3


@WITH_KERNELS
@IN_BOTH
@given(
    st.sampled_from(["bart", "mbart", "pegasus", "marian"]),
    *(st.integers(1, most) for most in (20, 150)),
    st.integers(BEFORE_CONTENT + AFTER_CONTENT, 90),
    st.integers(0, 2**20),
)
@settings(deadline=None, max_examples=15)
def test_a_step_of_any_sizes_is_barts(rounded: bool, kind: str, head: int, inner: int, length: int, seed: int) -> None:
    sizes = {"d_model": 4 * head, "encoder_ffn_dim": 8, "decoder_ffn_dim": inner}
    check_parity(kind, rounded, length, seed, ALL, **sizes)


@WITH_KERNELS
@IN_BOTH
@given(
    st.sampled_from(T5_KINDS),
    *(st.integers(1, most) for most in (80, 100, 150)),
    st.integers(BEFORE_CONTENT + AFTER_CONTENT, 90),
    st.integers(0, 2**20),
)
@settings(deadline=None, max_examples=15)
def test_a_step_of_any_sizes_is_t5s(
    rounded: bool, kind: str, head: int, size: int, inner: int, length: int, seed: int
) -> None:
    check_parity(kind, rounded, length, seed, ALL, d_model=size, d_kv=head, d_ff=inner)


@WITH_KERNELS
@IN_BOTH
@pytest.mark.parametrize("kind", ["bart", "flan-t5"])
@given(st.lists(st.tuples(st.integers(3, 70), st.integers(1, 3)), min_size=1, max_size=7), st.integers(0, 2**20))
@settings(deadline=None, max_examples=15)
def test_a_row_is_the_same_in_any_company_and_place(
    kind: str, rounded: bool, groups: list[tuple[int, int]], seed: int
) -> None:
    """groups: the length of a source, and its rows. Bit for bit."""
    step, draw = step_of(kind, rounded), random.Random(seed)
    slots = draw.sample(range(30), 30)
    state, alone = NativeState(step, 30), {slot: NativeState(step, 1) for slot in slots}
    rows: list[int] = []
    for number, (length, count) in enumerate(groups):
        memory, own = memory_of(step, encoded_of(kind, length, number)), [slots.pop() for _ in range(count)]
        options = draw.choice([None, ALL, LARGEST])
        state.join(own, memory, options)
        for slot in own:
            alone[slot].join([0], memory, options)
        rows += own
    for turn in range(3):
        chosen = draw.sample(rows, draw.randint(1, len(rows)))
        tokens = tokens_of(seed + turn, len(chosen))
        output = state.step(chosen, tokens)
        for place, (slot, token) in enumerate(zip(chosen, tokens, strict=True)):
            expected = alone[slot].step([0], [token])
            width = expected.attention.shape[1]
            assert torch.equal(output.log_probabilities[place], expected.log_probabilities[0])
            assert torch.equal(output.attention[place, :width], expected.attention[0])
            assert not output.attention[place, width:].any()


@WITH_KERNELS
@IN_BOTH
@given(st.integers(0, 2**20))
@settings(deadline=None, max_examples=10)
def test_beams_go_on_from_one_another_as_if_each_had_written_it_all(rounded: bool, seed: int) -> None:
    step, draw = step_of("t5", rounded), random.Random(seed)
    memory, beams = memory_of(step, encoded_of("t5", 20, seed)), [5, 2, 3, 0]
    state = NativeState(step, 6)
    state.join(beams, memory)
    written: dict[int, list[int]] = {beam: [] for beam in beams}
    for turn in range(draw.randint(2, 45)):  # memory is taken for 32 tokens at once
        chosen = draw.sample(beams, draw.randint(1, 4))
        tokens = tokens_of(seed + turn, len(chosen))
        output = state.step(chosen, tokens)
        for beam, token in zip(chosen, tokens, strict=True):
            written[beam].append(token)
        last = chosen[0], output.log_probabilities[0].clone()
        history = list(written[last[0]])
        parents = draw.choices(beams, k=4)
        state.reorder(beams, parents)
        written = {beam: list(written[parent]) for beam, parent in zip(beams, parents, strict=True)}
    again = NativeState(step, 1)
    again.join([0], memory)
    assert torch.equal([again.step([0], [token]) for token in history][-1].log_probabilities[0], last[1])


@WITH_KERNELS
@IN_BOTH
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_in_its_row(rounded: bool, bad: float) -> None:
    step, encoded = step_of("mbart", rounded), encoded_of("mbart", 20, 0)
    broken = encoded.clone()
    broken[7, 3] = bad
    state, sound = NativeState(step, 3), memory_of(step, encoded)
    for row, memory in enumerate((sound, memory_of(step, broken), sound)):
        state.join([row], memory, ALL)
    for token in [START, *tokens_of(0, 3)]:
        output = state.step([0, 1, 2], 3 * [token])
        assert output.log_probabilities[1].isnan().all()
        assert not output.log_probabilities[[0, 2]].isnan().any()
        assert torch.equal(output.log_probabilities[0], output.log_probabilities[2])
        assert output.attention[1, :17].isnan().all()
    expected = output.log_probabilities[0].clone()
    state.leave([1])
    state.join([1], sound)
    for token in [START, *tokens_of(0, 3)]:
        output = state.step([1], [token])
    assert torch.equal(output.log_probabilities[0], expected)


@WITH_KERNELS
@IN_BOTH
def test_a_value_that_is_not_finite_is_seen_where_its_key_is(rounded: bool) -> None:
    decoder, encoded = decoder_of("mbart", torch.float32), encoded_of("mbart", 20, 0)
    factor = torch.cat([torch.zeros(32), torch.full((32,), 1e30)])  # all keys are their bias
    layers = [
        replace(layer, source=Linear(factor.unsqueeze(1) * layer.source.weight, layer.source.bias))
        for layer in decoder.layers
    ]
    step = NativeStep(replace(decoder, layers=tuple(layers)), rounded=rounded)
    encoded[7] *= 1e12
    state = NativeState(step, 1)
    state.join([0], memory_of(step, encoded))
    assert state.step([0], [START]).log_probabilities.isnan().all()


@WITH_KERNELS
@IN_BOTH
@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_a_source_is_read_from_the_librarys_encoder(kind: str, rounded: bool) -> None:
    """Whose products are replaced: in float32 its results hardly change, in int8 by a tenth at most."""
    network, content = network_of(kind, torch.float32), tokens_of(0, 19)
    ids = torch.tensor([[*BEFORE, *content, *AFTER]])
    read: list[Tensor] = []
    step = step_of(kind, rounded)
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "read", read.append)
        expected = network.get_encoder()(input_ids=ids).last_hidden_state[0]
        memory = NativeEncoder(network.get_encoder(), step)(
            BEFORE, content, AFTER, Candidates(Shared(range(VOCABULARY)))
        )
    assert (read[0] - expected).norm() < (0.1 if rounded else 1e-5) * expected.norm()
    assert (memory.before, memory.positions, memory.source_tokens) == (len(BEFORE), len(ids[0]), 19)


def test_what_the_kernel_cannot_step_is_said() -> None:
    decoder = decoder_of("bart", torch.float32)
    assert missing(decoder) is None
    strange = replace(decoder, architecture=replace(decoder.architecture, activation=torch.sin))
    assert missing(strange) == "its activation is none of ReLU, GELU and SiLU"
    wide = replace(decoder.layers[0], query=Linear(torch.zeros(4 * 513, 32), None))
    assert missing(replace(decoder, layers=(wide,))) == "its heads are larger than 512"
