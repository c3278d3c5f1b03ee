"""The kernels of a CPU with AVX-512 VNNI, in C: compiled when the project is installed, called through ctypes.

A call holds no lock of the interpreter, and computes each row by itself, so that its result is the same in any company.
Where there is no compiler, or another processor, there are none: `library()` is None, and int8 is not offered.
"""

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

LANES = 16  # numbers come in multiples of it
PANEL = 64  # outputs of a product come in multiples of it
UNIT = 126.0  # int8 for 1: what is attended may be a little more by rounding
_POINTER, _NUMBER = ctypes.c_void_p, ctypes.c_int64
_NEEDED = ("avx512_f", "avx512_bw", "avx512_dq", "avx512_vl", "avx512_vnni")  # what pyproject.toml compiles for
_TINY = torch.finfo(torch.float32).tiny


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where they are not compiled, or this processor cannot run them."""
    if missing():
        return None
    kernels = ctypes.CDLL(_files()[0])
    for name in ("decode_room", "encode_room", "kept_bytes", "source_bytes"):
        getattr(kernels, f"precis_{name}").restype = ctypes.c_int64
    return kernels


@cache
def brief() -> ctypes.PyDLL | None:
    """The same for calls of a few dozen microseconds, which keep the interpreter's lock: whoever gives it away has to
    wait for it until another thread, perhaps the event loop, has done all that it has to do."""
    if missing():
        return None
    kernels = ctypes.PyDLL(_files()[0])
    kernels.precis_top.argtypes = [_POINTER, _NUMBER, _NUMBER, _NUMBER, _POINTER, _POINTER]
    return kernels


def missing() -> str | None:
    """Why there are no kernels; None if there are."""
    if not all(torch.cpu.get_capabilities().get(name) for name in _NEEDED):
        return "the processor has no AVX-512 VNNI"
    if not _files():
        return "its kernels were not compiled when the project was installed"
    compiled = os.stat(_files()[0]).st_mtime
    if any(source.stat().st_mtime > compiled for source in Path(__file__).parent.glob("*.[ch]")):
        return "its kernels are older than their source; install the project again"
    return None


@cache
def _files() -> list[str]:
    folder = Path(__file__).parent
    return [str(path) for suffix in EXTENSION_SUFFIXES if (path := folder / f"_library{suffix}").exists()]


def whole(size: int, step: int) -> int:
    """The next multiple of a step."""
    return -(-size // step) * step


def padded(tensor: Tensor, dimension: int, sizes: Sequence[int] = (), *, step: int) -> Tensor:
    """With zeros after each part of a dimension (all of it is one, if no sizes are given), to a multiple of a step."""
    parts = tensor.split_with_sizes(list(sizes) or [tensor.shape[dimension]], dimension)
    wanted = [whole(part.shape[dimension], step) - part.shape[dimension] for part in parts]
    if not any(wanted):
        return tensor
    last = tensor.dim() - 1 - dimension  # F.pad begins with the last dimension
    return torch.cat(
        [F.pad(part, (*[0, 0] * last, 0, more)) for part, more in zip(parts, wanted, strict=True)], dimension
    )


class Packed(ctypes.Structure):
    """`Product` of product.h."""

    _fields_ = (
        ("weight", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("inputs", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
        ("split", ctypes.c_int64),
    )


class Int8Weights:
    """Weights (O, I) and bias (O) of a product, each output scaled by its largest weight; `packed` is what C reads.

    split: what C rounds for it is rounded to two bytes, for rows with numbers that are much larger than the others.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, split: bool = False) -> None:
        self._outputs, missing = len(weight), -len(weight) % PANEL
        weight = F.pad(weight.float(), (0, 0, 0, missing))
        self._bias = F.pad(bias.float(), (0, missing))  # a copy in any case
        self._scale = weight.abs().amax(1).clamp_min(_TINY) / 127.0  # (O)
        rounded = (weight / self._scale.unsqueeze(1)).round().to(torch.int16)
        outputs, inputs = weight.shape
        panels = (rounded + 128).to(torch.uint8).view(outputs // PANEL, PANEL, inputs // 4, 4)
        self._weight = panels.transpose(1, 2).contiguous()
        pointers = (tensor.data_ptr() for tensor in (self._weight, self._scale, self._bias))
        self.packed = Packed(*pointers, inputs, outputs, split)

    def multiply(self, rows: Tensor, units: Tensor) -> Tensor:
        """rows (B, I) int8, of which 1 stands for units (B) float32 -> rows W^T + b (B, O) float32."""
        kernels = library()
        assert kernels
        assert (rows.dtype, units.dtype) == (torch.int8, torch.float32)
        count, width = len(rows), len(self._bias)
        out, excess = torch.empty(count, width), torch.empty(count, dtype=torch.int32)
        pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (rows, units, out, excess)]
        kernels.precis_multiply(ctypes.byref(self.packed), ctypes.c_int64(count), *pointers)
        return out[:, : self._outputs]

    def __call__(self, rows: Tensor) -> Tensor:
        """rows (B, I) float32, I a multiple of LANES -> the same, each row rounded to int8 in a unit of its own."""
        kernels = library()
        assert kernels
        assert rows.dtype == torch.float32
        assert rows.shape[1] % LANES == 0
        rows, count = rows.contiguous(), len(rows)
        out, excess = torch.empty(count, len(self._bias)), torch.empty(count, dtype=torch.int32)
        room = torch.empty(2 * rows.numel(), dtype=torch.int8), torch.empty(2 * count), excess
        pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (rows, out, *room)]
        kernels.precis_multiply_rounded(ctypes.byref(self.packed), ctypes.c_int64(count), *pointers)
        return out[:, : self._outputs]


class FloatWeights:
    """Weights (O, I) and bias (O) of a product in float32; `packed` is what C reads."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._outputs, missing = len(weight), -len(weight) % PANEL
        panels = F.pad(weight.float(), (0, 0, 0, missing)).view(-1, PANEL, weight.shape[1])
        self._weight, self._bias = panels.transpose(1, 2).contiguous(), F.pad(bias.float(), (0, missing))
        sizes = weight.shape[1], self._outputs + missing
        self.packed = Packed(self._weight.data_ptr(), None, self._bias.data_ptr(), *sizes)

    def __call__(self, rows: Tensor) -> Tensor:
        """rows (B, I) float32 -> rows W^T + b (B, O)."""
        kernels = library()
        assert kernels
        assert rows.dtype == torch.float32
        rows, out = rows.contiguous(), torch.empty(len(rows), len(self._bias))
        pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (rows, out)]
        kernels.precis_multiply_float(ctypes.byref(self.packed), ctypes.c_int64(len(rows)), *pointers)
        return out[:, : self._outputs]
