"""What is told of costs is what was measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.costs import FEWEST_ANSWERS, Costs, Load, Mean
from tests.engine.test_queue import Job

loads = st.builds(Load, *[st.integers(0, 1000)] * 4)


def measured(answers: int = FEWEST_ANSWERS) -> Costs:
    """A token takes 2 ms, a step of 8 rows 40 ms, a summary 10 steps."""
    costs = Costs()
    costs.encoded(100, 0.2)
    costs.stepped(8, 1, 0.04, full=True)
    for _ in range(answers):
        costs.answered(1, 10)
    return costs


def test_a_load_takes_its_tokens_and_its_row_steps_shared_by_the_lanes() -> None:
    assert measured().together(Load(texts=5, tokens=500, rows=20), lanes=2) == pytest.approx((1.0 + 1.0) / 2)


def test_a_job_takes_its_tokens_and_as_many_steps_as_nearly_all_or_as_it_may() -> None:
    assert measured().alone(Job(tokens=50, most_steps=64)) == pytest.approx(0.1 + 15 * 0.04)
    assert measured().alone(Job(tokens=50, most_steps=3)) == pytest.approx(0.1 + 3 * 0.04)


def test_a_lane_that_is_not_full_tells_only_how_long_a_step_takes_now() -> None:
    costs = measured()
    for _ in range(1000):
        costs.stepped(1, 1, 0.01, full=False)
    assert costs.together(Load(rows=20), lanes=1) == pytest.approx(1.0)
    assert costs.alone(Job(tokens=50, most_steps=3)) == pytest.approx(0.1 + 3 * 0.01)


def test_too_few_answers_tell_nothing() -> None:
    costs = measured(FEWEST_ANSWERS - 1)
    assert costs.together(Load(9, 9, 9, 9), lanes=1) == costs.alone(Job(tokens=9)) == 0.0


def test_wide_summaries_count_with_all_their_rows() -> None:
    costs = measured(0)
    for rows, steps in ((1, 4), (3, 12)) * FEWEST_ANSWERS:
        costs.answered(rows, steps)
    assert costs.together(Load(rows=4), lanes=1) == pytest.approx(4 * 10 * 0.005, rel=0.01)


def test_what_is_measured_follows_what_happens_now() -> None:
    mean = Mean()
    for _ in range(10_000):
        mean.record(3.0, 1.0)
    assert mean.value == pytest.approx(3.0)
    for _ in range(2_000):
        mean.record(10.0, 2.0)
    assert mean.value == pytest.approx(5.0, rel=0.001)


@given(loads, loads)
def test_loads_add_up_and_are_held_to_each_bound(load: Load, other: Load) -> None:
    assert load + other - other == load
    place = load.beyond(other)
    over = [value > most for value, most in zip(load.values, other.values, strict=True)]
    assert place == (over.index(True) if any(over) else None)
