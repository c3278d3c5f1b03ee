"""Simulated replicas lose nothing, obey the laws that need no distribution, and share their work."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulating.replica import Costs, End, Replica, Text
from benchmarks.simulating.time import Agenda
from benchmarks.simulating.traffic import MOST_TOKENS, Balancer, Mix, Service

COSTS = Costs(front=1e-3, joining=0.0, token=1e-5, step=0.0, row=1e-4, beam_row=1e-4, delay=0.0)
ALIKE = Mix(tokens=100, steps=10, tokens_spread=0.0, steps_spread=0.0)
EACH = 3e-3  # seconds of a core for one of these: the front, 100 tokens, 10 steps


@settings(max_examples=15, deadline=None)
@given(
    rate=st.floats(1, 3000),
    replicas=st.integers(1, 3),
    timeout=st.floats(0.005, 5),
    beams=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_everybody_who_asks_gets_one_end(rate: float, replicas: int, timeout: float, beams: int, seed: int) -> None:
    service = Service(COSTS, replace(ALIKE, beams=beams, tokens_spread=0.8), replicas, timeout=timeout)
    found = service.open_loop(rate, 1.0, seed, warm_up=0.0)
    assert sum(found.ended.values()) == found.asked
    assert found.ended[End.ANSWERED] == len(found.latencies)
    assert found.busy <= replicas * service.cores + 1e-9


def test_cores_are_busy_for_the_work_that_was_done() -> None:
    found = Service(COSTS, ALIKE).open_loop(300, 20.0)
    assert found.busy == pytest.approx(300 * EACH, rel=0.03)


def test_clients_are_as_many_as_answers_a_second_times_how_long_each_waits() -> None:
    found = Service(COSTS, ALIKE).closed_loop(32, 5.0)
    mean = sum(found.latencies) / len(found.latencies) / 1000
    assert found.rate * mean == pytest.approx(32, rel=0.02)


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("replicas", [1, 3])
def test_the_maximum_is_that_of_all_cores(cores: int, replicas: int) -> None:
    found = Service(COSTS, ALIKE, replicas, cores).closed_loop(64 * replicas, 3.0)
    assert found.rate == pytest.approx(cores * replicas / EACH, rel=0.03)


def test_a_front_that_is_always_busy_is_the_limit_of_many_cores() -> None:
    found = Service(COSTS, ALIKE, cores=8).closed_loop(256, 2.0)
    assert found.rate == pytest.approx(1 / COSTS.front, rel=0.05)


def test_the_fuller_a_replica_the_longer_all_wait() -> None:
    found = [Service(COSTS, ALIKE).open_loop(rate, 5.0).percentile(0.99) for rate in (100, 400, 600)]
    assert found == sorted(found)


def test_several_replicas_at_the_same_share_of_their_maximum_wait_less() -> None:
    found = [Service(COSTS, ALIKE, count).open_loop(600 * count, 2.0).percentile(0.99) for count in (1, 4)]
    assert found == sorted(found, reverse=True)


def test_what_is_beyond_the_maximum_is_refused_and_the_rest_answered_in_time() -> None:
    found = Service(COSTS, replace(ALIKE, steps=32), timeout=1.0).open_loop(700, 5.0)
    most = 2 / (EACH + 22 * COSTS.row)
    assert found.ended[End.REFUSED] > (700 - most) * 5 / 2
    assert found.rate > 0.9 * most
    assert max(found.latencies) < 1100


def test_whoever_asks_from_the_same_cores_takes_its_share() -> None:
    found = Service(COSTS, ALIKE, asking=1e-3).closed_loop(64, 3.0)
    assert found.rate == pytest.approx(2 / (EACH + 1e-3), rel=0.03)


def test_the_same_seed_is_the_same_run() -> None:
    service = Service(COSTS, Mix(100, 10))
    assert service.open_loop(200, 5.0, seed=3) == service.open_loop(200, 5.0, seed=3)


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_lengths_have_the_mean_that_was_asked_for(spread: float) -> None:
    texts = Mix(tokens=100, steps=12, tokens_spread=spread, steps_spread=0.3).texts(random.Random(1))
    drawn = [next(texts) for _ in range(5_000)]
    assert sum(text.tokens for text in drawn) / len(drawn) == pytest.approx(100, rel=0.05)
    assert sum(text.steps for text in drawn) / len(drawn) == pytest.approx(12, rel=0.05)
    assert max(text.tokens for text in drawn) <= MOST_TOKENS


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_the_replica_with_the_fewest_open_requests_is_asked(open_requests: list[int]) -> None:
    agenda = Agenda()
    replicas = [Replica(agenda, COSTS, 1, 60.0) for _ in open_requests]
    for replica, count in zip(replicas, open_requests, strict=True):
        replica.open = count
    Balancer(replicas).ask(Text(10, 1), lambda _: None)
    (asked,) = (place for place, replica in enumerate(replicas) if replica.open > open_requests[place])
    assert open_requests[asked] == min(open_requests)


def test_replicas_alike_are_asked_in_turn() -> None:
    agenda, ends = Agenda(), Counter[End]()
    replicas = [Replica(agenda, COSTS, 1, 60.0) for _ in range(3)]
    balancer = Balancer(replicas)
    count: Callable[[End], None] = lambda end: ends.update([end])  # noqa: E731
    for _ in range(6):
        balancer.ask(Text(10, 1), count)
    assert [replica.open for replica in replicas] == [2, 2, 2]
    agenda.run(until=10.0)
    assert ends == {End.ANSWERED: 6}
