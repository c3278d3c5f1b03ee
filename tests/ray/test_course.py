"""How the benchmark judges what became of requests while something happened."""

import pytest

from benchmarks.asking import Asked
from benchmarks.ray_failures import Course

ASKED = (
    Asked("a", sent=1.0, ended=9.5, kind="200"),
    Asked("b", sent=9.6, ended=10.5, kind="500"),
    Asked("c", sent=9.7, ended=11.0, kind="200"),
    Asked("d", sent=10.1, ended=10.2, kind="no answer"),
    Asked("e", sent=11.1, ended=11.25, kind="200"),
)


def test_only_what_was_sent_before_may_fail() -> None:
    course = Course(ASKED, struck=10.0, seconds=1.0)
    assert [each.name for each in course.failed] == ["b", "d"]
    assert [each.name for each in course.failed_later] == ["d"]


def test_a_pause_is_without_any_summary_and_lies_around_what_happened() -> None:
    assert Course(ASKED, struck=10.0, seconds=1.0).longest_pause == pytest.approx(1.5)
    assert Course(ASKED, struck=10.6, seconds=1.0).longest_pause == pytest.approx(0.25)
    assert Course((), struck=10.0, seconds=1.0).longest_pause == 0.0
