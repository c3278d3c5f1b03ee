"""Lanes in processes of their own: the same answers, and whatever happens to a process, only the guilty text fails."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.engine.batch import Order, Outcome
from app.engine.engine import Engine
from app.engine.job import Plan, Task, Ticket
from app.engine.lane import LaneDiedError, LaneFailedError, LaneUnavailableError, ThreadLane
from app.engine.process import SLOW_CORE, ProcessLane, ProcessLanes
from app.engine.request import SummaryRequest
from app.engine.zygote import LoadModel, Zygote
from app.errors import DrainingError, ModelFailedError
from app.models.base import AttentionOptions, DecodingOptions, ModelInfo
from tests.api.waiting import eventually
from tests.engine import loading
from tests.engine.running import BEAMS, GREEDY, PATIENCE, RecordingObserver, alone, assert_same
from tests.fakes import POISON, START, UNSTEPPABLE, WORDS, FakeModel, Row, told

ROWS = 8
ENDLESS = DecodingOptions(num_beams=1, max_length=1_000_000, min_length=1_000_000)

INFO = FakeModel().info


class Pids(ProcessLanes):
    """Knows the processes that it started."""

    def __init__(self, load: LoadModel) -> None:
        super().__init__(load, FakeModel(), ROWS)
        self.lanes: list[ProcessLane] = []

    def __call__(self, rows: int) -> ProcessLane | ThreadLane:
        lane = super().__call__(rows)
        assert isinstance(lane, ProcessLane)
        self.lanes.append(lane)
        return lane


@contextmanager
def running(lanes: Pids, observer: RecordingObserver | None = None, threads: int = 2) -> Iterator[Engine]:
    lanes.prepare(threads)
    engine = Engine(
        FakeModel(), max_rows=ROWS * threads, max_queue=1000, observer=observer, threads=threads, open_lane=lanes
    )
    engine.start()
    try:
        eventually(lambda: len(lanes.lanes) == threads)
        yield engine
    finally:
        engine.drain(PATIENCE)
    for lane in lanes.lanes:
        eventually(gone(lane.pid))


@contextmanager
def opened(load: LoadModel = loading.fake, info: ModelInfo = INFO) -> Iterator[ProcessLane]:
    zygote = Zygote(load, info.digest)
    zygote.wait_until_ready()
    lane = ProcessLane(zygote, info, ROWS)
    try:
        yield lane
    finally:
        lane.close()


def task(text: str, options: DecodingOptions = GREEDY) -> Task:
    tokens = FakeModel().tokenize(text)
    return Ticket(Plan(SummaryRequest(text, options), tokens, (range(len(tokens.ids)),)), submitted=0.0).jobs[0].task


def outcomes(lane: ProcessLane, order: Order) -> list[Outcome]:
    """The next ones after this order."""
    report = lane.advance(order)
    while not (report and report.outcomes):
        report = lane.advance(Order())
    return report.outcomes


def steps(lane: ProcessLane, order: Order) -> int:
    """How many it tells of next."""
    report = lane.advance(order)
    return len(report.steps) if report else 0


def gone(pid: int) -> Callable[[], bool]:
    """Not even a zombie."""

    def check() -> bool:
        with suppress(ProcessLookupError):
            os.kill(pid, 0)
            return False
        return True

    return check


def test_the_answers_are_those_of_a_thread() -> None:
    requests = [SummaryRequest(f"{a} {b}", BEAMS, attention=True) for a in WORDS[:6] for b in WORDS[:6]]
    with running(Pids(loading.fake)) as engine:
        for request, future in zip(requests, engine.submit(requests), strict=True):
            assert_same(future.result(PATIENCE), alone(request))


def test_the_attention_that_was_chosen_is_told_by_a_process_too() -> None:
    model = loading.several()
    tokens = model.tokenize("alpha bravo charlie")
    with opened(loading.several) as lane:
        for options in (AttentionOptions((0,), (1,)), AttentionOptions((1,), (0, 1), "max")):
            request = SummaryRequest(tokens.text, GREEDY, attention=True, attention_options=options)
            (wanted,) = Ticket(Plan(request, tokens, (range(3),)), submitted=0.0).jobs
            ((_, decoded),) = outcomes(lane, Order([(wanted.task, [0])]))
            assert decoded
            assert decoded.weights is not None
            assert decoded.dropped is not None
            raw = told(Row(tokens.ids, (START,), options), model.info.attention)
            assert decoded.weights[0] == pytest.approx(raw / raw.sum(), rel=1e-5)
            assert decoded.dropped[0] == pytest.approx(1 - raw.sum(), abs=1e-6)


def test_a_text_that_breaks_the_model_fails_alone() -> None:
    requests = [SummaryRequest(text, BEAMS) for text in [*WORDS[:6], *POISON, *WORDS[6:9]]]
    with running(Pids(loading.fake), threads=1) as engine:
        for request, future in zip(requests, engine.submit(requests), strict=True):
            if request.text in POISON:
                assert isinstance(future.exception(PATIENCE), ModelFailedError)
            else:
                assert_same(future.result(PATIENCE), alone(request))


def test_a_text_that_kills_the_process_again_and_again_fails_alone() -> None:
    observer = RecordingObserver()
    requests = [SummaryRequest(text, BEAMS) for text in [*WORDS[:3], loading.FEVER, *WORDS[3:5]]]
    with running(Pids(loading.mortal), observer, threads=1) as engine:
        for request, future in zip(requests, engine.submit(requests), strict=True):
            if request.text == loading.FEVER:
                assert isinstance(future.exception(PATIENCE), ModelFailedError)
            else:
                assert_same(future.result(PATIENCE), alone(request))
        assert engine.ready
    assert observer.events["worker_restarted"] > 1


def test_a_process_that_is_killed_is_replaced_and_nobody_notices() -> None:
    lanes, observer = Pids(loading.fake), RecordingObserver()
    requests = [SummaryRequest(" ".join(WORDS[start:]), BEAMS) for start in range(20)] * 20
    with running(lanes, observer) as engine:
        futures = engine.submit(requests)
        os.kill(lanes.lanes[-1].pid, signal.SIGKILL)
        for request, future in zip(requests, futures, strict=True):
            assert_same(future.result(PATIENCE), alone(request))
        eventually(lambda: len(lanes.lanes) == 3)
        assert_same(engine.submit(requests[:1])[0].result(PATIENCE), alone(requests[0]))
    assert observer.events["worker_restarted"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_is_meant_for_the_service_does_not_end_a_lane(number: int) -> None:
    with opened() as lane:
        os.kill(lane.pid, number)
        ((_, outcome),) = outcomes(lane, Order([(task("alpha"), [0])]))
        assert outcome is not None


def test_callers_who_leave_free_their_rows() -> None:
    observer = RecordingObserver()
    with running(Pids(loading.fake), observer, threads=1) as engine:
        request = SummaryRequest("alpha", DecodingOptions(1, 12, min_length=12))
        futures = engine.submit([request] * 30)
        for future in futures[1:]:
            future.cancel()
        assert_same(futures[0].result(PATIENCE), alone(request))
        eventually(lambda: observer.live == 0)


def test_a_lane_reports_when_it_is_nudged_and_drops_whom_it_is_told_to() -> None:
    with opened() as lane:
        endless = task("alpha", ENDLESS)
        told = steps(lane, Order([(endless, [0])]))
        lane.nudge()
        assert told + steps(lane, Order()) > 0
        lane.advance(Order(dropped=[endless.number]))
        following = task("alpha")
        assert [number for number, _ in outcomes(lane, Order([(following, [0])]))] == [following.number]


def test_after_a_failure_orders_that_crossed_it_are_void_and_the_next_is_taken() -> None:
    with opened() as lane:
        with pytest.raises(LaneFailedError, match="RuntimeError") as caught:
            outcomes(lane, Order([(task(UNSTEPPABLE), [0]), (task("alpha", ENDLESS), [1])]))
        assert UNSTEPPABLE not in str(caught.value)
        assert "fakes.py" in caught.value.frames
        lane.reset()
        good = task("alpha")
        assert [number for number, _ in outcomes(lane, Order([(good, [0])]))] == [good.number]


def test_a_process_that_is_dead_is_told_of() -> None:
    with opened() as lane:
        os.kill(lane.pid, signal.SIGKILL)
        with pytest.raises(LaneDiedError):
            outcomes(lane, Order([(task("alpha", ENDLESS), [0])]))
        lane.nudge()


def test_a_process_that_hangs_is_killed_and_its_texts_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.engine.process.STALLED_SECONDS", 0.5)
    lanes = Pids(loading.fake)
    request = SummaryRequest("alpha", BEAMS)
    observer = RecordingObserver()
    with running(lanes, observer, threads=1) as engine:
        os.kill(lanes.lanes[0].pid, signal.SIGSTOP)
        assert_same(engine.submit([request])[0].result(PATIENCE), alone(request))
        eventually(gone(lanes.lanes[0].pid))
    assert observer.events["worker_restarted"] == 1


def test_a_model_that_must_be_silent_for_longer_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.engine.process.SILENT_SECONDS", 0.1)
    monkeypatch.setattr("app.engine.process.STALLED_SECONDS", 0.2)
    large = replace(INFO, parameters=int(0.5 * SLOW_CORE / (2 * INFO.limits.max_source_tokens)))  # half a second
    with opened(info=large) as lane:
        os.kill(lane.pid, signal.SIGSTOP)
        assert lane.advance(Order([(task("alpha", GREEDY), [0])])) is None
        os.kill(lane.pid, signal.SIGCONT)
        assert lane.advance(Order()) is not None


def test_what_cannot_travel_to_a_process_fails_alone() -> None:
    class Local(DecodingOptions):
        """A type that another process does not know."""

    bad = SummaryRequest("alpha", Local(num_beams=1, max_length=8))
    good = SummaryRequest("bravo", GREEDY)
    with running(Pids(loading.fake), threads=1) as engine:
        for _ in range(2):
            failing, fine = engine.submit([bad, good])
            assert isinstance(failing.exception(PATIENCE), ModelFailedError)
            assert_same(fine.result(PATIENCE), alone(good))


@pytest.mark.parametrize("load", [loading.missing, loading.changed, lambda: FakeModel()])
def test_where_no_process_can_serve_the_checkpoint_threads_do(load: LoadModel) -> None:
    lanes = ProcessLanes(load, FakeModel(), ROWS)
    lanes.prepare(1)
    with Engine(FakeModel(), max_rows=ROWS, max_queue=10, open_lane=lanes) as engine:
        request = SummaryRequest("alpha", BEAMS)
        assert_same(engine.submit([request])[0].result(PATIENCE), alone(request))


def test_instead_of_a_process_that_died_there_is_no_thread() -> None:
    lanes = ProcessLanes(loading.missing, FakeModel(), ROWS)
    with pytest.raises(LaneUnavailableError, match="no checkpoint here any more"):
        lanes(ROWS)


def test_where_only_some_of_the_processes_can_be_had_threads_do_and_no_process_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[int] = []

    class Limited(ProcessLane):
        def __init__(self, *arguments: Any) -> None:
            if started:
                raise BlockingIOError(11, "Resource temporarily unavailable")
            super().__init__(*arguments)
            started.append(self.pid)

    monkeypatch.setattr("app.engine.process.ProcessLane", Limited)
    lanes = ProcessLanes(loading.fake, FakeModel(), ROWS)
    lanes.prepare(2)
    assert isinstance(lanes(ROWS), ThreadLane)
    eventually(gone(*started))


def test_a_process_that_dies_at_rest_is_replaced_before_there_is_work(caplog: pytest.LogCaptureFixture) -> None:
    lanes, observer = Pids(loading.fake), RecordingObserver()
    with running(lanes, observer, threads=1) as engine:
        os.kill(lanes.lanes[0].pid, signal.SIGKILL)
        eventually(lambda: len(lanes.lanes) == 2 and engine.ready)
        assert observer.events["worker_restarted"] == 1
        request = SummaryRequest("alpha", BEAMS)
        assert_same(engine.submit([request])[0].result(PATIENCE), alone(request))
    assert "lane 0 of fake died and is replaced: its process " in caplog.text
    assert f"ended with status {-signal.SIGKILL}" in caplog.text


def test_processes_killed_in_a_row_are_all_replaced() -> None:
    lanes = Pids(loading.fake)
    request = SummaryRequest("alpha", BEAMS)
    with running(lanes, threads=1) as engine:
        killed: list[ProcessLane] = []
        while len(killed) < 4:  # more than it takes to be called hopeless
            eventually(lambda: len(lanes.lanes) > len(killed))
            killed.append(lanes.lanes[-1])
            os.kill(killed[-1].pid, signal.SIGKILL)
        assert_same(engine.submit([request])[0].result(PATIENCE), alone(request))
        eventually(lambda: engine.ready)


def test_the_worker_is_ready_while_one_of_its_lanes_is_there_and_not_while_none_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.engine.process.SILENT_SECONDS", 0.2)
    lanes = Pids(loading.fake)
    request = SummaryRequest("alpha", BEAMS)
    with running(lanes) as engine:
        first, second = lanes.lanes
        os.kill(first.pid, signal.SIGSTOP)  # it hangs, but is not dead, and so it is not replaced
        eventually(lambda: "is silent" in caplog.text)
        for _ in range(20):
            assert_same(engine.submit([request])[0].result(PATIENCE), alone(request))
            assert engine.ready
        os.kill(second.pid, signal.SIGSTOP)
        eventually(lambda: not engine.ready)
        (waiting,) = engine.submit([request])
        os.kill(second.pid, signal.SIGCONT)
        eventually(lambda: engine.ready)
        assert_same(waiting.result(PATIENCE), alone(request))
        os.kill(first.pid, signal.SIGCONT)


@pytest.mark.parametrize("generations", [1, 2], ids=["the zygote", "what that is forked from"])
def test_when_what_lanes_are_forked_from_is_killed_they_go_on_and_can_be_replaced(generations: int) -> None:
    lanes = Pids(loading.fake)
    requests = [SummaryRequest(word, BEAMS) for word in WORDS]
    with running(lanes) as engine:
        ancestor = lanes.lanes[0].pid
        for _ in range(generations):
            ancestor = parent_of(ancestor)
        os.kill(ancestor, signal.SIGKILL)
        for request, future in zip(requests, engine.submit(requests), strict=True):
            assert_same(future.result(PATIENCE), alone(request))
        os.kill(lanes.lanes[0].pid, signal.SIGKILL)
        eventually(lambda: len(lanes.lanes) == 3)
        for request, future in zip(requests, engine.submit(requests), strict=True):
            assert_same(future.result(PATIENCE), alone(request))


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class Vanishing(Pids):
    """Its model cannot be loaded any more, once it says so."""

    vanished = False

    def __call__(self, rows: int) -> ProcessLane | ThreadLane:
        if self.vanished:
            raise LaneUnavailableError("no checkpoint here any more")
        return super().__call__(rows)


def test_where_a_lane_cannot_be_replaced_another_one_runs_its_texts(caplog: pytest.LogCaptureFixture) -> None:
    lanes = Vanishing(loading.fake)
    requests = [SummaryRequest(" ".join(WORDS[start:]), BEAMS) for start in range(20)] * 10
    with running(lanes) as engine:
        lanes.vanished = True
        futures = engine.submit(requests)
        os.kill(lanes.lanes[0].pid, signal.SIGKILL)
        for request, future in zip(requests, futures, strict=True):
            assert_same(future.result(PATIENCE), alone(request))
        assert engine.ready
        eventually(lambda: "LaneUnavailableError: no checkpoint here any more" in caplog.text)


class Slow(Pids):
    """Opens no other lane before it may."""

    def __init__(self, load: LoadModel) -> None:
        super().__init__(load)
        self.may = threading.Event()
        self.may.set()

    def __call__(self, rows: int) -> ProcessLane | ThreadLane:
        self.may.wait()
        return super().__call__(rows)


def test_where_a_lane_is_slow_to_come_back_another_one_runs_its_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.engine.worker.AWAY_SECONDS", 0.1)
    lanes = Slow(loading.fake)
    requests = [SummaryRequest(" ".join(WORDS[start:]), BEAMS) for start in range(20)] * 10
    with running(lanes) as engine:
        lanes.may.clear()
        try:
            futures = engine.submit(requests)
            os.kill(lanes.lanes[0].pid, signal.SIGKILL)
            for request, future in zip(requests, futures, strict=True):
                assert_same(future.result(PATIENCE), alone(request))
            assert engine.ready
        finally:
            lanes.may.set()


def test_without_any_lane_work_is_refused_until_there_is_one_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.engine.worker.PAUSES_SECONDS", (0.0, 0.01))
    lanes = Vanishing(loading.fake)
    request = SummaryRequest("alpha", BEAMS)
    with running(lanes) as engine:
        lanes.vanished = True
        for lane in lanes.lanes:
            os.kill(lane.pid, signal.SIGKILL)
        eventually(lambda: not engine.ready)
        with suppress(DrainingError):  # it waits, until there is no hope, or is refused at once
            assert isinstance(engine.submit([request])[0].exception(PATIENCE), DrainingError)
        with pytest.raises(DrainingError, match="does not run just now"):
            engine.submit([request])
        lanes.vanished = False
        eventually(lambda: engine.ready)
        assert_same(engine.submit([request])[0].result(PATIENCE), alone(request))


SERVICE = """
from tests.engine.test_process import ENDLESS, INFO, Order, ProcessLane, Zygote, loading, task
if __name__ == "__main__":
    zygote = Zygote(loading.fake, INFO.digest)
    zygote.wait_until_ready()
    lane = ProcessLane(zygote, INFO, 8)
    order = Order([(task("alpha", ENDLESS), [0])])
    lane.advance(order)
    print(lane.pid, zygote.pid, flush=True)
    {then}
"""


@pytest.mark.parametrize("then", ["input()", "raise SystemExit(3)"], ids=["killed", "exits"])
def test_a_process_ends_with_its_service(then: str, tmp_path: Path) -> None:
    script = tmp_path / "service.py"
    script.write_text(SERVICE.format(then=then))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as service:
        assert service.stdout is not None
        pids = map(int, service.stdout.readline().split())
        if then == "input()":
            service.kill()
    for pid in pids:
        eventually(gone(pid))
