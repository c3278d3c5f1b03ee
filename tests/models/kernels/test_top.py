"""The best of each row, against a stable sort."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.models.kernels import library, missing
from app.models.kernels.top import top

pytestmark = pytest.mark.skipif(library() is None, reason=f"no kernels: {missing()}")


@given(st.integers(0, 2**20), st.integers(1, 9), st.integers(1, 300), st.integers(1, 20), st.sampled_from([0.0, 0.5]))
def test_the_best_come_first_and_of_equals_the_first(seed: int, rows: int, width: int, count: int, step: float) -> None:
    scores = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    if step:
        scores = torch.round(scores / step) * step  # many are equal
    scores[:, ::3] = -math.inf
    read = top(scores, count)
    assert read
    values, columns = map(torch.from_numpy, read)
    expected = scores.sort(dim=1, descending=True, stable=True)
    assert torch.equal(values, expected.values[:, :count])
    possible = values > -math.inf
    assert torch.equal(columns[possible].long(), expected.indices[:, :count][possible])


@given(st.integers(1, 200), st.data())
def test_a_row_with_a_nan_has_it_as_its_best_and_no_other_row_has(width: int, data: st.DataObject) -> None:
    scores = torch.zeros(3, width)
    scores[1, data.draw(st.integers(0, width - 1))] = math.nan
    read = top(scores, 1)
    assert read
    assert np.isnan(read[0][:, 0]).tolist() == [False, True, False]
