"""Attention of a model with several layers and heads, a part of which falls outside the caller's text."""

from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.admission import plan
from app.engine.request import Summary, SummaryRequest, Truncation, WrittenToken
from app.errors import InvalidRequestError
from app.models.base import USUAL_ATTENTION, AttentionInfo, AttentionOptions, DecodingOptions, StepOutput
from tests.engine.running import BEAMS, GREEDY, PATIENCE, assert_same, running
from tests.fakes import START, WORDS, FakeModel, Row, attentions, fake_info, told

LAYERS, HEADS = 3, 4
INFO = AttentionInfo.of_transformer(LAYERS, HEADS)


def numbers(count: int) -> st.SearchStrategy[tuple[int, ...] | None]:
    return st.none() | st.sets(st.integers(0, count - 1), min_size=1).map(lambda chosen: tuple(sorted(chosen)))


texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=24).map(" ".join)
decoding = st.builds(DecodingOptions, num_beams=st.integers(1, 4), max_length=st.integers(1, 8))
choices = st.builds(AttentionOptions, numbers(LAYERS), numbers(HEADS), st.sampled_from(["mean", "max"]))
truncations: st.SearchStrategy[Truncation] = st.sampled_from(["head", "chunk"])
generated = st.builds(SummaryRequest, texts, decoding, truncations, st.booleans(), choices)
given_summaries = st.builds(
    SummaryRequest, texts, decoding, attention=st.just(True), attention_options=choices, given=texts
)
requests = generated | given_summaries.filter(lambda request: len((request.given or "").split()) <= 12)


def several() -> FakeModel:
    return FakeModel(fake_info(attention=INFO), copies=False)


def answers(model: FakeModel, *wanted: SummaryRequest) -> list[Summary]:
    with running(model) as engine:
        return [future.result(PATIENCE) for future in engine.submit(wanted)]


@given(st.lists(requests, min_size=1, max_size=8), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_a_row_is_what_its_own_caller_chose_of_the_heads_over_the_callers_tokens(
    wanted: list[SummaryRequest], random: Random
) -> None:
    random.shuffle(wanted)
    for request, summary in zip(wanted, answers(several(), *wanted), strict=True):
        (alone,) = answers(several(), request)
        assert_same(summary, alone)
        if not request.attention or request.truncation == "chunk":
            continue
        attention = summary.attention
        assert attention is not None
        assert attention.dropped is not None
        assert attention.copied is None
        ids = attention.summary.ids
        for place, (row, dropped) in enumerate(zip(attention.weights, attention.dropped, strict=True)):
            stepped = Row(attention.source.ids, (START, *ids[:place]), INFO.chosen(request.attention_options))
            raw = told(stepped, INFO)
            np.testing.assert_allclose(row, raw / raw.sum(), rtol=1e-5)
            assert dropped == pytest.approx(1 - raw.sum(), abs=1e-6)
            assert 0 < dropped < 1


def test_mean_and_max_are_those_of_the_chosen_heads() -> None:
    text = "alpha bravo charlie"
    for layers, heads in (((0,), (2,)), ((0, 2), (1, 3))):
        chosen = [AttentionOptions(layers, heads, reduce) for reduce in ("mean", "max")]
        wanted = [SummaryRequest(text, GREEDY, attention=True, attention_options=each) for each in chosen]
        mean, most = (summary.attention for summary in answers(several(), *wanted))
        assert mean is not None
        assert most is not None
        every = attentions(Row(mean.source.ids, (START,)), INFO)[np.ix_(layers, heads)].reshape(-1, 5)
        content = every.mean(0)[2:]
        np.testing.assert_allclose(mean.weights[0], content / content.sum(), rtol=1e-5)
        largest = every.max(0)
        np.testing.assert_allclose(most.weights[0], largest[2:] / largest[2:].sum(), rtol=1e-5)
        assert most.dropped is not None
        assert most.dropped[0] == pytest.approx(largest[:2].sum() / largest.sum(), abs=1e-6)


def test_when_nobody_chooses_it_is_every_head_of_the_last_layer_but_one() -> None:
    chosen = AttentionOptions((LAYERS - 2,), tuple(range(HEADS)))
    usual, same = answers(
        several(),
        SummaryRequest("alpha bravo", BEAMS, attention=True),
        SummaryRequest("alpha bravo", BEAMS, attention=True, attention_options=chosen),
    )
    assert_same(usual, same)
    assert AttentionInfo.of_transformer(1, 2).default == AttentionOptions((0,), (0, 1))


@given(st.lists(requests, min_size=1, max_size=6))
@settings(deadline=None, max_examples=30)
def test_attention_is_only_computed_for_rows_that_somebody_will_see(wanted: list[SummaryRequest]) -> None:
    model = several()
    answers(model, *wanted)
    seen = {request.attention for request in wanted}
    asked = {row.attention is not None for step in model.steps for row in step}
    assert asked == seen
    chosen = {INFO.chosen(request.attention_options) for request in wanted if request.attention}
    assert {row.attention for step in model.steps for row in step} - {None} == chosen


def test_the_sources_of_a_stream_are_shares_of_the_callers_tokens() -> None:
    heard: list[WrittenToken] = []
    plain = SummaryRequest("alpha bravo charlie", GREEDY)
    with running(several()) as engine:
        future, _ = engine.stream(SummaryRequest(plain.text, GREEDY, on_token=heard.append))
        summary = future.result(PATIENCE)
    assert len(heard) > summary.summary_tokens
    for written in heard[: summary.summary_tokens]:
        assert len(written.sources) == 3
        assert sum(weight for _, weight in written.sources) == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "pointers"),
    [
        (USUAL_ATTENTION, []),
        (AttentionOptions((0, LAYERS - 1), (HEADS - 1,)), []),
        (AttentionOptions((LAYERS,)), ["/layers"]),
        (AttentionOptions(heads=(0, HEADS)), ["/heads"]),
        (AttentionOptions((-1,), ()), ["/layers", "/heads"]),
    ],
)
def test_layers_and_heads_that_are_not_there_are_refused_by_name(
    options: AttentionOptions, pointers: list[str]
) -> None:
    request = SummaryRequest("alpha", GREEDY, attention=True, attention_options=options)
    if not pointers:
        assert plan(several(), request, 8)
        return
    with pytest.raises(InvalidRequestError, match="fake has") as caught:
        plan(several(), request, 8)
    assert [error.pointer for error in caught.value.errors] == pointers


class Blind(FakeModel):
    """Looks at nothing but what it adds to the text."""

    def run_step(self, rows: list[Row]) -> StepOutput:
        output = super().run_step(rows)
        return StepOutput(output.log_probabilities, torch.zeros_like(output.attention), None)


def test_a_row_that_saw_nothing_of_the_text_is_zero_and_dropped_all() -> None:
    heard: list[WrittenToken] = []
    request = SummaryRequest("alpha bravo", GREEDY, attention=True, on_token=heard.append)
    with running(Blind(fake_info(attention=INFO))) as engine:
        future, _ = engine.stream(request)
        attention = future.result(PATIENCE).attention
    assert attention is not None
    assert attention.dropped is not None
    assert attention.dropped.tolist() == [1] * len(attention.summary.ids)
    assert not attention.weights.any()
    assert all(written.sources == () for written in heard)
