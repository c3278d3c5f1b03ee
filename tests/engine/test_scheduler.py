"""The rules of admission, joining and leaving, on jobs that are nothing but numbers."""

from dataclasses import dataclass
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.scheduler import FEWEST_JOIN, PASS_JOBS, PATIENCE, Scheduler, passes

LOOK_AHEAD = 4
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
    scheduler: Scheduler[Job] = Scheduler(max_rows=4, max_queue=100, look_ahead=LOOK_AHEAD)
    first, wide = Job(), Job(rows=4)
    narrow = [Job() for _ in range(5 * LOOK_AHEAD)]
    scheduler.admit([first, wide, *narrow], now=0.0)
    order: list[Job] = []
    while wide not in order:
        order += joined(scheduler)
        scheduler.leave(scheduler.live()[0])
    assert order.index(wide) <= 1 + 2 * LOOK_AHEAD
    assert order.index(wide) > 1, "narrow jobs may use the rows that a wide one cannot use yet"


def test_the_first_joins_with_those_of_like_length_among_the_next() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=4, max_queue=100, look_ahead=6)
    lengths = [50, 400, 10, 51, 300, 48, 55, 50, 50]
    jobs = [Job(tokens=length) for length in lengths]
    scheduler.admit(jobs, now=0.0)
    assert [job.tokens for job in joined(scheduler)] == [50, 51, 48, 55], "the last two are beyond what is looked at"


def test_an_odd_length_is_not_passed_over_for_ever() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=4, max_queue=1000, look_ahead=LOOK_AHEAD)
    odd = Job(tokens=400)
    scheduler.admit([Job(), Job(), odd, *(Job() for _ in range(100))], now=0.0)
    order: list[Job] = []
    while odd not in order:
        order += joined(scheduler)
        for job in scheduler.live():
            scheduler.leave(job)
    assert order.index(odd) <= 2 + 2 * LOOK_AHEAD


def test_a_lane_at_work_is_not_interrupted_for_a_few_newcomers_unless_they_have_waited() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=9, max_queue=100)
    scheduler.admit([Job() for _ in range(5)], now=0.0)
    assert len(joined(scheduler)) == 5, "nothing runs: whoever is there joins at once"
    scheduler.admit([Job()], now=0.0)
    assert [len(joined(scheduler)) for _ in range(PATIENCE)] == [0] * (PATIENCE - 1) + [1]
    scheduler.leave(scheduler.live()[0])
    scheduler.admit([Job() for _ in range(FEWEST_JOIN)], now=0.0)
    assert len(joined(scheduler)) == FEWEST_JOIN, "enough for a pass"


def test_newcomers_are_encoded_with_those_of_like_length() -> None:
    jobs = [Job(tokens=length) for length in (90, 5, 30, 4, 91, 29, *[60] * PASS_JOBS)]
    groups = [[job.tokens for job in group] for group in passes(jobs)]
    assert groups == [[4, 5, 29, 30, 60, 60, 60, 60], [60, 60, 60, 60, 90, 91]]
    assert len(groups[0]) == PASS_JOBS


def test_jobs_are_shared_out_evenly_among_lanes() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=8, max_queue=100, lanes=2)
    scheduler.admit([Job() for _ in range(5)], now=0.0)
    assert [len(scheduler.join(lane)) for lane in (0, 1, 0, 1, 0, 1)] == [1, 2, 2, 0, 0, 0]
    assert (len(scheduler.live(0)), len(scheduler.live(1)), scheduler.live_rows) == (3, 2, 5)


def test_what_breaks_in_one_lane_leaves_the_other_alone() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=8, max_queue=100, lanes=2)
    scheduler.admit([Job() for _ in range(4)], now=0.0)
    for lane in (0, 1, 0):
        scheduler.join(lane)
    before, broken = scheduler.live(0), scheduler.live(1)
    assert scheduler.isolate(1) == []
    assert scheduler.live(0) == before
    assert scheduler.join(0) == [], "suspects run again in their own lane"
    assert [job for job, _ in scheduler.join(1)] == broken[:1]


def test_a_lane_that_suspects_have_for_themselves_does_not_keep_the_others_from_joining() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=8, max_queue=100, lanes=2)
    scheduler.admit([Job() for _ in range(4)], now=0.0)
    for lane in (0, 1, 0):
        scheduler.join(lane)
    scheduler.isolate(1)
    scheduler.join(1)
    waiting = [Job(), Job()]
    scheduler.admit(waiting, now=0.0)
    assert scheduler.join(1) == []
    assert [job for job, _ in scheduler.join(0)] == waiting


def test_a_joining_pass_is_charged_with_its_padding_and_stays_within_its_bound() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=100, max_queue=100, max_join_tokens=40)
    jobs = [Job(tokens=10), Job(tokens=10), Job(tokens=15), Job(tokens=100), Job(tokens=1)]
    scheduler.admit(jobs, now=0.0)
    assert joined(scheduler) == jobs[:2]
    assert joined(scheduler) == [jobs[2], jobs[4]], "the next with the one that is most like it"
    assert joined(scheduler) == jobs[3:4], "one job alone always joins"


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
    scheduler: Scheduler[Job] = Scheduler(max_rows, max_queue=100, max_join_tokens=60, look_ahead=LOOK_AHEAD)
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
        assert len(overtakers) <= 2 * LOOK_AHEAD + max_rows
    assert scheduler.live_rows == 0
