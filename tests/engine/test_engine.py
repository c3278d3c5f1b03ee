"""Promises of the engine as its callers see them."""

import dataclasses
import gc
import os
import threading
from concurrent.futures import Future
from contextlib import suppress
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.admission import plan
from app.engine.costs import FEWEST_ANSWERS
from app.engine.engine import Engine, threads_for
from app.engine.job import Ticket
from app.engine.request import Summary, SummaryRequest, Truncation
from app.errors import (
    DeadlineExceededError,
    DrainingError,
    InvalidRequestError,
    ModelFailedError,
    OverloadedError,
    RetiredError,
    TooLargeError,
    TooLateError,
)
from app.models.base import DecodingOptions, Limits, Span, StepOutput, Tokens
from tests.api.waiting import eventually
from tests.engine.running import BEAMS, GREEDY, PATIENCE, Clock, RecordingObserver, alone, assert_same, running
from tests.fakes import COPY_GATE, END, START, WORDS, FakeModel, Row, distribution, fake_info

texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=24).map(" ".join)
options = st.builds(
    DecodingOptions,
    num_beams=st.integers(1, 4),
    max_length=st.integers(1, 12),
    min_length=st.integers(0, 1),
    length_penalty=st.sampled_from([0.0, 1.0, 2.0]),
    no_repeat_ngram_size=st.integers(0, 3),
)
truncations: st.SearchStrategy[Truncation] = st.sampled_from(["head", "chunk"])
generated = st.builds(SummaryRequest, texts, options, truncations, attention=st.booleans())
given_summaries = st.builds(
    SummaryRequest,
    texts,
    options,
    attention=st.booleans(),
    given=st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join),
)


@given(st.lists(generated | given_summaries, min_size=1, max_size=12), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_a_result_never_depends_on_who_joins_leaves_or_cancels(requests: list[SummaryRequest], random: Random) -> None:
    model = FakeModel()
    model.gate.close()
    futures: list[Future[Summary]] = []
    cancelled: set[int] = set()
    with running(model, max_rows=6) as engine:
        remaining = list(requests)
        while remaining:
            count = random.randint(1, len(remaining))
            futures += engine.submit(remaining[:count])
            del remaining[:count]
            model.gate.allow(random.randint(0, 6))
            if random.random() < 0.4:
                victim = random.randrange(len(futures))
                cancelled |= {victim} if futures[victim].cancel() else set()
        model.gate.open()
        for number, (request, future) in enumerate(zip(requests, futures, strict=True)):
            if number not in cancelled:
                assert_same(future.result(PATIENCE), alone(request))


@given(generated | given_summaries)
@settings(deadline=None, max_examples=40)
def test_attention_is_that_of_the_tokens_that_were_written(request: SummaryRequest) -> None:
    request = SummaryRequest(request.text, request.options, attention=True, given=request.given)
    summary = alone(request)
    attention = summary.attention
    assert attention is not None
    assert attention.copied is not None
    source = attention.source.ids
    ids = attention.summary.ids
    assert attention.weights.shape == (len(ids), len(source)) == (summary.summary_tokens, min(16, len(source)))
    steps = [distribution(Row(source, (START, *ids[:place]))) for place in range(len(ids) + 1)]
    for place, token in enumerate(ids):
        log_probabilities, weights = steps[place]
        np.testing.assert_array_equal(attention.weights[place], weights)
        assert attention.log_probabilities[place] == log_probabilities[token]
        copied = COPY_GATE * weights[np.array(source) == token].sum() / np.exp(log_probabilities[token])
        assert attention.copied[place] == pytest.approx(min(copied, 1.0), abs=1e-5)
    paid = attention.log_probabilities.astype(float).tolist()
    if summary.finish_reason != "length":
        paid.append(float(steps[-1][0][END]))
    assert summary.score == pytest.approx(sum(paid) / len(paid))


def test_a_family_without_a_copy_mechanism_gives_no_copied_shares() -> None:
    with running(FakeModel(copies=False)) as engine:
        summary = engine.submit([SummaryRequest("alpha bravo", BEAMS, attention=True)])[0].result(PATIENCE)
    assert summary.attention is not None
    assert summary.attention.copied is None


def test_a_request_that_did_not_ask_gets_no_attention() -> None:
    assert alone(SummaryRequest("alpha bravo", BEAMS)).attention is None


def test_what_was_read_of_the_source_is_reported() -> None:
    text = "  " + " ".join(["alpha"] * 20) + " \n"
    cut = alone(SummaryRequest(text, GREEDY)).source
    assert (cut.characters, cut.tokens, cut.used_tokens, cut.truncated) == (len(text), 20, 16, True)
    assert text[: cut.used_characters] == "  " + " ".join(["alpha"] * 16)
    whole = alone(SummaryRequest(text, GREEDY, "chunk")).source
    assert (whole.used_characters, whole.used_tokens, whole.truncated) == (len(text), 20, False)


@given(st.lists(st.sampled_from(WORDS), min_size=17, max_size=60), options)
@settings(deadline=None, max_examples=40)
def test_the_parts_of_a_long_text_are_summarized_as_if_each_were_sent_alone(
    words: list[str], options: DecodingOptions
) -> None:
    text = " ".join(words)
    summary = alone(SummaryRequest(text, options, "chunk", attention=True))
    attention = summary.attention
    assert summary.parts is not None
    assert attention is not None
    pieces = [
        alone(SummaryRequest(text[p.source.start : p.source.end], options, attention=True)) for p in summary.parts
    ]
    assert " ".join(text[part.source.start : part.source.end] for part in summary.parts) == text
    assert summary.text == " ".join(piece.text for piece in pieces if piece.text)
    assert [summary.text[part.summary.start : part.summary.end] for part in summary.parts] == [p.text for p in pieces]
    assert [(part.score, part.finish_reason) for part in summary.parts] == [(p.score, p.finish_reason) for p in pieces]
    assert summary.finish_reason == ("length" if any(p.finish_reason == "length" for p in pieces) else "stop")
    weighted = [(p.score, p.summary_tokens + (p.finish_reason == "stop")) for p in pieces]
    assert summary.score == pytest.approx(sum(s * n for s, n in weighted) / sum(n for _, n in weighted))
    assert attention.source.ids == FakeModel().tokenize(text).ids
    row, column = 0, 0
    for piece in pieces:
        assert piece.attention is not None
        rows, columns = piece.attention.weights.shape
        block = attention.weights[row : row + rows]
        np.testing.assert_array_equal(block[:, column : column + columns], piece.attention.weights)
        assert block.sum() == pytest.approx(piece.attention.weights.sum()), "zero outside the part"
        row, column = row + rows, column + columns
    assert attention.weights.shape == (row, column)
    for token, span in zip(attention.summary.ids, attention.summary.spans, strict=True):
        assert FakeModel().detokenize([token]).text == summary.text[span.start : span.end]


class AlwaysEnds(FakeModel):
    """Writes nothing but the end token."""

    def run_step(self, rows: list[Row]) -> StepOutput:
        output = super().run_step(rows)
        scores = torch.full_like(output.log_probabilities, -9.0)
        scores[:, END] = -0.5
        return StepOutput(scores, output.attention, output.copied)


def test_an_empty_summary_is_an_answer() -> None:
    with running(AlwaysEnds()) as engine:
        one, chunked = engine.submit(
            [SummaryRequest("alpha bravo", BEAMS, attention=True), SummaryRequest("alpha " * 40, GREEDY, "chunk")]
        )
        summary = one.result(PATIENCE)
        assert (summary.text, summary.finish_reason, summary.summary_tokens, summary.score) == ("", "stop", 0, -0.5)
        assert summary.attention is not None
        assert summary.attention.weights.shape == (0, 2)
        parts = chunked.result(PATIENCE).parts
        assert parts is not None
        assert {part.summary for part in parts} == {Span(0, 0)}


def test_a_given_summary_is_reported_as_it_was_given() -> None:
    summary = alone(SummaryRequest("alpha bravo", BEAMS, given=" bravo  alpha "))
    assert (summary.text, summary.finish_reason, summary.summary_tokens) == ("bravo  alpha", "given", 2)


def test_a_text_that_is_wrong_fails_alone_and_takes_no_room() -> None:
    with running(FakeModel(), max_queue=1) as engine:
        futures = engine.submit([SummaryRequest(text, GREEDY) for text in (" ", "alpha", "\u200b")])
        assert isinstance(futures[0].exception(PATIENCE), InvalidRequestError)
        assert_same(futures[1].result(PATIENCE), alone(SummaryRequest("alpha", GREEDY)))
        assert isinstance(futures[2].exception(PATIENCE), InvalidRequestError)


class Stumbles(FakeModel):
    """Its tokenizer fails on one word."""

    def tokenize(self, text: str) -> Tokens:
        if "yankee" in text:
            raise RuntimeError("the tokenizer fails")
        return super().tokenize(text)


def test_a_text_that_cannot_be_tokenized_fails_alone() -> None:
    with running(Stumbles()) as engine:
        bad, good = engine.submit([SummaryRequest(text, GREEDY) for text in ("yankee", "alpha")])
        assert isinstance(bad.exception(PATIENCE), ModelFailedError)
        assert good.result(PATIENCE).text


def test_the_queue_is_bounded_in_texts_for_single_and_batch_requests_alike() -> None:
    model, observer = FakeModel(), RecordingObserver()
    model.gate.close()
    text = SummaryRequest("alpha bravo", GREEDY)
    with running(model, max_rows=1, max_queue=3, observer=observer) as engine:
        (live,) = engine.submit([text])
        model.gate.wait_for_arrival(1)
        with pytest.raises(TooLargeError):
            engine.submit([SummaryRequest("alpha " * 64, GREEDY, "chunk")])
        waiting = engine.submit([text, text])
        with pytest.raises(OverloadedError) as refusal:
            engine.submit([text, text])
        assert refusal.value.retry_after >= 1
        assert observer.waiting == 2, "refused whole"
        waiting += engine.submit([text])
        with pytest.raises(OverloadedError):
            engine.submit([text])
        with pytest.raises(TooLargeError):
            engine.submit([text] * 4)
        assert waiting.pop().cancel()
        waiting += engine.submit([text])
        model.gate.open()
        for future in (live, *waiting):
            assert future.result(PATIENCE).text
    assert observer.events["refused queue_full"] == 3
    assert observer.events["refused too_large"] == 5
    assert observer.waiting == observer.live == 0


class CountsTokenizing(FakeModel):
    """How many texts were tokenized."""

    tokenized = 0

    def tokenize(self, text: str) -> Tokens:
        self.tokenized += 1
        return super().tokenize(text)


def test_what_a_full_queue_cannot_take_is_refused_before_it_is_tokenized() -> None:
    model = CountsTokenizing()
    model.gate.close()
    text = SummaryRequest("alpha bravo", GREEDY)
    with running(model, max_rows=1, max_queue=1) as engine:
        engine.submit([text])
        model.gate.wait_for_arrival(1)
        (waiting,) = engine.submit([text])
        with pytest.raises(OverloadedError):
            engine.submit([text])
        assert model.tokenized == 2
        waiting.cancel()
        assert engine.submit([text]), "a caller who left makes room"


def test_nothing_is_left_to_the_collector_whatever_became_of_a_text() -> None:
    """It looks through all that waits: with a thousand callers that held the event loop up for a tenth of a second."""
    model = FakeModel()
    text, late = SummaryRequest("alpha bravo", GREEDY), SummaryRequest("alpha bravo", GREEDY, timeout=0.001)
    gc.collect()
    gc.disable()
    try:
        with running(model, max_rows=1, max_queue=3) as engine:
            engine.submit([text])[0].result(PATIENCE)
            model.gate.close()
            live, *_ = engine.submit([text, text, late])
            model.gate.wait_for_arrival(2)
            live.cancel()
            with suppress(OverloadedError):
                engine.submit([text] * 3)
            model.gate.open()
        del live, engine
        assert not [one for one in gc.get_objects() if type(one) is Ticket]
    finally:
        gc.enable()


HELD = plan(FakeModel(), SummaryRequest("alpha bravo", BEAMS), 8).bytes


@pytest.mark.parametrize(
    ("bound", "name"),
    [
        ({"max_queue_tokens": 3}, "source tokens"),
        ({"max_queue_rows": 3}, "decoder rows"),
        ({"max_queue_bytes": 2 * HELD - 1}, "bytes"),
    ],
)
def test_what_waits_is_bounded_in_tokens_rows_and_bytes_too(bound: dict[str, float], name: str) -> None:
    model = FakeModel()
    model.gate.close()
    text = SummaryRequest("alpha bravo", BEAMS)
    engine = Engine(model, max_rows=2, max_queue=9, **bound)  # type: ignore[arg-type]  # one of its bounds
    engine.start()
    live = engine.submit([text])
    model.gate.wait_for_arrival(1)
    waiting = engine.submit([text])
    with pytest.raises(OverloadedError, match=name):
        engine.submit([text])
    model.gate.open()
    engine.drain(PATIENCE)
    assert [future.result(PATIENCE).text for future in live] == [future.result(PATIENCE).text for future in waiting]


def test_a_deadline_that_the_measured_costs_cannot_meet_is_refused_before_tokenizing() -> None:
    model, observer, clock = CountsTokenizing(), RecordingObserver(), Clock()
    model.before_step = lambda _: setattr(clock, "now", clock.now + 0.5)
    text = SummaryRequest("alpha bravo", DecodingOptions(1, 3, 3), timeout=1e6)
    with running(model, max_rows=1, observer=observer, clock=clock) as engine:
        for future in engine.submit([text] * (FEWEST_ANSWERS + 5)):
            future.result(PATIENCE)
        model.gate.close()
        steps = len(model.steps)
        engine.submit([text])
        model.gate.wait_for_arrival(steps + 1)
        waiting = engine.submit([text] * 4)
        tokenized = model.tokenized
        hasty = dataclasses.replace(text, timeout=7.9)  # each takes four steps of 0.5 s
        with pytest.raises(TooLateError) as refusal:
            engine.submit([hasty, hasty])
        assert refusal.value.retry_after >= 1
        assert model.tokenized == tokenized
        assert engine.retry_after() == 8
        model.gate.open()
        for future in waiting:
            assert future.result(PATIENCE).text
    assert observer.events["refused deadline"] == 2


def test_an_engine_that_is_not_started_or_drained_refuses_work() -> None:
    observer = RecordingObserver()
    engine = Engine(FakeModel(), max_rows=2, max_queue=2, observer=observer)
    assert not engine.ready
    with pytest.raises(DrainingError):
        engine.submit([SummaryRequest("alpha", GREEDY)])
    engine.start()
    assert engine.ready
    engine.drain(0.0)
    engine.drain(0.0)
    engine.start()
    assert not engine.ready
    with pytest.raises(DrainingError):
        engine.submit([SummaryRequest("alpha", GREEDY)])
    assert observer.events["refused draining"] == 2


def test_an_engine_that_is_retired_answers_what_it_admitted_and_sends_new_work_to_its_successor() -> None:
    model, observer = FakeModel(), RecordingObserver()
    request = SummaryRequest("alpha", BEAMS)
    with running(model, observer=observer, threads=2) as engine:
        model.gate.close()
        admitted = engine.submit([request] * 12)
        retiring = threading.Thread(target=engine.retire, args=(PATIENCE,))
        retiring.start()
        eventually(lambda: not engine.ready)
        with pytest.raises(RetiredError):
            engine.submit([request])
        assert retiring.is_alive()
        model.gate.open()
        for future in admitted:
            assert_same(future.result(PATIENCE), alone(request))
        retiring.join(PATIENCE)
        assert not retiring.is_alive()
        with pytest.raises(RetiredError):
            engine.stream(dataclasses.replace(request, options=GREEDY, on_token=lambda _token: None))
    assert not [event for event in observer.events if event.startswith("refused")]


def test_a_drain_ends_the_patience_of_an_engine_that_is_retired() -> None:
    model = FakeModel()
    with running(model) as engine:
        model.gate.close()
        (admitted,) = engine.submit([SummaryRequest("alpha", BEAMS)])
        model.gate.wait_for_arrival(1)
        retiring = threading.Thread(target=engine.retire, args=(PATIENCE,))
        retiring.start()
        eventually(lambda: not engine.ready)
        draining = threading.Thread(target=engine.drain, args=(0.01,))
        draining.start()
        assert isinstance(admitted.exception(PATIENCE), DrainingError)
        model.gate.open()
        for thread in (retiring, draining):
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_what_happens_is_told_to_the_observer() -> None:
    model, observer = FakeModel(), RecordingObserver()
    with running(model, observer=observer) as engine:
        requests = [SummaryRequest("alpha bravo", BEAMS), SummaryRequest("alpha " * 40, GREEDY, "chunk")]
        requests.append(SummaryRequest("kilo", GREEDY, given="lima"))
        for future in engine.submit(requests):
            future.result(PATIENCE)
    assert observer.events["first_token"] == 2, "once for each text that is written"
    assert observer.events["stepped"] == len(model.steps)
    assert 0 < observer.tokens[0] <= observer.tokens[1]
    assert observer.waiting == observer.live == 0


def test_the_parts_of_the_timing_make_up_the_whole() -> None:
    model, clock = FakeModel(), Clock()
    model.before_encode = lambda _: setattr(clock, "now", clock.now + 0.25)
    model.before_step = lambda _: setattr(clock, "now", clock.now + 0.5)
    with running(model, clock=clock) as engine:
        request = SummaryRequest("alpha bravo", DecodingOptions(1, 3, 3), timeout=1000.0)
        timing = engine.submit([request])[0].result(PATIENCE).timing
    assert (timing.queue_ms, timing.encode_ms, timing.decode_ms) == (0.0, 250.0, 2000.0)
    assert timing.total_ms == 2250.0


def test_a_long_text_has_waited_when_its_first_part_begins() -> None:
    model, clock = FakeModel(), Clock()
    model.before_step = lambda _: setattr(clock, "now", clock.now + 0.5)
    with running(model, max_rows=1, clock=clock) as engine:
        request = SummaryRequest("alpha " * 40, DecodingOptions(1, 3, 3), "chunk", timeout=1000.0)
        timing = engine.submit([request])[0].result(PATIENCE).timing
    assert (timing.queue_ms, timing.decode_ms, timing.total_ms) == (0.0, 6000.0, 6000.0)


def test_a_callback_may_submit_again() -> None:
    again: list[Future[Summary]] = []
    done = threading.Event()
    with running(FakeModel()) as engine:

        def resubmit(_: Future[Summary]) -> None:
            again.extend(engine.submit([SummaryRequest("kilo", GREEDY)]))
            done.set()

        engine.submit([SummaryRequest("alpha", GREEDY)])[0].add_done_callback(resubmit)
        assert done.wait(PATIENCE)
        assert again[0].result(PATIENCE).text


@pytest.mark.parametrize(
    ("device", "cores", "most_cores", "max_rows", "beams", "threads"),
    [
        ("cpu", 2, None, 64, 4, 2),
        ("cpu", 64, None, 64, 8, 8),
        ("cpu", 8, None, 64, 16, 4),
        ("cpu", 4, None, 16, 4, 2),
        ("cpu", 4, None, 8, 4, 1),
        ("cpu", 8, 3, 64, 4, 3),
        ("cpu", 2, 8, 64, 4, 2),
        ("cuda:0", 16, 4, 256, 8, 1),
    ],
)
def test_a_cpu_gets_a_thread_for_each_core_that_may_be_used_as_far_as_beams_fit_in(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    cores: int,
    most_cores: int | None,
    max_rows: int,
    beams: int,
    threads: int,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert threads_for(fake_info(device=device, limits=Limits(16, 12, beams)), max_rows, most_cores) == threads


@pytest.mark.parametrize(("rows", "queue", "threads"), [(0, 1, 1), (1, 0, 1), (1, 1, 2), (1, 1, 0)])
def test_an_engine_has_a_row_for_each_thread_and_room_for_a_text(rows: int, queue: int, threads: int) -> None:
    with pytest.raises(ValueError, match="at least one row for each thread"):
        Engine(FakeModel(), max_rows=rows, max_queue=queue, threads=threads)


def test_whoever_was_read_too_late_is_refused_unless_its_deadline_was_too_short_anyway() -> None:
    model = FakeModel()
    request = SummaryRequest("alpha bravo", model.info.defaults, timeout=2.0)
    with Engine(model, max_rows=4, max_queue=10) as engine:
        with pytest.raises(TooLateError, match=r"had to wait for 2\.5 s to be read"):
            engine.submit([request], waited=2.5)
        (hasty,) = engine.submit([dataclasses.replace(request, timeout=0.001)], waited=0.002)
        assert isinstance(hasty.exception(PATIENCE), DeadlineExceededError)
        (patient,) = engine.submit([dataclasses.replace(request, timeout=600.0)], waited=2.5)
        assert patient.result(PATIENCE).timing.total_ms >= 2500
