"""The engine's face: what routes, the command line and evaluation use. Texts go in, futures come out.

engine = Engine(model, max_rows=64, max_queue=1024)
engine.start()
future, = engine.submit([SummaryRequest(text, model.info.defaults)])
summary = future.result()
engine.drain(grace=30)
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from math import inf
from typing import Self

from app.engine.admission import plan
from app.engine.costs import Load
from app.engine.job import Ticket
from app.engine.lane import OpenLane, threads_of
from app.engine.observer import EngineObserver
from app.engine.pieces import Pieces
from app.engine.request import Summary, SummaryRequest
from app.engine.worker import Worker
from app.errors import ModelFailedError, OverloadedError, RequestError, TooLargeError, TooLateError
from app.models.base import ModelInfo, Seq2SeqModel

MOST_THREADS = 8  # in processes of their own: more were never measured
FEWEST_ROWS = 8  # of a thread
LONG_WAIT = 0.1  # seconds; whoever had less time than that cannot blame the service for being read late

logger = logging.getLogger(__name__)


class Engine:
    """One model, one worker, one bounded queue."""

    def __init__(
        self,
        model: Seq2SeqModel,
        *,
        max_rows: int,
        max_queue: int,
        max_queue_tokens: float = inf,
        max_queue_rows: float = inf,
        max_queue_bytes: float = inf,
        observer: EngineObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
        threads: int = 1,
        open_lane: OpenLane | None = None,
    ) -> None:
        """max_queue: texts that may wait, and what they may come to in source tokens, decoder rows and bytes.
        threads: lanes that run the model, each with an equal share of the rows; one where there is a GPU.
        open_lane: where they run, if not in these threads.
        """
        if max_rows < threads or threads < 1 or max_queue < 1:
            raise ValueError("an engine needs at least one row for each thread and room for one text")
        self._model = model
        self._most_beams = max_rows // threads
        self._observer = observer or EngineObserver()
        self._clock = clock
        limits = Load(max_queue, max_queue_tokens, max_queue_rows, max_queue_bytes)
        lanes = open_lane or threads_of(model, clock)
        self._worker = Worker(model, max_rows, limits, self._observer, clock, lanes, threads)

    @property
    def info(self) -> ModelInfo:
        return self._model.info

    @property
    def ready(self) -> bool:
        """Started, its worker alive and stepping, and not draining."""
        return self._worker.ready

    def start(self) -> None:
        """Start the worker thread."""
        self._worker.start()

    def __enter__(self) -> Self:
        """For scripts that wait for their own answers: started here, stopped without grace at the end."""
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.drain(grace=0.0)

    def submit(self, requests: Sequence[SummaryRequest], waited: float = 0.0) -> list[Future[Summary]]:
        """Tokenize and admit all of these texts, or none: OverloadedError and those below it, TooLargeError;
        RetiredError where a successor does.

        A text that is wrong on its own does not raise: its future holds the RequestError. Cancelling a future frees its
        rows within one step. Tokenizing takes time: call from a thread.
        waited: seconds of their time that are over already.
        """
        return [
            entry.future if isinstance(entry, Ticket) else _failed(entry) for entry in self._admit(requests, waited)
        ]

    def stream(self, request: SummaryRequest, waited: float = 0.0) -> tuple[Future[Summary], Pieces]:
        """As `submit` for one text whose `on_token` is set, but whatever is wrong with it is raised.

        The pieces make text of what `on_token` is told, perhaps already before this returns.
        """
        (entry,) = self._admit([request], waited)
        if isinstance(entry, RequestError):
            raise entry
        return entry.future, Pieces(self._model, entry.plan)

    def drain(self, grace: float) -> None:
        """Unready at once; refuse new work; answer what was admitted within `grace` seconds; stop the worker.

        What is left then fails with DrainingError. A second call never shortens the grace of the first.
        """
        self._worker.drain(grace)

    def retire(self, patience: float) -> None:
        """As `drain`, but new work is told of a successor: RetiredError. A drain meanwhile has a grace of its own."""
        self._worker.retire(patience)

    def retry_after(self) -> int:
        """Whole seconds, at least one, computed from the measured queue."""
        return self._worker.retry_after()

    def _admit(self, requests: Sequence[SummaryRequest], waited: float) -> list[Ticket | RequestError]:
        submitted = self._clock() - waited
        try:
            if requests:
                left = min(request.timeout for request in requests) - waited
                if left <= 0 and waited > LONG_WAIT:
                    raise TooLateError(f"This had to wait for {waited:.1f} s to be read, too long.", self.retry_after())
                self._worker.check_room(len(requests), left)
            planned = [self._plan(request, submitted) for request in requests]
            self._worker.admit([ticket for ticket in planned if isinstance(ticket, Ticket)])
        except (OverloadedError, TooLargeError) as error:
            for _ in requests:
                self._observer.refused(error.reason)
            raise
        return planned

    def _plan(self, request: SummaryRequest, submitted: float) -> Ticket | RequestError:
        try:
            return Ticket(plan(self._model, request, self._most_beams), submitted, self._observer.cancelled)
        except RequestError as error:
            return error
        except Exception as error:  # a tokenizer's failure belongs to its text alone
            logger.error("a text could not be tokenized: %s", type(error).__name__)
            return ModelFailedError("The model failed on this text; other texts are not affected.")


def threads_for(info: ModelInfo, max_rows: int, most_cores: int | None = None) -> int:
    """How many threads should run a model: on a CPU one for each core, as long as the widest beam fits in its rows."""
    if info.device != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, most_cores or cores, MOST_THREADS, max_rows // max(FEWEST_ROWS, info.limits.max_beams)))


def _failed(error: RequestError) -> Future[Summary]:
    future: Future[Summary] = Future()
    future.set_exception(error)
    return future
