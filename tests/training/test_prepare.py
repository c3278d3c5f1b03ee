"""A run folder is prepared in the language of its data, and for no other."""

import json
from pathlib import Path

import pytest

from app.models.lstm.tokenizer import Tokenizer
from training.prepare import prepare

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
