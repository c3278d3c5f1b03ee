"""A step is what the library's own forward pass says, whatever the other rows are doing."""

from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from app.models.base import AttentionOptions, DecoderState, Memory
from app.models.transformers.family import TransformersModel
from tests.models.transformers.networks import (
    AFTER,
    BEFORE,
    CONTENT,
    START,
    VOCABULARY,
    model_of,
)

pytestmark = pytest.mark.usefixtures("precise")
CAPACITY = 6
TOLERANCE = 1e-9
ALL = AttentionOptions((0, 1), (0, 1, 2, 3))
OPTIONS = (None, ALL, AttentionOptions((1,), (0, 2)), AttentionOptions((0, 1), (0, 1, 2, 3), "max"))

sources = st.lists(st.sampled_from(CONTENT), min_size=1, max_size=12)
tokens = st.integers(0, VOCABULARY - 1)


@pytest.fixture(scope="module")
def model(network: PreTrainedModel) -> TransformersModel:
    return model_of(network)


@torch.no_grad()
def expected(network: PreTrainedModel, source: list[int], prefix: list[int]) -> tuple[Tensor, Tensor]:
    """Logits (V) after a prefix, and every attention (layers, heads, source) of its last token."""
    ids = torch.tensor([[*BEFORE, *source, *AFTER]])
    output = network(input_ids=ids, decoder_input_ids=torch.tensor([prefix]), output_attentions=True, use_cache=False)
    attention = torch.stack([layer[0, :, -1] for layer in output.cross_attentions])
    return output.logits[0, -1], attention


def told(attention: Tensor, options: AttentionOptions) -> Tensor:
    assert options.layers is not None
    assert options.heads is not None
    heads = attention[list(options.layers)][:, list(options.heads)].flatten(0, 1)
    weights = heads.mean(0) if options.reduce == "mean" else heads.amax(0) / heads.amax(0).sum()
    return weights[len(BEFORE) : -len(AFTER)]


@dataclass
class Beam:
    """What the slots of one source should hold."""

    source: list[int]
    attention: AttentionOptions | None
    prefixes: dict[int, list[int]] = field(default_factory=dict)


class Company:
    """Sources that come and go, each compared with the library after every step."""

    def __init__(self, network: PreTrainedModel, model: TransformersModel) -> None:
        self._network, self._model = network, model
        self._state: DecoderState = model.open(CAPACITY)
        self.beams: list[Beam] = []

    @property
    def free(self) -> list[int]:
        taken = {slot for beam in self.beams for slot in beam.prefixes}
        return [slot for slot in range(CAPACITY) if slot not in taken]

    def join(self, source: list[int], rows: list[int], attention: AttentionOptions | None) -> None:
        memory: Memory
        (memory,) = self._model.encode([source])
        self._state.join(rows, memory, attention)
        self.beams.append(Beam(source, attention, {row: [] for row in rows}))

    def leave(self, beam: Beam) -> None:
        self._state.leave(list(beam.prefixes))
        self.beams.remove(beam)

    def reorder(self, beam: Beam, parents: dict[int, int]) -> None:
        self._state.reorder(list(parents), list(parents.values()))
        held = {row: list(beam.prefixes[parent]) for row, parent in parents.items()}
        beam.prefixes.update(held)

    def step(self, written: dict[int, int]) -> None:
        rows = list(written)
        output = self._state.step(rows, list(written.values()))
        assert output.normalizers is not None
        for number, row in enumerate(rows):
            beam = next(beam for beam in self.beams if row in beam.prefixes)
            beam.prefixes[row].append(written[row])
            logits, attention = expected(self._network, beam.source, beam.prefixes[row])
            scores = output.log_probabilities[number]
            torch.testing.assert_close(scores, logits.log_softmax(0), rtol=0, atol=TOLERANCE)
            torch.testing.assert_close(scores + output.normalizers[number], logits, rtol=0, atol=TOLERANCE)
            if beam.attention:
                own, rest = output.attention[number].split_with_sizes(
                    [len(beam.source), output.attention.shape[1] - len(beam.source)]
                )
                torch.testing.assert_close(own, told(attention, beam.attention), rtol=0, atol=TOLERANCE)
                assert not rest.any()
            else:
                assert not output.attention[number].any()


@given(data=st.data())
@settings(max_examples=25)
def test_rows_at_any_positions_are_as_in_the_librarys_forward_pass(
    network: PreTrainedModel, model: TransformersModel, data: st.DataObject
) -> None:
    company = Company(network, model)
    for _ in range(data.draw(st.integers(1, 12))):
        actions = ["join"] * bool(company.free) + ["step", "step", "reorder", "leave"] * bool(company.beams)
        action = data.draw(st.sampled_from(actions))
        if action == "join":
            rows = data.draw(st.lists(st.sampled_from(company.free), min_size=1, max_size=3, unique=True))
            company.join(data.draw(sources), rows, data.draw(st.sampled_from(OPTIONS)))
            continue
        beam = data.draw(st.sampled_from(company.beams))
        slots = st.sampled_from(list(beam.prefixes))
        if action == "leave":
            company.leave(beam)
        elif action == "reorder":
            company.reorder(beam, data.draw(st.dictionaries(slots, slots, min_size=1)))
        else:
            live = [slot for one in company.beams for slot in one.prefixes]
            rows = data.draw(st.lists(st.sampled_from(live), min_size=1, unique=True))
            company.step({row: data.draw(tokens) for row in rows})


def test_a_summary_may_be_longer_than_slots_grow_at_once(network: PreTrainedModel, model: TransformersModel) -> None:
    company = Company(network, model)
    company.join([10, 11, 12], [2], ALL)
    company.join([40, 41], [4, 5], None)
    longest = model.info.limits.max_summary_tokens + 1
    for position in range(longest):
        company.step({2: START + position, 4: 5 + position, 5: 6 + position})


def test_reordered_rows_are_all_read_before_any_is_written(network: PreTrainedModel, model: TransformersModel) -> None:
    company = Company(network, model)
    company.join([20, 30, 40], [1, 2, 3], ALL)
    company.step({1: START, 2: START, 3: START})
    company.step({1: 7, 2: 8, 3: 9})
    company.reorder(company.beams[0], {1: 2, 2: 3, 3: 1})
    company.step({1: 10, 2: 10, 3: 10})
