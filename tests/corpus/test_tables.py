"""Parquet: columns keep their types, rows their order."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.corpus import tables
from app.corpus.shards import Layout
from app.corpus.tables import TableCorpus, TableShard
from app.engine.request import Part, Summary
from app.errors import CorpusError, ModelFailedError, RequestError
from app.models.base import Span
from tests.corpus.test_lines import SUMMARY

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

WITH_PARTS = Summary(
    SUMMARY.model,
    "a b",
    "stop",
    -1.0,
    SUMMARY.source,
    2,
    SUMMARY.timing,
    (Part(Span(0, 4), Span(0, 1), -0.98765, "stop"), Part(Span(5, 9), Span(2, 3), -1.01, "length")),
)


def corpus(path: Path, table: Any, **layout: Any) -> TableCorpus:
    parquet.write_table(table, path)
    return TableCorpus(path, Layout(**layout))


def put_out(corpus: TableCorpus, folder: Path, bad: frozenset[int] = frozenset(), answer: Summary = SUMMARY) -> Any:
    """What comes out where rows of these numbers, from 0, are set aside; with what is told of these."""
    pieces: list[Path] = []
    rejected: list[Any] = []
    number = 0
    for shard in corpus.shards():
        places = range(number, number + shard.batch.num_rows)
        done = shard.done([ModelFailedError("no") if place in bad else answer for place in places])
        number += shard.batch.num_rows
        pieces.append(folder / f"{shard.number}.rows")
        pieces[-1].write_bytes(done.rows)
        rejected += map(json.loads, done.rejected.splitlines())
    with (folder / "out.parquet").open("wb") as output:
        corpus.join(pieces, output)
    return parquet.read_table(folder / "out.parquet"), rejected


@settings(max_examples=30)
@given(
    count=st.integers(0, 20),
    rows=st.integers(1, 7),
    size=st.integers(1, 2000),
    groups=st.integers(1, 9),
    data=st.data(),
)
def test_rows_come_out_in_order_however_they_are_cut(
    tmp_path_factory: pytest.TempPathFactory, count: int, rows: int, size: int, groups: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    bad = data.draw(st.frozensets(st.integers(0, count)))
    texts = pa.array([f"text {n}" for n in range(count)], pa.string())
    table = pa.table({"text": texts, "n": pa.array(range(count), pa.int16())})
    parquet.write_table(table, folder / "in.parquet", row_group_size=groups)
    whole = TableCorpus(folder / "in.parquet", Layout())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "SHARD_ROWS", rows)
        patch.setattr(tables, "GROUP_BYTES", size)
        out, rejected = put_out(whole, folder, bad)
        again, _ = put_out(whole, folder, bad)
    assert whole.rows() == count
    assert out["n"].to_pylist() == [n for n in range(count) if n not in bad]
    assert [row["row"] for row in rejected] == [n + 1 for n in range(count) if n in bad]
    assert out == again


def test_columns_of_every_type_are_as_they_were_and_ours_are_behind_them(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([1], pa.uint8()),
            "text": pa.array(["x"]).dictionary_encode(),
            "when": pa.array([datetime.datetime(2031, 1, 2)], pa.timestamp("us", "UTC")),
            "tags": pa.array([["a", None]]),
            "raw": pa.array([b"\xff\x00"]),
        },
        metadata={"made by": "somebody"},
    )
    out, _ = put_out(corpus(tmp_path / "in.parquet", table), tmp_path)
    assert out.schema.metadata[b"made by"] == b"somebody"
    assert out.select(table.schema.names).cast(table.schema) == table
    assert out.schema.names[-2:] == ["summary", "summary_details"]
    assert out["summary"].to_pylist() == ["kurz – é"]
    assert out["summary_details"].to_pylist() == [
        {
            "finish_reason": "stop",
            "score": -0.1235,
            "source": {"characters": 9, "tokens": 3, "used_characters": 5, "used_tokens": 2, "truncated": True},
            "usage": {"source_tokens": 2, "summary_tokens": 2},
        }
    ]


def test_parts_of_long_texts_are_told_where_there_are_any(tmp_path: Path) -> None:
    table = pa.table({"text": ["one two"]})
    out, _ = put_out(corpus(tmp_path / "in.parquet", table, parts=True), tmp_path, answer=WITH_PARTS)
    (details,) = out["summary_details"].to_pylist()
    assert details["parts"][0] == {
        "source": {"start": 0, "end": 4},
        "summary": {"start": 0, "end": 1},
        "finish_reason": "stop",
        "score": -0.9877,
    }


def test_the_text_can_be_left_out(tmp_path: Path) -> None:
    table = pa.table({"text": ["x"], "n": [1]})
    out, _ = put_out(corpus(tmp_path / "in.parquet", table, keep_text=False), tmp_path)
    assert out.schema.names == ["n", "summary", "summary_details"]


def test_an_output_without_rows_has_all_columns(tmp_path: Path) -> None:
    table = pa.table({"text": pa.array([], pa.string())})
    out, _ = put_out(corpus(tmp_path / "in.parquet", table), tmp_path)
    assert (out.num_rows, out.schema.names) == (0, ["text", "summary", "summary_details"])


def test_what_is_wrong_with_a_row_is_told_and_the_row_is_kept() -> None:
    broken = pa.array([b"\xff", b"good"]).view(pa.string())
    table = pa.table({"text": broken, "when": pa.array([datetime.date(2031, 1, 2)] * 2)})
    shard = TableShard(0, 5, table.to_batches()[0], Layout())
    wrong, good = shard.texts()
    assert isinstance(wrong, RequestError)
    assert (wrong.detail, good) == ("/text is not UTF-8: wrong byte at position 0", "good")
    assert json.loads(shard.done([wrong, SUMMARY]).rejected) == {
        "row": 5,
        "error_type": "invalid-request",
        "reason": wrong.detail,
        "content": {"text": "b'\\xff'", "when": "2031-01-02"},
    }
    (nothing,) = TableShard(0, 1, pa.record_batch({"text": pa.array([None], pa.string())}), Layout()).texts()
    assert isinstance(nothing, RequestError)
    assert nothing.detail == "/text must be a string"


@pytest.mark.parametrize(
    ("columns", "layout", "told"),
    [
        ({"id": [1]}, {}, "no column 'text'; .* \\(there: 'id'\\)"),
        ({"text": [1]}, {}, "column 'text' is int64, and no text"),
        ({"text": ["a"], "summary": ["b"]}, {}, "has a column 'summary' already; choose another"),
        ({"text": ["a"], "x_details": [1]}, {"summary_field": "x"}, "has a column 'x_details' already"),
    ],
)
def test_a_layout_that_does_not_fit_is_told_before_anything_is_done(
    tmp_path: Path, columns: dict[str, list[object]], layout: dict[str, str], told: str
) -> None:
    with pytest.raises(CorpusError, match=told):
        corpus(tmp_path / "in.parquet", pa.table(columns), **layout).check()


def test_a_file_that_is_no_parquet_or_a_damaged_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(CorpusError, match=r"in\.parquet: "):
        TableCorpus(path, Layout()).check()
    parquet.write_table(pa.table({"text": [f"text {n}" for n in range(999)]}), path)
    content = bytearray(path.read_bytes())
    content[4:600] = b"\xff" * 596
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=r"in\.parquet: "):
        list(TableCorpus(path, Layout()).shards())
