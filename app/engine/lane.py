"""Where a running batch lives: in a thread of the worker, or in a process of its own (`process`).

A lane is handed orders and answers with reports. Whoever waits for a report can be called away by a nudge.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch

from app.engine.batch import OUT_OF_MEMORY, Order, Report, RunningBatch
from app.models.base import Seq2SeqModel
from app.numerals import Numerals


class LaneDiedError(Exception):
    """What ran the batch is gone, and all that was live in it."""


class LaneUnavailableError(Exception):
    """There can be no lane, for the reason given."""


class LaneFailedError(Exception):
    """The model raised an error of this kind in another process."""

    def __init__(self, kind: str, frames: str) -> None:
        super().__init__(kind)
        self.kind, self.frames = kind, frames


def is_out_of_memory(error: BaseException) -> bool:
    """Whether fewer rows might have done."""
    if isinstance(error, LaneFailedError):
        return error.kind in {kind.__name__ for kind in OUT_OF_MEMORY}
    return isinstance(error, OUT_OF_MEMORY)


class Lane(ABC):
    """Owned by one thread of the worker; only `nudge` may be called from others, and `post` while that one rests."""

    posts = False  # whether it can begin by itself

    @abstractmethod
    def advance(self, order: Order) -> Report | None:
        """Take the order, and wait until there is something to tell: at the latest a few steps later.

        Only while tasks are live, or with an order. None from a lane that is silent for so long that something may be
        the matter with it: ask again. Raises LaneDiedError; any other exception is the model's, and then nothing that
        was live goes on until `reset`.
        """

    def check(self) -> Report | None:
        """The same while nothing is live: whether it is still there."""
        return Report()  # as whoever runs in the thread that asks

    def post(self, order: Order) -> None:
        """Take the order, and do not wait. Where that fails, the next `advance` raises."""
        raise NotImplementedError

    @abstractmethod
    def reset(self) -> None:
        """Begin anew, with nothing live."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything."""

    def nudge(self) -> None:
        """Report after this step."""
        return  # as a lane does that reports after every step


class ThreadLane(Lane):
    """A batch of this process, which steps while it is asked to advance."""

    def __init__(self, open_batch: Callable[[], RunningBatch]) -> None:
        self._open = open_batch
        self._batch: RunningBatch | None = open_batch()

    def advance(self, order: Order) -> Report:
        assert self._batch is not None
        self._batch.advance(order)
        return self._batch.take_report()

    def reset(self) -> None:
        self._batch = None  # its memory is needed for the next
        torch.cuda.empty_cache()
        self._batch = self._open()

    def close(self) -> None:
        if self._batch is not None:
            self._batch.clear()


OpenLane = Callable[[int], Lane]  # with so many rows


def threads_of(model: Seq2SeqModel, clock: Callable[[], float]) -> OpenLane:
    """Lanes in the threads of the worker."""
    numerals = Numerals(model.pieces)
    return lambda rows: ThreadLane(lambda: RunningBatch(model, numerals, rows, clock))
