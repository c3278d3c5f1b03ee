"""What the names of files say."""

from pathlib import Path

import pytest

from app.corpus import formats
from app.corpus.formats import open_corpus
from app.corpus.lines import LineCorpus
from app.corpus.shards import Layout
from app.errors import ConfigurationError


@pytest.mark.parametrize(
    ("name", "output", "read", "written"),
    [
        ("a.jsonl", "b.jsonl", "", ""),
        ("a.ndjson", "b.jsonl.gz", "", ".gz"),
        ("a.jsonl.zst", "b.jsonl", ".zst", ""),
        ("A.JSONL.GZ", "b.jsonl.zst", ".gz", ".zst"),
    ],
)
def test_json_lines_are_compressed_as_the_names_say(name: str, output: str, read: str, written: str) -> None:
    corpus = open_corpus(Path(name), Path(output), Layout())
    assert isinstance(corpus, LineCorpus)
    assert (corpus.compression, corpus.layout.compression) == (read, written)


def test_parquet_is_known_by_its_name() -> None:
    pytest.importorskip("pyarrow")
    assert type(open_corpus(Path("a.parquet"), Path("b.parquet"), Layout())).__name__ == "TableCorpus"


@pytest.mark.parametrize(
    ("name", "output", "told"),
    [
        ("a.txt", "b.jsonl", "a.txt: its name does not tell what it is"),
        ("a.jsonl", "summaries", "summaries: its name does not tell what it is"),
        ("-", "b.jsonl", "-: its name does not tell"),
        ("a.parquet.gz", "b.parquet", "a.parquet.gz: its name does not tell"),
        ("a.parquet", "b.jsonl", "b.jsonl: Parquet comes out of Parquet"),
        ("a.jsonl", "b.parquet", "b.parquet: Parquet comes out of Parquet"),
    ],
)
def test_other_names_are_refused(name: str, output: str, told: str) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(ConfigurationError, match=told):
        open_corpus(Path(name), Path(output), Layout())


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.zst"])
def test_what_is_not_installed_is_told_with_how_to_get_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"is not installed; say pip install 'precis\[corpus\]'"):
        open_corpus(Path(name), Path(name), Layout())
