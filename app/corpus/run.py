"""A corpus from its first row to its last: what is pending is summarized, kept shard by shard, and put together."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from app import __version__
from app.config import Settings
from app.corpus.files import Fingerprint, fingerprint
from app.corpus.shards import SHARD_ROWS, Corpus, Done
from app.corpus.work_folder import Count, WorkFolder
from app.errors import CorpusError
from app.models.base import ModelInfo
from app.schemas import Options

FORMAT = 1  # of what is kept


class Workers(Protocol):
    """Whoever summarizes: an engine of our own, or those of a cluster."""

    @property
    def info(self) -> ModelInfo:
        """Of the model that they all have."""

    @property
    def told(self) -> str:
        """How well they did, or how many they are, for people."""

    def summarize(self, corpus: Corpus, finished: frozenset[int], tell: Callable[[int], object]) -> Iterator[Done]:
        """All shards but those that are finished, in any order. tell: called with numbers of answered rows."""


class Display(Protocol):
    """For those who wait."""

    def begin(self, total: int, done: int) -> None:
        """Rows."""

    def advance(self, rows: int) -> None:
        """So many more are done."""


@dataclass(frozen=True, slots=True)
class Job:
    """most_rejected: rows that may be set aside before it is given up; None is any number."""

    corpus: Corpus
    options: Options
    settings: Settings
    most_rejected: int | None = None


def run(job: Job, folder: WorkFolder, workers: Workers, display: Display) -> Count:
    """All rows, those that were finished before included.

    Raises CorpusError where the folder belongs to another run, the input changes, or too many rows are set aside.
    """
    corpus, begun = job.corpus, folder.begun()
    read = _read(corpus, begun)
    described = _described(job, workers.info, read)
    if begun is None:
        folder.begin(described)
    elif different := _differences(begun, described):
        raise CorpusError(
            f"{folder.path}: belongs to another run: {'; '.join(different)}. "
            "Go on as it was begun, or remove the folder to begin anew"
        )
    finished = folder.finished()
    count = sum(finished.values(), Count())
    display.begin(read.rows, count.rows)
    _check(job, count)
    for done in workers.summarize(corpus, frozenset(finished), display.advance):
        count += folder.keep(done)
        _check(job, count)
    if count.rows != read.rows or not read.input.same_file(corpus.path):
        raise CorpusError(f"{corpus.path}: changed while it was read; remove {folder.path} to begin anew")
    folder.complete(corpus)
    return count


@dataclass(frozen=True, slots=True)
class _Read:
    input: Fingerprint
    rows: int


def _read(corpus: Corpus, begun: Mapping[str, Any] | None) -> _Read:
    """The whole input is read for this, unless that was done for the same run."""
    if begun is not None:
        rows = begun["input"]["rows"]
        known = Fingerprint(**{name: value for name, value in begun["input"].items() if name != "rows"})
        if known.same_file(corpus.path):
            return _Read(known, rows)
    return _Read(fingerprint(corpus.path), corpus.rows())


def _described(job: Job, info: ModelInfo, read: _Read) -> dict[str, Any]:
    """All that the output depends on."""
    return {
        "format": FORMAT,
        "precis": __version__,
        "input": {**asdict(read.input), "rows": read.rows},
        "layout": asdict(job.corpus.layout),
        "shard_rows": SHARD_ROWS,
        "model": model_facts(info),
        "parameters": job.options.parameters.model_dump(),
        "truncation": job.options.truncation,
        "max_characters": job.settings.max_characters,
    }


def model_facts(info: ModelInfo) -> dict[str, str]:
    """What decides, for the same text and options, about every bit of an answer."""
    device = info.device.partition(":")[0]
    return {"name": info.name, "digest": info.digest, "precision": info.precision, "device": device}


def _differences(begun: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    before, after = dict(_flat(begun)), dict(_flat(now))
    names = [name for name in {**before, **after} if name != "input modified"]
    return [
        f"{name.replace('_', ' ')} was {before.get(name)!r} and is {after.get(name)!r}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{name} {inner}", each) for inner, each in value.items())
        else:
            yield name, value


def _check(job: Job, count: Count) -> None:
    if job.most_rejected is not None and count.set_aside > job.most_rejected:
        raise CorpusError(f"{count.set_aside} rows were set aside, more than --max-rejected {job.most_rejected}")
