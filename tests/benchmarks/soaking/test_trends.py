"""Growth is found in noise, and noise is not growth."""

import random

import pytest

from benchmarks.soaking.judging import WATCHED, judge
from benchmarks.soaking.trends import FEWEST, Bound, slope, trend

BOUND = Bound(share=0.05, least=8.0)


def walk(growth: float, count: int = 200, spikes: int = 20) -> list[tuple[float, float]]:
    """Every 5 s a noisy value around 500 that has grown by so much at the end; some are far off."""
    source = random.Random(1)
    points = [(5.0 * place, 500 + growth * place / count + source.gauss(0, 3)) for place in range(count)]
    for place in source.sample(range(count), spikes):
        points[place] = (points[place][0], 900.0)
    return points


@pytest.mark.parametrize(("growth", "grew"), [(0.0, False), (15.0, False), (40.0, True), (-100.0, False)])
def test_growth_beyond_its_bound_is_found_among_noise_and_spikes(growth: float, grew: bool) -> None:
    found = trend("memory", [walk(growth)], BOUND)
    assert found.growth == pytest.approx(growth, abs=5)
    assert found.most == pytest.approx(0.05 * found.median)
    assert found.grew is grew


def test_what_begins_anew_each_time_still_grows() -> None:
    lives = [[(100.0 * life + second, 50.0 + second) for second in range(60)] for life in range(10)]
    assert slope(lives) == pytest.approx(1.0)
    assert slope([[point for life in lives for point in life]]) < 0.2
    assert trend("memory", lives, BOUND).growth == pytest.approx(59.0)


def test_too_few_values_are_not_judged() -> None:
    steep = [(float(second), 100.0 * second) for second in range(FEWEST - 1)]
    assert not trend("memory", [steep], BOUND).grew
    assert not trend("memory", [], BOUND).grew


NAMES = ("service_mib", "mib", "files", "threads", "processes", "latency_ms")


def samples(growing: str = "", lane: float = 0.0) -> list[dict[str, object]]:
    values = dict.fromkeys(NAMES, 100.0)
    return [
        {
            "second": 5.0 * place,
            **values,
            **({growing: 100.0 + place} if growing else {}),
            "lanes_mib": {str(place // 60): 80 + lane * (place % 60)},
        }
        for place in range(300)
    ]


def test_what_is_flat_is_flat() -> None:
    assert [each.name for each in judge(samples()) if each.grew] == []
    assert not any(each.growth is None for each in judge(samples()))


@pytest.mark.parametrize(
    ("growing", "name"), list(zip(NAMES, [name for name in WATCHED if "lane" not in name], strict=True))
)
def test_what_grows_is_named(growing: str, name: str) -> None:
    assert [each.name for each in judge(samples(growing)) if each.grew] == [name]


def test_a_lane_that_grows_is_named_though_it_is_replaced_again_and_again() -> None:
    (grown,) = [each for each in judge(samples(lane=0.5)) if each.grew]
    assert "lane" in grown.name


def test_what_grows_while_it_warms_up_is_not_blamed() -> None:
    warming = [{**each, "mib": min(100 + place, 190)} for place, each in enumerate(samples())]
    assert [each.name for each in judge(warming) if each.grew] == []


def test_refused_probes_are_left_out() -> None:
    some = [{**each, "latency_ms": None if place % 3 else 100.0} for place, each in enumerate(samples())]
    assert [each.name for each in judge(some) if each.grew] == []
