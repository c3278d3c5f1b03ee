"""The best columns of rows of scores."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.models.kernels import brief


def top(scores: Tensor, count: int) -> tuple[NDArray[np.float32], NDArray[np.int32]] | None:
    """(rows, columns) on a CPU -> the best `count` of each row: values and columns, the first of equals first.

    A row with a NaN has it as its best. None where there are no kernels, and for numbers that are not float32.
    """
    kernels = brief()
    if kernels is None or scores.dtype != torch.float32:
        return None
    rows, width = scores.shape
    scores = scores.contiguous()
    count = min(count, width)
    values = np.empty((rows, count), np.float32)
    columns = np.empty((rows, count), np.int32)
    kernels.precis_top(scores.data_ptr(), rows, width, count, values.ctypes.data, columns.ctypes.data)
    return values, columns
