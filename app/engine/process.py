"""A lane in a process of its own: threads of one interpreter wait for each other, and for the event loop.

The process steps on by itself while anything is live. It tells at once of whoever is over, and otherwise every few
milliseconds; between two steps it looks whether there is an order.
"""

import atexit
import logging
import multiprocessing
import select
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
from app.engine.lane import Lane, LaneDiedError, LaneFailedError, OpenLane, threads_of
from app.engine.settling import settle
from app.models.base import Seq2SeqModel
from app.numerals import Numerals

logger = logging.getLogger(__name__)

REPORT_SECONDS = 0.005
STOP_SECONDS = 5.0

OpenBatch = Callable[[], RunningBatch]
LoadModel = Callable[[], Seq2SeqModel]  # travels to the process: a module's function, or a partial of one


@dataclass(frozen=True, slots=True)
class _Ready:
    digest: str


@dataclass(frozen=True, slots=True)
class _Failure:
    """Instead of a report: the model raised this kind of error, and nothing is live any more. Its words stay there."""

    kind: str
    frames: str


class ProcessLanes:
    """Opens lanes in processes, or in threads where that cannot be."""

    def __init__(self, load: LoadModel, model: Seq2SeqModel, rows: int) -> None:
        """model: what `load` loads, and where it comes from."""
        self._start = partial(ProcessLane, load, model.info.digest, rows)
        self._rows = rows
        self._in_thread: OpenLane = threads_of(model, time.monotonic)
        self._prepared: deque[Lane] = deque()

    def prepare(self, count: int) -> None:
        """Open so many beforehand, side by side."""
        self._prepared.extend([self._opened(lane) for lane in [self._started() for _ in range(count)]])

    def __call__(self, _rows: int) -> Lane:
        try:
            return self._prepared.popleft()
        except IndexError:
            return self._opened(self._started())

    def _started(self) -> "ProcessLane | None":
        try:
            return self._start()
        except Exception as error:  # of the system, or of what has to travel to the process
            _tell_thread(error)
            return None

    def _opened(self, lane: "ProcessLane | None") -> Lane:
        if lane:
            try:
                lane.wait_until_ready()
                return lane
            except (LaneDiedError, LaneFailedError) as error:
                _tell_thread(error)
                lane.close()
        return self._in_thread(self._rows)


class ProcessLane(Lane):
    """The parent's end. A report need not be the answer to the order before it: either is sent when it is due."""

    def __init__(self, load: LoadModel, digest: str, capacity: int) -> None:
        """Starts the process, and does not wait for it.

        digest: of the checkpoint that it must find.
        """
        self._digest = digest
        self._failures = 0
        self._nudged = False  # since the last report
        ours, theirs = socket.socketpair()
        self._nudge, nudged = socket.socketpair()
        self._nudge.setblocking(False)
        self._channel = Channel(ours)
        forks.prepare()
        context = multiprocessing.get_context("forkserver")
        self._process = context.Process(target=_main, args=(load, capacity, theirs, nudged), daemon=True)
        with theirs, nudged:
            try:
                self._process.start()
            except BaseException:
                self._hang_up()
                raise
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        # At an exit that nobody prepared for, it would be waited for while it waits for orders.
        atexit.register(self._process.kill)

    def wait_until_ready(self) -> None:
        """Raises LaneFailedError where the model cannot be loaded there, LaneDiedError where not even that is told."""
        ready = self._receive()
        if not isinstance(ready, _Ready) or ready.digest != self._digest:
            raise LaneFailedError("CheckpointError", "the checkpoint has changed\n")

    def advance(self, order: Order) -> Report:
        if order:
            self._send(order)
        report = self._receive()
        assert isinstance(report, Report)
        self._nudged = False
        return report

    def reset(self) -> None:
        """It has begun anew by itself."""
        self._failures += 1

    def nudge(self) -> None:
        if self._nudged:
            return
        self._nudged = True
        with suppress(OSError):  # it is dead, which its lane will notice, or has been nudged often enough
            self._nudge.send(b".")

    def close(self) -> None:
        self._hang_up()
        self._process.join(STOP_SECONDS)
        self._process.kill()
        self._process.join()
        atexit.unregister(self._process.kill)
        self._process.close()

    def _hang_up(self) -> None:
        self._channel.close()
        self._nudge.close()

    def _send(self, order: Order) -> None:
        try:
            self._channel.send((self._failures, order))
        except OSError as error:
            raise LaneDiedError from error

    def _receive(self) -> object:
        try:
            message = self._channel.receive()
        except (OSError, EOFError) as error:
            raise LaneDiedError from error
        if isinstance(message, _Failure):
            raise LaneFailedError(message.kind, message.frames)
        return message


def _tell_thread(error: Exception) -> None:
    logger.error("a lane runs in a thread, for it has no process of its own: %s", type(error).__name__)


def _main(load: LoadModel, capacity: int, orders: socket.socket, nudges: socket.socket) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the service: it ends this process when it is done with it
    channel = Channel(orders)
    with suppress(OSError, EOFError), torch.inference_mode():  # the service is gone
        try:
            torch.set_num_threads(1)
            model = load()
            process = _Process(model, capacity, channel, nudges)
        except Exception as error:
            channel.send(_failure(error))
            return
        settle()
        channel.send(_Ready(model.info.digest))
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
                self._batch = self._open()
                self._channel.send(_failure(error))
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


def _failure(error: Exception) -> _Failure:
    return _Failure(type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
