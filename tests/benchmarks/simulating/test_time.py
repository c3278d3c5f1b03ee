"""Simulated time and shared cores, beside what queueing theory says of them."""

import random
from collections.abc import Callable
from functools import partial
from math import factorial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.simulating.time import Action, Agenda, Cores, Thread

SERVED = 15_000
Serve = Callable[[float, Action], None]


def mean_seconds(agenda: Agenda, serve: Serve, rate: float, size: Callable[[random.Random], float]) -> float:
    """From arrival to end, of Poisson arrivals whose work has such sizes."""
    source, total = random.Random(1), 0.0

    def arrive(left: int) -> None:
        began = agenda.now

        def done() -> None:
            nonlocal total
            total += agenda.now - began

        serve(size(source), done)
        if left:
            agenda.after(source.expovariate(rate), lambda: arrive(left - 1))

    arrive(SERVED - 1)
    agenda.run(until=float("inf"))
    return total / SERVED


def erlang_c(servers: int, offered: float) -> float:
    """The share of those who have to wait, M/M/c."""
    waits = offered**servers / factorial(servers) * servers / (servers - offered)
    return waits / (sum(offered**k / factorial(k) for k in range(servers)) + waits)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_a_thread_with_equal_works_is_an_m_d_1_queue(load: float) -> None:
    agenda = Agenda()
    found = mean_seconds(agenda, Thread(Cores(agenda, 1)).do, load, lambda _: 1.0)
    assert found == pytest.approx(1 + load / (2 * (1 - load)), rel=0.05)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_a_thread_with_random_works_is_an_m_m_1_queue(load: float) -> None:
    agenda = Agenda()
    found = mean_seconds(agenda, Thread(Cores(agenda, 1)).do, load, lambda source: source.expovariate(1.0))
    assert found == pytest.approx(1 / (1 - load), rel=0.1)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_on_a_shared_core_only_the_mean_of_the_works_counts(load: float) -> None:
    agenda = Agenda()
    found = mean_seconds(agenda, Cores(agenda, 1).run, load, lambda source: source.choice([0.2, 1.8]))
    assert found == pytest.approx(1 / (1 - load), rel=0.1)


@pytest.mark.parametrize("cores", [2, 4])
def test_several_shared_cores_are_as_an_m_m_c_queue_on_average(cores: int) -> None:
    agenda, offered = Agenda(), 0.8 * cores
    found = mean_seconds(agenda, Cores(agenda, cores).run, offered, lambda source: source.expovariate(1.0))
    assert found == pytest.approx(1 + erlang_c(cores, offered) / (cores - offered), rel=0.1)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5)), max_size=30), st.integers(1, 4))
def test_every_work_ends_and_the_cores_were_busy_for_as_long(works: list[tuple[float, float]], cores: int) -> None:
    agenda = Agenda()
    shared, ends = Cores(agenda, cores), []

    def begin(seconds: float) -> None:
        shared.run(seconds, lambda: ends.append(agenda.now))

    for moment, seconds in works:
        agenda.after(moment, partial(begin, seconds))
    agenda.run(until=float("inf"))
    assert len(ends) == len(works)
    assert ends == sorted(ends)
    assert shared.busy_seconds == pytest.approx(sum(seconds for _, seconds in works), abs=1e-6)


def test_what_happens_at_once_happens_in_the_order_in_which_it_was_planned() -> None:
    agenda, seen = Agenda(), list[str]()
    for name in "abc":
        agenda.after(1.0, partial(seen.append, name))
    agenda.after(2.0, lambda: seen.append("too late"))
    agenda.run(until=1.5)
    assert seen == ["a", "b", "c"]
