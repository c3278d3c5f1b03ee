"""What is particular to a step in fixed shapes; what it comes to is told in `test_slots.py`."""

import torch
from torch import Tensor

from app.models.lstm.fixed import FixedStep
from app.models.lstm.graphs import Eager
from app.models.lstm.network import Seq2Seq
from app.models.lstm.tokenizer import START
from tests.models.lstm.checkpoints import FREQUENT, SMALL, model_of


def test_a_step_needs_no_number_on_the_host() -> None:
    """Tensors on this device have no numbers at all: whoever asks for one fails."""
    step = FixedStep(Seq2Seq(SMALL).to("meta"), torch.bfloat16, torch.tensor(FREQUENT, device="meta"))

    def of(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(size, dtype=dtype, device="meta")

    state = of(4, 24, SMALL.decoder_size)
    advanced = step(of(24, dtype=torch.long), state, step.room(8, 128))
    assert advanced.log_probabilities.shape == (24, step.columns(128))
    assert advanced.state.shape == state.shape


def test_a_token_is_copied_with_the_sum_of_all_its_places() -> None:
    torch.manual_seed(0)
    model = model_of(Seq2Seq(SMALL), "float32", FREQUENT, Eager())
    (memory,) = model.encode([[250, 60, 250, 60, 250, 7]])
    state = model.open(8)
    state.join([0], memory)
    output = state.step([0], [START])
    assert output.copied is not None
    weights, gate = output.attention[0], output.copied[0]
    for token, places in ((250, [0, 2, 4]), (60, [1, 3]), (7, [5])):
        column = memory.candidates.column(token)
        assert column is not None
        assert output.log_probabilities[0, column].exp() >= gate * weights[places].sum() * (1 - 1e-6)
    torch.testing.assert_close(output.log_probabilities[0].exp().sum(), torch.tensor(1.0))
