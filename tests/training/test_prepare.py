"""A run folder is prepared in the language of its data, and for no other."""

import json
from pathlib import Path

import pytest

from app.models.lstm.tokenizer import Tokenizer
from training.data import Packed, Pair
from training.prepare import prepare, without_series

ROW = {"text": "格林河大桥昨天通车。", "summary": "大桥通车"}


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n" * 20, encoding="utf-8")
    return str(path)


def test_chinese_is_packed_a_token_for_each_character(tmp_path: Path, rows: str) -> None:
    prepare(tmp_path / "run", [rows], vocabulary_size=2000, language="zh")
    assert len(Tokenizer.load(tmp_path / "run" / "tokenizer.json").encode(ROW["text"]).ids) == len(ROW["text"])
    prepare(tmp_path / "other", [rows], vocabulary_size=2000, language="en")
    assert len(Tokenizer.load(tmp_path / "other" / "tokenizer.json").encode(ROW["text"]).ids) < len(ROW["text"])


def test_a_folder_prepared_in_another_language_is_refused(tmp_path: Path, rows: str) -> None:
    prepare(tmp_path / "run", [rows], vocabulary_size=300, language="zh")
    with pytest.raises(ValueError, match="prepared from other data or settings"):
        prepare(tmp_path / "run", [rows], vocabulary_size=300)


@pytest.mark.parametrize(
    ("text", "summary", "kept"),
    [
        ("大桥通车。", "【新春走基层】大桥通车", "大桥通车"),
        ("新春走基层，记者来到大桥。", "【新春走基层】大桥通车", "【新春走基层】大桥通车"),
        ("大桥通车。", "【新春走基层】", "【新春走基层】"),
        ("大桥通车。", "大桥【新春走基层】通车", "大桥【新春走基层】通车"),
    ],
)
def test_the_name_of_a_series_is_learned_only_where_the_text_has_it(text: str, summary: str, kept: str) -> None:
    assert without_series(Pair("1", text, summary)).summary == kept


def test_series_are_left_out_of_what_is_packed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = ROW | {"summary": "【走基层】" + ROW["summary"]}
    path.write_text(f"{json.dumps(row)}\n" * 20, encoding="utf-8")
    prepare(tmp_path / "run", [str(path)], vocabulary_size=2000, language="zh")
    packed = Packed.load(tmp_path / "run" / "train.npz")
    assert set(packed.summary_lengths.tolist()) == {len(ROW["summary"])}
