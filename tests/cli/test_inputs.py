"""Files, lines and fields: what is read, and what is told of what cannot be."""

import io
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.inputs import Input, named, read
from app.errors import InputError

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\ufeff"), min_size=1)


def standard_input(content: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(content), encoding="ascii")


def reason(each: Input) -> str:
    assert isinstance(each.text, InputError)
    return str(each.text)


def test_a_file_is_one_text_exactly_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("one\r\ntwo 北京\n".encode())
    assert list(read([str(file)], lines=False)) == [Input(str(file), None, "one\r\ntwo 北京\n")]


def test_the_mark_at_the_start_of_some_files_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfone")
    assert [each.text for each in read([str(file)], lines=False)] == ["one"]


def test_a_dash_is_standard_input_in_utf_8_whatever_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", standard_input("北京".encode()))
    assert list(read(["-"], lines=False)) == [Input("-", None, "北京")]


@given(texts=st.lists(TEXT))
def test_every_line_is_a_text_with_its_number(texts: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", standard_input("".join(f"{text}\n" for text in texts).encode()))
        assert [(each.line, each.text) for each in read(["-"], lines=True)] == list(enumerate(texts, 1))


@given(texts=st.lists(TEXT))
def test_a_field_of_every_json_line_is_a_text(texts: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        rows = "".join(json.dumps({"id": 1, "body": text}) + "\n" for text in texts)
        patch.setattr(sys, "stdin", standard_input(rows.encode()))
        assert [each.text for each in read(["-"], lines=True, field="body")] == texts


def test_lines_are_read_one_by_one_so_that_the_first_need_not_wait_for_the_last() -> None:
    reading, writing = os.pipe()
    with pytest.MonkeyPatch.context() as patch, os.fdopen(reading, encoding="utf-8") as stream:
        patch.setattr(sys, "stdin", stream)
        os.write(writing, b"one\n")
        assert next(read(["-"], lines=True)).text == "one"
        os.close(writing)


def test_what_cannot_be_read_is_told_in_its_place_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "good").write_text("good")
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    names = [str(tmp_path / name) for name in ("missing", "", "latin", "good")]
    missing, folder, latin, good = read(names, lines=False)
    assert reason(missing) == "cannot be read: No such file or directory"
    assert reason(folder) == "cannot be read: Is a directory"
    assert reason(latin) == "not UTF-8: byte 3 is 0xe9"
    assert good.text == "good"


def test_a_line_that_is_no_text_does_not_end_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", standard_input(b'caf\xe9\n{"a": 1}\n[]\n{\n{"a": "x"}\n'))
    told = [each.text if isinstance(each.text, str) else str(each.text) for each in read(["-"], lines=True, field="a")]
    assert told[1:3] == ["not a JSON object with a string 'a'"] * 2
    assert [text.split(":")[0] for text in (told[0], told[3])] == ["not JSON"] * 2
    assert told[4] == "x"


def test_a_place_is_written_as_compilers_do() -> None:
    assert (Input("a.txt", None, "").place, Input("a.txt", 3, "").place) == ("a.txt", "a.txt:3")


def test_a_name_of_any_bytes_can_be_written_as_json() -> None:
    assert named(os.fsdecode(b"caf\xe9")) == "caf\N{REPLACEMENT CHARACTER}"
    assert named("café") == "café"
