"""A lane in a process of its own: threads of one interpreter wait for each other, and for the event loop.

The process steps on by itself while anything is live. It tells at once of whoever is over, and otherwise every few
milliseconds; between two steps it looks whether there is an order. All lanes of a model are forked from one zygote.
"""

import logging
import multiprocessing.util
import os
import select
import shutil
import signal
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from app.engine import forks
from app.engine.batch import Order, Report, RunningBatch
from app.engine.channel import Channel
from app.engine.lane import Lane, LaneDiedError, LaneFailedError, LaneUnavailableError, OpenLane, threads_of
from app.engine.zygote import STOP_SECONDS, Loaded, LoadModel, Zygote, hang_up, reason_of
from app.models.base import ModelInfo, Seq2SeqModel

logger = logging.getLogger(__name__)

REPORT_SECONDS = 0.02
START_SECONDS = 30.0  # of a lane, whose model is loaded already
SILENT_SECONDS = 5.0  # hardly any encoder pass or step takes this long, unless a model is so large that it must
STALLED_SECONDS = 30.0  # none takes this long, or twice as long as it must: the process hangs
SLOW_CORE = 1e10  # operations a second

OpenBatch = Callable[[], RunningBatch]


@dataclass(frozen=True, slots=True)
class _Ready:
    pid: int


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
        self._load, self._info, self._rows = load, model.info, rows
        self._in_thread: OpenLane = threads_of(model, time.monotonic)
        self._prepared: deque[Lane] = deque()
        self._possible = True
        self._lock = threading.Lock()  # guards the zygote
        self._zygote: Zygote | None = None
        self._forkserver: int | None = None  # of the last zygote

    def prepare(self, count: int) -> None:
        """Open so many beforehand."""
        try:
            for _ in range(count):
                self._prepared.append(self._open())
        except Exception as error:  # of the system, of the model, or of what has to travel to a process
            logger.error("the model runs in threads, for it can have no processes of its own: %s", reason_of(error))
            while self._prepared:
                self._prepared.pop().close()
            self._possible = False

    def __call__(self, rows: int) -> Lane:
        """Instead of one that died there is no thread: who killed it would kill the service.

        Raises LaneUnavailableError, or what the system has against another process.
        """
        if not self._possible:
            return self._in_thread(rows)
        with suppress(IndexError):
            return self._prepared.popleft()
        return self._open()

    def _open(self) -> "ProcessLane":
        with self._lock:
            if self._zygote is None or not self._zygote.alive:
                self._zygote = self._begun()
            try:
                return ProcessLane(self._zygote, self._info, self._rows)
            except LaneUnavailableError:
                self._zygote = None  # something is the matter with it
                raise

    def _begun(self) -> Zygote:
        try:
            zygote = Zygote(self._load, self._info.digest)
        except (FileNotFoundError, ConnectionError):
            if self._forkserver is not None:
                forks.give_up(self._forkserver)
            raise
        self._forkserver = zygote.wait_until_ready()
        return zygote


class ProcessLane(Lane):
    """The parent's end. A report need not be the answer to the order before it: either is sent when it is due."""

    posts = True

    def __init__(self, zygote: Zygote, info: ModelInfo, capacity: int) -> None:
        """Raises LaneUnavailableError."""
        self._zygote, self._slowest = zygote, slowest_pass(info)
        self._failures = 0
        self._lost: Exception | None = None  # why an order was not sent
        self._nudged = self._checked = False  # since the last report
        self._silence = 0.0  # seconds waited in vain for the next one
        ours, theirs = socket.socketpair()
        self._nudge, nudged = socket.socketpair()
        self._nudge.setblocking(False)
        self._channel = Channel(ours)
        try:
            with theirs, nudged:
                zygote.fork(partial(_run, capacity), theirs, nudged)
            self.pid = self._wait_until_ready()
        except BaseException:
            self._channel.close()  # which is the end of a process that begins late
            self._nudge.close()
            raise

    def _wait_until_ready(self) -> int:
        try:
            ready = self._channel.receive(START_SECONDS)
        except TimeoutError as error:
            raise LaneUnavailableError(f"its process has not begun within {START_SECONDS:g} s") from error
        except (OSError, EOFError) as error:
            raise LaneUnavailableError("its process died at once") from error
        assert isinstance(ready, _Ready)
        return ready.pid

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
        hang_up(self._channel, self.pid)
        self._nudge.close()
        if status := self._zygote.status_of(self.pid, STOP_SECONDS):
            logger.warning("process %d of a lane ended with status %d", self.pid, status)
        with suppress(ChildProcessError):  # unless the zygote has died, and it became our own
            os.waitpid(self.pid, os.WNOHANG)

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


def _run(capacity: int, loaded: Loaded, orders: socket.socket, nudges: socket.socket) -> None:
    """The life of a lane, from the moment when its process is forked."""
    channel = Channel(orders)
    try:
        process = _Process(loaded, capacity, channel, nudges)
        channel.send(_Ready(os.getpid()))
        process.run()
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


class _Process:
    """The child's end."""

    def __init__(self, loaded: Loaded, capacity: int, channel: Channel, nudges: socket.socket) -> None:
        nudges.setblocking(False)
        self._open: OpenBatch = partial(RunningBatch, *loaded, capacity, time.monotonic)
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
