"""Architectures that have no step of our own, in the whole engine and over HTTP: LED and ProphetNet, and a few more."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from transformers import LEDForConditionalGeneration, PreTrainedModel

from app import schemas
from app.config import Settings
from app.engine.engine import Engine
from app.engine.request import Summary, SummaryRequest
from app.errors import CheckpointError, DeadlineExceededError, ModelFailedError
from app.main import create_app
from app.models.base import DecodingOptions
from app.models.transformers.fallback import FallbackMemory, FallbackModel, Network
from tests.api.events import events_of
from tests.engine.running import PATIENCE, Clock, RecordingObserver, assert_same
from tests.fakes import Gate
from tests.models.transformers.networks import decoding
from tests.models.transformers.others import (
    BEFORE,
    CONFIGURATIONS,
    CONTENT,
    END,
    LONGEST,
    PAD,
    UNKNOWN,
    other_model,
    other_network,
    text_of,
)

GREEDY = DecodingOptions(num_beams=1, max_length=8, numbers_from_source=False)
SOURCE = [5, 9, 20, 33, 7, 6, 11]

sources = st.lists(st.sampled_from(CONTENT), min_size=1, max_size=20)
options = decoding(st.integers(2, LONGEST), st.integers(0, 2))


@pytest.fixture(scope="module", params=["led", "prophetnet"])
def network(request: pytest.FixtureRequest) -> PreTrainedModel:
    return other_network(request.param)


@pytest.fixture(scope="module")
def model(network: PreTrainedModel) -> FallbackModel:
    return other_model(network)


@contextmanager
def running(model: FallbackModel, **changes: Any) -> Iterator[Engine]:
    engine = Engine(model, **{"max_rows": 8, "max_queue": 100, **changes})
    engine.start()
    try:
        yield engine
    finally:
        engine.drain(PATIENCE)


@pytest.fixture(scope="module")
def engine(model: FallbackModel) -> Iterator[Engine]:
    with running(model, threads=2) as engine:
        yield engine


def answers(engine: Engine, *requests: SummaryRequest) -> list[Summary]:
    return [future.result(PATIENCE) for future in engine.submit(requests)]


def generate(network: PreTrainedModel, source: Sequence[int], options: DecodingOptions, **more: Any) -> Any:
    """What the library makes of a source."""
    ids = torch.tensor([[BEFORE, *source, END]])
    if network.config.model_type == "led":
        more["global_attention_mask"] = (ids == BEFORE).long()
    return network.generate(  # type: ignore[operator]
        ids,
        attention_mask=torch.ones_like(ids, dtype=network.dtype),  # in float64, ProphetNet cannot take whole numbers
        num_beams=options.num_beams,
        max_length=options.max_length + 2,
        min_length=options.min_length + 1,
        length_penalty=options.length_penalty,
        no_repeat_ngram_size=options.no_repeat_ngram_size,
        repetition_penalty=options.repetition_penalty,
        early_stopping=options.early_stopping,
        suppress_tokens=[PAD],
        forced_eos_token_id=None,
        encoder_no_repeat_ngram_size=0,
        do_sample=False,
        **more,
    )


def written(ids: Sequence[int], options: DecodingOptions) -> list[int]:
    """What has a text among what `generate` returns: its start, tokens, and the end or one token more."""
    tokens = list(ids[1:])
    summary = tokens[: tokens.index(END)] if END in tokens else tokens[: options.max_length]
    return [token for token in summary if token != BEFORE]


@given(burst=st.lists(st.tuples(sources, options), min_size=1, max_size=5))
@example([([9, 3], replace(GREEDY, max_length=9, no_repeat_ngram_size=2))])  # ProphetNet begins a sentence in it
@settings(max_examples=30, deadline=None)
def test_a_burst_of_mixed_options_becomes_what_generate_makes_of_each(
    network: PreTrainedModel, engine: Engine, burst: list[tuple[list[int], DecodingOptions]]
) -> None:
    summaries = answers(engine, *(SummaryRequest(text_of(source), chosen) for source, chosen in burst))
    for summary, (source, chosen) in zip(summaries, burst, strict=True):
        assert summary.text == text_of(written(generate(network, source, chosen)[0].tolist(), chosen))


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_other_architectures_write_what_generate_does(kind: str) -> None:
    network = other_network(kind)
    with running(other_model(network)) as engine:
        for beams in (1, 4):
            chosen = replace(GREEDY, num_beams=beams)
            (summary,) = answers(engine, SummaryRequest(text_of(SOURCE), chosen))
            assert summary.text == text_of(written(generate(network, SOURCE, chosen)[0].tolist(), chosen))


@pytest.mark.parametrize("beams", [1, 4])
def test_attention_and_log_probabilities_are_those_of_the_winning_hypothesis(
    network: PreTrainedModel, engine: Engine, beams: int
) -> None:
    chosen = replace(GREEDY, num_beams=beams)
    told = generate(network, SOURCE, chosen, return_dict_in_generate=True, output_attentions=True, output_logits=True)
    (summary,) = answers(engine, SummaryRequest(text_of(SOURCE), chosen, attention=True))
    tokens = written(told.sequences[0].tolist(), chosen)
    rows = told.beam_indices[0].tolist() if beams > 1 else [0] * len(tokens)
    assert summary.attention is not None
    for step, token in enumerate(tokens):
        cross = told.cross_attentions[step][1][rows[step]]  # (heads, queries, positions) of the last layer but one
        heads = cross[:, 1].softmax(-1) if network.config.model_type == "prophetnet" else cross[:, 0]
        content = heads.mean(0)[1:-1]
        own = summary.attention.weights[step]
        np.testing.assert_allclose(own / own.sum(), content / content.sum(), atol=1e-6)
        log_probability = told.logits[step][rows[step]].log_softmax(-1)[token]
        np.testing.assert_allclose(summary.attention.log_probabilities[step], log_probability, atol=1e-5)


def test_a_given_summary_is_scored_as_it_was_written(engine: Engine) -> None:
    request = SummaryRequest(text_of(SOURCE), GREEDY, attention=True)
    (generated,) = answers(engine, request)
    (given_one,) = answers(engine, replace(request, given=generated.text))
    assert given_one.finish_reason == "given"
    assert generated.attention is not None
    assert given_one.attention is not None
    for name in ("weights", "log_probabilities"):
        np.testing.assert_array_equal(getattr(given_one.attention, name), getattr(generated.attention, name))


@pytest.mark.parametrize("kind", ["led", "prophetnet"])
def test_company_changes_no_bit(kind: str) -> None:
    with running(other_model(other_network(kind, torch.float32)), threads=2) as engine:
        requests = [
            SummaryRequest(
                text_of(CONTENT[start : start + 1 + 3 * start]), replace(GREEDY, num_beams=beams), attention=True
            )
            for start in range(5)
            for beams in (1, 3, 4)
        ]
        together = answers(engine, *requests)
        for request, summary in zip(requests, together, strict=True):
            assert_same(summary, *answers(engine, request))


class Passes(Gate):
    """Every forward pass of a decoder goes through this, and is counted."""

    count = 0

    def pass_through(self) -> None:
        self.count += 1
        super().pass_through()


def test_a_short_text_does_not_change_how_a_long_one_is_read() -> None:
    """BigBird's encoder looks at all of a short text, and from then on at all of every text, if it is left so."""
    fresh, network = (other_network.__wrapped__("bigbird_pegasus") for _ in range(2))
    long = CONTENT[:36]
    expected = fresh.get_encoder()(torch.tensor([[BEFORE, *long, END]])).last_hidden_state
    model = other_model(network)
    for source in ([5], long):
        (memory,) = model.encode([source])
    assert isinstance(memory, FallbackMemory)
    assert torch.equal(memory.encoded.last_hidden_state, expected)


@pytest.fixture
def passes(model: FallbackModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[Passes]:  # noqa: ARG001  # it is loaded
    passes, decode = Passes(), Network.decode

    def counted(*arguments: Any, **more: Any) -> Any:
        passes.pass_through()
        return decode(*arguments, **more)

    monkeypatch.setattr(Network, "decode", counted)
    yield passes
    passes.open()


def test_a_caller_who_leaves_is_decoded_no_more(model: FallbackModel, passes: Passes) -> None:
    observer = RecordingObserver()
    with running(model, observer=observer) as engine:
        passes.close()
        request = SummaryRequest(text_of(SOURCE), replace(GREEDY, max_length=8, min_length=8))
        leaving, staying = engine.submit([request, request])
        passes.wait_for_arrival(1)
        assert leaving.cancel()
        passes.open()
        assert staying.result(PATIENCE).summary_tokens == 8
    assert observer.events["cancelled"] == 1
    assert passes.count == 1 + 8 + 1  # one of the text that was left, eight tokens of the other, and its end


def test_a_deadline_that_passes_ends_one_text_alone(model: FallbackModel, passes: Passes) -> None:
    clock = Clock()
    with running(model, clock=clock) as engine:
        passes.close()
        request = SummaryRequest(text_of(SOURCE), GREEDY)
        late, other = engine.submit([replace(request, timeout=1.0), replace(request, timeout=100.0)])
        passes.wait_for_arrival(1)
        clock.now += 10
        passes.open()
        with pytest.raises(DeadlineExceededError):
            late.result(PATIENCE)
        assert other.result(PATIENCE).text


@pytest.mark.parametrize(
    ("text", "chosen"),
    [(f"w5 {UNKNOWN} w6", GREEDY), (text_of(SOURCE), replace(GREEDY, max_length=2 * LONGEST, min_length=2 * LONGEST))],
    ids=["the encoder fails", "the decoder fails"],
)
def test_a_text_that_makes_the_network_raise_fails_alone(text: str, chosen: DecodingOptions) -> None:
    """LED has no embedding of the word, or none of the position."""
    with running(other_model(other_network("led"))) as engine:
        good = SummaryRequest(text_of(SOURCE), GREEDY)
        (expected,) = answers(engine, good)
        first, second, bad, *others = engine.submit([good, good, SummaryRequest(text, chosen), *[good] * 5])
        with pytest.raises(ModelFailedError):
            bad.result(PATIENCE)
        for each in (first, second, *others):
            assert_same(each.result(PATIENCE), expected)


def test_a_decoder_that_does_not_tell_its_attention_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = LEDForConditionalGeneration.forward

    def silent(*arguments: Any, **more: Any) -> Any:
        output: Any = forward(*arguments, **more)
        output.cross_attentions = None
        return output

    monkeypatch.setattr(LEDForConditionalGeneration, "forward", silent)
    with pytest.raises(CheckpointError, match="other: its decoder does not tell"):
        other_model(other_network("led"))


def test_over_http_it_says_so_and_does_all_that_others_do() -> None:
    text = "Heavy rain closed the coastal road on Monday and left two villages without power."
    model = other_model(other_network("led", torch.float32))
    with TestClient(create_app(Settings(model="other", max_rows=8), models=[model])) as client:
        told = client.get("/models/other").json()
        assert schemas.Model.model_validate(told).decoding == "unbatched"
        answer = client.post("/attention", json={"text": text, "parameters": {"num_beams": 1}}).json()
        assert [round(sum(row), 3) for row in answer["attention"]["weights"]] == [1.0] * answer["usage"][
            "summary_tokens"
        ]
        streamed = client.post("/summarize", json={"text": text, "stream": True})
        events = list(events_of(streamed.text.split("\n")))
        pieces = [data["text"] for name, data in events if name == "token"]
        assert "".join(pieces) == answer["summary"]
        assert [name for name, _ in events] == ["token"] * len(pieces) + ["summary", "done"]
