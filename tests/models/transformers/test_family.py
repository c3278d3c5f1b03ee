"""Checkpoints of the library in the whole engine."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from app.engine.engine import Engine
from app.engine.request import Summary, SummaryRequest
from app.models.base import DecodingOptions
from tests.models.transformers.networks import (
    AFTER,
    BEFORE,
    CONFIGURATIONS,
    CONTENT,
    END,
    PAD,
    START,
    model_of,
    network_of,
)

LONGEST = 8
GREEDY = DecodingOptions(num_beams=1, max_length=LONGEST, numbers_from_source=False)

sources = st.lists(st.sampled_from(CONTENT), min_size=1, max_size=12)


@pytest.fixture(scope="module", params=CONFIGURATIONS)
def network(request: pytest.FixtureRequest) -> PreTrainedModel:
    return network_of(request.param)


@pytest.fixture(scope="module")
def engine(network: PreTrainedModel) -> Iterator[Engine]:
    with Engine(model_of(network), max_rows=16, max_queue=64) as engine:
        yield engine


def generated(network: PreTrainedModel, source: list[int]) -> list[int]:
    ids = torch.tensor([[*BEFORE, *source, *AFTER]])
    output = network.generate(  # type: ignore[operator]
        ids, num_beams=1, do_sample=False, max_new_tokens=LONGEST + 1, suppress_tokens=[PAD, START], use_cache=True
    )
    written: list[int] = output[0, 1:].tolist()
    return written[: written.index(END)] if END in written else written[:LONGEST]


def written(summary: Summary) -> list[int]:
    return [int(word) for word in summary.text.split()]


@given(texts=st.lists(sources, min_size=1, max_size=6))
@settings(max_examples=15)
def test_greedy_search_writes_what_generate_does(
    network: PreTrainedModel, engine: Engine, texts: list[list[int]]
) -> None:
    requests = [SummaryRequest(" ".join(map(str, source)), GREEDY) for source in texts]
    summaries = [future.result(timeout=60) for future in engine.submit(requests)]
    assert [written(summary) for summary in summaries] == [generated(network, source) for source in texts]
