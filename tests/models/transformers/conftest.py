"""Networks that several of these tests compare with."""

from collections.abc import Iterator

import pytest
from transformers import PreTrainedModel

from tests.models.transformers.networks import CONFIGURATIONS, network_of, precise_library


@pytest.fixture(scope="module")
def precise() -> Iterator[None]:
    with precise_library():
        yield


@pytest.fixture(scope="module", params=CONFIGURATIONS)
def network(request: pytest.FixtureRequest) -> PreTrainedModel:
    return network_of(request.param)
