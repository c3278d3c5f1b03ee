"""A shard: some rows of the input, cut by position, and what becomes of them. It travels to other machines."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from app.api.problems import invalid
from app.api.responses import summary_json
from app.corpus.files import Compression
from app.engine.request import Summary
from app.errors import FieldError, RequestError

SHARD_ROWS = 1024
DECIMALS = 4  # of scores
OF_THE_RUN = ("id", "model", "timing", "summary")  # what is different each time, or told elsewhere
Answer = Summary | RequestError


@dataclass(frozen=True, slots=True)
class Layout:
    """What is read of a row and what is written of it. parts: of long texts, each summarized by itself."""

    text_field: str = "text"
    summary_field: str = "summary"
    keep_text: bool = True
    parts: bool = False
    compression: Compression = ""  # of JSON Lines that are written

    @property
    def details_field(self) -> str:
        """How the summary came about."""
        return f"{self.summary_field}_details"

    @property
    def added(self) -> tuple[str, str]:
        return self.summary_field, self.details_field

    @property
    def pointer(self) -> str:
        """RFC 6901, of the text."""
        return "/" + self.text_field.replace("~", "~0").replace("/", "~1")


@dataclass(frozen=True, slots=True)
class Done:
    """A finished shard. rows: a piece of the output; rejected: JSON lines."""

    number: int
    summaries: int
    set_aside: int
    rows: bytes
    rejected: bytes


class Shard(ABC):
    """Numbered from 0."""

    number: int

    @abstractmethod
    def texts(self) -> list[str | RequestError]:
        """The text of each row, or what is wrong with it."""

    @abstractmethod
    def done(self, answers: Sequence[Answer]) -> Done:
        """With an answer for each row."""


@dataclass(frozen=True, slots=True)
class Corpus(ABC):
    """An input. What is wrong with it as a whole is raised as CorpusError."""

    path: Path
    layout: Layout

    @abstractmethod
    def check(self) -> None:
        """Whether the layout fits, as far as the beginning tells."""

    @abstractmethod
    def rows(self) -> int:
        """How many there are."""

    @abstractmethod
    def shards(self) -> Iterator[Shard]:
        """The same ones each time."""

    @abstractmethod
    def join(self, pieces: Sequence[Path], output: BinaryIO) -> None:
        """Make an output of the rows of all shards, in order."""

    def pending(self, finished: frozenset[int]) -> Iterator[Shard]:
        return (shard for shard in self.shards() if shard.number not in finished)


def details(summary: Summary) -> dict[str, Any]:
    """As the API tells it, without what is not the same each time."""
    content = {name: value for name, value in summary_json(summary, "").items() if name not in OF_THE_RUN}
    for scored in (content, *content.get("parts", ())):
        scored["score"] = round(scored["score"], DECIMALS)
    return content


def rejection(row: int, error: RequestError, **content: object) -> bytes:
    """A line. row: counted from 1."""
    told = {"row": row, "error_type": error.slug, "reason": error.detail, **content}
    return orjson.dumps(told, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)


def wrong(pointer: str, message: str) -> RequestError:
    return invalid((FieldError(pointer, message),))
