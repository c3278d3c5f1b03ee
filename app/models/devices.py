"""Where a checkpoint is computed, and in which precision: what the settings say, or what is best here."""

from collections.abc import Collection

import torch

from app.errors import ConfigurationError
from app.models import kernels

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PRECISIONS = (*DTYPES, "int8")


def choose_device(name: str) -> torch.device:
    """Raises ConfigurationError for a name that is none, and for a GPU that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(f"PRECIS_DEVICE={name}: not a device (auto, cpu, cuda, cuda:0, …)") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError(f"PRECIS_DEVICE={name}: there is no such GPU here; use cpu or auto")
    return device


def choose_precision(name: str, device: torch.device, offered: Collection[str] = PRECISIONS) -> str:
    """`auto` is the fastest that the device multiplies in; for our own checkpoints the ROUGE of all is within 0.1
    (`benchmarks/RESULTS.md`), for others it is not known.

    Raises ConfigurationError for a name that is none, and for int8 where there is nothing to compute it with.
    """
    if name == "auto":
        return _fastest(device, offered)
    if name not in offered:
        raise ConfigurationError(f"PRECIS_PRECISION={name}: not one of auto, {', '.join(offered)}")
    if name == "int8" and device.type != "cpu":
        raise ConfigurationError(f"PRECIS_PRECISION={name}: only on a CPU; on {device} use bfloat16 or auto")
    if name == "int8" and (missing := kernels.missing()):
        raise ConfigurationError(f"PRECIS_PRECISION={name}: {missing}; use auto")
    return name


def _fastest(device: torch.device, offered: Collection[str]) -> str:
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    if "int8" in offered and not kernels.missing():
        return "int8"
    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"
