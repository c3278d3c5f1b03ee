"""What answers hold after they have left the engine: attention of long texts, until it is written out."""

import threading
import weakref

import numpy as np
from numpy.typing import NDArray


class Held:
    """Bytes of arrays, each counted for as long as it is there. From any thread."""

    def __init__(self) -> None:
        self.bytes = 0
        self._lock = threading.RLock()  # an array may go while its thread counts another one

    def count(self, weights: NDArray[np.float32]) -> None:
        self._add(weights.nbytes)
        weakref.finalize(weights, self._add, -weights.nbytes).atexit = False

    def _add(self, size: int) -> None:
        with self._lock:
            self.bytes += size
