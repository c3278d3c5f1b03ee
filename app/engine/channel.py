"""Messages between two processes that trust each other, over a socket: pickled, each after its length."""

import pickle
import select
import socket
import struct
import time
from contextlib import suppress
from typing import Any

_HEADER = struct.Struct("<Q")
_READ_AT_ONCE = 1 << 18


class Channel:
    """One end. Owned by one thread.

    Whoever sends goes on reading meanwhile: two ends that send much to each other never wait for one another.
    """

    def __init__(self, own: socket.socket) -> None:
        own.setblocking(False)
        self._socket = own
        self._buffer = bytearray()
        self._poll = select.poll()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def pending(self) -> bool:
        """Whether a message has been read that nobody has received."""
        size = len(self._buffer)
        return size >= _HEADER.size and size >= _HEADER.size + _HEADER.unpack_from(self._buffer)[0]

    def send(self, message: object, timeout: float | None = None) -> None:
        """Waits for room, for each piece of it so many seconds at most.

        Raises TimeoutError, and OSError or EOFError when nobody is at the other end any more.
        """
        content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        rest = memoryview(_HEADER.pack(len(content)) + content)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                found = self._wait(select.POLLIN | select.POLLOUT, timeout)
                if not found:
                    raise TimeoutError("nothing was read") from None
                if found & select.POLLIN:
                    self._read()

    def receive(self, timeout: float | None = None) -> Any:
        """The next message, waited for; each piece of it for so many seconds at most.

        Raises TimeoutError, and OSError or EOFError when nobody is at the other end any more.
        """
        while not self.pending:
            if not self._wait(select.POLLIN, timeout):
                raise TimeoutError("nothing was sent")
            self._read()
        return self._take()

    def receive_now(self) -> Any | None:
        """The next message if it is here already."""
        while not self.pending:
            if not self._read():
                return None
        return self._take()

    def hang_up(self, timeout: float) -> bool:
        """Send nothing more. Whether the other end is closed within so many seconds."""
        with suppress(OSError):  # it is already
            self._socket.shutdown(socket.SHUT_WR)
        end = time.monotonic() + timeout
        try:
            while (left := end - time.monotonic()) > 0 and self._wait(select.POLLIN, left):
                self._read()
        except (OSError, EOFError):
            return True
        return False

    def close(self) -> None:
        self._socket.close()

    def _take(self) -> Any:
        end = _HEADER.size + _HEADER.unpack_from(self._buffer)[0]
        message = pickle.loads(memoryview(self._buffer)[_HEADER.size : end])
        del self._buffer[:end]
        return message

    def _read(self) -> bool:
        """Whether anything was there."""
        try:
            data = self._socket.recv(_READ_AT_ONCE)
        except BlockingIOError:
            return False
        if not data:
            raise EOFError("the other end is closed")
        self._buffer += data
        return True

    def _wait(self, events: int, timeout: float | None = None) -> int:
        """What is the case of these events, or 0 after so many seconds."""
        self._poll.register(self._socket, events)
        found = self._poll.poll(None if timeout is None else 1000 * timeout)
        return found[0][1] if found else 0
