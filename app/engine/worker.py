"""The worker: the threads that own the device, and the lock between them and those who submit.

A thread loops: let go of whoever left, choose who joins, have its lane encode those and step every live row, answer
those who finished. With nothing to do it sleeps on a condition. A GPU has one lane. On a CPU there is one for each
core, with rows of its own and kernels that use that core alone: a kernel over several cores is as slow as the busiest
of them, and waits for all of them some hundred times in a step.

When the model raises, or a lane itself dies, nobody can say whose fault it was. Decoding is deterministic, so every
job that was live in the lane simply runs again from its source, half of them at a time, and the halves are halved
until the guilty one stands alone.

A lane is away from the moment it dies, or is silent, until there is another one in its place; while it rests it is
asked a few times a second whether it is there. The worker is ready while one lane at least is not away: what it takes
is then answered, if more slowly. While all are away it goes on taking work, which waits for them. Where none can be
opened again after several attempts, it refuses what comes and what waits; it never ceases to try.
"""

import logging
import math
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count

import torch

from app.engine.assembly import assemble
from app.engine.batch import Order, Report, Sources
from app.engine.costs import Load
from app.engine.held import Held
from app.engine.job import Decoded, Job, Task, Ticket
from app.engine.lane import Lane, LaneDiedError, LaneFailedError, OpenLane, is_out_of_memory
from app.engine.observer import EngineObserver
from app.engine.request import WrittenToken
from app.engine.scheduler import Scheduler, Turn, is_gone, never
from app.errors import (
    DeadlineExceededError,
    DrainingError,
    ModelFailedError,
    OverloadedError,
    PrecisError,
    RetiredError,
)
from app.models.base import Seq2SeqModel
from app.search import Written

logger = logging.getLogger(__name__)

Ended = tuple[Job, Decoded | None]
NOTHING = Report()
STALLED_SECONDS = 120.0  # no encoder pass or step takes this long: the worker hangs
STOPPING_SECONDS = 5.0  # how long a stop waits for the step that is running
REST_SECONDS = 0.001  # of a lane that leaves what waits to another one
AWAY_SECONDS = 5.0  # hardly any lane takes this long to open: another one runs its texts
WATCH_SECONDS = 0.25  # between two looks at a lane that rests
PAUSES_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0)  # before a lane is opened that could not be, or died with nothing to do
ATTEMPTS = 3  # to open a lane; when all have failed in all lanes, nobody is kept waiting any longer


class Worker:
    """Runs tickets on one model. Everything public may be called from any thread."""

    def __init__(
        self,
        model: Seq2SeqModel,
        max_rows: int,
        limits: Load,
        observer: EngineObserver,
        clock: Callable[[], float],
        open_lane: OpenLane,
        threads: int = 1,
    ) -> None:
        self._model = model
        self._observer = observer
        self._clock = clock
        self._open_lane = open_lane
        self._held = Held()
        self._most_held = limits.bytes
        self._scheduler: Scheduler[Job] = Scheduler(max_rows, limits, lanes=threads, calm_rows=model.calm_rows)
        lock = threading.RLock()  # guards everything below, and the scheduler
        self._work = [threading.Condition(lock) for _ in range(threads)]  # there is some for this lane; or time to stop
        self._resting: list[int] = []  # lanes; the last one has just come to rest: its processor still knows the model
        self._changed = threading.Condition(lock)  # perhaps nothing is left to do
        self._lanes: list[Lane | None] = [None] * threads
        self._live: list[dict[int, Job]] = [{} for _ in range(threads)]  # by the numbers of their tasks
        self._outboxes: list[deque[Ended]] = [deque() for _ in range(threads)]  # jobs that have left, to be answered
        self._threads: list[threading.Thread] = []
        self._retired = self._draining = self._stopping = False
        self._grace_end = -float("inf")
        self._beats = [clock()] * threads
        self._idle_deaths = [0] * threads  # in a row, of each lane
        self._away_since = [math.inf] * threads  # where a lane is away
        self._unopened: set[int] = set()  # lanes that could not be opened again and again

    @property
    def ready(self) -> bool:
        """Whether new work is accepted and served: by one lane at least."""
        with self._changed:
            latest = self._clock() - STALLED_SECONDS
            steps = (beat >= latest and not self._scheduler.is_away(lane) for lane, beat in enumerate(self._beats))
            return self._accepting and any(steps)

    def start(self) -> None:
        """Start the threads, once."""
        with self._changed:
            if not self._threads and not self._stopping:
                self._threads = [self._thread(lane) for lane in range(len(self._beats))]

    def check_accepting(self) -> None:
        """Raise unless new work is accepted: RetiredError where a successor accepts it."""
        with self._changed:
            if self._retired:
                raise RetiredError("this engine is retired")
            if not self._accepting:
                state = "stopping" if self._draining else "not running"
                raise DrainingError(f"The service is {state}; send this again.", self._scheduler.retry_after())
            if self._broken:
                raise _broken()

    def check_room(self, texts: int, timeout: float) -> None:
        """Raise where not even one of so many texts can be admitted now: before anything is tokenized."""
        with self._withdrawing():
            self.check_accepting()
            self._scheduler.check_room(texts, timeout)

    def admit(self, tickets: Sequence[Ticket]) -> None:
        """Queue all of these tickets, or raise and queue none."""
        jobs = [job for ticket in tickets for job in ticket.jobs]
        with self._withdrawing() as now:
            try:
                self.check_accepting()
                self._check_held(tickets)
                self._scheduler.admit(jobs, now)
            except PrecisError:
                for ticket in tickets:
                    ticket.release()
                raise
            self._call_lanes(len(jobs), now)
            self._tell_changes()
        for ticket in tickets:
            ticket.when_given_up(self._give_up)

    @contextmanager
    def _withdrawing(self) -> Iterator[float]:
        """The moment, under the lock, when those who left or are late have made room. They are told afterwards."""
        gone: list[Job] = []
        try:
            with self._changed:
                now = self._clock()
                gone += self._scheduler.withdraw(now)
                yield now
        finally:
            self._expire(gone, admitted=False)

    def _call_lanes(self, jobs: int, now: float) -> None:
        """As many as there are new jobs: those at rest, and when these are not enough those at work."""
        called = min(jobs, len(self._resting))
        for _ in range(called):
            number = self._resting.pop()
            lane, self._beats[number] = self._lanes[number], now
            if lane and lane.posts and (newcomers := self._join(number, now)):
                lane.post(Order(newcomers))  # its thread need not be awake for it to begin
            self._work[number].notify()
        for number, lane in enumerate(self._lanes):
            if lane and jobs > called and self._live[number] and self._scheduler.welcomes(number):
                lane.nudge()

    def _call_all(self) -> None:
        for work in self._work:
            work.notify()

    def _give_up(self, jobs: Sequence[Job]) -> None:
        """Nobody waits for these any more. From any thread, under the lock or not."""
        self._scheduler.abandon(jobs)
        for lane, live in zip(self._lanes, self._live, strict=True):
            if lane and live:
                lane.nudge()

    def retry_after(self) -> int:
        """Whole seconds until what waits now has probably been served."""
        with self._changed:
            return self._scheduler.retry_after()

    def retire(self, patience: float) -> None:
        """As `drain`, for one that a successor stands in for; a drain that comes meanwhile may end it before."""
        with self._changed:
            self._retired = True
            self._changed.wait_for(lambda: self._idle or self._stopping or not self._threads, patience)
        self.drain(grace=0.0)

    def drain(self, grace: float) -> None:
        """Refuse new work, answer all that was admitted within the grace, stop. A later call never shortens it."""
        with self._changed:
            self._draining = True
            self._grace_end = max(self._grace_end, self._clock() + grace)
            while self._threads and not self._stopping and not self._idle and self._clock() < self._grace_end:
                self._changed.wait(min(self._grace_end - self._clock(), threading.TIMEOUT_MAX))
            left = self._scheduler.unfinished()
            self._stopping = True
            self._call_all()
            self._changed.notify_all()  # whoever retires this worker
            threads = self._threads
        for job in left:
            job.ticket.fail(DrainingError("The service stopped before this text was summarized.", retry_after=1))
        end = time.monotonic() + STOPPING_SECONDS  # for all of them
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, end - time.monotonic()))

    # Refusing

    def _check_held(self, tickets: Sequence[Ticket]) -> None:
        """Raise where attention that is not written out yet leaves no room for that of these tickets."""
        wanted, held = sum(ticket.plan.attention_bytes for ticket in tickets), self._held.bytes
        if wanted and held and held + wanted > self._most_held:
            detail = f"Attention that is not written yet holds {held} bytes of at most {self._most_held:.0f}."
            raise OverloadedError(detail, self._scheduler.retry_after())

    @property
    def _accepting(self) -> bool:
        return bool(self._threads) and not (self._retired or self._draining or self._stopping)

    @property
    def _broken(self) -> bool:
        """Whether there is no lane, and no hope of one soon."""
        return len(self._unopened) == len(self._lanes)

    @property
    def _idle(self) -> bool:
        return self._scheduler.idle and not any(self._outboxes)

    # The threads

    def _thread(self, lane: int) -> threading.Thread:
        name = f"precis-{self._model.info.name}-{lane}"
        thread = threading.Thread(target=self._main, args=(lane,), name=name, daemon=True)
        thread.start()
        return thread

    def _main(self, lane: int) -> None:
        if self._model.info.device == "cpu":
            torch.set_num_threads(1)  # of this thread's kernels, and of threads that begin later and do not say
        while not self._stopping:
            try:
                with torch.inference_mode():
                    self._run(lane)
            except BaseException as error:  # the one place where the thread itself must not be lost
                self._recover(lane, error)
        self._deliver(lane)

    def _run(self, number: int) -> None:
        """Open a lane and have it work, until it is time to stop."""
        lane = self._opened(number)
        if lane is None:
            return
        with self._changed:
            if self._scheduler.is_away(number):
                logger.warning("lane %s is back", self._name(number))
            self._lanes[number] = lane
            self._unopened.discard(number)
            self._set_away(False, number)
        try:
            report = NOTHING
            while (order := self._next_order(number, report)) is not None:
                report = self._advance(number, lane, order)
        finally:
            with self._changed:
                self._lanes[number] = None
                self._set_away(True, number)
            lane.close()

    def _opened(self, number: int) -> Lane | None:
        """A lane, as soon as there can be one; None when it is time to stop."""
        for attempt in count(self._idle_deaths[number]):
            self._pause(number, PAUSES_SECONDS[min(attempt, len(PAUSES_SECONDS) - 1)])
            self._deliver(number)
            if self._stopping:
                break
            try:
                return self._open_lane(self._scheduler.lane_rows)
            except Exception as error:
                self._go_without(number, error, hopeless=attempt + 1 >= ATTEMPTS)
        return None

    def _pause(self, number: int, seconds: float) -> None:
        """And let those go who left, or whose deadlines passed: perhaps there is no lane that would."""
        with self._changed:
            self._work[number].wait_for(lambda: self._stopping, seconds)
            gone = self._scheduler.withdraw(self._clock())
            self._changed.notify_all()  # whoever drains need not wait for these
        self._expire(gone, admitted=False)

    def _go_without(self, number: int, error: Exception, hopeless: bool) -> None:
        """A lane cannot be opened for now: let another one run what was live in it, or nobody wait for it."""
        # No text has come to it yet: its words may be told.
        logger.error("lane %s cannot be opened yet: %s: %s", self._name(number), type(error).__name__, error)
        with self._changed:
            self._set_away(True, number)
            if hopeless:
                self._unopened.add(number)
            self._hand_over(number)
            left = self._scheduler.unfinished() if self._broken else []
        for job in left:
            job.ticket.fail(_broken())

    def _advance(self, number: int, lane: Lane, order: Order) -> Report:
        """What the lane has to tell: nothing where it is silent, or its model failed."""
        try:
            report = lane.advance(order) if order or self._live[number] else lane.check()
        except LaneDiedError:
            raise
        except Exception as error:
            _log("a decoder pass failed; its texts run again in smaller groups", error)
            short = is_out_of_memory(error)
        else:
            if self._scheduler.is_away(number) is not (report is None):
                logger.warning("lane %s is %s", self._name(number), "silent" if report is None else "back")
                self._set_away(report is None, number)
            if report is not None:
                self._hear(number, report)
            return report or NOTHING
        self._isolate(number, short)
        lane.reset()  # only now has the error let go of what was live
        return NOTHING

    def _set_away(self, away: bool, lane: int) -> None:
        with self._changed:
            self._scheduler.set_away(away, lane)
            self._away_since[lane] = self._clock() if away else math.inf

    def _hand_over(self, lane: int) -> None:
        """What was live in a lane that died is not to wait for the next one any longer."""
        other = self._scheduler.hand_over(lane)
        if other is not None:
            self._work[other].notify()

    def _next_order(self, lane: int, report: Report) -> Order | None:
        """Wait for work, let go of those who left, and choose who joins. None when it is time to stop."""
        never_joined: list[Job] = []
        joined: list[Job] = []
        turn = Turn(report.encoded_tokens, report.encode_seconds, len(report.steps))
        try:
            with self._changed:
                self._scheduler.turned(turn, self._clock(), lane)
                while not self._stopping:
                    for other, since in enumerate(self._away_since):
                        if self._clock() - since > AWAY_SECONDS:
                            self._hand_over(other)
                    if not self._scheduler.has_work(lane):
                        if not self._rest(lane):
                            return Order()
                        continue
                    now = self._beats[lane] = self._clock()
                    never_joined += self._scheduler.withdraw(now)
                    gone = [job for job in self._scheduler.live(lane) if is_gone(job, now)]
                    for job in gone:
                        self._leave(lane, job)
                    joined += gone
                    newcomers = self._join(lane, now)
                    if newcomers or never_joined or gone:
                        self._tell_changes()
                    elif not self._live[lane] and not self._scheduler.is_away(lane):
                        self._work[lane].wait(REST_SECONDS)
                        continue
                    return Order(newcomers, [job.task.number for job in gone])
                for job in self._scheduler.live(lane):
                    self._leave(lane, job)
                return None
        finally:
            self._expire(never_joined, admitted=False)
            self._expire(joined, admitted=True)

    def _join(self, lane: int, now: float) -> list[tuple[Task, list[int]]]:
        newcomers = self._scheduler.join(now, lane)
        self._live[lane].update((job.task.number, job) for job, _ in newcomers)
        return [(job.task, rows) for job, rows in newcomers]

    def _rest(self, lane: int) -> bool:
        """Until there is something to do, but not for long: whether there is."""
        self._changed.notify_all()  # whoever drains waits for this
        if self._scheduler.is_away(lane):
            return False
        self._beats[lane] = float("inf")
        self._resting.append(lane)
        called = self._work[lane].wait(WATCH_SECONDS)
        with suppress(ValueError):  # it was called
            self._resting.remove(lane)
        return called

    def _leave(self, lane: int, job: Job, *, answered: bool = False) -> None:
        self._scheduler.leave(job, lane, answered=answered)
        del self._live[lane][job.task.number]

    def _hear(self, lane: int, report: Report) -> None:
        """Free the rows of those who are over, then answer; tell what was measured when nobody waits for it."""
        live = self._live[lane]
        for number, moment in report.first_tokens:
            if number in live:
                self._tell_first_token(live[number].ticket, moment)
        for number, written, sources in report.written:
            if number in live:
                _tell_token(live[number], written, sources)
        ended = [(live[number], outcome) for number, outcome in report.outcomes if number in live]
        if ended:
            with self._changed:
                self._idle_deaths[lane] = 0
                for job, outcome in ended:
                    self._leave(lane, job, answered=outcome is not None)
                    self._outboxes[lane].append((job, outcome))
                self._tell_changes()
            self._deliver(lane)
        for encoding in report.encodings:
            self._observer.encoded(*encoding)
        for step in report.steps:
            self._observer.stepped(*step)

    def _tell_first_token(self, ticket: Ticket, moment: float) -> None:
        if not ticket.first_token_seen:
            ticket.first_token_seen = True
            self._observer.first_token(moment - ticket.submitted)

    def _deliver(self, lane: int) -> None:
        """Answer what is in the outbox. An answer leaves it last, so that a thread's death loses none."""
        outbox = self._outboxes[lane]
        while outbox:
            self._answer(*outbox[0])
            with self._changed:
                outbox.popleft()

    def _answer(self, job: Job, outcome: Decoded | None) -> None:
        ticket = job.ticket
        if outcome is None:
            ticket.fail(ModelFailedError("The model failed on this text; other texts are not affected."))
            return
        job.outcome = outcome
        jobs = ticket.jobs
        if not jobs:  # another lane has answered it just now, or its caller left during the last step
            ticket.settle()
            return
        outcomes = [job.outcome for job in jobs if job.outcome]
        if len(outcomes) < len(jobs):
            return
        try:
            summary = assemble(self._model, ticket.plan, outcomes, ticket.submitted)
        except Exception as error:
            _log("a summary could not be put together", error)
            ticket.fail(ModelFailedError("The model's summary of this text cannot be read."))
        else:
            if summary.attention:
                self._held.count(summary.attention.weights)
            ticket.answer(summary)

    def _expire(self, jobs: Sequence[Job], admitted: bool) -> None:
        """Settle the tickets of jobs that were let go: their callers left, or their deadlines passed."""
        for job in jobs:
            timeout = job.ticket.plan.request.timeout
            late = job.ticket.fail(DeadlineExceededError(f"The summary could not be ready in {timeout:g} s."))
            if late and not admitted:
                self._observer.refused("deadline")

    def _isolate(self, lane: int, short_of_memory: bool) -> None:
        """Send everything that was live round again in smaller groups; fail the one that was alone."""
        with self._changed:
            if short_of_memory:
                rows = self._scheduler.halve(self._clock(), lane)
                logger.warning("memory ran out: lane %s takes no more than %d rows for now", self._name(lane), rows)
            self._live[lane].clear()
            self._outboxes[lane].extend((job, None) for job in self._scheduler.isolate(lane))
            self._tell_changes()
        self._deliver(lane)

    def _recover(self, lane: int, error: BaseException) -> None:
        """A lane died: lose nothing that was live in it."""
        _log(f"lane {self._name(lane)} died and is replaced", error)
        self._observer.worker_restarted()
        with self._changed:
            self._idle_deaths[lane] = 0 if self._scheduler.live(lane) else self._idle_deaths[lane] + 1
            self._live[lane].clear()
            guilty = self._scheduler.isolate(lane, Job.pardon if isinstance(error, LaneDiedError) else never)
            self._outboxes[lane].extend((job, None) for job in guilty)
            self._tell_changes()

    def _name(self, lane: int) -> str:
        return f"{lane} of {self._model.info.name}"

    def _tell_changes(self) -> None:
        self._observer.queue_changed(self._scheduler.waiting, self._scheduler.expected_wait)
        self._observer.rows_changed(self._scheduler.live_rows, self._scheduler.max_rows)


def _broken() -> DrainingError:
    return DrainingError("This model does not run just now.", retry_after=math.ceil(PAUSES_SECONDS[-1]))


def _tell_token(job: Job, written: Written, sources: Sources) -> None:
    tell = job.ticket.plan.request.on_token
    assert tell is not None
    try:
        tell(WrittenToken(job.place, written.place, written.token, written.log_probability, sources, written.kept))
    except Exception as error:  # a listener's failure is its own
        logger.error("a token could not be told: %s", type(error).__name__)


def _log(event: str, error: BaseException) -> None:
    """Where it happened, but not the error's own words: they may quote a text."""
    if isinstance(error, LaneFailedError):
        logger.error("%s: %s\n%s", event, error.kind, error.frames)
        return
    if isinstance(error, LaneDiedError):
        logger.error("%s: %s", event, error)
        return
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s: %s\n%s", event, type(error).__name__, frames)
