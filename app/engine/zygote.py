"""A process that has loaded a model, from which the lanes of the model are forked (Android's word for such a one).

They begin at once, and share its memory as long as nobody writes there: however many lanes there are, the weights are
there once, in the memory and in the cache of the processors.
"""

import atexit
import multiprocessing
import os
import pickle
import select
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import NamedTuple

import torch

from app.engine import forks
from app.engine.channel import Channel
from app.engine.lane import LaneUnavailableError
from app.engine.settling import settle
from app.models.base import Seq2SeqModel
from app.numerals import Numerals

LOAD_SECONDS = 120.0
STOP_SECONDS = 2.0
MOST_ORDERED = 4096  # bytes of what is to run in another process

LoadModel = Callable[[], Seq2SeqModel]  # travels to the process: a module's function, or a partial of one


class Loaded(NamedTuple):
    """What all lanes read."""

    model: Seq2SeqModel
    numerals: Numerals


Live = Callable[[Loaded, socket.socket, socket.socket], None]  # travels, too


@dataclass(frozen=True, slots=True)
class _Ready:
    digest: str
    forked_from: int


@dataclass(frozen=True, slots=True)
class _Unloadable:
    """Why there is no model. No text comes to this process: its words may be told."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Ended:
    """A process that was forked from it."""

    pid: int
    status: int  # negative: the signal that ended it


class Zygote:
    """The parent's end. It ends with this object, or with the service; what was forked from it goes on."""

    def __init__(self, load: LoadModel, digest: str) -> None:
        """Starts the process, and does not wait for it. digest: of the checkpoint that it must find.

        Raises what the system has against another process.
        """
        self._digest = digest
        self._lock = threading.Lock()  # guards what is read: those who wait are the threads of several lanes
        self._statuses: dict[int, int] = {}
        self._socket, theirs = socket.socketpair()
        self._channel = Channel(self._socket)
        with theirs:
            try:
                forks.prepare()
                process = multiprocessing.get_context("forkserver").Process(
                    target=_main, args=(load, theirs), daemon=True
                )
                process.start()
            except BaseException:
                self._channel.close()
                raise
        assert process.pid is not None
        self.pid: int = process.pid
        end = weakref.finalize(self, _end, self._channel, process, process.pid)
        # At an exit that nobody prepared for, it would be waited for while it waits for orders.
        atexit.register(end)

    @property
    def alive(self) -> bool:
        """Whether it has not hung up."""
        with self._lock:
            return self._read()

    def wait_until_ready(self) -> int:
        """The process that it was forked from. Raises LaneUnavailableError."""
        try:
            ready = self._channel.receive(LOAD_SECONDS)
        except TimeoutError as error:
            raise LaneUnavailableError(f"its model has not been loaded within {LOAD_SECONDS:g} s") from error
        except (OSError, EOFError) as error:
            raise LaneUnavailableError("the process that loads its model died at once") from error
        if isinstance(ready, _Unloadable):
            raise LaneUnavailableError(ready.reason)
        assert isinstance(ready, _Ready)
        if ready.digest != self._digest:
            raise LaneUnavailableError("the checkpoint in the model store has changed")
        return ready.forked_from

    def fork(self, live: Live, *ends: socket.socket) -> None:
        """Run this in a process of its own, with what is loaded and these sockets. Raises LaneUnavailableError."""
        try:
            socket.send_fds(self._socket, [pickle.dumps(live)], [end.fileno() for end in ends])
        except OSError as error:
            raise LaneUnavailableError("the process that has loaded its model is dead") from error

    def status_of(self, pid: int, seconds: float) -> int | None:
        """How a process ended that was forked from it; waited for, so long. None if nobody can tell."""
        end = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while True:
            with self._lock:
                alive = self._read()
                if pid in self._statuses:
                    return self._statuses.pop(pid)
            left = end - time.monotonic()
            if not alive or left <= 0:
                return None
            poll.poll(1000 * min(left, 0.1))  # another thread may have read it

    def _read(self) -> bool:
        """Whether it is alive. What it has told is noted."""
        try:
            while (ended := self._channel.receive_now()) is not None:
                self._statuses[ended.pid] = ended.status
        except (OSError, EOFError):
            return False
        return True


def hang_up(channel: Channel, pid: int) -> None:
    """Hang up on a process, which ends it; kill it where that does not."""
    if not channel.hang_up(STOP_SECONDS):  # it is there still: so the number is still its own
        os.kill(pid, signal.SIGKILL)
    channel.close()


def _end(channel: Channel, process: BaseProcess, pid: int) -> None:
    hang_up(channel, pid)
    process.join(STOP_SECONDS)
    with suppress(ValueError):  # nobody tells how it ended
        process.close()


def _main(load: LoadModel, orders: socket.socket) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the service: it ends this process when it is done with it
    torch.set_num_threads(1)
    channel = Channel(orders)
    with suppress(OSError, EOFError):  # the service has hung up, or is gone
        try:
            model = load()
            loaded = Loaded(model, Numerals(model.pieces))
        except Exception as error:
            channel.send(_Unloadable(reason_of(error)))
            return
        settle()
        channel.send(_Ready(model.info.digest, os.getppid()))
        _Nest(loaded, orders, channel).run()


class _Nest:
    """The child's end."""

    def __init__(self, loaded: Loaded, orders: socket.socket, channel: Channel) -> None:
        self._loaded, self._orders, self._channel = loaded, orders, channel
        self._deaths, self._wakes = os.pipe()
        for end in (self._deaths, self._wakes):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)

    def run(self) -> None:
        """Until the other end is closed."""
        poll = select.poll()
        for each in (self._orders, self._deaths):
            poll.register(each, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._deaths in ready:
                self._tell_of_the_dead()
            if self._orders.fileno() in ready:
                self._take_order()

    def _tell_of_the_dead(self) -> None:
        os.read(self._deaths, 4096)
        with suppress(ChildProcessError):  # there are no others
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._channel.send(_Ended(ended[0], os.waitstatus_to_exitcode(ended[1])))

    def _take_order(self) -> None:
        content, descriptors, *_ = socket.recv_fds(self._orders, MOST_ORDERED, 2)
        if not content:
            raise EOFError("the other end is closed")
        ends = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        with suppress(OSError):  # no process can be had: its end is closed, which tells it
            if not os.fork():
                self._live(pickle.loads(content), ends)
        for end in ends:
            end.close()

    def _live(self, live: Live, ends: list[socket.socket]) -> None:
        """In the process that was forked, which is over then."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._channel.close()
            os.close(self._deaths)
            os.close(self._wakes)
            with torch.inference_mode():
                live(self._loaded, *ends)
            status = 0
        finally:
            os._exit(status)


def reason_of(error: Exception) -> str:
    """One line. Only of errors from before any text has come: their words may quote what they are about."""
    return " ".join(f"{type(error).__name__}: {error}".split())
