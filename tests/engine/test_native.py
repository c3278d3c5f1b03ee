"""The engine on the real network: a result never depends on who shared the batch, to the last bit."""

import re
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from random import Random

import pytest
import torch

from app.engine.engine import Engine
from app.engine.request import Summary, SummaryRequest, Truncation
from app.models.base import DecodingOptions
from app.models.checkpoint import Checkpoint
from app.models.lstm.family import LSTMModel, load
from app.models.lstm.graphs import Eager
from app.models.lstm.network import NetworkConfig
from tests.engine.running import assert_same
from tests.models.lstm.checkpoints import ON_A_CPU, write_checkpoint
from tests.texts import CORPUS

PATIENCE = 600.0  # seconds; a slow machine changes nothing
TEXTS = 60
ROWS = 16
SIZES = NetworkConfig(320)  # the real sizes, but for the vocabulary: kernels are chosen by them
WORDS = " ".join(CORPUS).split()


FIXED_SHAPES = "fixed shapes"  # as on a GPU, but without its graphs
GPU = ["cuda"] if torch.cuda.is_available() else []


@pytest.fixture(scope="module", params=[*ON_A_CPU, FIXED_SHAPES, *GPU])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LSTMModel:
    store = tmp_path_factory.mktemp("native") / "store"
    if request.param == FIXED_SHAPES:
        return load(Checkpoint(write_checkpoint(store)), device="cpu", precision="float32", runner=Eager())
    folder = write_checkpoint(store, network=SIZES)
    if request.param in GPU:
        return load(Checkpoint(folder), device=request.param, precision="auto")
    return load(Checkpoint(folder), device="cpu", precision=request.param)


@contextmanager
def started(model: LSTMModel) -> Iterator[Engine]:
    engine = Engine(model, max_rows=ROWS, max_queue=1000, threads=2 if model.info.device == "cpu" else 1)
    engine.start()
    try:
        yield engine
    finally:
        engine.drain(PATIENCE)


def mixed_requests(random: Random) -> list[SummaryRequest]:
    """Short and long, greedy and with beams, cut and in parts, a few with a summary that is given."""
    return [_request(random, given=number % 6 == 0) for number in range(TEXTS)]


def _request(random: Random, *, given: bool) -> SummaryRequest:
    text = " ".join(random.choices(WORDS, k=random.choice([1, 5, 20, 60, 200])))
    options = DecodingOptions(
        num_beams=random.choice([1, 2, 4]),
        max_length=random.randint(1, 20),
        length_penalty=random.choice([0.0, 1.0, 2.0]),
        no_repeat_ngram_size=random.choice([0, 2, 3]),
    )
    truncation: Truncation = "head" if given else random.choice(["head", "chunk"])
    summary = " ".join(random.choices(CORPUS[0].split(), k=4)) if given else None
    return SummaryRequest(text, options, truncation, attention=True, given=summary, timeout=PATIENCE)


def test_a_text_gets_the_same_bits_alone_and_in_any_company(model: LSTMModel) -> None:
    random = Random(7)
    requests = mixed_requests(random)
    with started(model) as engine:
        alone = [engine.submit([request])[0].result(PATIENCE) for request in requests]
    with started(model) as engine:
        futures, leaving = _submit_in_groups(engine, requests, random)
        together = [future.result(PATIENCE) for future in futures]
    assert any(future.cancelled() for future in leaving)
    for one, other in zip(together, alone, strict=True):
        assert one.attention is not None
        assert one.attention.copied is not None
        assert_same(one, other)


def _submit_in_groups(
    engine: Engine, requests: list[SummaryRequest], random: Random
) -> tuple[list[Future[Summary]], list[Future[Summary]]]:
    """Futures of the requests, in order; and of others that were sent among them, some of which were cancelled."""
    futures: list[Future[Summary]] = []
    leaving: list[Future[Summary]] = []
    remaining = list(requests)
    while remaining:
        count = random.randint(1, 9)
        leaving += engine.submit(random.choices(requests, k=2))
        futures += engine.submit(remaining[:count])
        del remaining[:count]
        random.choice(leaving).cancel()
        if random.random() < 0.5:
            random.choice(futures).exception(PATIENCE)  # some way into the work of those before
    return futures, leaving


def test_no_number_is_written_that_the_text_does_not_have_unless_the_caller_allows_it(model: LSTMModel) -> None:
    random, number = Random(3), re.compile(r"\d+(?:[.,]\d+)*")
    texts = [" ".join(f"{random.randint(1, 99_999):,}" for _ in range(6)) for _ in range(12)]

    def foreign_numbers(allowed: bool) -> set[str]:
        options = DecodingOptions(
            2, max_length=30, min_length=20, no_repeat_ngram_size=2, numbers_from_source=not allowed
        )
        with started(model) as engine:
            futures = engine.submit([SummaryRequest(text, options, timeout=PATIENCE) for text in texts])
            found = [number.findall(future.result(PATIENCE).text) for future in futures]
        assert any(found)
        return {
            each for text, numbers in zip(texts, found, strict=True) for each in {*numbers} - {*number.findall(text)}
        }

    assert foreign_numbers(allowed=True)
    assert not foreign_numbers(allowed=False)
