"""Parquet. Columns keep their types; ours are added behind them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow import parquet

from app.corpus.shards import SHARD_ROWS, Answer, Corpus, Done, Layout, Shard, details, rejection, wrong
from app.errors import CorpusError, RequestError, in_one_line

GROUP_BYTES = 64 << 20  # of an output's row groups, as they are in memory

_SPAN = pa.struct([("start", pa.int64()), ("end", pa.int64())])
_COUNTS = ("characters", "tokens", "used_characters", "used_tokens")
_SOURCE = pa.struct([*((name, pa.int64()) for name in _COUNTS), ("truncated", pa.bool_())])
_USAGE = pa.struct([("source_tokens", pa.int64()), ("summary_tokens", pa.int64())])
_SCORED = [("finish_reason", pa.string()), ("score", pa.float64())]
_DETAILS = [*_SCORED, ("source", _SOURCE), ("usage", _USAGE)]
_PARTS = pa.list_(pa.struct([("source", _SPAN), ("summary", _SPAN), *_SCORED]))


@dataclass(frozen=True, slots=True)
class TableShard(Shard):
    """first: number of the first row, from 1."""

    number: int
    first: int
    batch: Any  # pyarrow.RecordBatch
    layout: Layout

    def texts(self) -> list[str | RequestError]:
        column = self.batch.column(self.layout.text_field)
        # As bytes, for nobody has looked whether they are UTF-8.
        values = column.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
        return [self._text(value) for value in values]

    def done(self, answers: Sequence[Answer]) -> Done:
        good = [(place, answer) for place, answer in enumerate(answers) if not isinstance(answer, RequestError)]
        rejected = [
            rejection(self.first + place, answer, content=self._content(place))
            for place, answer in enumerate(answers)
            if isinstance(answer, RequestError)
        ]
        table = pa.Table.from_batches([self.batch.take(pa.array([place for place, _ in good], pa.int64()))])
        types = (pa.string(), _details(self.layout))
        ours = ([answer.text for _, answer in good], [details(answer) for _, answer in good])
        for name, kind, values in zip(self.layout.added, types, ours, strict=True):
            table = table.append_column(name, pa.array(values, kind))
        if not self.layout.keep_text:
            table = table.drop_columns([self.layout.text_field])
        rows = BytesIO()
        with pa.ipc.new_file(rows, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(table)
        return Done(self.number, len(good), len(rejected), rows.getvalue(), b"".join(rejected))

    def _text(self, value: bytes | None) -> str | RequestError:
        if value is None:
            return wrong(self.layout.pointer, "must be a string")
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            return wrong(self.layout.pointer, f"is not UTF-8: wrong byte at position {error.start}")

    def _content(self, place: int) -> dict[str, object]:
        return {name: _value(self.batch.column(name)[place]) for name in self.batch.schema.names}


@dataclass(frozen=True, slots=True)
class TableCorpus(Corpus):
    path: Path
    layout: Layout

    def check(self) -> None:
        with self._opened() as file:
            schema = file.schema_arrow
        field, names = self.layout.text_field, schema.names
        if len(set(names)) < len(names):
            raise CorpusError(f"{self.path}: has two columns of the same name")
        if field not in names:
            there = ", ".join(map(repr, names)) or "none"
            raise CorpusError(f"{self.path}: no column {field!r}; name another with --text-field (there: {there})")
        if not _is_text(schema.field(field).type):
            raise CorpusError(f"{self.path}: column {field!r} is {schema.field(field).type}, and no text")
        if taken := [name for name in self.layout.added if name in names]:
            raise CorpusError(f"{self.path}: has a column {taken[0]!r} already; choose another with --summary-field")

    def rows(self) -> int:
        with self._opened() as file:
            return int(file.metadata.num_rows)

    def shards(self) -> Iterator[TableShard]:
        first = 1
        with self._opened() as file:
            for number, batch in enumerate(self._batches(file)):
                yield TableShard(number, first, batch, self.layout)
                first += batch.num_rows

    def join(self, pieces: Sequence[Path], output: BinaryIO) -> None:
        with self._opened() as file:
            nothing = TableShard(0, 1, pa.RecordBatch.from_pylist([], file.schema_arrow), self.layout).done([])
        schema = pa.ipc.open_file(nothing.rows).schema
        with parquet.ParquetWriter(output, schema, compression="zstd") as writer:
            for table in _groups(pa.ipc.open_file(piece.read_bytes()).read_all() for piece in pieces):
                writer.write_table(table, row_group_size=table.num_rows)

    def _opened(self) -> Any:
        try:
            return parquet.ParquetFile(self.path)
        except pa.ArrowInvalid as error:
            raise CorpusError(f"{self.path}: {in_one_line(error)}") from error

    def _batches(self, file: Any) -> Iterator[Any]:
        try:
            yield from file.iter_batches(SHARD_ROWS)
        except (pa.ArrowInvalid, OSError) as error:
            raise CorpusError(f"{self.path}: {in_one_line(error)}") from error


def _groups(tables: Iterable[Any]) -> Iterator[Any]:
    """Larger ones of them."""
    held: list[Any] = []
    for table in tables:
        if table.num_rows:
            held.append(table)
        if sum(each.nbytes for each in held) >= GROUP_BYTES:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def _details(layout: Layout) -> Any:
    return pa.struct([*_DETAILS, *([("parts", _PARTS)] if layout.parts else [])])


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _value(scalar: Any) -> object:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return repr(scalar.cast(pa.large_binary()).as_py())
