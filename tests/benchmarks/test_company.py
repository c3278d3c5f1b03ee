from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.engine.engine import Engine
from app.engine.request import Summary
from app.models.checkpoint import Checkpoint
from app.models.lstm.family import load
from app.models.lstm.network import NetworkConfig
from benchmarks.company import Comparison, alone, compare, in_company, measure, requests_for
from benchmarks.texts import mixed_texts
from tests.models.lstm.checkpoints import ON_A_CPU, write_checkpoint

TEXTS = 24
SIZES = NetworkConfig(320)  # the real sizes, but for the vocabulary: kernels are chosen by them


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("company") / "store", network=SIZES).parent


@pytest.mark.parametrize("precision", ON_A_CPU)
def test_texts_in_company_are_as_they_are_alone(store: Path, precision: str) -> None:
    found = measure(store, "small", TEXTS, precision, max_rows=16, seed=1)
    assert replace(found, left=0) == Comparison(TEXTS, 0, 0, 0.0)
    assert found.left > 0


def test_requests_are_greedy_with_beams_and_given(store: Path) -> None:
    model = load(Checkpoint(store / "small"), device="cpu", precision="float32")
    requests = requests_for(mixed_texts(TEXTS), model.info.defaults, 1)
    assert {request.options.num_beams for request in requests} == {1, 2, 4}
    assert 0 < sum(request.given is not None for request in requests) < TEXTS / 2
    with Engine(model, max_rows=8, max_queue=2 * TEXTS) as engine:
        summaries, _ = in_company(engine, requests, 1)
    assert [summary.finish_reason == "given" for summary in summaries] == [bool(each.given) for each in requests]


def test_one_other_token_and_one_other_bit_are_seen(store: Path) -> None:
    model = load(Checkpoint(store / "small"), device="cpu", precision="float32")
    with Engine(model, max_rows=8, max_queue=8) as engine:
        summaries = alone(engine, requests_for(mixed_texts(3), model.info.defaults, 1))
    assert compare(summaries, summaries) == Comparison(3, 0, 0, 0.0)
    assert compare(summaries, [*summaries[:2], _other_token(summaries[2])]) == Comparison(3, 1, 0, 0.0)
    weight = _other_bit(summaries[2])
    found = compare(summaries, [*summaries[:2], weight])
    assert (found.different_tokens, found.different_attention) == (0, 1)
    assert 0 < found.largest_difference < 1e-6


def _other_token(summary: Summary) -> Summary:
    assert summary.attention
    tokens = summary.attention.summary
    other = replace(tokens, ids=(*tokens.ids[:-1], tokens.ids[-1] + 1))
    return replace(summary, attention=replace(summary.attention, summary=other))


def _other_bit(summary: Summary) -> Summary:
    assert summary.attention
    weights = summary.attention.weights.copy()
    weights[0, 0] = np.nextafter(weights[0, 0], np.float32(1))
    return replace(summary, attention=replace(summary.attention, weights=weights))
