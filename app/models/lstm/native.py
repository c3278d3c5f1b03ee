"""The decoder in int8 on a CPU: what the kernels in C are given, and what they say."""

from typing import NamedTuple

from torch import Tensor


class Source(NamedTuple):
    """What the decoder reads of one source of S positions, none of them padding. The scales of one that is not finite
    are NaN somewhere, for int8 cannot say it: of a position whose key or value is not finite."""

    keys: Tensor  # (S, K) int8
    scales: Tensor  # (S) float32: what 1 stands for in the key of a position
    values: Tensor  # (S, H) int8: 126 for 1
    prior: Tensor  # (S) float32, added to the scores
    start: Tensor  # (4, D) float32, the decoder's first state: hidden and cell of either layer
