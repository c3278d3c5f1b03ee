"""What is particular to a step in fixed shapes; what it comes to is told in `test_slots.py`."""

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from app.models.lstm.arithmetic import Arithmetic
from app.models.lstm.fixed import FixedStep
from app.models.lstm.graphs import Eager, Runner
from app.models.lstm.network import Seq2Seq
from app.models.lstm.tokenizer import START
from tests.models.lstm.checkpoints import FREQUENT, SMALL, model_of


@torch.inference_mode()
def test_a_step_needs_no_number_on_the_host() -> None:
    """Fake tensors have no numbers at all: whoever asks for one fails."""
    step = FixedStep(Seq2Seq(SMALL), Arithmetic(torch.bfloat16), torch.tensor(FREQUENT))
    with FakeTensorMode(allow_non_fake_inputs=True):
        cell = torch.zeros(2, 24, SMALL.decoder_size)
        tokens = torch.zeros(24, dtype=torch.long)
        stepped = step(tokens, step.arithmetic.bounded(cell), cell, step.room(8, 128))
        assert stepped.log_probabilities.shape == (24, step.columns(128))
        with pytest.raises(DataDependentOutputException):
            stepped.cell.sum().item()


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


@pytest.mark.parametrize("runner", [None, Eager()])
def test_attention_falls_where_the_network_says_that_a_source_is_relevant(runner: Runner | None) -> None:
    torch.manual_seed(0)
    network = Seq2Seq(replace(SMALL, relevance_size=8))
    assert network.relevance is not None
    torch.nn.init.constant_(network.relevance.begins.bias, 20.0)  # every token begins another text
    model = model_of(network, "float32", FREQUENT, runner)
    (memory,) = model.encode([[250, 60, 7, 251]])
    state = model.open(8)
    state.join([0], memory)
    assert (state.step([0], [START]).attention[0, 1:] < 1e-6).all()
