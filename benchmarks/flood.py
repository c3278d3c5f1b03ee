"""An open loop that offers more than a server can take, and costs little: raw sockets and epoll in one thread.

Requests go out at their planned moments (Poisson) over connections that are kept. Where all of these still wait for
answers a request is not sent, and is counted: callers without end would need ports without end.
"""

import re
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from urllib.parse import urlsplit

from benchmarks.load import arrivals, request

PATIENCE = 120.0  # seconds for the last answers
CONNECTING = 10.0  # seconds
SETTLING = 1.0  # seconds
AT_ONCE = 1 << 16  # bytes, of an answer
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RETRY_AFTER = re.compile(rb"\r\nretry-after: *[1-9]\d*\r\n", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)


@dataclass(slots=True)
class Flooded:
    """What was offered and what came back. Latencies of what was answered with 200, in ms from the planned moment."""

    offered: int = 0
    not_sent: int = 0
    broken: int = 0  # connections that ended without an answer
    without_retry_after: int = 0  # answers of 503
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0  # until the last request was offered


@dataclass(slots=True, eq=False)
class _Caller:
    socket: socket.socket
    planned: float = 0.0
    answer: bytes = b""
    wanted: int = 0  # bytes of the whole answer; 0 until its head is there


def flood(
    url: str,
    bodies: Sequence[bytes],
    rate: float,
    seconds: float,
    connections: int,
    seed: int = 0,
    offered_all: Callable[[], object] = lambda: None,
) -> Flooded:
    """`rate` requests a second for so long, then what is still to be answered; `offered_all` is called between."""
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 80)
    requests = cycle([request(url, body) for body in bodies])
    flooded = Flooded()
    poll = select.epoll()
    callers = {each.socket.fileno(): each for each in (_connect(address, poll) for _ in range(connections))}
    idle = deque(callers.values())
    time.sleep(SETTLING)  # all of them are accepted
    plan = arrivals(rate, seconds, seed)
    started = time.perf_counter()
    moment = next(plan, None)
    end = started + seconds + PATIENCE
    try:
        while (moment is not None or len(idle) < len(callers)) and time.perf_counter() < end:
            while moment is not None and started + moment <= time.perf_counter():
                flooded.offered += 1
                if idle:
                    caller = idle.popleft()
                    caller.planned = started + moment
                    caller.socket.send(next(requests))
                else:
                    flooded.not_sent += 1
                moment = next(plan, None)
                if moment is None:
                    flooded.seconds = time.perf_counter() - started
                    offered_all()
            early = 0.1 if moment is None else max(0.0, started + moment - time.perf_counter())
            for number, _ in poll.poll(early):
                caller = callers[number]
                waited = caller.planned > 0
                over = _hear(caller, flooded)
                if over:
                    callers.pop(number).socket.close()
                    if not waited:
                        idle.remove(caller)
                    if moment is None:
                        continue
                    caller = _connect(address, poll)
                    callers[caller.socket.fileno()] = caller
                if over or (waited and not caller.planned):
                    idle.append(caller)
    finally:
        poll.close()
        for caller in callers.values():
            caller.socket.close()
    flooded.broken += len(callers) - len(idle)
    return flooded


def _connect(address: tuple[str, int], poll: select.epoll) -> _Caller:
    caller = _Caller(socket.create_connection(address, timeout=CONNECTING))
    caller.socket.setblocking(False)
    caller.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    poll.register(caller.socket, select.EPOLLIN)
    return caller


def _hear(caller: _Caller, flooded: Flooded) -> bool:
    """Take what came. Whether the connection is over."""
    try:
        data = caller.socket.recv(AT_ONCE)
    except BlockingIOError:
        return False
    except OSError:
        data = b""
    if not data:
        flooded.broken += bool(caller.planned)
        return True
    caller.answer += data
    if not caller.wanted and (head := caller.answer.find(b"\r\n\r\n")) >= 0:
        length = _LENGTH.search(caller.answer, 0, head)
        caller.wanted = head + 4 + (int(length[1]) if length else 0)
    if not caller.wanted or len(caller.answer) < caller.wanted:
        return False
    status = int(caller.answer[9:12])
    flooded.statuses[status] += 1
    if status == 200:
        flooded.latencies.append(1000 * (time.perf_counter() - caller.planned))
    flooded.without_retry_after += status == 503 and not _RETRY_AFTER.search(caller.answer)
    over = _CLOSE.search(caller.answer) is not None
    caller.planned, caller.answer, caller.wanted = 0.0, b"", 0
    return over
