"""Checkpoints are verified before they are used, and published whole."""

import ctypes
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from app.errors import CheckpointError
from app.models.checkpoint import CONFIG_BYTES, MOST_BYTES, Checkpoint, parse_json, publish, verify, write_manifest


def folder_of(path: Path, **files: str) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / f"{name}.txt").write_text(content, encoding="utf-8")
    return path


def listing(folder: Path, files: object) -> None:
    content = json.dumps({"files": files}, indent=2, sort_keys=True) + "\n"
    (folder / "manifest.json").write_text(content, encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Listed and whole."""
    folder = folder_of(tmp_path / "store" / "a", one="content", two="more")
    write_manifest(folder)
    return folder


def refusal(folder: Path) -> str:
    """What is said of a checkpoint that cannot be verified: one line, with what to do after what is wrong."""
    with pytest.raises(CheckpointError) as refused:
        verify(folder)
    line = str(refused.value)
    assert "\n" not in line
    assert "; " in line
    assert line.startswith(str(folder))
    return line


def test_an_untouched_folder_verifies_to_a_digest_of_its_content(tmp_path: Path) -> None:
    digests = []
    for name, content in (("a", "same"), ("b", "same"), ("c", "other")):
        folder = folder_of(tmp_path / name, one=content)
        write_manifest(folder)
        digests.append(verify(folder))
    assert digests[0] == digests[1] != digests[2]


def test_one_flipped_bit_is_refused_by_name(folder: Path) -> None:
    content = bytearray((folder / "two.txt").read_bytes())
    content[1] ^= 1
    (folder / "two.txt").write_bytes(content)
    assert "two.txt: sha256 is " in refusal(folder)
    with pytest.raises(CheckpointError, match=r"two\.txt: sha256"):
        Checkpoint(folder).read("two.txt", 100)


def test_a_truncated_file_is_refused_by_name(folder: Path) -> None:
    os.truncate(folder / "one.txt", 3)
    assert "one.txt: sha256 is " in refusal(folder)


def test_a_missing_file_is_refused_by_name(folder: Path) -> None:
    (folder / "one.txt").unlink()
    assert "one.txt: listed in the manifest, but missing" in refusal(folder)


def test_a_file_that_nobody_listed_is_refused_by_name(folder: Path) -> None:
    (folder / "frequent.json").write_text("[]", encoding="utf-8")
    assert "manifest.json: does not list frequent.json" in refusal(folder)


def test_what_is_hidden_is_neither_listed_nor_refused(folder: Path) -> None:
    (folder / ".DS_Store").write_text("", encoding="utf-8")
    digest = verify(folder)
    write_manifest(folder)
    assert verify(folder) == digest


def test_the_name_of_a_stray_file_cannot_break_the_line(folder: Path) -> None:
    (folder / "a\nb\x1b[31m").write_text("", encoding="utf-8")
    (folder / os.fsdecode(b"\xff")).write_text("", encoding="utf-8")
    assert r"does not list 'a\nb\x1b[31m', '\udcff'" in refusal(folder)


@pytest.mark.parametrize(
    "name",
    ["../secret", "/etc/hostname", "a/b", "..", ".", "", ".hidden", "a\nb", "a\0b", "\ud800", "C:\\a", "x" * 10_000],
)
def test_a_path_that_climbs_out_is_refused(folder: Path, name: str) -> None:
    listing(folder, {name: "0" * 64})
    line = refusal(folder)
    assert "not a plain file name" in line
    assert len(line) < len(str(folder)) + 300


@pytest.mark.parametrize("digest", ["", "0" * 63, "A" * 64, "0" * 64 + "\n", 0, None, ["0" * 64]])
def test_what_is_no_digest_is_refused(folder: Path, digest: object) -> None:
    listing(folder, {"one.txt": digest})
    assert "the sha256 of one.txt is not 64 hexadecimal digits" in refusal(folder)


def test_a_file_that_is_listed_twice_is_refused(folder: Path) -> None:
    line = f'"one.txt": "{"0" * 64}"'
    (folder / "manifest.json").write_text(f'{{"files": {{{line}, {line}}}}}', encoding="utf-8")
    assert "manifest.json: not valid JSON (one.txt stands twice in one object)" in refusal(folder)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"files": []}', '{"files": {}}', '{"files": NaN}', "[" * 60_000, "\ufeff{}", "9" * 5000, "\x00"],
)
def test_a_broken_manifest_is_refused(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_text(content, encoding="utf-8")
    assert "manifest.json: " in refusal(folder)


def test_a_manifest_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b'{"files": "\xff"}')
    assert "manifest.json: not valid JSON ('utf-8' codec" in refusal(folder)


@pytest.mark.parametrize("change", [(b"\n", b" "), (b"  ", b" "), (b"{\n", b"{ \n"), (b"}\n}\n", b"}\n}")])
def test_a_manifest_has_one_form_only(folder: Path, change: tuple[bytes, bytes]) -> None:
    content = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(content.replace(*change, 1))
    assert "manifest.json: not as it was published" in refusal(folder)


def test_a_manifest_of_too_many_files_is_refused(folder: Path) -> None:
    listing(folder, {f"{number}": "0" * 64 for number in range(101)})
    assert "101 files, where at most 100 belong" in refusal(folder)


@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_that_leaves_the_store_is_refused_and_not_followed(folder: Path, absolute: bool) -> None:
    secret = folder.parent.parent / "secret"
    secret.write_text("content", encoding="utf-8")  # of which even the digest is right
    (folder / "one.txt").unlink()
    (folder / "one.txt").symlink_to(secret if absolute else "../../secret")
    assert f"one.txt: a link out of the model store, to {secret}" in refusal(folder)


def test_a_folder_that_is_a_link_out_of_the_store_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a").symlink_to(folder)
    assert "a link out of the model store" in refusal(tmp_path / "other" / "a")


def test_links_within_the_store_share_files_and_folders(folder: Path) -> None:
    digest = verify(folder)
    (folder.parent / "same").symlink_to(folder)
    shared = folder.parent / "shared.txt"
    (folder / "one.txt").rename(shared)
    (folder / "one.txt").symlink_to("../shared.txt")
    assert verify(folder) == verify(folder.parent / "same") == digest


def test_a_link_to_itself_is_refused(folder: Path) -> None:
    (folder / "one.txt").unlink()
    (folder / "one.txt").symlink_to("one.txt")
    assert "one.txt: cannot be read" in refusal(folder)


def test_what_is_no_file_is_refused_and_not_waited_for(folder: Path) -> None:
    (folder / "one.txt").unlink()
    os.mkfifo(folder / "one.txt")
    assert "one.txt: not a file" in refusal(folder)
    (folder / "one.txt").unlink()
    (folder / "one.txt").mkdir()
    assert "one.txt: not a file" in refusal(folder)


def test_a_checkpoint_without_a_manifest_is_refused(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    assert "manifest.json: missing" in refusal(folder)


def test_an_absurd_size_is_refused_before_anything_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one.txt", "two.txt"):
        os.truncate(folder / name, MOST_BYTES // 2 + 1)  # which takes no room on the disk
    opened, really = list[str](), Path.open

    def watched(path: Path, *arguments: Any) -> Any:
        opened.append(path.name)
        return really(path, *arguments)

    monkeypatch.setattr(Path, "open", watched)
    assert f"{MOST_BYTES + 2:,} bytes, where at most {MOST_BYTES:,} are served" in refusal(folder)
    assert opened == ["manifest.json"]


def test_a_file_is_not_read_beyond_what_belongs_there(folder: Path) -> None:
    os.truncate(folder / "manifest.json", 1 << 40)
    assert "manifest.json: 1,099,511,627,776 bytes, where at most 65,536 belong" in refusal(folder)


def test_a_config_is_one_object_of_bounded_size(folder: Path) -> None:
    for content, said in (("[]", "not a JSON object"), (" " * CONFIG_BYTES + "{}", "65,538 bytes")):
        (folder / "config.json").write_text(content, encoding="utf-8")
        write_manifest(folder)
        with pytest.raises(CheckpointError, match=rf"config\.json: {said}"):
            _ = Checkpoint(folder).config


def test_a_card_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / "README.md").write_bytes(b"\xff")
    write_manifest(folder)
    with pytest.raises(CheckpointError, match=r"README\.md: not UTF-8"):
        _ = Checkpoint(folder).card


def test_what_was_verified_is_what_is_given_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever changes a file after it was compared is too late, for it is not read again."""

    def once(path: Path, mode: str) -> Any:
        with open(path, mode) as file:
            content = file.read()
        with open(path, "wb") as file:
            file.write(b"changed")
        return io.BytesIO(content)

    monkeypatch.setattr(Path, "open", once)
    checkpoint = Checkpoint(folder)
    assert checkpoint.read("one.txt", 100) == b"content"
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"one\.txt: sha256"):
        checkpoint.read("one.txt", 100)


@pytest.mark.parametrize(
    "written", ['{"a": {"b": 1, "b": 2}}', "[Infinity]", "[-Infinity]", '["\x01"]', "[1,]", "{} {}"]
)
def test_json_is_read_strictly(written: str) -> None:
    with pytest.raises(CheckpointError, match=r"^x\.json: not valid JSON \("):
        parse_json(written.encode(), Path("x.json"))


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
