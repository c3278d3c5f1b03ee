"""A downloaded folder becomes a checkpoint with the same network and tokenizer, or one line says why it cannot."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from app.errors import CheckpointError
from app.models.checkpoint import Checkpoint
from app.models.registry import bring
from app.models.transformers.folder import load_network, read_folder
from app.models.transformers.tokenizer_file import read_tokenizer
from tests.models.transformers.folders import SENTENCES, WRITE_TOKENIZER, write_folder

ROOT = Path(__file__).parents[3]
Told = list[tuple[str, str]]
COMMON = {"config.json", "generation_config.json", "model.safetensors", "manifest.json", "tokenizer_config.json"}


def downloaded(tmp_path: Path, architecture: str = "bart") -> Path:
    folder = write_folder(tmp_path / "downloads", architecture)
    (folder / "manifest.json").unlink()
    return folder


def brought(source: Path) -> tuple[Checkpoint, Told]:
    draft = source.parent / "draft"
    draft.mkdir()
    told = bring(source, draft)
    checkpoint = Checkpoint(draft)
    checkpoint.verify()
    return checkpoint, told


def refusal(source: Path) -> str:
    """What is said of a folder that cannot be imported: one line."""
    draft = source.parent / "draft"
    draft.mkdir()
    with pytest.raises(CheckpointError) as refused:
        bring(source, draft)
    line = str(refused.value)
    assert "\n" not in line
    assert len(line) < 500 + 2 * len(str(source))
    return line


def pickled(folder: Path, *, zipped: bool = True) -> dict[str, torch.Tensor]:
    """Store the weights as PyTorch does, tied ones under each of their names; what they are."""
    checkpoint, _ = brought(folder)
    network = load_network(checkpoint, read_folder(checkpoint), torch.float32)
    shutil.rmtree(checkpoint.folder)
    (folder / "model.safetensors").unlink()
    torch.save(network.state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    return dict(network.state_dict())


def network_of(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return dict(load_network(checkpoint, read_folder(checkpoint), torch.float32).state_dict())


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("architecture", WRITE_TOKENIZER)
def test_what_belongs_is_copied_and_the_folder_stays_as_it_is(tmp_path: Path, architecture: str) -> None:
    source = downloaded(tmp_path, architecture)
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    checkpoint, told = brought(source)
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before
    assert {path.name for path in checkpoint.folder.iterdir()} == {*before, "manifest.json"}
    assert told[0] == ("architecture", checkpoint.config["architectures"][0])
    assert told[1:] == [("note", f"max_length is not said: it is {128 if architecture == 't5' else 63}")]


@pytest.mark.parametrize("architecture", WRITE_TOKENIZER)
def test_pickled_weights_become_safetensors_of_the_same_network(tmp_path: Path, architecture: str) -> None:
    source = downloaded(tmp_path, architecture)
    weights = pickled(source)
    checkpoint, told = brought(source)
    assert ("converted", "pytorch_model.bin to safetensors") in told
    assert "pytorch_model.bin" not in checkpoint
    assert "model.safetensors" in checkpoint
    assert same(network_of(checkpoint), weights)
    assert len({path.stat().st_mode for path in checkpoint.folder.iterdir() if path.name != "manifest.json"}) == 1


def test_pickles_of_old_are_read_too(tmp_path: Path) -> None:
    source = downloaded(tmp_path)
    weights = pickled(source, zipped=False)
    assert same(network_of(brought(source)[0]), weights)


def test_several_pickles_become_one_network(tmp_path: Path) -> None:
    source = downloaded(tmp_path)
    weights = pickled(source)
    (source / "pytorch_model.bin").unlink()
    names = sorted(weights)
    places = {name: f"pytorch_model-0000{1 + index % 2}-of-00002.bin" for index, name in enumerate(names)}
    for file in set(places.values()):
        torch.save({name: weights[name] for name in names if places[name] == file}, source / file)
    (source / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    checkpoint, _ = brought(source)
    assert "pytorch_model.bin.index.json" not in checkpoint
    assert same(network_of(checkpoint), weights)


class Harm:
    """What a pickle can do: call any function."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._mark}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, zipped: bool) -> None:
    source, mark = downloaded(tmp_path), tmp_path / "mark"
    (source / "model.safetensors").unlink()
    state = {"model.shared.weight": torch.ones(2), "more": Harm(mark)}
    torch.save(state, source / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    line = refusal(source)
    assert line == (
        f"{source}/pytorch_model.bin: weights not converted: a pickle that holds more than tensors (posix.system), "
        "which can run code; get the checkpoint as safetensors"
    )
    assert not mark.exists()


def archive(**members: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as opened:
        for name, content in members.items():
            opened.writestr(f"archive/{name}", content)
    return written.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"\x80\x02}q\x00.",
        pickle.dumps({"a": 1}),
        pickle.dumps([torch.ones(1)]),
        archive(data=b"\x80\x02]."),
        b"<html>not found</html>",
    ],
    ids=["empty", "cut", "bare", "numbers", "list", "archive", "page"],
)
def test_what_is_no_pickle_of_tensors_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    source = downloaded(tmp_path)
    (source / "model.safetensors").unlink()
    (source / "pytorch_model.bin").write_bytes(content)
    assert refusal(source).startswith(f"{source}/pytorch_model.bin: ")


@pytest.mark.parametrize("architecture", ["bart", "t5", "pegasus", "mbart"])
def test_a_tokenizer_of_another_form_is_converted_and_cuts_alike(tmp_path: Path, architecture: str) -> None:
    source = downloaded(tmp_path, architecture)
    if architecture == "bart":
        model = json.loads((source / "tokenizer.json").read_text())["model"]
        (source / "vocab.json").write_text(json.dumps(model["vocab"]))
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        (source / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    whole, _ = brought(source)
    size = whole.config["vocab_size"]
    expected = read_tokenizer(whole, size)
    shutil.rmtree(whole.folder)
    (source / "tokenizer.json").unlink()
    checkpoint, told = brought(source)
    assert ("converted", "the tokenizer to tokenizer.json") in told
    made = read_tokenizer(checkpoint, size)
    assert made.around == expected.around
    for text in (*SENTENCES, "ﬁ １２ e\u0301"):
        assert made.encode(text).ids == expected.encode(text).ids


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    source = downloaded(tmp_path)
    (source / "tokenizer.json").unlink()
    assert refusal(source).startswith(f"{source}: no tokenizer (tokenizer.json, spiece.model, …); ")


def test_a_tokenizer_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    source = downloaded(tmp_path, "t5")
    (source / "tokenizer.json").unlink()
    (source / "spiece.model").write_bytes(b"none")
    assert refusal(source).startswith(f"{source}: tokenizer not converted: ")


def test_what_does_not_belong_is_left_out_and_told(tmp_path: Path) -> None:
    source = downloaded(tmp_path)
    for name in ("tf_model.h5", "training_args.bin", "modeling_mine.py", ".gitattributes"):
        (source / name).write_text("x")
    (source / "onnx").mkdir()
    checkpoint, told = brought(source)
    assert ("left out", "modeling_mine.py, tf_model.h5, training_args.bin") in told
    assert not {"tf_model.h5", "training_args.bin", "modeling_mine.py", "onnx"} & set(os.listdir(checkpoint.folder))


def test_a_folder_of_the_hubs_cache_is_made_of_links(tmp_path: Path) -> None:
    source = downloaded(tmp_path)
    cache = tmp_path / "models--x--small"
    (cache / "blobs").mkdir(parents=True)
    snapshot = cache / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    for number, path in enumerate(source.iterdir()):
        path.rename(cache / "blobs" / f"{number}")
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    checkpoint, _ = brought(snapshot)
    assert not any(path.is_symlink() for path in checkpoint.folder.iterdir())


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    source = downloaded(tmp_path)
    (tmp_path / "secret").write_text("secret")
    (source / "README.md").symlink_to(tmp_path / "secret")
    assert (
        refusal(source)
        == f"{source}/README.md: a link out of the folder, to {tmp_path}/secret; put the file itself there"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda source: (source / "config.json").unlink(), "config.json: missing; name a folder"),
        (lambda source: (source / "config.json").write_text("[]"), "config.json: not a JSON object"),
        (lambda source: (source / "config.json").write_text(" " * 70_000), "config.json: 70,000 bytes, where at most"),
        (
            lambda source: (source / "config.json").write_text('{"family": "lstm"}'),
            "config.json: unknown family 'lstm' (known: transf",
        ),
        (lambda source: (source / "model.safetensors").unlink(), "neither model.safetensors nor pytorch_model.bin; "),
        (
            lambda source: (
                (source / "model.safetensors").rename(source / "model-00001-of-00002.safetensors")
                and (source / "model.safetensors.index.json").write_text(
                    '{"weight_map": {"a": "model-00002-of-00002.safetensors"}}'
                )
            ),
            "model.safetensors.index.json: model-00002-of-00002.safetensors is not there; download the folder again",
        ),
        (
            lambda source: (source / "model.safetensors").write_text(
                "version https://git-lfs.github.com/spec/v1\noid 1"
            ),
            "model.safetensors: a pointer of Git LFS; say `git lfs pull` in ",
        ),
        (
            lambda source: (
                (source / "model.safetensors").rename(source / "model.bin")
                and (source / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model.bin"}}')
            ),
            "model.safetensors.index.json: model.bin is no .safetensors file; ",
        ),
        (
            lambda source: (
                (source / "generation_config.json").unlink()
                or (source / "generation_config.json").symlink_to("nowhere")
            ),
            "generation_config.json: no file; download the folder again",
        ),
        (
            lambda source: (source / "precis.json").write_text('{"language": 1}'),
            "precis.json: language is 1; it must be",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_folder_that_is_not_whole_is_refused_in_one_line(
    tmp_path: Path, change: Callable[[Path], object], said: str
) -> None:
    source = downloaded(tmp_path)
    change(source)
    assert said in refusal(source)


@pytest.mark.parametrize(
    ("card", "language"),
    [
        ("---\nlanguage: de\n---\n# Kurz\n", "de"),
        ("---\nlanguage:\n- en\nlicense: mit\n---\n", "en"),
        ("---\nlanguage:\n- en\n- de\n---\n", "und"),
        ("---\nlanguage: {a: [}\n---\n", "und"),
        ("---\nlanguage: no\n---\n", "und"),
        ("# A card\n", "und"),
    ],
)
def test_the_language_is_that_of_the_card(tmp_path: Path, card: str, language: str) -> None:
    source = downloaded(tmp_path)
    (source / "README.md").write_text(card)
    checkpoint, _ = brought(source)
    assert read_folder(checkpoint).language == language
    assert checkpoint.card == card


def test_our_own_file_is_kept_as_it_is(tmp_path: Path) -> None:
    source = downloaded(tmp_path)
    (source / "README.md").write_text("---\nlanguage: de\n---\n")
    (source / "precis.json").write_text('{"language": "fr", "decoding": {"num_beams": 3}}')
    folder = read_folder(brought(source)[0])
    assert (folder.language, folder.defaults.num_beams) == ("fr", 3)


@pytest.mark.parametrize("content", [b"\xff", b"x" * ((1 << 20) + 1)], ids=["bytes", "large"])
def test_a_card_that_cannot_be_shown_is_left_out(tmp_path: Path, content: bytes) -> None:
    source = downloaded(tmp_path)
    (source / "README.md").write_bytes(content)
    checkpoint, told = brought(source)
    assert checkpoint.card == ""
    assert any(value.startswith("README.md, for it is not UTF-8 of up to") for _, value in told)


def test_a_full_disk_is_noticed_before_anything_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = downloaded(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1000))
    assert "1,000 bytes are free, and " in refusal(source)
    assert os.listdir(source.parent / "draft") == []


def test_weights_are_not_written_twice_where_they_are_tied(tmp_path: Path) -> None:
    source = downloaded(tmp_path)
    weights = pickled(source)
    stored = load_file(brought(source)[0].folder / "model.safetensors")
    assert len(stored) < len(weights)


@pytest.mark.parametrize(
    ("attempt", "error"),
    [
        ("socket.socket()", "PermissionError"),
        ("socket.getaddrinfo('localhost', 80)", "PermissionError"),
        ("subprocess.run(['true'])", "PermissionError"),
        ("os.system('true')", "PermissionError"),
        ("os.fork()", "PermissionError"),
        ("bytearray(20 << 30)", "MemoryError"),
    ],
)
def test_what_converts_begins_nothing_and_takes_no_more_than_it_needs(attempt: str, error: str) -> None:
    code = (
        f"import os, socket, subprocess\nfrom app.models.transformers.converting import confine\nconfine(0)\n{attempt}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr.splitlines()[-1].startswith(error)


def test_the_library_is_offline_wherever_the_family_is() -> None:
    code = "import app.models.transformers.folder, huggingface_hub.constants as c; assert c.HF_HUB_OFFLINE"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment)
