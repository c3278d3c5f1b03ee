"""The running batch step by step, without a thread."""

from collections.abc import Callable

import pytest

from app.engine.batch import Outcome, RunningBatch
from app.engine.job import Job, Plan, Ticket
from app.engine.observer import EngineObserver
from app.engine.request import SummaryRequest, WrittenToken
from app.models.base import DecodingOptions
from app.numerals import Numerals
from tests.engine.running import Clock
from tests.fakes import NOT_A_NUMBER, UNENCODABLE, FakeModel, distribution

OnToken = Callable[[WrittenToken], None]


def job(model: FakeModel, text: str, beams: int = 2, length: int = 4, on_token: OnToken | None = None) -> Job:
    tokens = model.tokenize(text)
    request = SummaryRequest(text, DecodingOptions(beams, length, min_length=length), on_token=on_token)
    return Ticket(Plan(request, tokens, (range(len(tokens.ids)),)), submitted=0.0).jobs[0]


def open_batch(model: FakeModel) -> RunningBatch:
    return RunningBatch(model, Numerals(model.pieces), 8, EngineObserver(), Clock())


def test_rows_join_and_leave_between_steps() -> None:
    model = FakeModel()
    batch = open_batch(model)
    short, long = job(model, "alpha", length=1), job(model, "bravo", length=3)
    batch.join([(short, [0, 1]), (long, [2, 3])])
    assert batch.step() == []
    ended = batch.step()
    assert [who for who, _ in ended] == [short]
    assert model.occupied == 2
    batch.join([(job(model, "charlie", beams=1), [0])])
    batch.step()
    assert [len(rows) for rows in model.steps] == [2, 4, 3], "one row of a beam in its first step, then all of them"


def test_those_who_join_together_are_encoded_in_one_pass_sorted_by_length() -> None:
    model = FakeModel()
    batch = open_batch(model)
    texts = ["alpha alpha alpha", "alpha", "alpha alpha"]
    batch.join([(job(model, text), [2 * slot, 2 * slot + 1]) for slot, text in enumerate(texts)])
    assert [[len(source) for source in encoding] for encoding in model.encodings] == [[1, 2, 3]]


def test_what_cannot_be_encoded_or_gives_no_numbers_is_handed_back_without_an_outcome() -> None:
    model = FakeModel()
    batch = open_batch(model)
    good, mute, blind = job(model, "alpha"), job(model, UNENCODABLE), job(model, NOT_A_NUMBER)
    assert batch.join([(good, [0, 1]), (mute, [2, 3]), (blind, [4, 5])]) == [(mute, None)]
    assert batch.step() == [(blind, None)]
    assert model.occupied == 2


def test_rows_step_on_while_newcomers_are_encoded_beside_them() -> None:
    model = FakeModel()
    batch = open_batch(model)
    batch.join([(job(model, "alpha", beams=1, length=12), [0])])
    model.encodes_beside = True
    dropped = job(model, "charlie", beams=1)
    batch.join([(job(model, "bravo", beams=1), [1]), (dropped, [2])])
    batch.step()
    batch.drop(dropped)
    model.encodes_beside = False
    batch.step()
    assert [len(rows) for rows in model.steps] == [1, 2]
    assert model.occupied == 2


def test_newcomers_who_are_alone_are_waited_for() -> None:
    model = FakeModel()
    batch = open_batch(model)
    model.encodes_beside = True
    batch.join([(job(model, "alpha", beams=1), [0])])
    batch.step()
    assert [len(rows) for rows in model.steps] == [1]


def test_each_token_is_told_in_its_own_step_to_whoever_asked() -> None:
    model = FakeModel()
    batch = open_batch(model)
    told: list[WrittenToken] = []
    listened = job(model, "alpha bravo charlie delta echo foxtrot", beams=1, length=3, on_token=told.append)
    batch.join([(job(model, "golf"), [0, 1]), (listened, [2]), (job(model, "hotel", beams=1), [3])])
    over: list[Outcome] = []
    for count in (1, 2, 3, 4):
        over += batch.step()
        assert len(told) == count
    ((_, decoded),) = over
    assert decoded
    hypothesis = decoded.found.hypothesis
    assert [written.token for written in told] == [*hypothesis.tokens, None]
    assert [written.log_probability for written in told[:-1]] == [*hypothesis.log_probabilities]
    assert [written.place for written in told] == [0, 1, 2, 3]
    rows = [row for step in model.steps for row in step if row.source == listened.source]
    for written, row in zip(told, rows, strict=False):
        weights = distribution(row)[1].tolist()
        assert [weight for _, weight in written.sources] == sorted(weights, reverse=True)[:5]
        assert all(weights[column] == weight for column, weight in written.sources)


def test_a_beam_tells_no_tokens() -> None:
    model = FakeModel()
    batch = open_batch(model)
    batch.join([(job(model, "alpha", on_token=_fail), [0, 1])])
    assert not any(batch.step() for _ in range(2))


def test_a_listener_who_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    model = FakeModel()
    batch = open_batch(model)
    told: list[WrittenToken] = []
    batch.join([(job(model, "alpha", beams=1, on_token=_fail), [0])])
    batch.join([(job(model, "bravo", beams=1, on_token=told.append), [1])])
    outcomes = [outcome for _ in range(5) for outcome in batch.step()]
    assert [decoded is not None for _, decoded in outcomes] == [True, True]
    assert len(told) == 5
    assert {record.message for record in caplog.records} == {"a token could not be told: ValueError"}


def test_a_job_is_dropped_at_most_once() -> None:
    model = FakeModel()
    batch = open_batch(model)
    dropped = job(model, "alpha")
    batch.join([(dropped, [3, 5])])
    batch.drop(dropped)
    batch.drop(dropped)
    assert model.occupied == 0
    assert batch.step() == []
    assert model.steps == []


def _fail(_: WrittenToken) -> None:
    raise ValueError("what a caller sent")
