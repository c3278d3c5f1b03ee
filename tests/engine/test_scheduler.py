"""The rules of admission, joining and leaving, on jobs that are nothing but numbers."""

from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from app.engine.costs import FEWEST_ANSWERS, Load
from app.engine.scheduler import (
    CROWDED,
    FEWEST_JOIN,
    MEMORY_SECONDS,
    PASS_JOBS,
    PATIENCE,
    Scheduler,
    Turn,
    is_gone,
    passes,
)
from app.errors import OverloadedError, TooLargeError, TooLateError

LOOK_AHEAD = 4
FOREVER = float("inf")
PLENTY = Load(1000, 100_000, 10_000, 1_000_000)


@dataclass(eq=False)
class Job:
    rows: int = 1
    tokens: int = 10
    bytes: int = 100
    most_steps: int = 4
    deadline: float = FOREVER
    abandoned: bool = False


def joined(scheduler: Scheduler[Job]) -> list[Job]:
    return [job for job, _ in scheduler.join(0.0)]


def stepped(scheduler: Scheduler[Job], steps: int = 1) -> list[Job]:
    """Who joins after so many steps."""
    scheduler.turned(Turn(steps=steps), 0.0)
    return joined(scheduler)


def test_jobs_join_in_the_order_of_arrival_as_rows_come_free() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=4, limits=PLENTY)
    jobs = [Job(rows=2) for _ in range(3)]
    scheduler.admit(jobs, now=0.0)
    assert joined(scheduler) == jobs[:2]
    assert joined(scheduler) == []
    scheduler.leave(jobs[1])
    assert joined(scheduler) == jobs[2:]


def test_several_jobs_are_admitted_together_or_not_at_all() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=4, limits=Load(3, 1000, 100, 10_000))
    scheduler.admit([Job(), Job()], now=0.0)
    with pytest.raises(OverloadedError):
        scheduler.admit([Job(), Job()], now=0.0)
    assert scheduler.waiting.texts == 2
    scheduler.join(0.0)
    scheduler.admit([Job(), Job(), Job()], now=0.0)  # live jobs are not counted


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (Load(2, 100, 100, 1000), "2 texts wait of at most 2, 1 more"),
        (Load(9, 25, 100, 1000), "20 source tokens wait of at most 25, 10 more"),
        (Load(9, 100, 5, 1000), "4 decoder rows wait of at most 5, 2 more"),
        (Load(9, 100, 100, 250), "200 bytes wait of at most 250, 100 more"),
    ],
)
def test_the_queue_is_bounded_in_everything_that_work_costs(limits: Load, told: str) -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=4, limits=limits)
    jobs = [Job(rows=2), Job(rows=2)]
    scheduler.admit(jobs, now=0.0)
    with pytest.raises(OverloadedError, match=told) as refusal:
        scheduler.admit([Job(rows=2)], now=0.0)
    assert refusal.value.reason == "queue_full"
    jobs[0].abandoned = True
    scheduler.abandon(jobs[:1])
    scheduler.withdraw(now=0.0)
    scheduler.admit([Job(rows=2)], now=0.0)


def test_what_can_never_fit_is_too_large() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=4, limits=Load(9, 25, 100, 1000))
    with pytest.raises(TooLargeError, match="30 source tokens"):
        scheduler.admit([Job(), Job(), Job()], now=0.0)
    assert scheduler.idle
    scheduler.admit([Job() for _ in range(2)], now=0.0)
    with pytest.raises(TooLargeError, match="11 decoder rows"):
        Scheduler[Job](max_rows=4, limits=Load(9, 25, 10, 1000)).admit([Job(rows=11)], now=0.0)


def test_a_wide_job_is_overtaken_a_bounded_number_of_times() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=4, limits=PLENTY, look_ahead=LOOK_AHEAD)
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
    scheduler: Scheduler[Job] = Scheduler(max_rows=4, limits=PLENTY, look_ahead=6)
    lengths = [50, 400, 10, 51, 300, 48, 55, 50, 50]
    jobs = [Job(tokens=length) for length in lengths]
    scheduler.admit(jobs, now=0.0)
    assert [job.tokens for job in joined(scheduler)] == [50, 51, 48, 55], "the last two are beyond what is looked at"


def test_an_odd_length_is_not_passed_over_for_ever() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=4, limits=PLENTY, look_ahead=LOOK_AHEAD)
    odd = Job(tokens=400)
    scheduler.admit([Job(), Job(), odd, *(Job() for _ in range(100))], now=0.0)
    order: list[Job] = []
    while odd not in order:
        order += joined(scheduler)
        for job in scheduler.live():
            scheduler.leave(job)
    assert order.index(odd) <= 2 + 2 * LOOK_AHEAD


def test_a_lane_at_work_is_not_interrupted_for_a_few_newcomers_unless_they_have_waited() -> None:
    more_than_half = FEWEST_JOIN + 2
    scheduler: Scheduler[Job] = Scheduler(max_rows=more_than_half + FEWEST_JOIN, limits=PLENTY)
    scheduler.admit([Job() for _ in range(more_than_half)], now=0.0)
    assert len(joined(scheduler)) == more_than_half, "nothing runs: whoever is there joins at once"
    scheduler.admit([Job()], now=0.0)
    assert [len(stepped(scheduler)) for _ in range(PATIENCE)] == [0] * (PATIENCE - 1) + [1]
    scheduler.leave(scheduler.live()[0])
    scheduler.admit([Job()], now=0.0)
    assert not scheduler.welcomes(0)
    assert not joined(scheduler)
    assert len(stepped(scheduler, PATIENCE)) == 1, "steps count, however many are told of at once"
    scheduler.leave(scheduler.live()[0])
    scheduler.admit([Job() for _ in range(FEWEST_JOIN)], now=0.0)
    assert scheduler.welcomes(0)
    assert len(joined(scheduler)) == FEWEST_JOIN, "enough for a pass"


def test_a_calm_lane_takes_few_at_a_time_and_more_while_more_wait() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=16, limits=PLENTY, calm_rows=4)
    scheduler.admit([Job() for _ in range(4)], now=0.0)
    assert len(joined(scheduler)) == 4
    scheduler.admit([Job() for _ in range(4 * CROWDED)], now=0.0)
    assert len(joined(scheduler)) == 0, "just so many wait"
    scheduler.admit([Job() for _ in range(3 * CROWDED)], now=0.0)
    taken = [len(stepped(scheduler)) for _ in range(PATIENCE)]
    assert taken == [0] * (PATIENCE - 1) + [3], "up to seven: by so much fewer than wait"
    assert len(joined(scheduler)) == 0


def test_a_wide_job_joins_a_calm_lane_that_has_few_rows_in_use() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=16, limits=PLENTY, calm_rows=4)
    narrow, wide = [Job() for _ in range(4)], Job(rows=8)
    scheduler.admit(narrow, now=0.0)
    joined(scheduler)
    scheduler.leave(narrow[0])
    scheduler.admit([wide], now=0.0)
    assert joined(scheduler) == [wide]


def test_newcomers_are_encoded_with_those_of_like_length() -> None:
    jobs = [Job(tokens=length) for length in (90, 5, 30, 4, 91, 29, *[60] * PASS_JOBS)]
    groups = [[job.tokens for job in group] for group in passes(jobs)]
    assert groups == [[4, 5, 29, 30, 60, 60, 60, 60], [60, 60, 60, 60, 90, 91]]
    assert len(groups[0]) == PASS_JOBS


def test_jobs_are_shared_out_evenly_among_lanes() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=8, limits=PLENTY, lanes=2)
    scheduler.admit([Job() for _ in range(5)], now=0.0)
    assert [len(scheduler.join(0.0, lane)) for lane in (0, 1, 0, 1, 0, 1)] == [1, 2, 2, 0, 0, 0]
    assert (len(scheduler.live(0)), len(scheduler.live(1)), scheduler.live_rows) == (3, 2, 5)


def test_what_breaks_in_one_lane_leaves_the_other_alone() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=8, limits=PLENTY, lanes=2)
    scheduler.admit([Job() for _ in range(4)], now=0.0)
    for lane in (0, 1, 0):
        scheduler.join(0.0, lane)
    before, broken = scheduler.live(0), scheduler.live(1)
    assert scheduler.isolate(1) == []
    assert scheduler.live(0) == before
    assert scheduler.join(0.0, 0) == [], "suspects run again in their own lane"
    assert [job for job, _ in scheduler.join(0.0, 1)] == broken[:1]


def test_a_lane_that_suspects_have_for_themselves_does_not_keep_the_others_from_joining() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=8, limits=PLENTY, lanes=2)
    scheduler.admit([Job() for _ in range(4)], now=0.0)
    for lane in (0, 1, 0):
        scheduler.join(0.0, lane)
    scheduler.isolate(1)
    scheduler.join(0.0, 1)
    waiting = [Job(), Job()]
    scheduler.admit(waiting, now=0.0)
    assert scheduler.join(0.0, 1) == []
    assert [job for job, _ in scheduler.join(0.0, 0)] == waiting


def test_a_joining_pass_is_charged_with_its_padding_and_stays_within_its_bound() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=100, limits=PLENTY, max_join_tokens=40)
    jobs = [Job(tokens=10), Job(tokens=10), Job(tokens=15), Job(tokens=100), Job(tokens=1)]
    scheduler.admit(jobs, now=0.0)
    assert joined(scheduler) == jobs[:2]
    assert joined(scheduler) == [jobs[2], jobs[4]], "the next with the one that is most like it"
    assert joined(scheduler) == jobs[3:4], "one job alone always joins"


def test_whoever_left_or_is_late_is_withdrawn_from_the_queue() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=1, limits=Load(10, 100, 100, 1000))
    late, gone, stays = Job(deadline=5.0), Job(), Job(deadline=5.1)
    scheduler.admit([late, gone, stays], now=0.0)
    scheduler.abandon([gone])
    assert scheduler.withdraw(now=4.9) == [gone]
    assert scheduler.withdraw(now=5.0) == [late]
    assert joined(scheduler) == [stays]


def test_suspects_run_in_halves_alone_until_the_guilty_one_is_found() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=4, limits=PLENTY)
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
    scheduler: Scheduler[Job] = Scheduler(max_rows=4, limits=PLENTY)
    jobs = [Job() for _ in range(4)]
    scheduler.admit(jobs, now=0.0)
    scheduler.join(0.0)
    scheduler.isolate()
    for job in jobs:
        job.abandoned = True
    scheduler.abandon(jobs)
    assert scheduler.withdraw(now=0.0) == jobs
    assert scheduler.idle


class Served:
    """A scheduler of one row whose jobs of 10 tokens were measured: 0.5 s of encoding and 4 steps of 0.25 s each."""

    def __init__(self, lanes: int = 1, rest: float = 0.0) -> None:
        self.scheduler: Scheduler[Job] = Scheduler(lanes, Load(1000, 10_000, 1000, 100_000), lanes=lanes)
        self.now = 100.0
        for _ in range(FEWEST_ANSWERS):
            self.serve(lanes)
            self.now += rest

    def serve(self, lanes: int) -> None:
        """One job on each lane, while another one waits for it."""
        waiting = [Job() for _ in range(lanes + 1)]
        self.scheduler.admit(waiting, self.now)
        for turn in range(4):
            for lane in range(lanes):
                self.scheduler.join(self.now, lane)
            encoding = 0.0 if turn else 0.5
            self.now += encoding + 0.25
            for lane in range(lanes):
                if turn == 3:
                    self.scheduler.leave(self.scheduler.live(lane)[0], lane, answered=True)
                self.scheduler.turned(Turn(0 if turn else 10, encoding, 1), self.now, lane)
        self.scheduler.abandon(waiting)
        self.scheduler.withdraw(self.now)


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("rest", [0.0, 10_000.0])
def test_the_expected_wait_is_the_measured_cost_of_what_waits(lanes: int, rest: float) -> None:
    served = Served(lanes, rest)
    served.scheduler.admit([Job() for _ in range(30)], served.now)
    assert served.scheduler.expected_wait == pytest.approx(30 * 1.5 / lanes)
    assert served.scheduler.retry_after() == 45 / lanes if lanes == 1 else 23


def test_lanes_that_are_not_full_tell_nothing_of_what_waiting_costs() -> None:
    served = Served()
    for _ in range(100):
        served.scheduler.admit([Job()], served.now)
        (job,) = joined(served.scheduler)
        served.scheduler.leave(job)
        served.scheduler.turned(Turn(1, 50.0, 1), served.now + 100.0)
    served.scheduler.admit([Job()], served.now)
    assert served.scheduler.expected_wait == pytest.approx(1.5)


def test_before_anything_is_measured_nothing_is_refused_for_its_deadline() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=1, limits=Load(1000, 10_000, 1000, 100_000))
    scheduler.admit([Job() for _ in range(100)], now=0.0)
    scheduler.check_room(1, timeout=0.001)
    scheduler.admit([Job(deadline=0.001)], now=0.0)
    assert (scheduler.expected_wait, scheduler.retry_after()) == (0.0, 1)


def test_a_deadline_that_cannot_be_met_is_refused_on_arrival() -> None:
    served = Served()
    served.scheduler.admit([Job() for _ in range(4)], served.now)
    with pytest.raises(TooLateError, match=r"ready in 7\.5 to 15\.0 s, and is wanted in 12\.0 s") as refusal:
        served.scheduler.admit([Job(), Job(deadline=served.now + 12.0)], served.now)
    assert (refusal.value.retry_after, refusal.value.reason) == (3, "deadline")
    assert served.scheduler.waiting.texts == 4, "none of them"
    with pytest.raises(TooLateError):
        served.scheduler.check_room(1, timeout=11.9)
    served.scheduler.check_room(1, timeout=12.1)
    served.scheduler.admit([Job(deadline=served.now + 15.1)], served.now)


def test_where_nobody_waits_every_deadline_is_tried() -> None:
    served = Served()
    served.scheduler.check_room(1, timeout=0.1)
    hasty = Job(deadline=served.now + 0.1)
    served.scheduler.admit([hasty], served.now)
    assert served.scheduler.withdraw(served.now + 0.05) == []
    assert joined(served.scheduler) == [hasty]


def test_whoever_became_late_while_others_kept_it_from_being_read_is_refused() -> None:
    served = Served()
    served.scheduler.check_room(1, timeout=-0.1)
    served.scheduler.admit([Job()], served.now)
    with pytest.raises(TooLateError, match=r"is wanted in 0\.0 s"):
        served.scheduler.check_room(1, timeout=-0.1)


def test_whoever_was_late_before_it_came_is_admitted_to_be_told_so() -> None:
    served = Served()
    served.scheduler.admit([Job()], served.now)
    late = Job(deadline=served.now - 1.0)
    served.scheduler.admit([late], served.now)
    assert served.scheduler.withdraw(served.now) == [late]


@pytest.mark.parametrize(("most_steps", "needed"), [(2, 1.0), (4, 1.5), (100, 2.0)])
def test_whoever_waited_too_long_to_be_answered_in_time_is_let_go_early(most_steps: int, needed: float) -> None:
    served = Served()
    hopeless = Job(deadline=served.now + 10.0, most_steps=most_steps)
    served.scheduler.admit([Job(), hopeless], served.now)
    assert served.scheduler.withdraw(served.now + 9.9 - needed) == []
    assert served.scheduler.withdraw(served.now + 10.1 - needed) == [hopeless]


@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(1, 40)), max_size=40),
    st.integers(8, 16),
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_every_job_joins_once_in_rows_of_its_own(shapes: list[tuple[int, int]], max_rows: int, random: Random) -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows, limits=PLENTY, max_join_tokens=60, look_ahead=LOOK_AHEAD)
    jobs = [Job(rows, tokens) for rows, tokens in shapes]
    scheduler.admit(jobs, now=0.0)
    live: dict[Job, list[int]] = {}
    order: list[Job] = []
    while not scheduler.idle:
        newcomers = scheduler.join(0.0)
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


class Scheduled(RuleBasedStateMachine):
    """Any number of lanes, with jobs that come, join, are answered, leave, wait too long and break."""

    @initialize(lanes=st.integers(1, 3), rows=st.integers(8, 12))
    def start(self, lanes: int, rows: int) -> None:
        self.lanes = lanes
        self.scheduler: Scheduler[Job] = Scheduler(
            rows * lanes, Load(20, 400, 60, 2000), max_join_tokens=60, lanes=lanes, look_ahead=LOOK_AHEAD
        )
        self.now = 0.0
        self.unfinished: list[Job] = []
        self.live: dict[Job, tuple[int, list[int]]] = {}

    @rule(shapes=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 40), st.integers(1, 50)), max_size=6))
    def admit(self, shapes: list[tuple[int, int, int]]) -> None:
        jobs = [Job(rows, tokens, deadline=self.now + patience) for rows, tokens, patience in shapes]
        before = self.scheduler.waiting
        try:
            self.scheduler.admit(jobs, self.now)
        except (OverloadedError, TooLargeError):
            assert self.scheduler.waiting == before
        else:
            self.unfinished += jobs
            assert self.scheduler.waiting == before + Load.of(jobs)

    @rule(lane=st.integers(0, 2), answered=st.integers(0, 5), seconds=st.floats(0, 3))
    def turn(self, lane: int, answered: int, seconds: float) -> None:
        lane %= self.lanes
        for job, rows in self.scheduler.join(self.now, lane):
            assert job in self.unfinished
            assert job not in self.live
            assert len(rows) == job.rows
            self.live[job] = lane, rows
        for job in self.scheduler.live(lane)[:answered]:
            self.finish(job, answered=True)
        self.now += seconds
        self.scheduler.turned(Turn(1, seconds / 3, 1), self.now, lane)

    @rule(lane=st.integers(0, 2))
    def break_down(self, lane: int) -> None:
        lane %= self.lanes
        broken = self.scheduler.live(lane)
        guilty = self.scheduler.isolate(lane)
        assert guilty == (broken if len(broken) == 1 else [])
        self.live = {job: place for job, place in self.live.items() if job not in broken}
        self.unfinished = [job for job in self.unfinished if job not in guilty]

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        jobs = data.draw(st.lists(st.sampled_from(self.unfinished), unique=True)) if self.unfinished else []
        for job in jobs:
            job.abandoned = True
        self.scheduler.abandon(jobs)
        gone = self.scheduler.withdraw(self.now)
        assert all(job.abandoned or job not in self.live for job in gone)
        self.unfinished = [job for job in self.unfinished if job not in gone]
        for job in [job for job in self.live if is_gone(job, self.now)]:
            self.finish(job, answered=False)

    def finish(self, job: Job, answered: bool) -> None:
        self.scheduler.leave(job, self.live.pop(job)[0], answered=answered)
        self.unfinished.remove(job)

    @invariant()
    def nothing_is_lost_and_nothing_doubled(self) -> None:
        assert sorted(map(id, self.scheduler.unfinished())) == sorted(map(id, self.unfinished))
        taken = [(lane, row) for lane, rows in self.live.values() for row in rows]
        assert len(set(taken)) == len(taken) == self.scheduler.live_rows
        assert self.scheduler.expected_wait >= 0

    def teardown(self) -> None:
        """Whatever happened, nobody waits for ever."""
        for _ in range(500):
            if self.scheduler.idle:
                return
            for lane in range(self.lanes):
                self.turn(lane, answered=100, seconds=0.0)
        raise AssertionError("the queue does not empty")


TestScheduled = Scheduled.TestCase
TestScheduled.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


def test_where_memory_ran_out_half_as_many_rows_are_taken_and_more_again_by_and_by() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=32, limits=PLENTY)
    scheduler.admit([Job() for _ in range(200)], now=0.0)
    assert len(scheduler.join(0.0)) == 32
    assert scheduler.halve(now=0.0) == 16
    assert scheduler.isolate() == []
    for _ in range(2):
        suspects = scheduler.join(0.0)
        assert len(suspects) == 16, "they were admitted once, and are half as many as could not be"
        for job, _ in suspects:
            scheduler.leave(job)
    taken = []
    moments = [0.0, MEMORY_SECONDS - 1, MEMORY_SECONDS, MEMORY_SECONDS + 1]
    for now in moments + [MEMORY_SECONDS * times for times in range(2, 9)]:
        for _ in range(2):  # in the first they wait for others to be encoded with
            scheduler.turned(Turn(steps=PATIENCE), now)
            scheduler.join(now)
        taken.append(scheduler.live_rows)
    assert taken == [16, 16, 20, 20, 24, 28, 32, 32, 32, 32, 32]


def test_a_job_wider_than_the_rows_that_are_left_after_memory_ran_out_runs_alone() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=8, limits=PLENTY)
    narrow, wide = [Job(rows=1) for _ in range(2)], Job(rows=4)
    scheduler.admit(narrow, now=0.0)
    scheduler.join(0.0)
    assert scheduler.halve(now=0.0) == 1
    scheduler.admit([wide, Job()], now=0.0)
    assert joined(scheduler) == []
    for job in narrow:
        scheduler.leave(job)
    assert joined(scheduler) == [wide]


def test_a_job_that_finds_no_memory_alone_takes_no_rows_from_others() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=8, limits=PLENTY)
    scheduler.admit([Job(rows=2)], now=0.0)
    scheduler.join(0.0)
    assert scheduler.halve(now=0.0) == 8


def test_suspects_of_a_lane_that_is_away_run_in_another_one_when_that_is_empty() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=8, limits=PLENTY, lanes=2)
    jobs = [Job() for _ in range(3)]
    scheduler.admit(jobs, now=0.0)
    broken = [job for job, _ in scheduler.join(0.0, lane=0)]
    fine = [job for job, _ in scheduler.join(0.0, lane=1)]
    assert broken
    assert fine
    scheduler.isolate(0, pardon=lambda _: True)
    scheduler.set_away(True, 0)
    assert scheduler.hand_over(0) == 1
    assert scheduler.hand_over(0) is None, "there is nothing more to hand over"
    assert scheduler.has_work(1)
    assert scheduler.join(0.0, lane=1) == [], "those that are live there are no suspects"
    for job in fine:
        scheduler.leave(job, 1)
    again = []
    while some := scheduler.join(0.0, lane=1):
        again += [job for job, _ in some]
        for job, _ in some:
            scheduler.leave(job, 1)
    assert set(map(id, broken)) <= set(map(id, again))


def test_what_is_away_takes_nobody_and_nothing_is_handed_to_it() -> None:
    scheduler: Scheduler[Job] = Scheduler(max_rows=8, limits=PLENTY, lanes=2)
    scheduler.admit([Job()], now=0.0)
    scheduler.join(0.0)
    scheduler.isolate(0, pardon=lambda _: True)
    for lane in range(2):
        scheduler.set_away(True, lane)
    assert scheduler.hand_over(0) is None
    assert scheduler.join(0.0) == []
    scheduler.set_away(False, 0)
    assert len(scheduler.join(0.0)) == 1
