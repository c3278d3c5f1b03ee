"""A Hugging Face folder is in the store whole and tried, and its promises are told, or the store is as it was."""

import errno
import fcntl
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from app.cli.command import app
from app.models import registry
from app.models.checkpoint import verify
from tests.api.waiting import PATIENCE, eventually
from tests.cli.conftest import ROOT, Precis, served, start
from tests.models.transformers.folders import write_folder
from tests.texts import CORPUS


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = write_folder(tmp_path / "downloads", "bart", "small-bart")
    (folder / "manifest.json").unlink()
    return folder


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """A store that is not there yet."""
    return tmp_path / "store"


def test_the_promises_are_told_and_hold(precis: Precis, source: Path, new: Path, texts: list[Path]) -> None:
    result = precis("models", "import", source, "--model-store", new)
    assert (result.exit_code, result.stderr) == (0, "")
    told = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert told["checkpoint"] == str(new / "small-bart")
    assert told["family"] == "transformers"
    assert told["architecture"] == "BartForConditionalGeneration"
    assert told["digest"] == verify(new / "small-bart")
    assert os.listdir(new) == ["small-bart"]
    assert precis("models", "verify", "--model-store", new).exit_code == 0
    written = precis("summarize", "--model", "small-bart", "--model-store", new, "--max-length", 5, texts[0])
    assert written.exit_code == 0
    shown = precis("models", "show", "small-bart", "--model-store", new)
    assert all(line in result.stdout.splitlines() for line in shown.stdout.splitlines()[:5])


def test_a_checkpoint_is_replaced_only_when_that_is_said(precis: Precis, source: Path, new: Path) -> None:
    assert precis("models", "import", source, "--name", "mine", "--model-store", new).exit_code == 0
    before = verify(new / "mine")
    (source / "README.md").write_text("# Another\n")
    refused = precis("models", "import", source, "--name", "mine", "--model-store", new)
    assert refused.exit_code == 1
    assert refused.stderr == f"precis: {new}/mine: there already; choose another --name, or --replace it\n"
    assert verify(new / "mine") == before
    assert precis("models", "import", source, "--name", "mine", "--replace", "--model-store", new).exit_code == 0
    assert verify(new / "mine") != before
    assert os.listdir(new) == ["mine"]


def test_a_folder_that_lies_in_the_store_is_kept_as_it_was(precis: Precis, source: Path, new: Path) -> None:
    (source / "optimizer.pt").write_text("mine")
    shutil.move(source, new / "small-bart")
    before = {path.name: path.read_bytes() for path in (new / "small-bart").iterdir()}
    result = precis("models", "import", new / "small-bart", "--model-store", new)
    assert result.exit_code == 0
    assert sorted(os.listdir(new)) == [".small-bart.original", "small-bart"]
    assert {path.name: path.read_bytes() for path in (new / ".small-bart.original").iterdir()} == before
    again = precis("models", "import", new / "small-bart", "--model-store", new)
    assert again.stderr == f"precis: {new}/.small-bart.original: there already, from an earlier import; move it away\n"


def test_a_folder_of_the_hubs_cache_is_called_as_its_model(
    precis: Precis, source: Path, tmp_path: Path, new: Path
) -> None:
    snapshot = tmp_path / "models--x--tiny-bart" / "snapshots" / "0123abc"
    shutil.move(source, snapshot)
    assert precis("models", "import", snapshot, "--model-store", new).exit_code == 0
    assert os.listdir(new) == ["tiny-bart"]


def test_what_cannot_be_served_leaves_the_store_as_it_was(precis: Precis, source: Path, new: Path) -> None:
    weights = load_file(source / "model.safetensors")
    weights["model.encoder.layers.0.fc1.bias"].fill_(torch.nan)
    save_file(weights, source / "model.safetensors")
    result = precis("models", "import", source, "--model-store", new)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"precis: {source}/model.safetensors: model.encoder.layers.0.fc1.bias holds NaN")
    assert result.stderr.count("\n") == 1
    assert os.listdir(new) == []


@pytest.mark.parametrize("name", ["../above", "a/b", ".hidden", "", "ö"])
def test_a_name_that_is_none_is_refused(precis: Precis, source: Path, new: Path, name: str) -> None:
    result = precis("models", "import", source, "--name", name, "--model-store", new)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"precis: {name!a} is no name for a checkpoint; ")
    assert not new.exists()


def test_what_is_no_folder_is_refused(precis: Precis, source: Path, new: Path) -> None:
    result = precis("models", "import", source / "config.json", "--model-store", new)
    assert result.stderr == f"precis: {source}/config.json: not a folder; name one that holds a checkpoint\n"


def test_a_disk_that_fills_up_leaves_nothing_behind(
    precis: Precis, source: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_up(_source: Path, draft: Path) -> None:
        (draft / "model.safetensors").write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(draft / "model.safetensors"))

    monkeypatch.setattr(registry, "bring", fill_up)
    result = precis("models", "import", source, "--model-store", new)
    assert result.stderr == f"precis: {new}: no space is left; make room, nothing was imported\n"
    assert os.listdir(new) == []


def test_an_import_that_is_ended_leaves_nothing_behind(source: Path, new: Path, environment: dict[str, str]) -> None:
    process = start("models", "import", source, "--model-store", new, environment=environment)
    eventually(lambda: process.poll() is not None or list(new.glob(".import-*/*/*")))
    process.terminate()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + 15
    assert os.listdir(new) == []


def test_what_a_killed_import_left_is_removed_by_the_next_one_and_nothing_else(
    precis: Precis, source: Path, new: Path
) -> None:
    killed, under_way = new / ".import-killed", new / ".import-under-way"
    for draft in (killed, under_way):
        draft.mkdir(parents=True)
        (draft / "model.safetensors").write_bytes(b"half of it")
    held = os.open(under_way, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)  # as whoever is at work does
    try:
        assert precis("models", "import", source, "--model-store", new).exit_code == 0
    finally:
        os.close(held)
    assert sorted(os.listdir(new)) == [under_way.name, "small-bart"]


def test_a_service_without_the_extra_serves_the_others_and_tells_what_to_install(
    precis: Precis, store: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    models = shutil.copytree(store, tmp_path / "store")
    write_folder(models, "bart")
    missing = tmp_path / "without" / "transformers"
    missing.mkdir(parents=True)
    (missing / "__init__.py").write_text("raise ModuleNotFoundError(name='transformers')\n")
    changed = {"PRECIS_MODEL_STORE": str(models), "PYTHONPATH": str(missing.parent)}
    with served(tmp_path, {**environment, **changed}) as url:
        eventually(lambda: "model left out" in (tmp_path / "log").read_text())
        assert precis("models", "list", "--url", url).stdout.count("\n") == 2
    lines = map(json.loads, (tmp_path / "log").read_text().splitlines())
    (line,) = (line for line in lines if line["event"] == "model left out")
    assert line["model"] == "bart"
    assert line["reason"].endswith("for which transformers is not installed; say pip install 'precis[transformers]'")


def test_the_page_leads_from_a_folder_to_a_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "huggingface.md").read_text(encoding="utf-8")
    install, *commands = re.findall(r"```sh\n(.*?)```", page, flags=re.S)[0].splitlines()
    assert install == "pip install '.[transformers]'"
    assert len(commands) == 2
    (write_folder(tmp_path, "bart", "bart-large-cnn") / "manifest.json").unlink()
    (tmp_path / "article.txt").write_text(CORPUS[0])
    monkeypatch.chdir(tmp_path)
    for command in commands:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert (result.exit_code, result.stderr) == (0, "")
