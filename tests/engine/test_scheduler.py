"""The rules of admission, joining and leaving, on jobs that are nothing but numbers."""

from dataclasses import dataclass
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.scheduler import LOOK_AHEAD, Scheduler

FOREVER = float("inf")


@dataclass(eq=False)
class Job:
    rows: int = 1
    tokens: int = 10
    deadline: float = FOREVER
    abandoned: bool = False


def joined(scheduler: Scheduler[Job]) -> list[Job]:
    return [job for job, _ in scheduler.join()]


def test_jobs_join_in_the_order_of_arrival_as_rows_come_free() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=4, max_queue=10)
    jobs = [Job(rows=2) for _ in range(3)]
    assert scheduler.admit(jobs, now=0.0)
    assert joined(scheduler) == jobs[:2]
    assert joined(scheduler) == []
    scheduler.leave(jobs[1])
    assert joined(scheduler) == jobs[2:]


def test_several_jobs_are_admitted_together_or_not_at_all() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=4, max_queue=3)
    assert scheduler.admit([Job(), Job()], now=0.0)
    assert not scheduler.admit([Job(), Job()], now=0.0)
    assert scheduler.waiting == 2
    scheduler.join()
    assert scheduler.admit([Job(), Job(), Job()], now=0.0), "live jobs are not counted"


def test_a_wide_job_is_overtaken_a_bounded_number_of_times() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=4, max_queue=100)
    first, wide = Job(), Job(rows=4)
    narrow = [Job() for _ in range(3 * LOOK_AHEAD)]
    scheduler.admit([first, wide, *narrow], now=0.0)
    order: list[Job] = []
    while wide not in order:
        order += joined(scheduler)
        scheduler.leave(scheduler.live[0])
    assert order.index(wide) <= 1 + LOOK_AHEAD
    assert order.index(wide) > 1, "narrow jobs may use the rows that a wide one cannot use yet"


def test_a_joining_pass_is_charged_with_its_padding_and_stays_within_its_bound() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=100, max_queue=100, max_join_tokens=40)
    jobs = [Job(tokens=10), Job(tokens=10), Job(tokens=15), Job(tokens=100), Job(tokens=1)]
    scheduler.admit(jobs, now=0.0)
    assert joined(scheduler) == jobs[:2]
    assert joined(scheduler) == jobs[2:3]
    assert joined(scheduler) == jobs[3:4], "one job alone always joins"
    assert joined(scheduler) == jobs[4:]


def test_whoever_left_or_is_late_is_withdrawn_from_the_queue() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=1, max_queue=10)
    late, gone, stays = Job(deadline=5.0), Job(abandoned=True), Job(deadline=5.1)
    scheduler.admit([late, gone, stays], now=0.0)
    assert scheduler.withdraw(now=5.0) == [late, gone]
    assert joined(scheduler) == [stays]


def test_suspects_run_in_halves_alone_until_the_guilty_one_is_found() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=4, max_queue=10)
    jobs = [Job() for _ in range(4)]
    newcomer = Job()
    scheduler.admit([*jobs, newcomer], now=0.0)
    assert joined(scheduler) == jobs
    assert scheduler.isolate() == []
    assert joined(scheduler) == jobs[:2]
    assert joined(scheduler) == [], "nobody joins suspects"
    assert scheduler.isolate() == []
    assert joined(scheduler) == jobs[:1]
    assert scheduler.isolate() == jobs[:1]
    for expected in (jobs[1:2], jobs[2:]):
        assert joined(scheduler) == expected
        for job in expected:
            scheduler.leave(job)
    assert joined(scheduler) == [newcomer]
    scheduler.leave(newcomer)
    assert scheduler.idle


def test_suspects_can_leave_before_they_run_again() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=4, max_queue=10)
    jobs = [Job() for _ in range(4)]
    scheduler.admit(jobs, now=0.0)
    scheduler.join()
    scheduler.isolate()
    for job in jobs:
        job.abandoned = True
    assert scheduler.withdraw(now=0.0) == jobs
    assert scheduler.idle


def test_retry_after_is_the_time_that_the_queue_takes_at_the_measured_rate() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=1, max_queue=100)
    assert scheduler.retry_after() == 1
    scheduler.admit([Job() for _ in range(30)], now=100.0)
    now = 100.0
    for _ in range(10):
        (job,) = joined(scheduler)
        scheduler.leave(job)
        now += 1.5
        scheduler.served(1, now)
    assert scheduler.waiting == 20
    assert scheduler.retry_after() == 30


def test_a_rest_without_work_does_not_slow_the_measured_rate() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=2, max_queue=100)
    for start in (0.0, 10_000.0):
        scheduler.admit([Job(), Job()], now=start)
        for job in joined(scheduler):
            scheduler.leave(job)
        scheduler.served(2, start + 2.0)
    scheduler.admit([Job() for _ in range(10)], now=20_000.0)
    assert scheduler.retry_after() == 10


@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(1, 40)), max_size=40),
    st.integers(8, 16),
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_every_job_joins_once_in_rows_of_its_own(shapes: list[tuple[int, int]], max_rows: int, random: Random) -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows, max_queue=100, max_join_tokens=60)
    jobs = [Job(rows, tokens) for rows, tokens in shapes]
    scheduler.admit(jobs, now=0.0)
    live: dict[Job, list[int]] = {}
    order: list[Job] = []
    while not scheduler.idle:
        newcomers = scheduler.join()
        assert newcomers or live, "with all rows free somebody always joins"
        for job, slots in newcomers:
            assert len(slots) == job.rows
            live[job] = slots
            order.append(job)
        taken = [slot for slots in live.values() for slot in slots]
        assert len(set(taken)) == len(taken) == scheduler.live_rows <= max_rows
        assert not newcomers or len(newcomers) * max(job.tokens for job, _ in newcomers) <= 60 or len(newcomers) == 1
        leaver = random.choice(list(live))
        scheduler.leave(leaver)
        del live[leaver]
    assert sorted(map(id, order)) == sorted(map(id, jobs))
    for place, job in enumerate(jobs):
        overtakers = [other for other in order[: order.index(job)] if other in jobs[place + 1 :]]
        assert len(overtakers) <= LOOK_AHEAD
    assert scheduler.live_rows == 0
