"""What is told of a network's attention is what the library's own has, over the caller's tokens."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.engine import Engine
from app.engine.request import SummaryRequest
from app.models.base import AttentionOptions, DecodingOptions
from tests.models.transformers.networks import (
    AFTER,
    BEFORE,
    CONFIGURATIONS,
    CONTENT,
    START,
    model_of,
    network_of,
    precise_library,
)

PATIENCE = 60.0
LAYERS, HEADS = 2, 4


def numbers(count: int) -> st.SearchStrategy[tuple[int, ...] | None]:
    return st.none() | st.sets(st.integers(0, count - 1), min_size=1).map(lambda chosen: tuple(sorted(chosen)))


texts = st.lists(st.sampled_from(CONTENT), min_size=1, max_size=12).map(lambda ids: " ".join(map(str, ids)))
decoding = st.builds(
    DecodingOptions,
    num_beams=st.sampled_from([1, 4]),
    max_length=st.integers(1, 6),
    numbers_from_source=st.just(False),
)
requests = st.builds(
    SummaryRequest,
    texts,
    decoding,
    attention=st.just(True),
    attention_options=st.builds(AttentionOptions, numbers(LAYERS), numbers(HEADS), st.sampled_from(["mean", "max"])),
    given=st.none() | texts,
)


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_rows_and_what_they_dropped_are_those_of_the_library(kind: str) -> None:
    network = network_of(kind)
    model = model_of(network)

    @given(st.lists(requests, min_size=1, max_size=4))
    @settings(deadline=None, max_examples=15)
    def check(wanted: list[SummaryRequest]) -> None:
        for request, future in zip(wanted, engine.submit(wanted), strict=True):
            attention = future.result(PATIENCE).attention
            assert attention is not None
            assert attention.dropped is not None
            chosen = model.info.attention.chosen(request.attention_options)
            if not attention.summary.ids:
                continue
            output = network(
                input_ids=torch.tensor([[*BEFORE, *attention.source.ids, *AFTER]]),
                decoder_input_ids=torch.tensor([[START, *attention.summary.ids[:-1]]]),
                output_attentions=True,
            )
            heads = torch.cat(
                [output.cross_attentions[layer][0, list(chosen.heads or ())] for layer in chosen.layers or ()]
            )
            reduced = heads.mean(0) if chosen.reduce == "mean" else heads.amax(0)
            content = (reduced / reduced.sum(1, keepdim=True))[:, len(BEFORE) : -len(AFTER)]
            np.testing.assert_allclose(attention.weights, content / content.sum(1, keepdim=True), rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(attention.dropped, 1 - content.sum(1), atol=1e-6)

    with precise_library(), Engine(model, max_rows=8, max_queue=16) as engine:
        check()
