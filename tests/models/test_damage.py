"""Whatever happened to a stored checkpoint, it is refused in one line or is whole: never a traceback, never silence."""

import io
import json
import os
import pickle
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import CheckpointError
from app.models.base import Seq2SeqModel
from app.models.checkpoint import write_manifest
from app.models.registry import load
from tests.models.lstm.checkpoints import write_checkpoint

TEXT = "The council of Greyford approved a new bridge on Monday."
FILES = ("README.md", "config.json", "frequent.json", "manifest.json", "model.safetensors", "tokenizer.json")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("original") / "store")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A checkpoint of one's own, to break."""
    return shutil.copytree(original, tmp_path / "store" / "small")


@pytest.fixture(scope="module")
def broken(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """The same for every example of a property: a copy anew at each call."""
    folder = tmp_path_factory.mktemp("broken") / "store" / "small"

    def copy() -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        return shutil.copytree(original, folder)

    return copy


def loaded(folder: Path) -> Seq2SeqModel:
    return load(folder.parent, folder.name, device="cpu", precision="float32")


def refusal(folder: Path) -> str:
    """What is said of a checkpoint that cannot be served: one line, about its own files."""
    with pytest.raises(CheckpointError) as refused:
        loaded(folder)
    is_told(refused.value, folder)
    return str(refused.value)


def is_told(error: CheckpointError, folder: Path) -> None:
    line = str(error)
    assert "\n" not in line
    assert line.startswith(str(folder))
    assert len(line) < 400 + 2 * len(str(folder))


def is_refused_or_works(folder: Path) -> None:
    """Of a checkpoint whose manifest was written after the damage."""
    try:
        model = loaded(folder)
    except CheckpointError as error:
        is_told(error, folder)
        return
    source = model.tokenize(TEXT)
    (memory,) = model.encode([source.ids])
    state = model.open(1)
    state.join([0], memory)
    assert state.step([0], [model.info.special.start]).log_probabilities.isfinite().any()
    assert [TEXT[span.start : span.end] for span in source.spans if span.start < span.end]
    f"{model.info.description}{model.info.language}{model.info.card}".encode()


@given(st.sampled_from(FILES), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_one_changed_byte_anywhere_is_refused(broken: Callable[[], Path], name: str, place: float, change: int) -> None:
    folder = broken()
    content = bytearray((folder / name).read_bytes())
    content[int(place * len(content))] ^= change
    (folder / name).write_bytes(content)
    refusal(folder)


@given(st.sampled_from(FILES), st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_anywhere_is_refused(broken: Callable[[], Path], name: str, share: float) -> None:
    folder = broken()
    os.truncate(folder / name, int(share * (folder / name).stat().st_size))
    refusal(folder)


@given(
    st.sampled_from(["config.json", "frequent.json", "model.safetensors", "tokenizer.json", "README.md"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=3),
    st.booleans(),
)
def test_a_change_that_the_manifest_agrees_with_is_refused_or_harmless(
    broken: Callable[[], Path], name: str, changes: list[tuple[float, int]], at_the_start: bool
) -> None:
    folder = broken()
    content = bytearray((folder / name).read_bytes())
    for place, value in changes:  # what a file begins with tells how the rest is read
        content[int(place * (min(len(content), 400) if at_the_start else len(content)))] = value
    (folder / name).write_bytes(content)
    write_manifest(folder)
    is_refused_or_works(folder)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10, 4000).map(lambda digits: 10**digits)
    | st.floats()
    | st.text()
    | st.just("\ud800\n"),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=5,
)


def places(value: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths to everything within an object."""
    if not isinstance(value, dict):
        return [path]
    within = [place for name, child in value.items() for place in places(child, (*path, name))]
    return [path, *within] if path else within


@given(st.data())
def test_whatever_stands_in_the_config_is_refused_or_harmless(broken: Callable[[], Path], data: st.DataObject) -> None:
    folder = broken()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    *above, last = data.draw(st.sampled_from(places(config)))
    parent: dict[str, Any] = config
    for name in above:
        parent = parent[name]
    match data.draw(st.sampled_from(["replaced", "missing", "added"])):
        case "replaced":
            parent[last] = data.draw(ANYTHING)
        case "missing":
            del parent[last]
        case _:
            parent[data.draw(st.text())] = data.draw(ANYTHING)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_manifest(folder)
    is_refused_or_works(folder)


def test_every_file_is_read_once_so_what_was_verified_is_what_is_loaded(
    folder: Path, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = loaded(original)

    def once(path: Path, mode: str) -> io.BytesIO:
        with open(path, mode) as file:
            content = file.read()
        path.unlink()
        return io.BytesIO(content)

    monkeypatch.setattr(Path, "open", once)
    model = loaded(folder)
    assert [*folder.iterdir()] == []
    assert model.info == expected.info
    assert model.pieces == expected.pieces


def test_a_network_without_end_in_the_config_takes_no_memory(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    sizes = dict.fromkeys(("embedding_size", "encoder_size", "decoder_size", "key_size", "relevance_size"), 8192)
    config["network"] |= {**sizes, "encoder_layers": 16}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_manifest(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "model.safetensors: lacks encoder." in refusal(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kilobytes; such weights are 80 GB"


@pytest.mark.parametrize("name", FILES)
def test_a_file_as_large_as_a_disk_is_not_read(folder: Path, name: str) -> None:
    os.truncate(folder / name, 1 << 40)  # which takes no room
    assert "1,099,511,627,776 bytes" in refusal(folder) or name != "manifest.json"


def test_weights_that_run_code_are_refused_and_do_not_run(folder: Path, tmp_path: Path) -> None:
    class Run:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "run"),))

    (folder / "model.safetensors").write_bytes(pickle.dumps(Run()))
    write_manifest(folder)
    assert "model.safetensors: a pickle" in refusal(folder)
    assert not (tmp_path / "run").exists()


def test_a_listed_file_that_no_family_reads_is_verified_too(folder: Path) -> None:
    (folder / "notes.txt").write_text("trained on Monday", encoding="utf-8")
    write_manifest(folder)
    loaded(folder)
    (folder / "notes.txt").write_text("trained on Tuesday", encoding="utf-8")
    assert "notes.txt: sha256 is " in refusal(folder)
