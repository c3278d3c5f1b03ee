"""A module of the library with products of our own computes what it did, and the library's stays as it was."""

import pytest
import torch
from torch import nn

from app.models.transformers.linear import with_kernels
from tests.models.lstm.checkpoints import WITH_KERNELS
from tests.models.transformers.networks import AFTER, BEFORE, CONFIGURATIONS, CONTENT, network_of

pytestmark = WITH_KERNELS


@pytest.mark.parametrize(("rounded", "tolerance"), [(False, 1e-5), (True, 0.1)], ids=["float32", "int8"])
@pytest.mark.parametrize("kind", CONFIGURATIONS)
@torch.inference_mode()
def test_an_encoder_is_the_librarys(kind: str, rounded: bool, tolerance: float) -> None:
    encoder = network_of(kind, torch.float32).get_encoder()
    ids = torch.tensor([[*BEFORE, *list(CONTENT)[:30], *AFTER]])
    expected = encoder(input_ids=ids).last_hidden_state
    got = with_kernels(encoder, rounded=rounded)(input_ids=ids).last_hidden_state
    assert (got - expected).norm() < tolerance * expected.norm()
    assert torch.equal(encoder(input_ids=ids).last_hidden_state, expected)


def test_all_but_the_products_is_shared() -> None:
    encoder = network_of("bart", torch.float32).get_encoder()
    other = with_kernels(encoder, rounded=True)
    assert not any(isinstance(part, nn.Linear) for part in other.modules())
    parameters = dict(encoder.named_parameters())
    assert all(parameter is parameters[name] for name, parameter in other.named_parameters())
    assert dict(other.named_parameters()).keys() >= {"embed_tokens.weight", "layernorm_embedding.weight"}
