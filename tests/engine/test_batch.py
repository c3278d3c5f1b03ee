"""The running batch step by step, without a thread."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from app.engine.batch import ENCODE_SECONDS, Order, RunningBatch
from app.engine.job import Plan, Task, Ticket
from app.engine.request import SummaryRequest
from app.models.base import DecodingOptions
from app.numerals import Numerals
from tests.engine.running import Clock
from tests.fakes import NOT_A_NUMBER, START, UNENCODABLE, WORD_IDS, FakeModel, Row, distribution, fake_info


def job(
    model: FakeModel, text: str, beams: int = 2, length: int = 4, *, tells: bool = False, attention: bool = False
) -> Task:
    tokens = model.tokenize(text)
    on_token = (lambda _: None) if tells else None
    options = DecodingOptions(beams, length, min_length=length)
    request = SummaryRequest(text, options, attention=attention, on_token=on_token)
    return Ticket(Plan(request, tokens, (range(len(tokens.ids)),)), submitted=0.0).jobs[0].task


def open_batch(model: FakeModel) -> RunningBatch:
    return RunningBatch(model, Numerals(model.pieces), 8, Clock())


def test_rows_join_and_leave_between_steps() -> None:
    model = FakeModel()
    batch = open_batch(model)
    short, long = job(model, "alpha", length=1), job(model, "bravo", length=3)
    batch.join([(short, [0, 1]), (long, [2, 3])])
    batch.step()
    assert batch.report.outcomes == []
    batch.step()
    assert [who for who, _ in batch.report.outcomes] == [short.number]
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


def test_sources_that_are_encoded_one_by_one_hold_up_the_others_for_a_moment_only() -> None:
    clock = Clock()

    class OneByOne(FakeModel):
        encodes_one_by_one = True

    def take_time(sources: Sequence[object]) -> None:
        clock.now += 0.6 * ENCODE_SECONDS * len(sources)

    model = OneByOne()
    model.before_encode = take_time
    batch = RunningBatch(model, Numerals(model.pieces), 8, clock)
    tasks = [job(model, text, beams=1) for text in ("alpha", "bravo", "charlie", "delta", "alpha bravo")]
    dropped = tasks[2]
    batch.advance(Order([(task, [slot]) for slot, task in enumerate(tasks)]))
    batch.advance(Order(dropped=[dropped.number]))
    tasks.remove(dropped)
    assert model.encodings == [[task.source] for task in tasks]
    assert [len(rows) for rows in model.steps] == [2, 4]
    while not batch.idle:
        batch.advance(Order())
    assert {number for number, _ in batch.report.outcomes} == {task.number for task in tasks}
    assert model.occupied == 0


def test_what_cannot_be_encoded_or_gives_no_numbers_is_handed_back_without_an_outcome() -> None:
    model = FakeModel()
    batch = open_batch(model)
    good, mute, blind = job(model, "alpha"), job(model, UNENCODABLE), job(model, NOT_A_NUMBER)
    batch.join([(good, [0, 1]), (mute, [2, 3]), (blind, [4, 5])])
    assert batch.take_report().outcomes == [(mute.number, None)]
    batch.step()
    assert batch.take_report().outcomes == [(blind.number, None)]
    assert model.occupied == 2


def test_rows_step_on_while_newcomers_are_encoded_beside_them() -> None:
    model = FakeModel()
    batch = open_batch(model)
    batch.join([(job(model, "alpha", beams=1, length=12), [0])])
    model.encodes_beside = True
    dropped = job(model, "charlie", beams=1)
    batch.join([(job(model, "bravo", beams=1), [1]), (dropped, [2])])
    batch.step()
    batch.drop(dropped.number)
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
    listened = job(model, "alpha bravo charlie delta echo foxtrot", beams=1, length=3, tells=True)
    batch.join([(job(model, "golf"), [0, 1]), (listened, [2]), (job(model, "hotel", beams=1), [3])])
    for count in (1, 2, 3, 4):
        batch.step()
        assert len(batch.report.written) == count
    ((_, decoded),) = batch.report.outcomes
    assert decoded
    hypothesis = decoded.found.hypothesis
    assert {number for number, *_ in batch.report.written} == {listened.number}
    told = [written for _, written, _ in batch.report.written]
    assert [written.token for written in told] == [*hypothesis.tokens, None]
    assert [written.log_probability for written in told[:-1]] == [*hypothesis.log_probabilities]
    assert [written.place for written in told] == [0, 1, 2, 3]
    rows = [row for step in model.steps for row in step if row.source == listened.source]
    for (_, _, sources), row in zip(batch.report.written, rows, strict=False):
        weights = distribution(row)[1].tolist()
        assert [weight for _, weight in sources] == sorted(weights, reverse=True)[:5]
        assert all(weights[column] == weight for column, weight in sources)


@pytest.mark.parametrize("beams", [1, 2])
def test_what_is_forced_is_neither_told_nor_seen_in_the_attention(beams: int) -> None:
    forced = WORD_IDS["zulu"]
    model = FakeModel(fake_info(special=replace(fake_info().special, forced=(forced,))))
    batch = open_batch(model)
    text = "alpha bravo charlie delta"
    batch.join([(job(model, text, beams, length=3, tells=True, attention=True), range(beams))])
    batch.step()
    assert (batch.report.first_tokens, batch.report.written) == ([], [])
    for _ in range(4):
        batch.step()
    assert len(batch.report.first_tokens) == 1
    assert [written.place for _, written, _ in batch.report.written] == ([0, 1, 2, 3] if beams == 1 else [])
    ((_, decoded),) = batch.report.outcomes
    assert decoded
    tokens = decoded.found.hypothesis.tokens
    source = model.tokenize(text).ids
    rows = [Row(source, (START, forced, *tokens[:place])) for place in range(len(tokens))]
    np.testing.assert_array_equal(decoded.weights, [distribution(row)[1] for row in rows])


def test_a_beam_tells_no_tokens() -> None:
    model = FakeModel()
    batch = open_batch(model)
    batch.join([(job(model, "alpha", tells=True), [0, 1])])
    batch.step()
    assert batch.report.written == []


def test_a_job_is_dropped_at_most_once() -> None:
    model = FakeModel()
    batch = open_batch(model)
    dropped = job(model, "alpha")
    batch.join([(dropped, [3, 5])])
    batch.drop(dropped.number)
    batch.drop(dropped.number)
    assert model.occupied == 0
    assert batch.idle
    batch.step()
    assert model.steps == []
