"""Whatever breaks, whoever leaves and whenever it stops: everyone else is answered, and with the same answer."""

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.engine import Engine
from app.engine.request import SummaryRequest, WrittenToken
from app.engine.worker import STALLED_SECONDS
from app.errors import DeadlineExceededError, DrainingError, ModelFailedError
from app.models.base import DecodingOptions, StepOutput
from tests.api.waiting import eventually
from tests.engine.running import BEAMS, GREEDY, PATIENCE, Clock, RecordingObserver, alone, assert_same, running
from tests.fakes import (
    NOT_A_NUMBER,
    POISON,
    UNENCODABLE,
    UNSTEPPABLE,
    VOCABULARY,
    WORD_IDS,
    WORDS,
    FakeModel,
    FakeState,
    Row,
    Source,
)

LONG = DecodingOptions(num_beams=2, max_length=12, min_length=12)
FEVER = WORD_IDS["zulu"]  # a word that kills the worker, where a test says so


def answered_or_failed(model: FakeModel, texts: list[str], guilty: Callable[[str], bool], threads: int = 1) -> None:
    """Of these texts, sent together, the guilty ones fail and the others are answered as if they were alone."""
    requests = [SummaryRequest(text, BEAMS, attention=True) for text in texts]
    with running(model, threads=threads) as engine:
        futures = engine.submit(requests)
        for request, future in zip(requests, futures, strict=True):
            if guilty(request.text):
                assert isinstance(future.exception(PATIENCE), ModelFailedError)
            else:
                assert_same(future.result(PATIENCE), alone(request))
        assert engine.ready


@pytest.mark.parametrize("poison", POISON)
@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_text_that_breaks_the_model_fails_alone(poison: str, place: int) -> None:
    texts = list(WORDS[:6])
    texts.insert(place, f"alpha {poison}")
    answered_or_failed(FakeModel(), texts, lambda text: poison in text)


@given(st.lists(st.sampled_from([*WORDS[:9], *POISON]), min_size=1, max_size=14), st.integers(1, 3))
@settings(deadline=None, max_examples=60)
def test_any_number_of_broken_texts_fail_and_the_others_do_not(texts: list[str], threads: int) -> None:
    answered_or_failed(FakeModel(), texts, lambda text: text in POISON, threads)


def test_a_broken_part_fails_its_whole_text_and_no_other() -> None:
    text = " ".join(["alpha"] * 30 + [NOT_A_NUMBER] + ["alpha"] * 30)
    requests = [SummaryRequest(text, GREEDY, "chunk"), SummaryRequest("bravo", GREEDY)]
    with running(FakeModel()) as engine:
        broken, whole = engine.submit(requests)
        assert isinstance(broken.exception(PATIENCE), ModelFailedError)
        assert_same(whole.result(PATIENCE), alone(requests[1]))


class Blurred(FakeModel):
    """Its attention to one source is not a number, although its log-probabilities are."""

    def run_step(self, rows: list[Row]) -> StepOutput:
        output = super().run_step(rows)
        for number, row in enumerate(rows):
            if row.source == (FEVER,):
                output.attention[number] = np.nan
        return output


def test_attention_that_is_not_finite_fails_its_own_text() -> None:
    with running(Blurred()) as engine:
        bad, good = engine.submit([SummaryRequest(text, BEAMS, attention=True) for text in ("zulu", "alpha")])
        assert isinstance(bad.exception(PATIENCE), ModelFailedError)
        assert good.result(PATIENCE).attention is not None


def test_a_worker_that_dies_is_replaced_and_nobody_notices() -> None:
    model, observer = FakeModel(), RecordingObserver()

    def die_once(_: list[Row]) -> None:
        if len(model.steps) == 3:
            raise SystemExit

    model.before_step = die_once
    requests = [SummaryRequest(word, BEAMS, attention=True) for word in WORDS]
    with running(model, observer=observer) as engine:
        for request, future in zip(requests, engine.submit(requests), strict=True):
            assert_same(future.result(PATIENCE), alone(request))
    assert observer.events["worker_restarted"] == 1
    assert observer.waiting == observer.live == 0


def deadly_step(rows: list[Row]) -> None:
    if any(FEVER in row.source for row in rows):
        raise SystemExit


def deadly_encoding(sources: list[Source]) -> None:
    if any(FEVER in source for source in sources):
        raise SystemExit


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "model", [FakeModel(before_step=deadly_step), FakeModel(before_encode=deadly_encoding)], ids=["step", "encode"]
)
def test_a_text_that_kills_the_worker_again_and_again_fails_alone(model: FakeModel, threads: int) -> None:
    answered_or_failed(model, [*WORDS[:5], "alpha zulu", *WORDS[5:7]], lambda text: "zulu" in text, threads)


def test_texts_that_wait_are_shared_out_among_the_threads() -> None:
    model = FakeModel()
    model.gate.close()
    with running(model, threads=2) as engine:
        futures = engine.submit([SummaryRequest(word, GREEDY) for word in WORDS[:2]])
        model.gate.wait_for_arrival(2)  # no step has passed: two threads stand there, each with one row
        model.gate.open()
        assert [future.result(PATIENCE).text for future in futures] == [
            alone(SummaryRequest(word, GREEDY)).text for word in WORDS[:2]
        ]


class Closed(FakeModel):
    """Cannot make an empty state while it is locked: no row is in use then."""

    def __init__(self, before_step: Callable[[list[Row]], None] | None = None) -> None:
        super().__init__(before_step=before_step)
        self.locked = False

    @property
    def occupied(self) -> int:
        return 0 if self.locked else super().occupied

    def open(self, capacity: int) -> FakeState:
        if self.locked:
            raise RuntimeError(f"no memory on the device for {capacity} rows")
        return super().open(capacity)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes are opened again at once."""
    monkeypatch.setattr("app.engine.worker.PAUSES_SECONDS", (0.0, 0.01))


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_cannot_start_refuses_work_says_why_and_starts_when_it_can(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = Closed()
    model.locked = True
    request = SummaryRequest("alpha", GREEDY)
    with running(model) as engine:
        eventually(lambda: not engine.ready)
        eventually(lambda: isinstance(refusal(engine, request), DrainingError))
        assert "RuntimeError: no memory on the device for 8 rows" in caplog.text
        model.locked = False
        eventually(lambda: engine.ready)
        assert_same(engine.submit([request])[0].result(PATIENCE), alone(request))


def refusal(engine: Engine, request: SummaryRequest) -> BaseException | None:
    """Why a text is not admitted, or not kept waiting."""
    try:
        (future,) = engine.submit([request])
    except DrainingError as error:
        return error
    return future.exception(PATIENCE)


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_dies_and_cannot_begin_again_leaves_nobody_waiting() -> None:
    def die(_: list[Row]) -> None:
        model.locked = True
        raise SystemExit

    model = Closed(before_step=die)
    with running(model, max_rows=1) as engine:
        live, waiting = engine.submit([SummaryRequest(text, GREEDY) for text in ("alpha", "bravo")])
        assert isinstance(waiting.exception(PATIENCE), DrainingError)
        assert isinstance(live.exception(PATIENCE), ModelFailedError), "it was alone"
        assert not engine.ready


@pytest.mark.usefixtures("impatient")
def test_without_a_lane_a_deadline_passes_all_the_same() -> None:
    model, clock = Closed(), Clock()
    model.locked = True
    with running(model, clock=clock) as engine, pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.engine.worker.ATTEMPTS", 1_000_000)  # there is always hope
        future, left = engine.submit([SummaryRequest("alpha", GREEDY, timeout=5.0)] * 2)
        assert left.cancel()
        clock.now += 5.0
        assert isinstance(future.exception(PATIENCE), DeadlineExceededError)


def scarce(rows: int) -> FakeModel:
    """A device with memory for so many rows."""

    def step(live: list[Row]) -> None:
        if len(live) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    return FakeModel(before_step=step)


@pytest.mark.parametrize("rows", [1, 3, 7, 20])
def test_where_memory_runs_out_fewer_rows_are_live_and_every_text_is_answered(rows: int) -> None:
    model = scarce(rows)
    requests = [SummaryRequest(" ".join(WORDS[start : start + 5]), GREEDY) for start in range(20)] * 5
    with running(model, max_rows=32) as engine:
        for request, future in zip(requests, engine.submit(requests), strict=True):
            assert_same(future.result(PATIENCE), alone(request))
        exceeded = sum(len(step) > rows for step in model.steps)
        assert exceeded <= 5, "it halves, and then does not try again"


def test_a_text_for_which_memory_does_not_suffice_fails_alone_and_costs_the_others_no_rows() -> None:
    def step(live: list[Row]) -> None:
        if any(FEVER in row.source for row in live):
            raise torch.OutOfMemoryError

    model = FakeModel(before_step=step)
    answered_or_failed(model, [*WORDS[:6], "alpha zulu", *WORDS[6:9]], lambda text: "zulu" in text)


def test_where_memory_does_not_suffice_to_encode_beside_others_a_text_is_encoded_later() -> None:
    model = FakeModel()

    def encode(_: list[Source]) -> None:
        if model.states[-1].occupied > 4:
            raise torch.OutOfMemoryError

    model.before_encode = encode
    requests = [SummaryRequest(word, GREEDY) for word in WORDS]
    with running(model, max_rows=16) as engine:
        for request, future in zip(requests, engine.submit(requests), strict=True):
            assert_same(future.result(PATIENCE), alone(request))


def test_what_was_live_is_let_go_before_a_new_state_is_made() -> None:
    alive: list[int] = []

    class Watched(FakeModel):
        def open(self, capacity: int) -> FakeState:
            alive.append(sum(state() is not None for state in states))
            state = super().open(capacity)
            states.append(weakref.ref(state))
            self.states = [state] if not alive else []
            return state

    states: list[weakref.ref[FakeState]] = []
    model = Watched(before_step=lambda rows: scarce_once(rows))

    def scarce_once(rows: list[Row]) -> None:
        if len(alive) == 1:
            raise torch.OutOfMemoryError(f"{len(rows)} rows")

    with running(model) as engine:
        (future,) = engine.submit([SummaryRequest("alpha", GREEDY)])
        assert future.exception(PATIENCE)
        eventually(lambda: len(alive) == 2)
    assert alive == [0, 0]


def test_a_caller_who_leaves_frees_its_rows_within_one_step() -> None:
    model, observer = FakeModel(), RecordingObserver()
    model.gate.close()
    with running(model, max_rows=4, observer=observer) as engine:
        leaver, stayer = engine.submit([SummaryRequest(text, LONG) for text in ("alpha", "bravo")])
        (waiting,) = engine.submit([SummaryRequest("charlie", LONG)])
        model.gate.wait_for_arrival(1)
        assert model.occupied == 4
        assert leaver.cancel()
        model.gate.allow(1)
        model.gate.wait_for_arrival(2)
        assert {row.source for row in model.states[0].slots if row} == {
            model.tokenize(w).ids for w in ("bravo", "charlie")
        }
        model.gate.open()
        for future in (stayer, waiting):
            assert future.result(PATIENCE).text
        with pytest.raises(CancelledError):
            leaver.result(PATIENCE)
    assert observer.events["cancelled"] == 1
    assert observer.live == 0


def test_a_caller_who_leaves_during_the_last_step_is_counted() -> None:
    model, observer = FakeModel(), RecordingObserver()
    model.gate.close()
    with running(model, observer=observer) as engine:
        (leaver,) = engine.submit([SummaryRequest("alpha", DecodingOptions(1, max_length=1, min_length=1))])
        model.gate.allow(1)
        model.gate.wait_for_arrival(2)
        assert leaver.cancel()
    assert observer.events["cancelled"] == 1


def test_a_waiting_text_whose_caller_leaves_is_counted_before_its_turn() -> None:
    model, observer = FakeModel(), RecordingObserver()
    model.gate.close()
    with running(model, max_rows=1, observer=observer) as engine:
        engine.submit([SummaryRequest("alpha", GREEDY)])
        model.gate.wait_for_arrival(1)
        _, leaver = engine.submit([SummaryRequest(text, GREEDY) for text in ("bravo", "charlie")])
        assert leaver.cancel()
        model.gate.allow(1)
        model.gate.wait_for_arrival(2)
        assert (observer.events["cancelled"], observer.waiting) == (1, 1)


def test_the_waiting_parts_of_a_text_leave_with_one_that_broke() -> None:
    model = FakeModel()
    text = f"{NOT_A_NUMBER} " + "alpha " * 100
    with running(model, max_rows=1) as engine:
        (broken,) = engine.submit([SummaryRequest(text, GREEDY, "chunk")])
        assert isinstance(broken.exception(PATIENCE), ModelFailedError)
    assert len(model.encodings) == 1


def test_all_parts_of_a_text_leave_with_its_caller() -> None:
    model, observer = FakeModel(), RecordingObserver()
    model.gate.close()
    with running(model, max_rows=6, observer=observer) as engine:
        (leaver,) = engine.submit([SummaryRequest("alpha " * 100, LONG, "chunk")])
        (stayer,) = engine.submit([SummaryRequest("bravo", LONG)])
        model.gate.wait_for_arrival(1)
        assert leaver.cancel()
        model.gate.allow(1)
        model.gate.wait_for_arrival(2)
        assert {row.source for row in model.states[0].slots if row} == {model.tokenize("bravo").ids}
        model.gate.open()
        assert stayer.result(PATIENCE).text
    assert observer.events["cancelled"] == 1


def test_a_deadline_passes_while_waiting_and_while_live() -> None:
    model, observer, clock = FakeModel(), RecordingObserver(), Clock()
    model.gate.close()
    with running(model, max_rows=4, observer=observer, clock=clock) as engine:
        requests = [SummaryRequest("alpha", LONG, timeout=5.0), SummaryRequest("bravo", LONG, timeout=50.0)]
        live, patient = engine.submit(requests)
        model.gate.wait_for_arrival(1)
        waiting, last = engine.submit(requests)
        clock.now += 5.0
        model.gate.allow(1)
        for future in (live, waiting):
            assert isinstance(future.exception(PATIENCE), DeadlineExceededError)
        model.gate.open()
        for future in (patient, last):
            assert_same(future.result(PATIENCE), alone(requests[1]))
    assert observer.events["refused deadline"] == 1, "of those that never joined"


def test_a_deadline_that_has_passed_already_costs_no_encoding() -> None:
    model = FakeModel()
    with running(model) as engine:
        (future,) = engine.submit([SummaryRequest("alpha", GREEDY, timeout=0.0)])
        assert isinstance(future.exception(PATIENCE), DeadlineExceededError)
    assert model.encodings == []


def test_a_drain_answers_everything_that_was_admitted() -> None:
    model = FakeModel()
    model.gate.close()
    requests = [SummaryRequest(word, BEAMS) for word in WORDS]
    with running(model, max_rows=4) as engine:
        futures = engine.submit(requests)
        model.gate.wait_for_arrival(1)
        drain = in_thread(engine, PATIENCE)
        until_unready(engine)
        with pytest.raises(DrainingError):
            engine.submit(requests)
        again = in_thread(engine, 0.0)
        again.join(0.1)
        assert again.is_alive(), "a second drain does not shorten the first"
        model.gate.open()
        for request, future in zip(requests, futures, strict=True):
            assert_same(future.result(PATIENCE), alone(request))
        for thread in (drain, again):
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_what_a_drain_cannot_answer_within_its_grace_fails_and_frees_its_rows() -> None:
    model = FakeModel()
    model.gate.close()
    with running(model, max_rows=4) as engine:
        futures = engine.submit([SummaryRequest(word, BEAMS) for word in WORDS])
        model.gate.wait_for_arrival(1)
        drain = in_thread(engine, 0.0)
        for future in futures:
            assert isinstance(future.exception(PATIENCE), DrainingError)
        model.gate.open()
        drain.join(PATIENCE)
        assert not drain.is_alive()
    assert len(model.steps) == 1


def in_thread(engine: Engine, grace: float) -> threading.Thread:
    thread = threading.Thread(target=engine.drain, args=(grace,))
    thread.start()
    return thread


def until_unready(engine: Engine) -> None:
    while engine.ready:
        threading.Event().wait(0.001)


def test_a_worker_that_hangs_is_not_ready() -> None:
    model, clock = FakeModel(), Clock()
    model.gate.close()
    with running(model, clock=clock) as engine:
        clock.now += STALLED_SECONDS * 2
        eventually(lambda: engine.ready)  # a rest is no hang
        (future,) = engine.submit([SummaryRequest("alpha", LONG, timeout=1e9)])
        model.gate.wait_for_arrival(1)
        assert engine.ready
        clock.now += STALLED_SECONDS + 1
        assert not engine.ready
        model.gate.open()
        assert future.result(PATIENCE).text
        assert engine.ready


def test_no_text_and_no_words_of_an_error_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    def quoting(rows: list[Row]) -> None:
        if any(FEVER in row.source for row in rows):
            raise RuntimeError(f"cannot read {VOCABULARY[FEVER]}")

    answered_or_failed(FakeModel(before_step=quoting), ["alpha", "zulu"], lambda text: text == "zulu")
    assert "RuntimeError" in caplog.text
    assert "zulu" not in caplog.text
    assert UNENCODABLE not in caplog.text
    assert UNSTEPPABLE not in caplog.text


def test_a_listener_who_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: WrittenToken) -> None:
        raise ValueError("what a caller sent")

    told: list[WrittenToken] = []
    requests = [SummaryRequest(text, GREEDY, on_token=tell) for text, tell in (("alpha", fail), ("bravo", told.append))]
    with running(FakeModel()) as engine:
        for request, future in zip(requests, engine.submit(requests), strict=True):
            assert_same(future.result(PATIENCE), alone(SummaryRequest(request.text, GREEDY)))
    assert told[-1].token is None
    assert {record.message for record in caplog.records} == {"a token could not be told: ValueError"}
