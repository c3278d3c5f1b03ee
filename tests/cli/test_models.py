"""What there is, and whether it is intact."""

import json
import shutil
from pathlib import Path

import pytest

from app.models.checkpoint import write_manifest
from tests.cli.conftest import Precis


@pytest.fixture
def copied(store: Path, tmp_path: Path) -> Path:
    """A store of one's own, with two checkpoints, to break."""
    for name in ("one", "two"):
        shutil.copytree(store / "small", tmp_path / "store" / name)
    return tmp_path / "store"


def test_models_are_listed_the_default_one_marked(precis: Precis, copied: Path) -> None:
    lines = precis("models", "list", "--model-store", copied, env={"PRECIS_MODEL": "two"}).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["name", "language"], ["one", "en"], ["*", "two"]]


@pytest.mark.parametrize("command", [["list"], ["show", "small"]], ids=" ".join)
def test_a_service_tells_the_same_as_the_store(precis: Precis, url: str, command: list[str]) -> None:
    for form in ([], ["--json"]):
        here, there = (precis("models", *command, *form, *where).stdout for where in ([], ["--url", url]))
        assert here == there
        assert "small" in here


def test_a_model_is_shown_with_its_defaults_as_options_and_its_card(precis: Precis) -> None:
    output = precis("models", "show", "small").stdout
    facts = dict(
        line.split(maxsplit=1) for line in output.splitlines() if line.startswith(("--", "language", "digest"))
    )
    assert (facts["--num-beams"], facts["--max-length"], facts["language"]) == ("2", "10", "en")
    assert facts["digest"].startswith("sha256:")
    assert output.endswith("# small\n")
    assert json.loads(precis("models", "show", "small", "--json").stdout)["card"] == "# small\n"


def test_a_model_that_is_not_there_is_one_line(precis: Precis) -> None:
    for command in (["show"], ["verify"]):
        result = precis("models", *command, "nothing")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "no checkpoint 'nothing'" in result.stderr
        assert result.stderr.count("\n") == 1


def test_intact_checkpoints_are_ok(precis: Precis, copied: Path) -> None:
    result = precis("models", "verify", "--model-store", copied)
    assert result.exit_code == 0
    assert [line.split(",")[0] for line in result.stdout.splitlines()] == ["one: OK", "two: OK"]


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_changed_file_is_named_and_the_others_are_verified(precis: Precis, copied: Path) -> None:
    damage(copied / "one" / "model.safetensors")
    result = precis("models", "verify", "--model-store", copied)
    assert result.exit_code == 1
    assert result.stdout.startswith("two: OK")
    assert result.stderr.startswith(f"precis: one: {copied}/one/model.safetensors: sha256 is ")
    assert precis("models", "verify", "two", "--model-store", copied).exit_code == 0


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_that_is_listed_but_cannot_be_used_is_named(precis: Precis, copied: Path, name: str) -> None:
    (copied / "one" / name).write_bytes(b"{}")
    write_manifest(copied / "one")
    result = precis("models", "verify", "one", "--model-store", copied)
    assert (result.exit_code, result.stdout) == (1, "")
    assert name in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_broken_checkpoint_is_told_and_left_out_of_the_list(precis: Precis, copied: Path) -> None:
    damage(copied / "one" / "model.safetensors")
    result = precis("models", "list", "--model-store", copied)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"precis: one: {copied}/one/model.safetensors: sha256 is ")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["name", "two"]


@pytest.mark.parametrize("command", ["list", "verify"])
def test_a_store_without_checkpoints_is_not_ok(precis: Precis, tmp_path: Path, command: str) -> None:
    result = precis("models", command, "--model-store", tmp_path)
    assert (result.exit_code, result.stderr) == (1, f"precis: no checkpoint in {tmp_path}\n")
