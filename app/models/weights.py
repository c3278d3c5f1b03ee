"""The weights of a checkpoint: safetensors that hold what the network demands, and nothing else."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from app.errors import CheckpointError
from app.models.checkpoint import Checkpoint, few

WEIGHTS = "model.safetensors"
HEADER_BYTES = 1 << 20
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
LARGEST = torch.finfo(torch.float16).max  # of a weight: its products with others are finite in float32

_RETRAIN = "take weights and config.json from the same training run"
_PICKLES = (b"PK\x03\x04", b"\x80")  # what torch.save writes: an archive of pickles, or one


class _Undrawn(TorchFunctionMode):
    """To draw what is on no device, torch would import its compiler for seconds."""

    def __torch_function__(
        self, function: Callable[..., Any], _types: Any, arguments: Any = (), names: dict[str, Any] | None = None
    ) -> Any:
        names = names or {}
        return names["tensor"] if function is nn.init.normal_ else function(*arguments, **names)


@contextmanager
def shapes_alone() -> Iterator[None]:
    """A network that is built within has no weights yet and takes no memory for them."""
    with torch.device("meta"), _Undrawn():
        yield


def read_weights(checkpoint: Checkpoint, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """The tensors of these names and shapes, in the precision that they are stored in.

    The file is read once, and only if it is no larger than such tensors are in float32.
    Raises CheckpointError naming the tensor that is missing, unknown, of another shape or type, or not finite.
    """
    path = checkpoint.folder / WEIGHTS
    content = checkpoint.read(WEIGHTS, HEADER_BYTES + 4 * sum(map(math.prod, shapes.values())))
    weights = parse_weights(content, path)
    _compare_names(weights, shapes, f"{path}")
    for name, tensor in sorted(weights.items()):
        if tensor.shape != shapes[name]:
            found, demanded = str(tuple(tensor.shape))[:80], tuple(shapes[name])
            raise CheckpointError(f"{path}: {name} is {found}, but config.json demands {demanded}; {_RETRAIN}")
        check_values(name, tensor, path)
    return weights


def parse_weights(content: bytes, path: Path) -> dict[str, Tensor]:
    """Every tensor of a file in safetensors, whatever it is.

    Raises CheckpointError when the file is nothing of the kind.
    """
    try:
        return load(content)
    except (SafetensorError, LookupError, ValueError, RuntimeError, AssertionError) as error:
        if content.startswith(_PICKLES):
            raise CheckpointError(f"{path}: a pickle, which can run code; save it as safetensors") from error
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: not safetensors ({reason}); save it as safetensors") from error


def check_values(name: str, tensor: Tensor, path: Path) -> None:
    """Raises CheckpointError unless it is of a type to compute with and all of it is finite."""
    if tensor.dtype not in DTYPES:
        raise CheckpointError(f"{path}: {name} is {_short(tensor.dtype)}; save it as float16, bfloat16 or float32")
    if not all(abs(float(extreme)) <= LARGEST for extreme in tensor.aminmax()):  # both are NaN where anything is
        wrong = f"holds NaN, infinity or more than {LARGEST:,.0f}"
        raise CheckpointError(f"{path}: {name} {wrong}; publish an earlier state of the training")


def _compare_names(weights: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], path: str) -> None:
    if missing := sorted(shapes.keys() - weights.keys()):
        raise CheckpointError(f"{path}: lacks {few(missing)}, which config.json demands; {_RETRAIN}")
    if unknown := sorted(weights.keys() - shapes.keys()):
        raise CheckpointError(f"{path}: holds {few(unknown)}, which config.json does not know; {_RETRAIN}")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
