"""The worker: the threads that own the device, and the lock between them and those who submit.

A thread loops: let go of whoever left, choose who joins, have its lane encode those and step every live row, answer
those who finished. With nothing to do it sleeps on a condition. A GPU has one lane. On a CPU there is one for each
core, with rows of its own and kernels that use that core alone: a kernel over several cores is as slow as the busiest
of them, and waits for all of them some hundred times in a step.

When the model raises, or a thread itself dies, nobody can say whose fault it was. Decoding is deterministic, so every
job that was live in its lane simply runs again from its source, half of them at a time, and the halves are halved
until the guilty one stands alone. A thread that died is replaced.
"""

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch

from app.engine.assembly import assemble
from app.engine.batch import Order, Report, Sources
from app.engine.costs import Load
from app.engine.job import Decoded, Job, Task, Ticket
from app.engine.lane import Lane, LaneDiedError, LaneFailedError, OpenLane
from app.engine.observer import EngineObserver
from app.engine.request import WrittenToken
from app.engine.scheduler import Scheduler, Turn, is_gone, never
from app.errors import DeadlineExceededError, DrainingError, ModelFailedError, PrecisError, RetiredError
from app.models.base import Seq2SeqModel
from app.search import Written

logger = logging.getLogger(__name__)

Ended = tuple[Job, Decoded | None]
NOTHING = Report()
STALLED_SECONDS = 120.0  # no encoder pass or step takes this long: the worker hangs
STOPPING_SECONDS = 5.0  # how long a stop waits for the step that is running
REST_SECONDS = 0.001  # of a lane that leaves what waits to another one
MAX_IDLE_DEATHS = 3  # a thread that dies this often in a row with nothing to do will not recover


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
        self._idle_deaths = [0] * threads

    @property
    def ready(self) -> bool:
        """Whether new work is accepted and served."""
        with self._changed:
            stalled = not self._idle and self._clock() - min(self._beats) > STALLED_SECONDS
            return self._accepting and not stalled

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

    def check_room(self, texts: int, timeout: float) -> None:
        """Raise where not even one of so many texts can be admitted now: before anything is tokenized."""
        with self._withdrawing():
            self.check_accepting()
            self._scheduler.check_room(texts, timeout)

    def admit(self, tickets: Sequence[Ticket]) -> None:
        """Queue all of these tickets, or raise and queue none."""
        jobs = [job for ticket in tickets for job in ticket.jobs]
        with self._withdrawing() as now:
            was_idle = self._idle
            try:
                self.check_accepting()
                self._scheduler.admit(jobs, now)
            except PrecisError:
                for ticket in tickets:
                    ticket.release()
                raise
            if was_idle:
                self._beats = [now] * len(self._beats)
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
            lane = self._lanes[number]
            if lane and lane.posts and (newcomers := self._join(number, now)):
                self._beats[number] = now
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
            self._changed.wait_for(lambda: self._idle or self._stopping or not self._alive, patience)
        self.drain(grace=0.0)

    def drain(self, grace: float) -> None:
        """Refuse new work, answer all that was admitted within the grace, stop. A later call never shortens it."""
        with self._changed:
            self._draining = True
            self._grace_end = max(self._grace_end, self._clock() + grace)
            while self._alive and not self._stopping and not self._idle and self._clock() < self._grace_end:
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

    @property
    def _alive(self) -> bool:
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    @property
    def _accepting(self) -> bool:
        return self._alive and not (self._retired or self._draining or self._stopping)

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
        try:
            if self._model.info.device == "cpu":
                torch.set_num_threads(1)  # of this thread's kernels, and of threads that begin later and do not say
            with torch.inference_mode():
                self._run(lane)
        except BaseException as error:  # the one place where the thread itself must not be lost
            self._recover(lane, error)

    def _run(self, number: int) -> None:
        lane = self._open_lane(self._scheduler.lane_rows)
        with self._changed:
            self._lanes[number] = lane
            self._scheduler.set_away(False, number)
        try:
            self._deliver(number)
            report = NOTHING
            while (order := self._next_order(number, report)) is not None:
                if not order and not self._live[number]:
                    report = NOTHING
                    continue
                try:
                    report = lane.advance(order)
                except LaneDiedError:
                    raise
                except Exception as error:
                    _log("a decoder pass failed; its texts run again in smaller groups", error)
                    report = NOTHING
                    lane.reset()
                    self._isolate(number)
                else:
                    self._hear(number, report)
        finally:
            with self._changed:
                self._lanes[number] = None
                self._scheduler.set_away(True, number)
            lane.close()

    def _next_order(self, lane: int, report: Report) -> Order | None:
        """Wait for work, let go of those who left, and choose who joins. None when it is time to stop."""
        never_joined: list[Job] = []
        joined: list[Job] = []
        turn = Turn(report.encoded_tokens, report.encode_seconds, len(report.steps))
        try:
            with self._changed:
                self._scheduler.turned(turn, self._clock(), lane)
                while not self._stopping:
                    if not self._scheduler.has_work(lane):
                        self._rest(lane)
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
                    elif not self._live[lane]:
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

    def _rest(self, lane: int) -> None:
        self._changed.notify_all()  # whoever drains waits for this
        self._beats[lane] = float("inf")
        self._resting.append(lane)
        self._work[lane].wait()
        with suppress(ValueError):  # it was called
            self._resting.remove(lane)

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
            ticket.answer(summary)

    def _expire(self, jobs: Sequence[Job], admitted: bool) -> None:
        """Settle the tickets of jobs that were let go: their callers left, or their deadlines passed."""
        for job in jobs:
            timeout = job.ticket.plan.request.timeout
            late = job.ticket.fail(DeadlineExceededError(f"The summary could not be ready in {timeout:g} s."))
            if late and not admitted:
                self._observer.refused("deadline")

    def _isolate(self, lane: int) -> None:
        """Send everything that was live round again in smaller groups; fail the one that was alone."""
        with self._changed:
            self._live[lane].clear()
            self._outboxes[lane].extend((job, None) for job in self._scheduler.isolate(lane))
            self._tell_changes()
        self._deliver(lane)

    def _recover(self, lane: int, error: BaseException) -> None:
        """The last act of a thread that dies: lose nothing, and start another."""
        _log("the worker died and is replaced", error)
        self._observer.worker_restarted()
        with self._changed:
            self._idle_deaths[lane] = 0 if self._scheduler.live(lane) else self._idle_deaths[lane] + 1
            self._live[lane].clear()
            guilty = self._scheduler.isolate(lane, Job.pardon if isinstance(error, LaneDiedError) else never)
            self._outboxes[lane].extend((job, None) for job in guilty)
            if self._stopping:
                return
            if self._idle_deaths[lane] < MAX_IDLE_DEATHS:
                self._threads[lane] = self._thread(lane)
                return
            self._stopping = True
            # The other threads answer what is in their own outboxes before they stop.
            left = [*self._scheduler.unfinished(), *(job for job, _ in self._outboxes[lane])]
            self._outboxes[lane].clear()
            self._call_all()
            self._changed.notify_all()
        logger.critical("the worker died %d times with nothing to do; this model is given up", MAX_IDLE_DEATHS)
        for job in left:
            job.ticket.fail(DrainingError("This model does not run any more.", retry_after=1))

    def _tell_changes(self) -> None:
        self._observer.queue_changed(self._scheduler.waiting, self._scheduler.expected_wait)
        self._observer.rows_changed(self._scheduler.live_rows, self._scheduler.max_rows)


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
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s: %s\n%s", event, type(error).__name__, frames)
