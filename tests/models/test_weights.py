"""Weights are what the network demands, or one line says what they are instead."""

import io
import json
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from app.errors import CheckpointError
from app.models.checkpoint import Checkpoint, write_manifest
from app.models.weights import HEADER_BYTES, read_weights, shapes_alone

ROOT = Path(__file__).parents[2]
WHOLE = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.float16)}
SHAPES = {name: tensor.shape for name, tensor in WHOLE.items()}


def stored(folder: Path, content: bytes) -> Checkpoint:
    (folder / "model.safetensors").write_bytes(content)
    write_manifest(folder)
    return Checkpoint(folder)


def refusal(folder: Path, content: bytes) -> str:
    """What is said of weights that cannot be used: one line, with what to do after what is wrong."""
    with pytest.raises(CheckpointError) as refused:
        read_weights(stored(folder, content), SHAPES)
    line = str(refused.value)
    assert "\n" not in line
    assert "; " in line
    return line.removeprefix(f"{folder}/model.safetensors: ")


def with_header(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    content = json.dumps(header).encode()
    return struct.pack("<Q", len(content) if length is None else length) + content + data


def entry(dtype: str = "F32", shape: tuple[int, ...] = (4,), offsets: tuple[int, int] = (0, 16)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_weights_are_read_as_they_are_stored(tmp_path: Path) -> None:
    weights = read_weights(stored(tmp_path, save(WHOLE)), SHAPES)
    assert weights.keys() == WHOLE.keys()
    assert all(
        torch.equal(tensor, WHOLE[name]) and tensor.dtype == WHOLE[name].dtype for name, tensor in weights.items()
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"b": None}, "lacks b, which config.json demands"),
        ({"c": torch.ones(1)}, "holds c, which config.json does not know"),
        ({"c\n" + "x" * 1000: torch.ones(1)}, r"holds 'c\nxxx"),
        ({"b": torch.ones(2, 2)}, "b is (2, 2), but config.json demands (4,)"),
        ({"b": torch.ones((1,) * 60)}, "b is (1, 1, 1,"),
        ({"b": torch.ones(0)}, "b is (0,), but config.json demands (4,)"),
        ({"b": torch.ones(4, dtype=torch.int8)}, "b is int8; save it as float16, bfloat16 or float32"),
        ({"b": torch.tensor([1, torch.nan, 1, 1])}, "b holds NaN, infinity or more than 65,504; publish"),
        ({"b": torch.tensor([1, 1, 1, torch.inf]).half()}, "b holds NaN, infinity or more than 65,504; publish"),
        ({"b": torch.tensor([1, -65505.0, 1, 1])}, "b holds NaN, infinity or more than 65,504; publish"),
        ({"b": torch.tensor([-torch.inf, 1, 1, 1]).bfloat16()}, "b holds NaN, infinity or more than 65,504; publish"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(tmp_path: Path, changed: dict[str, Tensor | None], said: str) -> None:
    tensors = {name: tensor for name, tensor in {**WHOLE, **changed}.items() if tensor is not None}
    line = refusal(tmp_path, save(tensors))
    assert line.startswith(said)
    assert len(line) < 300


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_in_disguise_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    class Run:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return (open, (str(tmp_path / "run"), "w"))

    assert refusal(tmp_path, pickle.dumps(Run(), protocol)).startswith("a pickle, which can run code")
    archive = io.BytesIO()
    torch.save({"weights": Run()}, archive)
    assert refusal(tmp_path, archive.getvalue()).startswith("a pickle, which can run code")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        save(WHOLE)[:-1],
        save(WHOLE) + b"\0",
        with_header({}, length=1 << 62),
        with_header({}, length=(1 << 64) - 1),
        with_header({}, length=0),
        with_header([]),
        with_header({"b": entry(offsets=(0, 1 << 62))}, bytes(16)),
        with_header({"b": entry(offsets=(16, 0))}, bytes(16)),
        with_header({"b": entry(shape=(1 << 62, 8))}, bytes(16)),
        with_header({"b": entry(shape=(-4,))}, bytes(16)),
        with_header({"b": entry(shape=(5,))}, bytes(16)),
        with_header({"b": entry("F128")}, bytes(16)),
        with_header({"b": entry("F4", (32,))}, bytes(16)),
        with_header({"b": entry(), "c": entry()}, bytes(16)),
        with_header({"b": entry(), "c": entry(offsets=(32, 48))}, bytes(48)),
        with_header({"b": {}}),
        struct.pack("<Q", 200_000) + b"[" * 200_000,
        struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc",
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, content: bytes) -> None:
    assert refusal(tmp_path, content).startswith("not safetensors (")


def test_more_bytes_than_the_network_has_are_not_read(tmp_path: Path) -> None:
    large = HEADER_BYTES + 4 * (6 + 4) + 1
    assert refusal(tmp_path, bytes(large)).startswith(f"{large:,} bytes, where at most {large - 1:,} belong")


def test_a_network_of_shapes_alone_has_no_memory() -> None:
    size = 1 << 27
    with shapes_alone():
        layers = [torch.nn.Embedding(size, size), torch.nn.Linear(size, size), torch.nn.LSTM(size, size)]
    assert all(parameter.is_meta for layer in layers for parameter in layer.parameters())
    assert not torch.nn.Linear(1, 1).weight.is_meta


BUILD = """
import sys, torch
from app.models.weights import shapes_alone
with shapes_alone():
    torch.nn.Embedding(2, 2)
print("torch._dynamo" in sys.modules)
"""


def test_nothing_that_takes_seconds_to_import_is_needed_for_it() -> None:
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "False\n"
