"""Rows of text and summary, packed as token ids, and the order in which they are trained on."""

import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
import zstandard
from numpy.typing import NDArray
from torch import Tensor

from app.models.lstm.tokenizer import END, PAD, START

_ROWS = re.compile(r"(?P<path>.+):(?:(?P<start>\d+)-)?(?P<end>\d+)")


@dataclass(frozen=True, slots=True)
class Pair:
    """One row of a data set; `references` are all the summaries to compare with, where a row has several."""

    id: str
    text: str
    summary: str
    references: tuple[str, ...] = ()

    @property
    def wanted(self) -> tuple[str, ...]:
        return self.references or (self.summary,)


def file_of(spec: str) -> Path:
    """The file of `PATH`, `PATH:ROWS` or `PATH:FROM-TO`."""
    return _parse(spec)[0]


def _parse(spec: str) -> tuple[Path, range]:
    if found := _ROWS.fullmatch(spec):
        return Path(found["path"]), range(int(found["start"] or 0), int(found["end"]))
    return Path(spec), range(sys.maxsize)


def read(spec: str) -> Iterator[Pair]:
    """Rows of `PATH`, `PATH:ROWS` or `PATH:FROM-TO`, JSON lines with `text` and `summary`, plain or .zst.

    Raises ValueError with the line's number when a row is not such an object.
    """
    path, rows = _parse(spec)
    opened = path.open("rb")
    stream = zstandard.ZstdDecompressor().stream_reader(opened) if path.suffix == ".zst" else opened
    with opened, io.TextIOWrapper(stream, encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number >= rows.stop:
                return
            if number < rows.start:
                continue
            try:
                row = json.loads(line)
                references = tuple(row.get("references", ()))
                pair = Pair(str(row.get("id", number)), row["text"], row["summary"], references)
                if not all(isinstance(one, str) for one in (pair.text, pair.summary, *references)):
                    raise TypeError("they must be strings")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                message = f"{path}, line {number + 1}: not an object with `text` and `summary` ({error})"
                raise ValueError(message) from error
            yield pair


class Vocabulary(Protocol):
    """What cuts texts into tokens, PAD, START and END among them: the native family's tokenizer, or another one."""

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary_size: int, language: str = "en") -> Self: ...

    @classmethod
    def load(cls, path: Path) -> Self: ...

    def save(self, path: Path) -> None: ...

    @property
    def vocabulary_size(self) -> int: ...

    def ids(self, texts: Sequence[str]) -> list[list[int]]: ...


@dataclass(frozen=True, slots=True)
class Packed:
    """Token ids of many pairs, end to end: `ids[starts[i]:starts[i + 1]]` is row i. 16 bits an id."""

    source_ids: NDArray[np.uint16]
    source_starts: NDArray[np.int64]
    summary_ids: NDArray[np.uint16]
    summary_starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.source_starts) - 1

    @property
    def source_lengths(self) -> NDArray[np.int64]:
        return np.diff(self.source_starts)

    @property
    def summary_lengths(self) -> NDArray[np.int64]:
        return np.diff(self.summary_starts)

    def source(self, row: int) -> NDArray[np.uint16]:
        return self.source_ids[self.source_starts[row] : self.source_starts[row + 1]]

    def summary(self, row: int) -> NDArray[np.uint16]:
        return self.summary_ids[self.summary_starts[row] : self.summary_starts[row + 1]]

    def select(self, rows: NDArray[np.int64]) -> "Packed":
        """These rows, in this order."""
        return end_to_end([self.source(row) for row in rows], [self.summary(row) for row in rows])

    def save(self, path: Path) -> None:
        np.savez(path, **{name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def load(cls, path: Path) -> "Packed":
        with np.load(path) as arrays:
            return cls(**{name: arrays[name] for name in cls.__slots__})


def pack(pairs: Iterator[Pair], tokenizer: Vocabulary, max_source: int, max_summary: int) -> Packed:
    """Tokenize; sources are cut at `max_source`, pairs with an empty side or a longer summary are left out."""
    sources: list[NDArray[np.uint16]] = []
    summaries: list[NDArray[np.uint16]] = []
    for block in _blocks(pairs, 10_000):
        texts = tokenizer.ids([pair.text for pair in block])
        wanted = tokenizer.ids([pair.summary for pair in block])
        for source, summary in zip(texts, wanted, strict=True):
            if source and 0 < len(summary) <= max_summary:
                sources.append(np.array(source[:max_source], dtype=np.uint16))
                summaries.append(np.array(summary, dtype=np.uint16))
    if not sources:
        raise ValueError("no usable pair: every row has an empty text or summary, or a summary over the limit")
    return end_to_end(sources, summaries)


def end_to_end(sources: list[NDArray[np.uint16]], summaries: list[NDArray[np.uint16]]) -> Packed:
    """Rows, packed."""
    return Packed(np.concatenate(sources), _starts(sources), np.concatenate(summaries), _starts(summaries))


def lengthen(packed: Packed, share: float, max_source: int, seed: int) -> Packed:
    """Append the texts of other rows to a share of the sources, up to a random length of at most `max_source`.

    A model that never saw text beyond the story it is to summarize does not know where that story ends. As many sources
    grow from 50 tokens to less than 140 as from there to 400: the first sentence too many is the hardest.
    """
    random = np.random.default_rng(seed)
    sources = [packed.source(row) for row in range(len(packed))]
    longer = list(sources)
    for row in np.flatnonzero(random.random(len(packed)) < share):
        parts, length = [sources[row]], len(sources[row])
        wanted = round(length * max(1.0, max_source / length) ** random.random())
        while length < wanted:
            parts.append(sources[random.integers(len(packed))])
            length += len(parts[-1])
        longer[row] = np.concatenate(parts)[:wanted]
    return end_to_end(longer, [packed.summary(row) for row in range(len(packed))])


def _blocks(pairs: Iterator[Pair], size: int) -> Iterator[list[Pair]]:
    block: list[Pair] = []
    for pair in pairs:
        block.append(pair)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


def _starts(rows: list[NDArray[np.uint16]]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Batch:
    """Shapes: source (B, S), lengths (B,), inputs and targets (B, T); targets are PAD beyond the end token."""

    source: Tensor
    lengths: Tensor
    inputs: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(getattr(self, name).to(device, non_blocking=True) for name in self.__slots__))


def plan_epoch(packed: Packed, epoch: int, seed: int, batch_pairs: int, batch_tokens: int) -> list[NDArray[np.int64]]:
    """Rows of each batch of one epoch, a pure function of its arguments.

    Pairs of equal source length meet in a batch, in a new order every epoch, so that next to nothing is padded; a
    batch holds at most `batch_pairs` pairs and `batch_tokens` source tokens (padding included).
    """
    random = np.random.default_rng([seed, epoch])
    shuffled = random.permutation(len(packed))
    order = shuffled[np.argsort(packed.source_lengths[shuffled], kind="stable")]
    lengths = packed.source_lengths[order]
    batches = []
    start = 0
    while start < len(order):
        # Sorted by length, so the widest row of a batch is its last: shrink until that one fits.
        end = min(start + batch_pairs, len(order))
        while end - start > 1 and (end - start) * lengths[end - 1] > batch_tokens:
            end = start + max(1, min(end - start - 1, int(batch_tokens // lengths[end - 1])))
        batches.append(order[start:end])
        start = end
    return [batches[index] for index in random.permutation(len(batches))]


def collate(packed: Packed, rows: NDArray[np.int64]) -> Batch:
    """The rows as one padded batch."""
    source = pad([packed.source(row) for row in rows])
    summaries = [packed.summary(row).astype(np.int64) for row in rows]
    return Batch(
        source,
        torch.from_numpy(packed.source_lengths[rows].copy()),
        pad([np.concatenate([[START], summary]) for summary in summaries]),
        pad([np.concatenate([summary, [END]]) for summary in summaries]),
    )


def pad(rows: Sequence[NDArray[np.uint16] | NDArray[np.int64]]) -> Tensor:
    """Rows of token ids as one tensor (B, longest), PAD behind each."""
    padded = np.full((len(rows), max(len(row) for row in rows)), PAD, dtype=np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return torch.from_numpy(padded)
