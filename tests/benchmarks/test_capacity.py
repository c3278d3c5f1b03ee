"""How many replicas are enough, by measured costs."""

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from benchmarks import capacity
from benchmarks.__main__ import app
from benchmarks.capacity import COSTS, MARGIN, MOST_BUSY, SAMPLE, Need, fleet_for
from benchmarks.simulating.traffic import Service

FEW = 1_000


def test_costs_are_made_to_fit_what_was_measured() -> None:
    costs = capacity.calibrated(maximum=200.0, idle_ms=20.0)
    assert Service(costs, SAMPLE, asking=capacity.ASKING["wrk"]).closed_loop(64, 5.0).rate == pytest.approx(
        200, rel=0.03
    )
    assert Service(costs, SAMPLE).closed_loop(1, 5.0).percentile(0.5) == pytest.approx(20, rel=0.03)


def test_a_fleet_is_the_smallest_that_does_what_is_needed() -> None:
    need = Need(articles_a_day=30_000_000, p99_ms=200.0)
    fleet = fleet_for(need, COSTS, FEW)
    assert MARGIN * fleet.simulated.percentile(0.99) <= need.p99_ms
    assert fleet.busy <= MOST_BUSY
    assert fleet.all_answered
    fewer = capacity.Fleet(replace(fleet.service, replicas=fleet.service.replicas - 1), fleet.simulated)
    simulated = fewer.service.open_loop(need.rate, FEW / need.rate)
    fewer = replace(fewer, simulated=simulated)
    assert fewer.busy > MOST_BUSY or MARGIN * simulated.percentile(0.99) > need.p99_ms


def test_more_articles_or_more_beams_need_no_fewer_replicas() -> None:
    needs = [Need(articles) for articles in (5e6, 30e6)] + [Need(30e6, mix=replace(SAMPLE, beams=4))]
    found = [fleet_for(need, COSTS, FEW).service.replicas for need in needs]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_where_one_text_alone_takes_too_long_no_number_of_replicas_is_told() -> None:
    with pytest.raises(ValueError, match="a text alone has"):
        fleet_for(Need(p99_ms=5.0), COSTS, FEW)


def test_the_command_tells_a_line_for_each_kind_of_article(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "calibrated", lambda *_: COSTS)
    monkeypatch.setattr(capacity, "ENOUGH", FEW)
    told = CliRunner().invoke(app, ["capacity", "--articles-a-day", "1_000_000", "--tokens", "100", "--beams", "1"])
    assert told.exit_code == 0
    lines = told.output.strip().splitlines()
    assert len(lines) == 3
    assert lines[-1].startswith("| 1,000,000 | 23 | 100 | 1 | 1 | 2 |")
