"""Numbers on their way to the device: in one copy, which the host does not wait for."""

from collections.abc import Sequence

import torch
from torch import Tensor


def upload(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """The same integers (int64, on the host) on the device.

    From ordinary memory a copy waits for all that the device has been given to do; from pinned memory it does not, and
    torch keeps that memory until the copy is made.
    """
    if device.type != "cuda":
        return list(tensors)
    packed = torch.cat([tensor.flatten() for tensor in tensors]).pin_memory().to(device, non_blocking=True)
    parts = packed.split_with_sizes([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
