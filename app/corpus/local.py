"""An engine of our own, for as long as a run takes."""

from collections.abc import Callable, Iterator
from typing import Self

from app.config import Settings
from app.corpus.engine import Occupancy, open_engine
from app.corpus.shards import Corpus, Done
from app.corpus.summarizing import Summarizer
from app.models.base import ModelInfo
from app.schemas import Options


class Local:
    """Workers of this machine. Raises CheckpointError, or InvalidRequestError where the model has no such options."""

    def __init__(self, settings: Settings, options: Options, pointer: str) -> None:
        self._occupancy = Occupancy()
        self._engine = open_engine(settings, options, self._occupancy)
        self._summarizer = Summarizer(self._engine, settings, options, pointer)

    def __enter__(self) -> Self:
        self._engine.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._engine.drain(grace=0.0)

    @property
    def info(self) -> ModelInfo:
        return self._engine.info

    @property
    def told(self) -> str:
        return f"the engine {self._occupancy.share:.1%} full"

    def summarize(self, corpus: Corpus, finished: frozenset[int], tell: Callable[[int], object]) -> Iterator[Done]:
        return self._summarizer.summarize(corpus.pending(finished), tell)
