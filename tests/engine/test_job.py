"""A ticket is settled once, and tells when nobody waits for its jobs any more."""

from collections.abc import Callable

import pytest

from app.engine.admission import plan
from app.engine.job import Job, Ticket
from app.engine.request import SummaryRequest
from app.errors import ModelFailedError
from app.models.base import DecodingOptions
from tests.engine.running import GREEDY, alone
from tests.fakes import FakeModel

LONG = SummaryRequest("alpha " * 40, GREEDY, "chunk")


def ticket(request: SummaryRequest = LONG) -> Ticket:
    return Ticket(plan(FakeModel(), request, 8), submitted=0.0)


@pytest.mark.parametrize(
    "end", [lambda one: one.future.cancel(), lambda one: one.fail(ModelFailedError("why"))], ids=["cancelled", "failed"]
)
def test_a_ticket_that_is_given_up_tells_of_all_its_jobs(end: Callable[[Ticket], object]) -> None:
    one, told = ticket(), list[Job]()
    one.when_given_up(told.extend)
    assert not told
    end(one)
    assert len(told) > 1
    assert not one.jobs, "which it lets go of"


def test_a_ticket_that_is_closed_before_anybody_asks_tells_at_once() -> None:
    one, told = ticket(), list[Job]()
    one.future.cancel()
    one.when_given_up(told.extend)
    assert len(told) > 1


def test_a_ticket_that_is_answered_tells_nothing() -> None:
    one, told = ticket(), list[Job]()
    one.when_given_up(told.extend)
    one.answer(alone(LONG))
    assert one.closed
    assert not told


def test_a_job_is_over_after_its_longest_summary_and_the_end() -> None:
    options = DecodingOptions(num_beams=3, max_length=7)
    (written,) = ticket(SummaryRequest("alpha", options)).jobs
    (given,) = ticket(SummaryRequest("alpha", options, given="kilo lima")).jobs
    assert (written.most_steps, written.rows) == (8, 3)
    assert (given.most_steps, given.rows) == (3, 1)


def test_a_long_text_holds_as_many_bytes_as_its_parts() -> None:
    one = ticket()
    assert len(one.jobs) > 1
    assert 0 <= one.plan.bytes - sum(job.bytes for job in one.jobs) < len(one.jobs)
    assert one.plan.bytes > len(one.plan.request.text)
