"""JSON Lines: every row in one shard, and out again as it came."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.corpus import lines
from app.corpus.lines import LineCorpus, LineShard
from app.corpus.shards import Answer, Done, Layout
from app.engine.request import SourceUse, Summary, Timing
from app.errors import CorpusError, ModelFailedError, RequestError
from tests.corpus.rows import LINES, write
from tests.fakes import fake_info

SUMMARY = Summary(fake_info(), "kurz – é", "stop", -0.123456, SourceUse(9, 3, 5, 2), 2, Timing(1, 2, 3, 4))


def shards(path: Path, layout: Layout | None = None) -> list[LineShard]:
    return list(LineCorpus(path, layout or Layout()).shards())


def one(line: bytes, answer: Answer = SUMMARY, layout: Layout | None = None) -> Done:
    return LineShard(0, ((7, line),), layout or Layout()).done([answer])


def reason(line: bytes, layout: Layout | None = None) -> str:
    (text,) = LineShard(0, ((1, line),), layout or Layout()).texts()
    assert isinstance(text, RequestError)
    return text.detail


@given(content=LINES, rows=st.integers(1, 5), size=st.integers(1, 200), ended=st.booleans())
def test_every_row_is_in_one_shard_with_the_number_of_its_line(
    tmp_path_factory: pytest.TempPathFactory, content: Sequence[bytes], rows: int, size: int, ended: bool
) -> None:
    path = write(tmp_path_factory.mktemp("lines") / "in.jsonl", content)
    if not ended:
        path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "SHARD_ROWS", rows)
        patch.setattr(lines, "SHARD_BYTES", size)
        found = shards(path)
        assert LineCorpus(path, Layout()).rows() == sum(len(shard.rows) for shard in found)
    expected = [(number, line) for number, line in enumerate(content, 1) if line.strip()]
    assert [row for shard in found for row in shard.rows] == expected
    assert [shard.number for shard in found] == list(range(len(found)))
    assert all(len(shard.rows) <= rows for shard in found)
    assert all(sum(len(line) for _, line in shard.rows[:-1]) < size for shard in found)


def test_a_row_is_written_byte_for_byte_with_the_summary_behind_it() -> None:
    row = b' { "b":1.50, "n": 123456789012345678901234567890, "text":"\\u00e9 x" , "b": 2 } '
    done = one(row)
    beginning, _, ours = done.rows.partition(b',"summary":')
    assert beginning == row.strip()[:-1].strip()
    assert json.loads(b'{"summary":' + ours) == {
        "summary": "kurz – é",
        "summary_details": {
            "finish_reason": "stop",
            "score": -0.1235,
            "source": {"characters": 9, "tokens": 3, "used_characters": 5, "used_tokens": 2, "truncated": True},
            "usage": {"source_tokens": 2, "summary_tokens": 2},
        },
    }
    assert (done.summaries, done.set_aside, done.rejected) == (1, 0, b"")


def test_without_the_text_everything_else_keeps_its_value() -> None:
    row = b'{"n": 123456789012345678901234567890, "text": "a", "x": [1.5, "\\u00e9"]}'
    written = json.loads(one(row, layout=Layout(keep_text=False)).rows)
    assert list(written) == ["n", "x", "summary", "summary_details"]
    assert (written["n"], written["x"]) == (123456789012345678901234567890, [1.5, "é"])
    assert list(json.loads(one(b'{"text": "a"}', layout=Layout(keep_text=False)).rows)) == [
        "summary",
        "summary_details",
    ]


def test_fields_have_the_names_that_were_chosen() -> None:
    layout = Layout("body", "headline")
    assert LineShard(0, ((1, b'{"body": "x"}'),), layout).texts() == ["x"]
    assert list(json.loads(one(b'{"body": "x"}', layout=layout).rows)) == ["body", "headline", "headline_details"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{", "the row is not JSON: unexpected end of data at column 2"),
        (b'{"text": "\xff"}', "the row is not JSON: str is not valid UTF-8: surrogates not allowed at column 1"),
        (b'{"text": "\\ud800"}', "the row is not JSON: no low surrogate in string at column 11"),
        (b"[1]", "must be a JSON object"),
        (b"{}", "/text is required"),
        (b'{"text": null}', "/text must be a string"),
        (
            b'{"text": "a", "summary": ""}',
            "/summary is there already, and would be lost; choose another --summary-field",
        ),
    ],
)
def test_what_is_wrong_with_a_row_is_told_in_the_words_of_the_api(line: bytes, told: str) -> None:
    assert reason(line) == told


def test_a_row_that_cannot_be_written_without_its_text_is_wrong() -> None:
    deep = b'{"text": "a", "x": ' + b"[" * 1000 + b"]" * 1000 + b"}"
    assert isinstance(LineShard(0, ((1, deep),), Layout()).texts()[0], str)
    assert reason(deep, Layout(keep_text=False)).startswith("the row is nested too deeply")


def test_what_is_set_aside_tells_where_it_stood_and_why() -> None:
    done = one(b'{"text": "\xff"}', ModelFailedError("no"))
    assert json.loads(done.rejected) == {
        "row": 7,
        "error_type": "model-failed",
        "reason": "no",
        "line": '{"text": "\\xff"}',
    }
    assert (done.rows, done.summaries, done.set_aside) == (b"", 0, 1)


def test_of_a_line_without_an_end_only_the_beginning_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 20)
    monkeypatch.setattr(lines, "BEGINNING", 4)
    path = write(
        tmp_path / "in.jsonl", [b'{"text": "12345678"}', b'{"text": "123456789"}', b"x" * 99, b'{"text": "a"}']
    )
    (shard,) = shards(path)
    assert [number for number, _ in shard.rows] == [1, 2, 3, 4]
    good, long, longer, last = shard.texts()
    assert (good, last) == ("12345678", "a")
    assert isinstance(long, RequestError)
    assert isinstance(longer, RequestError)
    assert json.loads(shard.done([longer] * 4).rejected.splitlines()[2])["line"] == "xxxx"


def test_the_mark_at_the_start_of_some_files_is_no_part_of_a_row(tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", [b'\xef\xbb\xbf{"text": "a"}\r', b'{"text": "b"}\r'])
    assert shards(path)[0].texts() == ["a", "b"]


def test_a_wrong_name_of_a_field_is_told_before_anything_is_done(tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", [b"broken", b'{"id": 1, "body": "x"}', b'{"text": null}'])
    with pytest.raises(CorpusError, match=r"no text in a field 'text'; .* \(there: 'id', 'body'\)"):
        LineCorpus(path, Layout()).check()
    LineCorpus(path, Layout("body")).check()
    with pytest.raises(CorpusError, match="has a field 'id' already"):
        LineCorpus(path, Layout("body", "id")).check()


@given(answers=st.lists(st.booleans(), min_size=1, max_size=6), compression=st.sampled_from(["", ".gz", ".zst"]))
def test_an_output_is_read_as_an_input(
    tmp_path_factory: pytest.TempPathFactory, answers: list[bool], compression: str
) -> None:
    folder = tmp_path_factory.mktemp("lines")
    layout = replace(Layout(), compression=compression)  # type: ignore[arg-type]
    pieces = []
    for number, good in enumerate(answers):
        pieces.append(folder / str(number))
        done = one(b'{"text": "%d"}' % number, SUMMARY if good else ModelFailedError(""), layout)
        pieces[-1].write_bytes(done.rows)
    with (folder / "out").open("wb") as output:
        LineCorpus(folder / "in", layout).join(pieces, output)
    again = LineCorpus(folder / "out", Layout("text", "again"), layout.compression)
    texts = [text for shard in again.shards() for text in shard.texts()]
    assert texts == [str(number) for number, good in enumerate(answers) if good]
