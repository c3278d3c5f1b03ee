"""Rows of JSON Lines, good and bad, and whoever summarizes them here: an engine on the fake model."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hypothesis import strategies as st

from app.config import Settings
from app.corpus.shards import Corpus, Done
from app.corpus.summarizing import Summarizer
from app.engine.engine import Engine
from app.models.base import ModelInfo
from app.schemas import Options
from tests.fakes import UNENCODABLE, WORDS, FakeModel

TEXTS = st.lists(st.sampled_from([*WORDS[:6], "北京", "é"]), min_size=1, max_size=6).map(" ".join)
GOOD = st.builds(lambda text, n: json.dumps({"n": n, "text": text}).encode(), TEXTS, st.integers())
BAD = st.sampled_from(
    [
        b"nothing",
        b"[]",
        b"{}",
        b'{"text": 1}',
        b'{"text": " "}',
        b'{"text": "\xff"}',
        b'{"text": "a", "summary": "b"}',
        b'{"text": "a", "summary_details": {}}',
        json.dumps({"text": f"alpha {UNENCODABLE}"}).encode(),
    ]
)
LINES = st.lists(st.one_of(GOOD, GOOD, BAD, st.sampled_from([b"", b"  "])), max_size=12)


class FakeWorkers:
    """As `Local`, on an engine that is shared; `shards` counts those that were begun."""

    told = "the engine is a fake"

    def __init__(self, engine: Engine, options: Options | None = None) -> None:
        self.shards: list[int] = []
        self._engine = engine
        self._summarizer = Summarizer(engine, Settings(), options or Options(), "/text")

    @property
    def info(self) -> ModelInfo:
        return self._engine.info

    def summarize(self, corpus: Corpus, finished: frozenset[int], tell: Callable[[int], object]) -> Iterator[Done]:
        for done in self._summarizer.summarize(corpus.pending(finished), tell):
            self.shards.append(done.number)
            yield done


class Count:
    """A display."""

    total = before = done = 0

    def begin(self, total: int, done: int) -> None:
        self.total, self.before, self.done = total, done, done

    def advance(self, rows: int) -> None:
        self.done += rows


def engine(model: FakeModel | None = None) -> Engine:
    return Engine(model or FakeModel(), max_rows=16, max_queue=64)


def write(path: Path, lines: Sequence[bytes]) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path
