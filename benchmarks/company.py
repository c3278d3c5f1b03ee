"""Promise 1 on real texts: the same tokens and the same attention, alone and in random company."""

import random
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from app.engine.engine import Engine, threads_for
from app.engine.request import Summary, SummaryRequest
from app.models.base import DecodingOptions
from app.models.registry import load
from benchmarks.texts import mixed_texts


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many of `texts` differ, and the largest difference between two attention weights."""

    texts: int
    different_tokens: int
    different_attention: int
    largest_difference: float


def requests_for(texts: Sequence[str], defaults: DecodingOptions, seed: int) -> list[SummaryRequest]:
    """Every text with options of its own: one to four beams, short and long."""
    source = random.Random(seed)
    return [
        SummaryRequest(
            text,
            replace(defaults, num_beams=source.choice((1, 1, 2, 4)), max_length=source.choice((8, 16, 32))),
            attention=True,
            timeout=3600.0,
        )
        for text in texts
    ]


def alone(engine: Engine, requests: Sequence[SummaryRequest]) -> list[Summary]:
    """One after the other."""
    return [engine.submit([request])[0].result() for request in requests]


def in_company(engine: Engine, requests: Sequence[SummaryRequest], seed: int) -> list[Summary]:
    """In random order, arriving at random moments, with callers who leave half-way in between."""
    source = random.Random(seed)
    order = source.sample(range(len(requests)), len(requests))
    futures: dict[int, Future[Summary]] = {}
    for index in order:
        futures[index] = engine.submit([requests[index]])[0]
        leaver = engine.submit([source.choice(requests)])[0] if source.random() < 0.2 else None
        if leaver or source.random() < 0.3:
            time.sleep(source.random() * 0.02)
        if leaver:
            leaver.cancel()
    return [futures[index].result() for index in range(len(requests))]


def compare(one: Sequence[Summary], other: Sequence[Summary]) -> Comparison:
    """Token by token and bit by bit."""
    tokens = attention = 0
    largest = 0.0
    for first, second in zip(one, other, strict=True):
        assert first.attention is not None
        assert second.attention is not None
        if first.attention.summary.ids != second.attention.summary.ids:
            tokens += 1
            continue
        difference = np.abs(first.attention.weights - second.attention.weights).max(initial=0.0)
        attention += bool(difference > 0)
        largest = max(largest, float(difference))
    return Comparison(len(one), tokens, attention, largest)


def measure(store: Path, name: str, count: int, precision: str, max_rows: int, seed: int) -> Comparison:
    """Load the checkpoint and compare `count` texts alone with the same texts in company."""
    model = load(store, name, precision=precision)
    threads = threads_for(model.info, max_rows)
    with Engine(model, max_rows=max_rows, max_queue=2 * count, threads=threads) as engine:
        requests = requests_for(mixed_texts(count), model.info.defaults, seed)
        return compare(alone(engine, requests), in_company(engine, requests, seed))
