"""The decoder in int8 is the library's but for rounding, row by row, whoever steps beside a row."""

import pytest
import torch

from app.models.base import AttentionOptions, Candidates, Shared
from app.models.transformers.architectures import read_decoder
from app.models.transformers.decoder import Step
from app.models.transformers.encoding import Encoder
from app.models.transformers.native import NativeEncoder, NativeMemory, NativeState, NativeStep
from app.models.transformers.state import TransformersState
from tests.models.lstm.checkpoints import WITH_KERNELS
from tests.models.transformers.networks import AFTER, BEFORE, CONFIGURATIONS, CONTENT, START, VOCABULARY, network_of

pytestmark = WITH_KERNELS
LONGEST = 40
CANDIDATES = Candidates(Shared(range(VOCABULARY)))
ALL = AttentionOptions((0, 1), (0, 1, 2, 3))


def tokens_of(seed: int, count: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(CONTENT.start, CONTENT.stop, (count,), generator=generator).tolist()


class Native:
    """A small decoder in int8."""

    def __init__(self, kind: str, **sizes: int) -> None:
        network = network_of(kind, torch.float32, **sizes)
        self.step = NativeStep(read_decoder(network, LONGEST))
        self._encoder = NativeEncoder(network.get_encoder(), self.step)

    @torch.inference_mode()
    def memory(self, seed: int, length: int) -> NativeMemory:
        return self._encoder(BEFORE, tokens_of(seed, length), AFTER, CANDIDATES)

    def open(self, capacity: int) -> NativeState:
        return NativeState(self.step, capacity)


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_a_step_is_the_librarys_decoders_but_for_rounding(kind: str) -> None:
    """Distributions differ by 0.03 nats at most, of 2 to 4; weights of attention by 0.1, mostly far less."""
    exact = network_of(kind, torch.float64)
    decoder = read_decoder(exact, LONGEST)
    native, source = Native(kind), tokens_of(0, 19)
    with torch.inference_mode():
        memory = Encoder(exact.get_encoder(), decoder)(BEFORE, source, AFTER, CANDIDATES)
    for options in (ALL, AttentionOptions((1,), (0, 3)), AttentionOptions((0, 1), (1, 2), "mean")):
        expected, got = TransformersState(Step(decoder), 4), native.open(4)
        expected.join([1, 2], memory, options)
        got.join([1, 2], native.memory(0, 19), options)
        tokens = [START, START]
        for number in range(12):
            right, output = expected.step([1, 2], tokens), got.step([1, 2], tokens)
            scores = output.log_probabilities.double()
            assert torch.all(scores[:, VOCABULARY:] == -torch.inf)
            lost = torch.sum(right.log_probabilities.exp() * (right.log_probabilities - scores[:, :VOCABULARY]), 1)
            assert torch.all(lost.abs() < 0.03), lost
            assert torch.allclose(right.attention, output.attention[:, :19].double(), atol=0.1)
            assert torch.all(output.attention[:, 19:] == 0)
            tokens = tokens_of(number, 2)
            if number % 4 == 3:
                for state in (expected, got):
                    state.reorder([1, 2], [2, 1])
