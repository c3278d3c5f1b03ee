"""What there is, and whether it is intact."""

import json
import shutil
from pathlib import Path

import pytest

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
    result = precis("models", "show", "nothing")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no checkpoint 'nothing'" in result.stderr
    assert result.stderr.count("\n") == 1


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_broken_checkpoint_is_told_and_left_out_of_the_list(precis: Precis, copied: Path) -> None:
    damage(copied / "one" / "model.safetensors")
    result = precis("models", "list", "--model-store", copied)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"precis: one: {copied}/one/model.safetensors: sha256 is ")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["name", "two"]


def test_a_store_without_checkpoints_has_none_to_list(precis: Precis, tmp_path: Path) -> None:
    result = precis("models", "list", "--model-store", tmp_path)
    assert (result.exit_code, result.stderr) == (1, f"precis: no checkpoint in {tmp_path}\n")
