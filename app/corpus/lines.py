"""JSON Lines, compressed or not. What a row holds is written as it was read, byte for byte."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from app.corpus.files import Compression, compressed, opened
from app.corpus.shards import SHARD_ROWS, Answer, Corpus, Done, Layout, Shard, details, rejection, wrong
from app.errors import CorpusError, MalformedBodyError, RequestError, TooLargeError

LONGEST_LINE = 16 << 20  # bytes
BEGINNING = 1000  # bytes of a longer one that are told
SHARD_BYTES = 8 << 20  # rows that are larger come in smaller shards, so that little memory is needed
LOOKED_AT = 100  # rows, before everything begins
MARK = b"\xef\xbb\xbf"  # at the start of some files, and no text
WHITE = b" \t\r\n"  # of JSON

Row = tuple[int, bytes]  # number of the line, from 1, and what stands there


@dataclass(frozen=True, slots=True)
class LineShard(Shard):
    """Lines that are not blank."""

    number: int
    rows: tuple[Row, ...]
    layout: Layout

    def texts(self) -> list[str | RequestError]:
        return [self._text(line) for _, line in self.rows]

    def done(self, answers: Sequence[Answer]) -> Done:
        written, rejected = [], []
        for (number, line), answer in zip(self.rows, answers, strict=True):
            if isinstance(answer, RequestError):
                kept = line if len(line) <= LONGEST_LINE else line[:BEGINNING]
                rejected.append(rejection(number, answer, line=kept.decode(errors="backslashreplace")))
            else:
                ours = dict(zip(self.layout.added, (answer.text, details(answer)), strict=True))
                written.append(self._with(line, orjson.dumps(ours)))
        rows = compressed(b"".join(written), self.layout.compression) if written else b""
        return Done(self.number, len(written), len(rejected), rows, b"".join(rejected))

    def _text(self, line: bytes) -> str | RequestError:
        if len(line) > LONGEST_LINE:
            return TooLargeError(f"the row is longer than {LONGEST_LINE} bytes; only its beginning is kept here")
        row = _parsed(line, exactly=not self.layout.keep_text)
        if isinstance(row, RequestError):
            return row
        if taken := [name for name in self.layout.added if name in row]:
            return wrong("/" + taken[0], "is there already, and would be lost; choose another --summary-field")
        text = row.get(self.layout.text_field)
        if isinstance(text, str):
            return text
        present = self.layout.text_field in row
        return wrong(self.layout.pointer, "must be a string" if present else "is required")

    def _with(self, line: bytes, ours: bytes) -> bytes:
        if not self.layout.keep_text:
            row = json.loads(line)
            del row[self.layout.text_field]
            line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()
        beginning = line.strip(WHITE)[:-1].rstrip(WHITE)
        comma = b"" if beginning == b"{" else b","
        return beginning + comma + ours[1:] + b"\n"


@dataclass(frozen=True, slots=True)
class LineCorpus(Corpus):
    """compression: of what is read."""

    path: Path
    layout: Layout
    compression: Compression = ""

    def check(self) -> None:
        field, first = self.layout.text_field, [_parsed(line) for _, line in islice(self._rows(), LOOKED_AT)]
        rows = [row for row in first if isinstance(row, dict)]
        if rows and not any(isinstance(row.get(field), str) for row in rows):
            there = ", ".join(map(repr, rows[0])) or "none"
            raise CorpusError(
                f"{self.path}: the first {len(first)} rows have no text in a field {field!r}; "
                f"name another with --text-field (there: {there})"
            )
        if taken := [name for name in self.layout.added if any(name in row for row in rows)]:
            raise CorpusError(f"{self.path}: has a field {taken[0]!r} already; choose another with --summary-field")

    def rows(self) -> int:
        return sum(1 for _ in self._rows())

    def shards(self) -> Iterator[LineShard]:
        rows: list[Row] = []
        number = size = 0
        for row in self._rows():
            rows.append(row)
            size += len(row[1])
            if len(rows) == SHARD_ROWS or size >= SHARD_BYTES:
                yield LineShard(number, tuple(rows), self.layout)
                rows, size, number = [], 0, number + 1
        if rows:
            yield LineShard(number, tuple(rows), self.layout)

    def join(self, pieces: Sequence[Path], output: BinaryIO) -> None:
        for piece in pieces:
            with piece.open("rb") as rows:
                shutil.copyfileobj(rows, output)
        if not output.tell():
            output.write(compressed(b"", self.layout.compression))

    def _rows(self) -> Iterator[Row]:
        """Of a line that is too long, only so much that this is seen."""
        with opened(self.path, self.compression) as file:
            number = 0
            while line := file.readline(LONGEST_LINE + 2):
                number += 1
                content = (line.removeprefix(MARK) if number == 1 else line).rstrip(b"\r\n")
                while line and not line.endswith(b"\n"):
                    line = file.readline(LONGEST_LINE)
                if content.strip(WHITE):
                    yield number, content


def _parsed(line: bytes, exactly: bool = False) -> dict[str, Any] | RequestError:
    """exactly: with numbers of any length, as it takes to write the row anew."""
    try:
        row = orjson.loads(line)
        if exactly:
            row = json.loads(line)
    except orjson.JSONDecodeError as error:
        return MalformedBodyError(f"the row is not JSON: {error.msg} at column {error.colno}")
    except (RecursionError, ValueError):
        return MalformedBodyError("the row is nested too deeply, or holds a number with too many digits")
    return row if isinstance(row, dict) else wrong("", "must be a JSON object")
