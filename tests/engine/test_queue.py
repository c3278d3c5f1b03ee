"""The queue against a plain list of what it should hold."""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.engine.costs import Load
from app.engine.queue import FEWEST_TO_SWEEP, WaitingQueue

PLENTY = Load(1e9, 1e9, 1e9, 1e9)


@dataclass(eq=False)
class Job:
    tokens: int
    rows: int = 1
    bytes: int = 10
    most_steps: int = 5


class Queued(RuleBasedStateMachine):
    """Jobs come with deadlines in any order, leave from anywhere, are given up and wait too long."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: WaitingQueue[Job] = WaitingQueue(PLENTY)
        self.expected: list[tuple[Job, float]] = []
        self.abandoned: list[Job] = []
        self.now = 0.0

    @rule(tokens=st.integers(1, 9), patience=st.integers(1, 20))
    def append(self, tokens: int, patience: int) -> None:
        job, latest = Job(tokens), self.now + patience
        self.queue.append(job, latest)
        self.expected.append((job, latest))

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        job, _ = self.expected.pop(data.draw(st.integers(0, len(self.expected) - 1)))
        self.queue.remove(job)

    @precondition(lambda self: self.expected)
    @rule(data=st.data(), also_gone=st.booleans())
    def abandon(self, data: st.DataObject, also_gone: bool) -> None:
        jobs = [data.draw(st.sampled_from(self.expected))[0]] + ([Job(1)] if also_gone else [])
        self.queue.abandon(jobs)
        self.abandoned += jobs

    @rule(seconds=st.integers(0, 8))
    def withdraw(self, seconds: int) -> None:
        self.now += seconds
        gone = [job for job, latest in self.expected if job in self.abandoned or latest <= self.now]
        assert sorted(map(id, self.queue.withdraw(self.now))) == sorted(map(id, gone))
        self.expected = [each for each in self.expected if each[0] not in gone]
        self.abandoned = []  # and with them the last references: their identities are given to others

    @invariant()
    def it_holds_what_was_put_in_and_has_not_left_in_the_order_of_arrival(self) -> None:
        jobs = [job for job, _ in self.expected]
        assert list(self.queue) == jobs
        assert [entry.job for entry in self.queue.first(3)] == jobs[:3]
        assert len(self.queue) == len(jobs)
        assert self.queue.load == Load.of(jobs)


TestQueued = Queued.TestCase
TestQueued.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


def test_of_jobs_that_have_gone_little_is_kept() -> None:
    queue: WaitingQueue[Job] = WaitingQueue(PLENTY)
    for _ in range(100 * FEWEST_TO_SWEEP):
        job = Job(1)
        queue.append(job, latest=1e9)
        queue.remove(job)
    assert len(queue._latest) <= FEWEST_TO_SWEEP + 1
