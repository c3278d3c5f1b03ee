"""Checkpoints are verified before they are used, and published whole."""

import ctypes
import json
from pathlib import Path

import pytest

from app.errors import CheckpointError
from app.models.checkpoint import publish, verify, write_manifest


def folder_of(path: Path, **files: str) -> Path:
    path.mkdir()
    for name, content in files.items():
        (path / f"{name}.txt").write_text(content, encoding="utf-8")
    return path


def test_an_untouched_folder_verifies_to_a_digest_of_its_content(tmp_path: Path) -> None:
    digests = []
    for name, content in (("a", "same"), ("b", "same"), ("c", "other")):
        folder = folder_of(tmp_path / name, one=content)
        write_manifest(folder)
        digests.append(verify(folder))
    assert digests[0] == digests[1] != digests[2]


def test_one_flipped_bit_is_refused_by_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", one="content", two="more")
    write_manifest(folder)
    content = bytearray((folder / "two.txt").read_bytes())
    content[1] ^= 1
    (folder / "two.txt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"two\.txt: sha256"):
        verify(folder)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", one="content")
    write_manifest(folder)
    (folder / "one.txt").unlink()
    with pytest.raises(CheckpointError, match=r"one\.txt: listed in the manifest, but missing"):
        verify(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/b"])
def test_a_path_that_climbs_out_is_refused(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path / "a")
    (folder / "manifest.json").write_text(json.dumps({"files": {name: "0" * 64}}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="not a plain file name"):
        verify(folder)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"files": []}', '{"files": {}}'])
def test_a_broken_manifest_is_refused(tmp_path: Path, content: str) -> None:
    folder = folder_of(tmp_path / "a")
    (folder / "manifest.json").write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        verify(folder)


@pytest.mark.parametrize("atomically", [True, False])
def test_publishing_replaces_the_old_folder_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, atomically: bool
) -> None:
    if not atomically:  # as on a system without renameat2
        monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_kwargs: object())
    publish(folder_of(tmp_path / ".draft1", one="first"), tmp_path / "model")
    publish(folder_of(tmp_path / ".draft2", two="second"), tmp_path / "model")
    verify(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"two.txt", "manifest.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
