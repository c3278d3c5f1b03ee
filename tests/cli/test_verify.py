"""Whether checkpoints are whole is told one line each, and by the exit status."""

import json
import shutil
from pathlib import Path

import pytest

from app.models.checkpoint import verify, write_manifest
from tests.cli.conftest import Precis


@pytest.fixture
def copied(store: Path, tmp_path: Path) -> Path:
    """A store of one's own, with three checkpoints, to break."""
    for name in ("one", "three", "two"):
        shutil.copytree(store / "small", tmp_path / "store" / name)
    return tmp_path / "store"


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_intact_checkpoints_are_ok_with_their_digest(precis: Precis, copied: Path) -> None:
    result = precis("models", "verify", "--model-store", copied)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [line.split(", ") for line in result.stdout.splitlines()]
    assert [[line[0], line[2]] for line in lines] == [
        [f"{name}: OK", verify(copied / name)] for name in ("one", "three", "two")
    ]


def test_a_changed_file_is_named_and_the_others_are_verified(precis: Precis, copied: Path) -> None:
    damage(copied / "one" / "model.safetensors")
    result = precis("models", "verify", "--model-store", copied)
    assert result.exit_code == 1
    assert [line.split(",")[0] for line in result.stdout.splitlines()] == ["three: OK", "two: OK"]
    assert result.stderr.startswith(f"precis: one: {copied}/one/model.safetensors: sha256 is ")
    assert result.stderr.count("\n") == 1


def test_those_that_are_named_are_verified_and_no_others(precis: Precis, copied: Path) -> None:
    damage(copied / "one" / "model.safetensors")
    result = precis("models", "verify", "two", "three", "--model-store", copied)
    assert result.exit_code == 0
    assert [line.split(",")[0] for line in result.stdout.splitlines()] == ["two: OK", "three: OK"]


@pytest.mark.parametrize("name", ["nothing", "../store/two", "/", "two/", ".", ""])
def test_a_name_that_is_none_of_the_store_is_one_line(precis: Precis, copied: Path, name: str) -> None:
    result = precis("models", "verify", name, "two", "--model-store", copied)
    assert result.exit_code == 1
    assert result.stdout.startswith("two: OK")
    assert f"no checkpoint {name!r} in {copied} (there: one, three, two)" in result.stderr
    assert result.stderr.count("\n") == 1


def test_programs_get_one_object_a_line(precis: Precis, copied: Path) -> None:
    damage(copied / "two" / "README.md")
    result = precis("models", "verify", "--json", "one", "two", "--model-store", copied)
    assert (result.exit_code, result.stderr) == (1, "")
    one, two = map(json.loads, result.stdout.splitlines())
    size = sum(path.stat().st_size for path in (copied / "one").iterdir())
    assert one == {"name": "one", "ok": True, "digest": verify(copied / "one"), "bytes": size}
    assert two.keys() == {"name", "ok", "error"}
    assert (two["name"], two["ok"]) == ("two", False)
    assert two["error"].startswith(f"{copied}/two/README.md: sha256 is ")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_that_is_listed_but_cannot_be_used_is_named(precis: Precis, copied: Path, name: str) -> None:
    (copied / "one" / name).write_bytes(b"{}")
    write_manifest(copied / "one")
    result = precis("models", "verify", "one", "--model-store", copied)
    assert (result.exit_code, result.stdout) == (1, "")
    assert name in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_store_without_checkpoints_is_not_ok(precis: Precis, tmp_path: Path) -> None:
    result = precis("models", "verify", "--model-store", tmp_path)
    assert (result.exit_code, result.stderr) == (1, f"precis: no checkpoint in {tmp_path}\n")
