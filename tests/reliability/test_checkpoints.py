"""A real service on a store where almost everything is broken: what is whole is served, the rest is told."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from app.models.checkpoint import write_manifest
from tests.api.waiting import eventually
from tests.models.lstm.checkpoints import write_checkpoint
from tests.test_server import Process


def flip(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def cut(folder: Path) -> None:
    os.truncate(folder / "tokenizer.json", 1000)


def widen(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["network"]["key_size"] += 1
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_manifest(folder)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps({"weights": [1.0]}))
    write_manifest(folder)


def climb(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["../whole/config.json"] = manifest["files"].pop("config.json")
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def lead_out(folder: Path) -> None:
    (folder / "config.json").rename(folder.parents[1] / "config.json")
    (folder / "config.json").symlink_to("../../config.json")


def blow_up(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("[" * 100_000, encoding="utf-8")
    write_manifest(folder)


def swell(folder: Path) -> None:
    os.truncate(folder / "tokenizer.json", 1 << 40)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a-flipped-bit": (flip, "model.safetensors: sha256 is "),
    "a-truncated-file": (cut, "tokenizer.json: sha256 is "),
    "a-wrong-shape": (widen, "model.safetensors: decoder.attention.key.weight is "),
    "a-pickle-in-disguise": (pickled, "model.safetensors: a pickle"),
    "a-path-that-climbs-out": (climb, "manifest.json: '../whole/config.json' is not a plain file name"),
    "a-link-that-leads-out": (lead_out, "config.json: a link out of the model store"),
    "a-bomb": (blow_up, "tokenizer.json: 100,000 bytes, where at most 40,960 belong"),
    "an-absurd-size": (swell, "bytes, where at most"),
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    whole = write_checkpoint(tmp_path / "store", "whole")
    for name, (damage, _) in DAMAGES.items():
        damage(shutil.copytree(whole, tmp_path / "store" / name))
    return tmp_path / "store"


def served(folder: Path, store: Path, model: str) -> Process:
    return Process(folder, module="app", PRECIS_MODEL_STORE=str(store), PRECIS_MODEL=model, PRECIS_PRECISION="float32")


def test_what_is_whole_is_served_and_each_of_the_others_is_one_line_of_the_log(tmp_path: Path, store: Path) -> None:
    with served(tmp_path, store, "whole") as server:
        eventually(lambda: len(server.lines("model left out")) == len(DAMAGES))
        told = {line["model"]: line["reason"] for line in server.lines("model left out")}
        eventually(lambda: server.get("/readyz").status_code == 200)
        assert server.summarize("The council approved a bridge.").status_code == 200
        assert [model["name"] for model in server.get("/models").json()["models"]] == ["whole"]
    assert server.errors == b""
    assert {name: reason for name, reason in told.items() if DAMAGES[name][1] not in reason} == {}
    assert all(reason.startswith(str(store / name)) for name, reason in told.items())


@pytest.mark.parametrize("name", ["a-flipped-bit", "an-absurd-size"])
def test_without_its_default_checkpoint_a_service_ends_with_one_line(tmp_path: Path, store: Path, name: str) -> None:
    with served(tmp_path, store, name) as server:
        assert server.wait() == 1
    (line,) = server.errors.decode().splitlines()
    assert line.startswith(f"precis: cannot load the default model {name!r} from {store}: {store / name}")
    assert DAMAGES[name][1] in line
