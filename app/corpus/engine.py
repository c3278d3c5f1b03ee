"""The engine of a corpus: rows enough that it is full, and a queue just long enough to keep it so."""

from functools import partial
from time import monotonic

from app.api.requests import decoding_options
from app.config import Settings
from app.engine.engine import Engine, threads_for
from app.engine.observer import EngineObserver
from app.engine.process import ProcessLanes
from app.engine.settling import settle
from app.models import registry
from app.schemas import Options

LANE_TEXTS = 128  # live ones; beside so many, those that leave before others join are few
MOST_WAITING = 2048  # texts, live ones included; no lane waits for a shard to be read, or for one to be written
TOGETHER = 256  # texts that are submitted at once: whoever does it finds cold caches each time


class Occupancy(EngineObserver):
    """How full the rows of an engine are. The engine tells it of changes one by one."""

    def __init__(self) -> None:
        self._share, self._since = 0.0, 0.0
        self._used = self._seconds = 0.0

    @property
    def share(self) -> float:
        """Live rows / rows, over all the time while some were live."""
        return self._used / self._seconds if self._seconds else 0.0

    def rows_changed(self, live: int, capacity: int) -> None:
        now = monotonic()
        if self._share:
            self._used += self._share * (now - self._since)
            self._seconds += now - self._since
        self._share, self._since = live / capacity, now


def open_engine(
    settings: Settings, options: Options, observer: EngineObserver | None = None, lanes: int | None = None
) -> Engine:
    """The engine of the default model, not started yet. lanes: one for each core where nothing is said.

    Raises CheckpointError, or InvalidRequestError where the model does not take these options.
    """
    load = partial(registry.load, settings.model_store, settings.model, device=settings.device)
    load = partial(load, precision=settings.precision)
    model = load()
    beams = decoding_options(options.parameters, model.info).num_beams
    threads = lanes or threads_for(model.info, settings.max_rows or MOST_WAITING, settings.cores)
    rows = settings.max_rows or LANE_TEXTS * beams * threads
    processes = None
    if threads > 1:  # a single one shares its core with us, and needs no process of its own
        processes = ProcessLanes(load, model, rows // threads)
        processes.prepare(threads)
    settle()
    return Engine(
        model,
        max_rows=rows,
        max_queue=MOST_WAITING + TOGETHER,
        max_queue_tokens=settings.max_queue_tokens,
        max_queue_bytes=settings.max_queue_mb << 20,
        observer=observer,
        threads=threads,
        open_lane=processes,
    )
