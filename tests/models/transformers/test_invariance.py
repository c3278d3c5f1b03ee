"""Promise 1 at the seam: bit for bit, a row's result depends on nothing but the row, in both types of torch."""

import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from app.models import kernels
from app.models.base import AttentionOptions, DecoderState
from app.models.transformers.encoding import TransformersMemory
from app.models.transformers.family import TransformersModel
from tests.models.transformers.networks import CONTENT, START, model_of, network_of

# Kernels are chosen by sizes: these are in use, but for the number of layers and of tokens.
REAL = {
    "bart": {"d_model": 768, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072, "max_position_embeddings": 512},
    "flan-t5": {"d_model": 512, "d_kv": 64, "d_ff": 1024, "num_heads": 6},
}
HEADS = {"encoder_attention_heads": 12, "decoder_attention_heads": 12}
TOKENS = 5003
ATTENTION = AttentionOptions((0, 1), (1, 2, 3))
STEPS = 5


@pytest.fixture(scope="module", params=[(kind, dtype) for kind in REAL for dtype in (torch.float32, torch.bfloat16)])
def model(request: pytest.FixtureRequest) -> TransformersModel:
    kind, dtype = request.param
    sizes = REAL[kind] | (HEADS if kind == "bart" else {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "missing", lambda: "torch is meant")
        return model_of(network_of(kind, dtype, vocab_size=TOKENS, **sizes))


def text(length: int, seed: int) -> list[int]:
    generator = random.Random(seed)
    return [generator.choice(CONTENT) for _ in range(length)]


def memory_of(model: TransformersModel, length: int, seed: int) -> TransformersMemory:
    (memory,) = model.encode([text(length, seed)])
    assert isinstance(memory, TransformersMemory)
    return memory


def rows_of(state: DecoderState, rows: Sequence[int], tokens: Sequence[int], width: int) -> list[tuple[Tensor, Tensor]]:
    output = state.step(rows, tokens)
    return [(output.log_probabilities[row], output.attention[row, :width]) for row in range(len(rows))]


def same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    return all(map(torch.equal, one, other))


def test_an_encoded_source_is_the_same_in_any_company(model: TransformersModel) -> None:
    alone = memory_of(model, 33, 1)
    among = model.encode([text(5, 2), text(33, 1), text(120, 3)])[1]
    assert isinstance(among, TransformersMemory)
    assert all(map(torch.equal, among.keys + among.values, alone.keys + alone.values))


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("company", [1, 3, 6, 15])
def test_a_source_is_the_same_alone_and_among_others(model: TransformersModel, beams: int, company: int) -> None:
    """Its neighbours are longer and shorter, came before it and write something else; it stands in other slots."""
    memory = memory_of(model, 41, 1)
    alone, among = model.open(64), model.open(64)
    alone.join(range(beams), memory, ATTENTION)
    others: list[int] = []
    if company > 9:  # slots are long by now
        among.join([40], memory_of(model, 5, 2))
        for _ in range(40):
            among.step([40], text(1, 1))
        among.leave([40])
    for number in range(company):
        slots = range(number * beams, (number + 1) * beams)
        among.join(slots, memory_of(model, 3 + 17 * number, number), ATTENTION if number % 2 else None)
        others += slots
        among.step(others, text(len(others), number))
    own = [63 - beam for beam in range(beams)]
    among.join(own, memory, ATTENTION)
    for step in range(STEPS):
        tokens = text(beams, step) if step else [START] * beams
        expected = rows_of(alone, range(beams), tokens, 41)
        together = [*others[:beams], *own, *others[beams:]]
        neighbours = text(len(others), 100 + step)
        got = rows_of(among, together, [*neighbours[:beams], *tokens, *neighbours[beams:]], 41)[beams : 2 * beams]
        assert all(map(same, got, expected)), step
        parents = list(range(beams))[::-1]
        alone.reorder(range(beams), parents)
        among.reorder(own, [own[parent] for parent in parents])


@pytest.mark.parametrize("count", [8, 64])
def test_every_row_of_a_full_batch_is_as_it_is_alone(model: TransformersModel, count: int) -> None:
    memories = [memory_of(model, 3 + number, number) for number in range(count)]
    together, alone = model.open(count), [model.open(1) for _ in range(count)]
    for row, memory in enumerate(memories):
        together.join([row], memory)
        alone[row].join([0], memory)
    for step in range(3):
        tokens = text(count, step)
        output = together.step(range(count), tokens)
        for row, state in enumerate(alone):
            assert torch.equal(output.log_probabilities[row], state.step([0], [tokens[row]]).log_probabilities[0])


def test_whether_attention_is_asked_for_changes_nothing_else(model: TransformersModel) -> None:
    memory = memory_of(model, 20, 1)
    state = model.open(2)
    state.join([0], memory, ATTENTION)
    state.join([1], memory)
    for token in [START, *text(3, 1)]:
        output = state.step([0, 1], [token, token])
        assert torch.equal(*output.log_probabilities)
        assert output.attention[0].any()
        assert not output.attention[1].any()
