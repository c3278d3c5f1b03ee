"""The offline limit: the engine's own step on texts that are all known, sorted by length, without HTTP.

Two ways, both on as many lanes as the service has: `static` batches of like length, each decoded to its end, and
`continuous`, where rows join as others leave. The limit is the better one with the best number of rows.
"""

import multiprocessing
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

from app.engine.admission import plan
from app.engine.batch import RunningBatch
from app.engine.costs import Load
from app.engine.engine import threads_for
from app.engine.job import Job, Ticket
from app.engine.lane import threads_of
from app.engine.observer import EngineObserver
from app.engine.request import SummaryRequest
from app.engine.worker import Worker
from app.models.base import Seq2SeqModel
from app.models.registry import load
from app.numerals import Numerals
from benchmarks.report import say

P = ParamSpec("P")
R = TypeVar("R")

ROWS = {False: (32, 64, 128), True: (128, 256, 512)}  # that are tried, without and with a GPU
TIMEOUT = 3600.0
WARM_UP_TEXTS = 64


def measure(
    precision: str,
    texts: Sequence[str],
    beams: int,
    rows: int,
    store: str = "model_store",
    name: str = "news-en",
    length: int = 0,
) -> dict[str, float]:
    """Summaries a second, each way, in a process of its own. length: of each in tokens; 0 is the checkpoint's own."""
    return alone(_measure, precision, texts, beams, rows, store, name, length)


class Limit:
    """Summaries a second without a GPU, in the way and with the rows that were the best at first."""

    def __init__(
        self, precision: str, texts: Sequence[str], beams: int, store: str = "model_store", name: str = "news-en"
    ) -> None:
        self._measure = partial(measure, precision, texts, beams, store=store, name=name)
        rates = {(rows, way): rate for rows in ROWS[False] for way, rate in self._measure(rows).items()}
        self._rows, self._way = max(rates, key=rates.__getitem__)
        say(f"offline limit: the best of {len(rates)} ways is {self._way} with {self._rows} rows")
        self._last = self._again()

    def around(self) -> float:
        """Measured now: the mean with the time before, of what ran in between."""
        before, self._last = self._last, self._again()
        return (before + self._last) / 2

    def _again(self) -> float:
        return self._measure(self._rows)[self._way]


def alone(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The result of a function that is called in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *args, **kwargs).result()


def _measure(
    precision: str, texts: Sequence[str], beams: int, rows: int, store: str, name: str, length: int
) -> dict[str, float]:
    model = load(Path(store), name, precision=precision)
    threads = threads_for(model.info, rows)
    rates = {}
    for way, run in (("static", static), ("continuous", continuous)):
        run(model, tickets(model, texts[:WARM_UP_TEXTS], beams, rows, length), rows, threads)
        waiting = tickets(model, texts, beams, rows, length)
        started = time.perf_counter()
        run(model, waiting, rows, threads)
        rates[way] = len(texts) / (time.perf_counter() - started)
    return rates


def tickets(model: Seq2SeqModel, texts: Sequence[str], beams: int, rows: int, length: int = 0) -> list[Ticket]:
    """Tokenized, the shortest first."""
    options = replace(model.info.defaults, num_beams=beams)
    if length:
        options = replace(options, min_length=length, max_length=length)
    plans = [plan(model, SummaryRequest(text, options, timeout=TIMEOUT), rows) for text in texts]
    return [Ticket(one, time.monotonic()) for one in sorted(plans, key=lambda one: one.parts[0].stop)]


def continuous(model: Seq2SeqModel, waiting: Sequence[Ticket], rows: int, threads: int) -> None:
    """As the service does it."""
    lanes = threads_of(model, time.monotonic)
    worker = Worker(model, rows, Load(inf, inf, inf, inf), EngineObserver(), time.monotonic, lanes, threads)
    worker.start()
    try:
        worker.admit(waiting)
        for ticket in waiting:
            ticket.future.result()
    finally:
        worker.drain(grace=0.0)


def static(model: Seq2SeqModel, waiting: Sequence[Ticket], rows: int, threads: int) -> None:
    """In batches, the longest first, so that no lane is left with a long one at the end."""
    size = max(1, rows // threads // waiting[0].jobs[0].rows)
    batches = [waiting[start : start + size] for start in range(0, len(waiting), size)]
    numerals = Numerals(model.pieces)
    failures: list[BaseException] = []

    def lane() -> None:
        if model.info.device == "cpu":
            torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                batch = RunningBatch(model, numerals, rows // threads, time.monotonic)
                while batches:
                    _decode(batch, [job for ticket in batches.pop() for job in ticket.jobs])
        except BaseException as error:
            failures.append(error)

    lanes = [threading.Thread(target=lane) for _ in range(threads)]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()
    if failures:
        raise failures[0]


def _decode(batch: RunningBatch, jobs: Sequence[Job]) -> None:
    slots = iter(range(sum(job.rows for job in jobs)))
    batch.join([(job.task, [next(slots) for _ in range(job.rows)]) for job in jobs])
    while not batch.idle:
        batch.step()
    batch.take_report()
