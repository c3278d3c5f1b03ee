"""The offline limit answers every text, in batches or continuously."""

import pytest

from benchmarks.offline import continuous, static, tickets
from tests.fakes import FakeModel, fake_info


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_continuous_run_answers_all(beams: int, threads: int) -> None:
    model = FakeModel(fake_info())
    waiting = tickets(model, ["one two", "three", "four five six"] * 3, beams, 8)
    continuous(model, waiting, 8, threads)
    assert all(ticket.future.result().text for ticket in waiting)


@pytest.mark.parametrize("threads", [1, 2])
def test_static_batches_leave_no_row_behind(threads: int) -> None:
    model = FakeModel(fake_info())
    waiting = tickets(model, ["one two", "three", "four five six"] * 3, 2, 8)
    static(model, waiting, 8, threads)
    assert model.occupied == 0


def test_a_batch_that_fails_is_told() -> None:
    def fail(_rows: object) -> None:
        raise RuntimeError("the model is broken")

    model = FakeModel(fake_info(), before_step=fail)
    with pytest.raises(RuntimeError, match="broken"):
        static(model, tickets(model, ["one two"], 1, 8), 8, 2)


def test_texts_are_sorted_by_length() -> None:
    model = FakeModel(fake_info())
    lengths = [ticket.jobs[0].tokens for ticket in tickets(model, ["one two three", "one", "one two"], 1, 8)]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) == 3
