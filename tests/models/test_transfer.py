"""Where there is nothing to copy, nothing is copied; the copy to a GPU is in `lstm/test_gpu.py`."""

import torch

from app.models.transfer import upload


def test_what_is_on_the_device_already_stays_where_it_is() -> None:
    tensors = [torch.arange(6).view(2, 3), torch.zeros(0, dtype=torch.long)]
    assert [tensor.data_ptr() for tensor in upload(tensors, torch.device("cpu"))] == [
        tensor.data_ptr() for tensor in tensors
    ]
