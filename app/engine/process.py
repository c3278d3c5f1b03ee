"""A lane in a process of its own: threads of one interpreter wait for each other, and for the event loop.

The process steps on by itself while anything is live. It tells at once of whoever is over, and otherwise every few
milliseconds; between two steps it looks whether there is an order.
"""

import atexit
import logging
import multiprocessing
import multiprocessing.util
import os
import select
import shutil
import signal
import socket
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import torch

from app.engine import forks
from app.engine.batch import Order, Report, RunningBatch
from app.engine.channel import Channel
from app.engine.lane import Lane, LaneDiedError, LaneFailedError, LaneUnavailableError, OpenLane, threads_of
from app.engine.settling import settle
from app.models.base import ModelInfo, Seq2SeqModel
from app.numerals import Numerals

logger = logging.getLogger(__name__)

REPORT_SECONDS = 0.02
START_SECONDS = 120.0
SILENT_SECONDS = 5.0  # hardly any encoder pass or step takes this long, unless a model is so large that it must
STALLED_SECONDS = 30.0  # none takes this long, or twice as long as it must: the process hangs
SLOW_CORE = 1e10  # operations a second
STOP_SECONDS = 2.0
UNKNOWN_STATUS = 255  # of a process that outlived the one it was forked from

OpenBatch = Callable[[], RunningBatch]
LoadModel = Callable[[], Seq2SeqModel]  # travels to the process: a module's function, or a partial of one


@dataclass(frozen=True, slots=True)
class _Ready:
    digest: str
    forked_from: int


@dataclass(frozen=True, slots=True)
class _Unloadable:
    """Why there is no lane. No text has come to the process yet: its words may be told."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Failure:
    """Instead of a report: the model raised this kind of error, and nothing is live any more. Its words stay there."""

    number: int  # of failures so far
    kind: str
    frames: str


class ProcessLanes:
    """Opens lanes in processes; in threads, and for good, where that was not possible at the start."""

    def __init__(self, load: LoadModel, model: Seq2SeqModel, rows: int) -> None:
        """model: what `load` loads, and where it comes from."""
        self._start = partial(ProcessLane, load, model.info, rows)
        self._in_thread: OpenLane = threads_of(model, time.monotonic)
        self._prepared: deque[Lane] = deque()
        self._possible = True
        self._forkserver: int | None = None  # of the last lane

    def prepare(self, count: int) -> None:
        """Open so many beforehand, side by side."""
        started: list[ProcessLane] = []
        try:
            started.extend(self._start() for _ in range(count))  # one by one: those that began are known
            for lane in started:
                self._forkserver = lane.wait_until_ready()
        except Exception as error:  # of the system, of the model, or of what has to travel to a process
            logger.error("the model runs in threads, for it can have no processes of its own: %s", reason_of(error))
            for lane in started:
                lane.close()
            self._possible = False
        else:
            self._prepared.extend(started)

    def __call__(self, rows: int) -> Lane:
        """Instead of one that died there is no thread: who killed it would kill the service.

        Raises LaneUnavailableError, or what the system has against another process.
        """
        if not self._possible:
            return self._in_thread(rows)
        with suppress(IndexError):
            return self._prepared.popleft()
        try:
            lane = self._start()
        except (FileNotFoundError, ConnectionError):
            if self._forkserver is not None:
                forks.give_up(self._forkserver)
            raise
        try:
            self._forkserver = lane.wait_until_ready()
        except BaseException:
            lane.close()
            raise
        return lane


class ProcessLane(Lane):
    """The parent's end. A report need not be the answer to the order before it: either is sent when it is due."""

    posts = True

    def __init__(self, load: LoadModel, info: ModelInfo, capacity: int) -> None:
        """Starts the process, and does not wait for it. info: of the model that it must find."""
        self._digest, self._slowest = info.digest, slowest_pass(info)
        self._failures = 0
        self._lost: Exception | None = None  # why an order was not sent
        self._nudged = self._checked = False  # since the last report
        self._silence = 0.0  # seconds waited in vain for the next one
        ours, theirs = socket.socketpair()
        self._nudge, nudged = socket.socketpair()
        self._nudge.setblocking(False)
        self._channel = Channel(ours)
        with theirs, nudged:
            try:
                forks.prepare()
                context = multiprocessing.get_context("forkserver")
                self._process = context.Process(target=_main, args=(load, capacity, theirs, nudged), daemon=True)
                self._process.start()
            except BaseException:
                self._channel.close()
                self._nudge.close()
                raise
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        # At an exit that nobody prepared for, it would be waited for while it waits for orders.
        atexit.register(self._end)

    def wait_until_ready(self) -> int:
        """The process that it was forked from. Raises LaneUnavailableError."""
        try:
            ready = self._channel.receive(START_SECONDS)
        except TimeoutError as error:
            raise LaneUnavailableError(f"its process has not begun within {START_SECONDS:g} s") from error
        except (OSError, EOFError) as error:
            raise LaneUnavailableError("its process died at once") from error
        if isinstance(ready, _Unloadable):
            raise LaneUnavailableError(ready.reason)
        if ready.digest != self._digest:
            raise LaneUnavailableError("the checkpoint in the model store has changed")
        assert isinstance(ready, _Ready)
        return ready.forked_from

    def post(self, order: Order) -> None:
        try:
            self._channel.send((self._failures, order), SILENT_SECONDS)
        except Exception as error:  # whoever did not get this order cannot go on
            self._lost = error

    def advance(self, order: Order) -> Report | None:
        if order:
            self.post(order)
        if self._lost:
            raise LaneDiedError("its process does not take orders") from self._lost
        report = self._receive()
        if report is not None:
            self._nudged = self._checked = False
        return report

    def check(self) -> Report | None:
        if not self._checked:
            self._checked = True
            self.post(Order())  # which is answered at once
        return self.advance(Order())

    def reset(self) -> None:
        """It has begun anew by itself."""
        self._nudged = False

    def nudge(self) -> None:
        if self._nudged:
            return
        self._nudged = True
        with suppress(OSError):  # it is dead, which its lane will notice, or has been nudged often enough
            self._nudge.send(b".")

    def close(self) -> None:
        atexit.unregister(self._end)
        self._end()
        self._channel.close()
        self._nudge.close()
        self._process.join(STOP_SECONDS)
        if self._process.exitcode not in (0, None, UNKNOWN_STATUS):
            logger.warning("process %d of a lane ended with status %d", self.pid, self._process.exitcode)
        with suppress(ChildProcessError):  # unless the process that it was forked from has died, and it became our own
            os.waitpid(self.pid, os.WNOHANG)
        with suppress(ValueError):  # nobody tells how it ended
            self._process.close()

    def _end(self) -> None:
        """Whoever does not hang up is there still: so the number is still its own."""
        if not self._channel.hang_up(STOP_SECONDS):
            os.kill(self.pid, signal.SIGKILL)

    def _receive(self) -> Report | None:
        stalled = max(STALLED_SECONDS, 2 * self._slowest)
        seconds = min(max(SILENT_SECONDS, self._slowest), stalled)
        try:
            message = self._channel.receive(seconds)
        except TimeoutError as error:
            self._silence += seconds
            if self._silence < stalled:
                return None
            os.kill(self.pid, signal.SIGKILL)  # it has not hung up: so the number is still its own
            raise LaneDiedError(f"its process hangs, silent for {self._silence:g} s") from error
        except (OSError, EOFError) as error:
            raise LaneDiedError("its process is dead") from error
        except Exception as error:
            raise LaneDiedError("what its process says cannot be understood") from error
        self._silence = 0.0
        if isinstance(message, _Failure):
            self._failures = message.number
            raise LaneFailedError(message.kind, message.frames)
        assert isinstance(message, Report)
        return message


def slowest_pass(info: ModelInfo) -> float:
    """Seconds that the longest source may take on a slow core: every parameter is multiplied with every token."""
    return 2 * info.parameters * info.limits.max_source_tokens / SLOW_CORE


def _main(load: LoadModel, capacity: int, orders: socket.socket, nudges: socket.socket) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the service: it ends this process when it is done with it
    channel = Channel(orders)
    try:
        with torch.inference_mode():
            _serve(load, capacity, channel, nudges)
    except (OSError, EOFError):  # the service has hung up, or is gone
        _clean_up(channel)
    except Exception as error:  # in the log of the service, which is told by the end of this process; without its words
        logger.error("a lane ends: %s\n%s", type(error).__name__, _frames(error))


def _clean_up(channel: Channel) -> None:
    """A service that was killed has left a folder, with the socket of the server of forks."""
    try:
        channel.send(None)  # whoever has only hung up would read on
    except OSError:
        shutil.rmtree(multiprocessing.util.get_temp_dir(), ignore_errors=True)
    except EOFError:
        pass


def _serve(load: LoadModel, capacity: int, channel: Channel, nudges: socket.socket) -> None:
    torch.set_num_threads(1)
    try:
        model = load()
        process = _Process(model, capacity, channel, nudges)
    except Exception as error:
        channel.send(_Unloadable(reason_of(error)))
        return
    settle()
    channel.send(_Ready(model.info.digest, os.getppid()))
    process.run()


class _Process:
    """The child's end."""

    def __init__(self, model: Seq2SeqModel, capacity: int, channel: Channel, nudges: socket.socket) -> None:
        nudges.setblocking(False)
        self._open: OpenBatch = partial(RunningBatch, model, Numerals(model.pieces), capacity, time.monotonic)
        self._batch = self._open()
        self._channel, self._nudges = channel, nudges
        self._poll = select.poll()
        for each in (channel, nudges):
            self._poll.register(each, select.POLLIN)
        self._failures = 0  # orders from before the last one are void

    def run(self) -> None:
        """Until the other end is closed."""
        told = time.monotonic()
        while True:
            if self._batch.idle and not self._channel.pending:
                self._poll.poll()
            orders, nudged = self._orders(), self._nudged()
            try:
                for order in orders or [Order()]:
                    self._batch.advance(order)
            except Exception as error:
                self._failures += 1
                self._channel.send(_Failure(self._failures, type(error).__name__, _frames(error)))
                self._batch = self._open()
                continue
            now = time.monotonic()
            report = self._batch.report
            if nudged or report.outcomes or report.written or self._batch.idle or now - told >= REPORT_SECONDS:
                self._channel.send(self._batch.take_report())
                told = now

    def _orders(self) -> list[Order]:
        orders = []
        while (message := self._channel.receive_now()) is not None:
            failures, order = message
            if failures == self._failures:
                orders.append(order)
        return orders

    def _nudged(self) -> bool:
        with suppress(BlockingIOError):
            return bool(self._nudges.recv(4096))
        return False


def _frames(error: Exception) -> str:
    return "".join(traceback.format_tb(error.__traceback__))


def reason_of(error: Exception) -> str:
    """One line. Only of errors from before any text has come: their words may quote what they are about."""
    return " ".join(f"{type(error).__name__}: {error}".split())
