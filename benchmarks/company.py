"""Promise 1 on real texts: the same tokens and the same attention, alone and in random company."""

import random
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from app.engine.engine import Engine, threads_for
from app.engine.request import Summary, SummaryRequest
from app.models.base import DecodingOptions
from app.models.registry import load
from benchmarks.texts import mixed_texts

LIVE = (4, 16, 64, 64)  # texts at once, drawn anew at every arrival
GIVEN_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many of `texts` differ, the largest difference between two attention weights, and how many others left."""

    texts: int
    different_tokens: int
    different_attention: int
    largest_difference: float
    left: int = 0


def requests_for(texts: Sequence[str], defaults: DecodingOptions, seed: int) -> list[SummaryRequest]:
    """Every text with options of its own: one to four beams, short and long; a sixth with a summary that is given."""
    source = random.Random(seed)
    return [
        SummaryRequest(
            text,
            replace(defaults, num_beams=source.choice((1, 1, 2, 4)), max_length=source.choice((8, 16, 32))),
            attention=True,
            given=source.choice(texts)[:GIVEN_CHARACTERS] if source.random() < 1 / 6 else None,
            timeout=3600.0,
        )
        for text in texts
    ]


def alone(engine: Engine, requests: Sequence[SummaryRequest]) -> list[Summary]:
    """One after the other."""
    return [engine.submit([request])[0].result() for request in requests]


def in_company(engine: Engine, requests: Sequence[SummaryRequest], seed: int) -> tuple[list[Summary], int]:
    """In random order, joining while others are at any step, among callers who leave half-way; and how many left."""
    source = random.Random(seed)
    futures: dict[int, Future[Summary]] = {}
    leavers: list[Future[Summary]] = []
    left = 0
    for index in source.sample(range(len(requests)), len(requests)):
        futures[index] = engine.submit([requests[index]])[0]
        if source.random() < 0.2:
            leavers += engine.submit([source.choice(requests)])
        _wait_for_few([*futures.values(), *leavers], source.choice(LIVE))
        if leavers and source.random() < 0.3:
            left += leavers.pop(source.randrange(len(leavers))).cancel()
    return [futures[index].result() for index in range(len(requests))], left


def _wait_for_few(futures: Sequence[Future[Summary]], most: int) -> None:
    """Until at most this many are unanswered."""
    while len(pending := [future for future in futures if not future.done()]) > most:
        wait(pending, return_when=FIRST_COMPLETED)


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
        company, left = in_company(engine, requests, seed)
        return replace(compare(alone(engine, requests), company), left=left)
