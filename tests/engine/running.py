"""What engine tests share: an engine that is started, drained and checked for leaks, and one text run alone."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np

from app.engine.costs import Load
from app.engine.engine import Engine
from app.engine.observer import EngineObserver
from app.engine.request import Summary, SummaryRequest
from app.models.base import DecodingOptions
from tests.fakes import FakeModel

PATIENCE = 30.0  # seconds; only a broken engine takes as long
GREEDY = DecodingOptions(num_beams=1, max_length=8)
BEAMS = DecodingOptions(num_beams=2, max_length=8)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class RecordingObserver(EngineObserver):
    """Counts events, and keeps the last state."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.waiting = 0.0
        self.live = 0
        self.tokens = (0, 0)

    def queue_changed(self, waiting: Load, expected_wait: float) -> None:
        assert expected_wait >= 0
        self.waiting = waiting.texts

    def rows_changed(self, live: int, capacity: int) -> None:
        assert 0 <= live <= capacity
        self.live = live

    def encoded(self, real_tokens: int, padded_tokens: int, seconds: float) -> None:
        assert real_tokens <= padded_tokens
        assert seconds >= 0
        self.tokens = (real_tokens, padded_tokens)

    def stepped(self, rows: int, seconds: float) -> None:
        assert rows > 0
        assert seconds >= 0
        self.events["stepped"] += 1

    def first_token(self, seconds: float) -> None:
        assert seconds >= 0
        self.events["first_token"] += 1

    def refused(self, reason: str) -> None:
        self.events[f"refused {reason}"] += 1

    def cancelled(self) -> None:
        self.events["cancelled"] += 1

    def worker_restarted(self) -> None:
        self.events["worker_restarted"] += 1


@contextmanager
def running(
    model: FakeModel,
    max_rows: int = 8,
    max_queue: int = 1000,
    observer: EngineObserver | None = None,
    clock: Clock | None = None,
    threads: int = 1,
) -> Iterator[Engine]:
    """A started engine; afterwards it is drained, and no slot may be left in use."""
    given = clock or time.monotonic
    engine = Engine(model, max_rows=max_rows, max_queue=max_queue, observer=observer, clock=given, threads=threads)
    engine.start()
    try:
        yield engine
    finally:
        model.gate.open()
        engine.drain(PATIENCE)
    assert model.occupied == 0
    assert not engine.ready


@cache
def alone(request: SummaryRequest) -> Summary:
    """The summary of one text that has the engine to itself."""
    with running(FakeModel()) as engine:
        return engine.submit([request])[0].result(PATIENCE)


def assert_same(summary: Summary, other: Summary) -> None:
    """Equal to the last bit, but for the timing."""
    for name in ("model", "text", "finish_reason", "score", "source", "summary_tokens", "parts"):
        assert getattr(summary, name) == getattr(other, name)
    if summary.attention is None or other.attention is None:
        assert summary.attention is other.attention
        return
    assert (summary.attention.source, summary.attention.summary) == (other.attention.source, other.attention.summary)
    for name in ("weights", "log_probabilities", "copied", "dropped"):
        np.testing.assert_array_equal(getattr(summary.attention, name), getattr(other.attention, name))
