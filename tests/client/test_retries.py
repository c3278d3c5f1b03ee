"""When to try again."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.client.retries import FIRST_SECONDS, LONGEST_SECONDS, pause, seconds_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
chances = st.floats(0, 1, exclude_max=True)
seconds = st.floats(0, 1e6)


@given(st.lists(st.tuples(st.none() | seconds, chances), max_size=50), seconds)
def test_all_pauses_together_end_before_the_deadline(
    failures: list[tuple[float | None, float]], deadline: float
) -> None:
    now = 0.0
    for number, (retry_after, chance) in enumerate(failures, 1):
        slept = pause(number, retry_after, deadline - now, chance)
        if slept is None:
            break
        assert slept >= (retry_after or 0)
        now += slept
        assert now <= deadline


@given(st.integers(1, 10**6), chances)
def test_without_a_wish_of_the_service_the_pause_is_anything_up_to_a_bound_that_doubles(
    failures: int, chance: float
) -> None:
    slept = pause(failures, None, 1e9, chance)
    assert slept is not None
    assert slept == chance * min(FIRST_SECONDS * 2.0 ** min(failures - 1, 100), LONGEST_SECONDS)


@given(st.floats(0, 100), chances)
def test_those_refused_together_come_back_apart_and_none_too_early(retry_after: float, chance: float) -> None:
    slept = pause(1, retry_after, 1e9, chance)
    assert slept is not None
    assert retry_after <= slept <= retry_after + FIRST_SECONDS


@pytest.mark.parametrize("left", [-1.0, 0.0, 5.0])
def test_no_pause_lasts_until_the_deadline(left: float) -> None:
    assert pause(1, 5.0, left, 0.0) is None


@given(st.integers(-(10**6), 10**6))
def test_a_date_is_seconds_from_now_and_never_before_it(away: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=away), usegmt=True)
    assert seconds_of(date, NOW) == max(0, away)


@given(st.integers(0, 10**400))
def test_a_number_is_seconds(number: int) -> None:
    assert seconds_of(str(number), NOW) == float(str(number))


@given(st.text() | st.from_regex(r"\w{3}, \d{1,9} \w{3} \d{1,9} \d+:\d+:\d+ ?[A-Z+-]*\d*", fullmatch=True))
def test_whatever_a_header_says_is_a_wish_or_none(retry_after: str) -> None:
    told = seconds_of(retry_after, NOW)
    assert told is None or told >= 0


@pytest.mark.parametrize("wrong", ["", "-1", "1.5", "soon", "²", "1e3", "nan"])
def test_what_is_neither_a_number_nor_a_date_is_no_wish(wrong: str) -> None:
    assert seconds_of(wrong, NOW) is None
