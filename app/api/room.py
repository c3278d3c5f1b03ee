"""Room for what is large: so much of it at once, and a refusal beyond."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Room:
    """So many bytes, shared by all who need more than a little. One alone always may have what it needs."""

    def __init__(self, size: int, little: int) -> None:
        self.taken = 0
        self._size = size
        self._little = little

    @contextmanager
    def share(self) -> Iterator[Callable[[int], bool]]:
        """What it yields is told how many bytes are needed in all, and tells whether they may be had: until the end."""
        held = 0

        def need(size: int) -> bool:
            nonlocal held
            more = max(0, size - self._little - held)
            if more and self.taken > held and self.taken + more > self._size:
                return False
            self.taken += more
            held += more
            return True

        try:
            yield need
        finally:
            self.taken -= held
