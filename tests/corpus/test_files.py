"""Files: read as they were written, however they are cut and compressed, and written as a whole."""

import gzip
from pathlib import Path
from typing import BinaryIO

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from app.corpus.files import Compression, compressed, fingerprint, opened, write_whole
from app.errors import CorpusError

COMPRESSIONS: list[Compression] = ["", ".gz", ".zst"]
PIECES = st.lists(st.binary(max_size=40), max_size=5)


@given(pieces=PIECES, compression=st.sampled_from(COMPRESSIONS))
def test_compressed_pieces_can_be_appended_to_each_other(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], compression: Compression
) -> None:
    path = tmp_path_factory.mktemp("files") / "pieces"
    path.write_bytes(b"".join(compressed(piece, compression) for piece in pieces))
    with opened(path, compression) as file:
        assert file.read() == b"".join(pieces)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_is_compressed_twice_is_the_same(compression: Compression, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compressed(b"summary", compression)
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert compressed(b"summary", compression) == first


@pytest.mark.parametrize("compression", [".gz", ".zst"])
@given(data=st.data())
def test_a_file_that_was_cut_off_is_not_taken_for_a_whole_one(
    tmp_path_factory: pytest.TempPathFactory, compression: Compression, data: st.DataObject
) -> None:
    content = compressed(b"first" * 9, compression)
    path = tmp_path_factory.mktemp("files") / "cut"
    path.write_bytes(content + content[: data.draw(st.integers(1, len(content) - 1))])
    with pytest.raises(CorpusError, match="cut"), opened(path, compression) as file:
        file.read()


def test_a_file_that_is_damaged_is_told(tmp_path: Path) -> None:
    for compression in (".gz", ".zst"):
        path = tmp_path / "damaged"
        path.write_bytes(b"no such thing")
        with pytest.raises(CorpusError, match="damaged"), opened(path, compression) as file:
            file.read()


def test_frames_of_unknown_size_and_long_windows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    parameters = zstandard.ZstdCompressionParameters(window_log=30, write_content_size=False)
    path.write_bytes(zstandard.ZstdCompressor(compression_params=parameters).compress(b"text" * 99999))
    with opened(path, ".zst") as file:
        assert file.read() == b"text" * 99999


def test_other_tools_read_what_is_written() -> None:
    assert gzip.decompress(compressed(b"a", ".gz") + compressed(b"b", ".gz")) == b"ab"
    reader = zstandard.ZstdDecompressor().stream_reader(
        compressed(b"a", ".zst") + compressed(b"b", ".zst"), read_across_frames=True
    )
    assert reader.read() == b"ab"


def test_a_file_is_as_it_was_until_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before")

    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, write)
    assert path.read_bytes() == b"before"
    write_whole(path, lambda file: file.write(b"after"))
    assert path.read_bytes() == b"after"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_an_input_is_known_by_what_it_holds_and_read_again_only_when_it_was_touched(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"one")
    first = fingerprint(path)
    assert first.same_file(path)
    path.write_bytes(b"two")
    assert not first.same_file(path) or fingerprint(path).modified == first.modified
    assert fingerprint(path).sha256 != first.sha256
