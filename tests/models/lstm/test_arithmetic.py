"""A row's product is the same with any number of rows beside it."""

import pytest
import torch

from app.models.lstm.arithmetic import multiplied


@pytest.mark.parametrize(("inner", "outer"), [(8, 24), (160, 320), (256, 400)])
def test_a_row_is_multiplied_alike_in_any_number_of_rows(inner: int, outer: int) -> None:
    torch.manual_seed(0)
    rows, columns = torch.randn(33, inner), torch.randn(inner, outer)
    every = multiplied(rows, columns)
    torch.testing.assert_close(every, (rows.double() @ columns.double()).float(), atol=1e-4, rtol=1e-4)
    for count in (1, 2, 3, 4, 5, 8, 32):
        assert torch.equal(multiplied(rows[:count], columns), every[:count])
