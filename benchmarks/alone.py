"""One client: the median of the service beside that of a bare loop over the model, in this process, without an engine.

The bare loop encodes a tokenized text and steps its rows until its search is over; the service also reads the request,
tokenizes, schedules and answers. Both see the same texts one after the other, in turn, with the same search. What any
answer costs is measured beside them: one without work, after a pause as long as the bare loop takes for a text.
"""

import http.client
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch

from app.models.base import DecodingOptions, Seq2SeqModel
from app.models.registry import load as load_model
from app.numerals import Numerals, SourceNumbers
from app.search import BeamSearch, GreedySearch, Search, select
from benchmarks import load
from benchmarks.report import Results, cores, say, table
from benchmarks.systems import System, running
from benchmarks.texts import mixed_texts

BARE = "bare loop"


class BareLoop:
    """A model and nothing else: what a script would write."""

    def __init__(self, model: Seq2SeqModel, options: DecodingOptions) -> None:
        self._model, self._options = model, options
        self._numerals = Numerals(model.pieces)
        self._state = model.open(options.num_beams)

    @torch.inference_mode()
    def summarize(self, source: Sequence[int]) -> tuple[int, ...]:
        """The tokens of the summary of a tokenized text."""
        (memory,) = self._model.encode([source])
        held = SourceNumbers(self._numerals, source, range(len(source))) if self._options.numbers_from_source else None
        kind = GreedySearch if self._options.num_beams == 1 else BeamSearch
        search: Search = kind(self._options, self._model.info.special, memory.candidates, held)
        rows = list(range(self._options.num_beams))
        self._state.join(rows, memory)
        while not search.found:
            written = search.written()
            output = self._state.step(rows[: len(written)], written)
            parents = search.advance(select(output.log_probabilities, search.asks(), output.normalizers))
            if parents != rows[: len(parents)]:
                self._state.reorder(rows[: len(parents)], parents)
        self._state.leave(rows)
        return search.found.hypothesis.tokens


def measure(precision: str, count: int, rounds: int, beams: Sequence[int], folder: Path) -> str:
    """Medians of both, and their ratio."""
    kept = Results(folder, "alone", ("beams", "way"))
    kept.forget(lambda _: True)
    texts, system = mixed_texts(count), System("precis", precision)
    model = load_model(Path(system.store), system.model, precision=precision)
    with running(system) as server:
        for number in range(rounds):
            for one in beams:
                bodies = [system.body(text, one) for text in texts]
                load.one_by_one(server.url, bodies[:8])
                served = load.one_by_one(server.url, bodies)
                kept.add({"beams": one, "way": "served", "round": number, "p50": served.p50, "p95": served.p95})
                for way, threads in _ways():
                    torch.set_num_threads(threads)
                    p50, p95 = np.percentile(_bare(model, texts, one), (50, 95)).tolist()
                    kept.add({"beams": one, "way": f"{BARE}, {way}", "round": number, "p50": p50, "p95": p95})
                idle50, idle95 = np.percentile(_without_work(server.url, count, p50 / 1000), (50, 95)).tolist()
                kept.add({"beams": one, "way": "an answer without work", "round": number, "p50": idle50, "p95": idle95})
                say(f"round {number}, {one} beams: served {served.p50:.1f} ms")
    return _report(kept, beams)


def _ways() -> Iterator[tuple[str, int]]:
    yield "one thread", 1
    if cores() > 1:
        yield f"{cores()} threads", cores()


def _without_work(url: str, count: int, pause: float) -> list[float]:
    """Milliseconds of requests that ask for nothing, each after a pause in seconds."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    taken = []
    for _ in range(count):
        time.sleep(pause)
        started = time.perf_counter()
        connection.request("GET", "/livez")
        connection.getresponse().read()
        taken.append(1000 * (time.perf_counter() - started))
    connection.close()
    return taken


def _bare(model: Seq2SeqModel, texts: Sequence[str], beams: int) -> list[float]:
    """Milliseconds of each text."""
    loop = BareLoop(model, replace(model.info.defaults, num_beams=beams))
    sources = [model.tokenize(text).ids[: model.info.limits.max_source_tokens] for text in texts]
    for source in sources[:8]:
        loop.summarize(source)
    taken = []
    for source in sources:
        started = time.perf_counter()
        loop.summarize(source)
        taken.append(1000 * (time.perf_counter() - started))
    return taken


def _report(kept: Results, beams: Sequence[int]) -> str:
    medians = kept.medians()
    rows = []
    for one in beams:
        own = {record["way"]: record for record in medians if record["beams"] == one}
        best = min(record["p50"] for way, record in own.items() if way.startswith(BARE))
        for way, record in own.items():
            rows.append((one, way, f"{record['p50']:.1f}", f"{record['p95']:.1f}", f"{record['p50'] / best:.2f}"))
    names = ("beams", "way", "median ms", "p95 ms", "times the better bare loop")
    return kept.write([table(names, rows)])
