"""Attention in every precision is the product that it stands for, whatever the sizes."""

import pytest
import torch

from app.models.lstm.arithmetic import READ_AT_ONCE
from app.models.lstm.family import PRECISIONS


@torch.inference_mode()
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("key", "value"), [(8, 24), (20, 30), (32, 64), (160, 320)])
def test_sources_are_scored_and_attended_to_as_products_say(precision: str, key: int, value: int) -> None:
    arithmetic, positions = PRECISIONS[precision], 3 * READ_AT_ONCE
    torch.manual_seed(0)
    keys, values = torch.randn(positions, key), torch.randn(positions, value).tanh()
    queries, weights = torch.randn(5, key) / key**0.5, torch.randn(5, positions).softmax(1)
    asked = arithmetic.store(keys.to(arithmetic.dtype), values.to(arithmetic.dtype))
    scores = arithmetic.score(arithmetic.asking(queries), asked)
    torch.testing.assert_close(scores.float(), queries @ keys.t(), atol=0.05, rtol=0.02)
    attended = arithmetic.attended(arithmetic.attend(arithmetic.asking(weights), asked))
    unit = 126.0 if attended.dtype == torch.int8 else 1.0
    torch.testing.assert_close(attended.float() / unit, weights @ values, atol=0.02, rtol=0.0)
