"""The store is listed, and a checkpoint goes to the family that its config names."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest

from app.errors import CheckpointError
from app.models.checkpoint import write_manifest
from app.models.registry import available, bring, load
from tests.models.lstm.checkpoints import write_checkpoint


def test_folders_with_a_manifest_are_listed_and_drafts_are_not(tmp_path: Path) -> None:
    store = tmp_path / "store"
    write_checkpoint(store, "b")
    write_checkpoint(store, "a")
    write_checkpoint(store, ".draft")
    (store / "notes").mkdir()
    assert available(store) == ["a", "b"]
    assert available(tmp_path / "nowhere") == []


def test_a_checkpoint_that_lost_its_manifest_is_not_passed_over(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "store")
    (folder / "manifest.json").unlink()
    assert available(tmp_path / "store") == ["small"]
    with pytest.raises(CheckpointError, match=r"small/manifest\.json: missing; "):
        load(tmp_path / "store", "small")


def test_a_checkpoint_loads_as_its_family(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "store")
    assert load(tmp_path / "store", "small").info.family == "lstm"


@pytest.mark.parametrize("name", ["large", "../store/small", ""])
def test_an_unknown_name_lists_those_that_are_there(tmp_path: Path, name: str) -> None:
    write_checkpoint(tmp_path / "store")
    with pytest.raises(CheckpointError, match=r"there: small"):
        load(tmp_path / "store", name)


@pytest.mark.parametrize(
    ("family", "said"),
    [("rnn", "'rnn'"), (None, "missing"), (["lstm"], "an array"), ({}, "an object"), ("x" * 9999, "'xxx"), (7, "7")],
)
def test_an_unknown_family_is_refused(tmp_path: Path, family: object, said: str) -> None:
    folder = write_checkpoint(tmp_path / "store")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "family": family}), encoding="utf-8")
    write_manifest(folder)
    with pytest.raises(
        CheckpointError, match=rf"config\.json: unknown family {said}.* \(known: lstm, transformers\); "
    ) as refused:
        load(tmp_path / "store", "small")
    assert len(str(refused.value)) < 300 + len(str(folder))


def test_a_downloaded_folder_is_told_how_to_become_a_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "store" / "bart"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "bart"}', encoding="utf-8")
    assert available(tmp_path / "store") == ["bart"]
    with pytest.raises(CheckpointError) as refused:
        load(tmp_path / "store", "bart")
    assert str(refused.value).startswith(f"{folder}/manifest.json: missing; ")
    assert str(refused.value).endswith(f"if it is a Hugging Face folder, say `precis models import {folder}`")


def test_without_the_extra_its_family_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "store" / "bart"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "bart"}', encoding="utf-8")
    write_manifest(folder)
    for name in [name for name in sys.modules if name.startswith("app.models.transformers.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    for attempt in (partial(load, tmp_path / "store", "bart"), partial(bring, folder, tmp_path / "draft")):
        with pytest.raises(
            CheckpointError, match=r"for which transformers is not installed; say pip install "
        ) as refused:
            attempt()
        assert str(refused.value).endswith("pip install 'precis[transformers]'")
