"""What only a GPU can show: graphs, streams, and that the host waits for nothing. The rest is in `test_slots.py`."""

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from app.models.lstm.backends import FixedBackend, LSTMMemory
from app.models.lstm.buckets import Shape, agreeing, buckets
from app.models.lstm.family import LSTMModel
from app.models.lstm.graphs import CudaRunner
from app.models.lstm.native import NativeReading
from app.models.lstm.network import NetworkConfig, Seq2Seq
from app.models.lstm.step import Reading
from app.models.lstm.tokenizer import START
from app.models.transfer import upload
from app.search import Ask, select
from tests.models.lstm.checkpoints import model_of
from tests.models.lstm.company import Company, own

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

SIZES = NetworkConfig(16_000, relevance_size=64)  # the real sizes: kernels are chosen by them
FREQUENT = range(2, 9_002)
LENGTHS = (1, 17, 90, 128, 129, 300, 400)
CAPACITY = 64
DEVICE = "cuda"


class WithoutGraphs(CudaRunner):
    def prepare(self, step: Callable[[], None]) -> Callable[[], None]:
        return step


@pytest.fixture(scope="module")
def network() -> Seq2Seq:
    torch.manual_seed(0)
    return Seq2Seq(SIZES)


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def model(request: pytest.FixtureRequest, network: Seq2Seq) -> LSTMModel:
    return gpu_model(network, request.param, CudaRunner)


def gpu_model(network: Seq2Seq, precision: str, runner: type[CudaRunner]) -> LSTMModel:
    return model_of(network, precision, FREQUENT, runner(torch.device(DEVICE)), DEVICE)


def source(length: int, seed: int) -> list[int]:
    generator = random.Random(seed)
    return [generator.randrange(3, SIZES.vocabulary_size) for _ in range(length)]


def tensors(reading: Reading | NativeReading) -> list[Tensor]:
    assert isinstance(reading, Reading)
    return [reading.keys, reading.values, reading.prior, reading.columns, reading.first, reading.own, reading.start]


@contextmanager
def sync_debug_mode(mode: str) -> Iterator[None]:
    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is a prototype, and says so
        torch.cuda.set_sync_debug_mode(mode)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_numbers_arrive_in_their_shapes() -> None:
    tensors = [torch.arange(6).view(2, 3), torch.zeros(0, dtype=torch.long), torch.tensor([7])]
    with sync_debug_mode("error"):
        arrived = upload(tensors, torch.device(DEVICE))
    assert all(torch.equal(there.cpu(), here) for there, here in zip(arrived, tensors, strict=True))


@pytest.mark.parametrize("length", LENGTHS)
def test_an_encoded_source_is_the_same_in_any_company(model: LSTMModel, length: int) -> None:
    ids = source(length, 1)
    (alone,) = model.encode([ids])
    for company, place in ((3, 3), (31, 5), (40, 33)):
        others = [source(1 + (37 * number) % 400, number) for number in range(company)]
        among = model.encode([*others[:place], ids, *others[place:]])[place]
        torch.cuda.synchronize()
        assert isinstance(alone, LSTMMemory)
        assert isinstance(among, LSTMMemory)
        for one, other in zip(tensors(among.reading), tensors(alone.reading), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("beams", [1, 4])
def test_a_row_is_the_same_alone_and_in_any_company(model: LSTMModel, beams: int) -> None:
    memories = model.encode([source(length, length) for length in LENGTHS])
    for number, watched in enumerate(memories):
        alone, among = model.open(CAPACITY + beams), model.open(CAPACITY + beams)
        company, slots = Company(number, [memories], [among], CAPACITY), range(CAPACITY, CAPACITY + beams)
        alone.join(range(beams), watched)
        among.join(slots, watched)
        for step in range(12):
            company.turn()
            tokens = source(beams, step)
            expected, got = alone.step(range(beams), tokens), among.step(slots, tokens)
            for row in range(beams):
                pairs = zip(own(got, row, watched), own(expected, row, watched), strict=True)
                assert all(torch.equal(*pair) for pair in pairs)
            for state, own_slots in ((alone, range(beams)), (among, slots)):
                state.reorder(own_slots, [own_slots[-1]] * beams)


@torch.inference_mode()
@pytest.mark.parametrize("shape", [Shape(128, 1), Shape(256, 4), Shape(512, 8)])
def test_every_bucket_is_in_use(model: LSTMModel, shape: Shape) -> None:
    """Where one is not, results are right still, but more is computed than need be."""
    sizes = buckets(256 // shape.queries)
    assert isinstance(model.backend, FixedBackend)
    assert agreeing(model.backend.step, shape, sizes) == sizes


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_replayed_graph_comes_to_what_its_step_does(network: Seq2Seq, precision: str) -> None:
    models = [gpu_model(network, precision, runner) for runner in (CudaRunner, WithoutGraphs)]
    memories = [model.encode([source(length, length) for length in LENGTHS]) for model in models]
    company = Company(1, memories, [model.open(CAPACITY) for model in models], CAPACITY)
    for _ in range(30):
        rows, (replayed, run) = company.turn()
        for number, row in enumerate(rows):
            memory = memories[0][row.source]
            pairs = zip(own(replayed, number, memory), own(run, number, memory), strict=True)
            assert all(torch.equal(*pair) for pair in pairs)


def test_a_gpu_comes_to_the_same_as_the_cpu(network: Seq2Seq) -> None:
    models = [model_of(network, "float32", FREQUENT), gpu_model(network, "float32", CudaRunner)]
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        memories = [model.encode([source(length, length) for length in LENGTHS]) for model in models]
    company = Company(2, memories, [model.open(CAPACITY) for model in models], CAPACITY)
    for _ in range(12):
        rows, (expected, got) = company.turn()
        for number, row in enumerate(rows):
            memory = memories[0][row.source]
            for one, other in zip(own(got, number, memory), own(expected, number, memory), strict=True):
                torch.testing.assert_close(one.cpu(), other, atol=2e-3, rtol=2e-3)


@torch.inference_mode()
def test_the_host_waits_for_the_device_once_in_a_step(model: LSTMModel) -> None:
    state = model.open(CAPACITY)
    for slot, memory in enumerate(model.encode([source(20, seed) for seed in range(4)])):
        state.join([slot], memory)
    asks = [Ask(), Ask(4), Ask(wanted=(5,)), Ask(wanted=(8, 9))]
    select(state.step(range(4), [START] * 4).log_probabilities, asks)
    with sync_debug_mode("warn"), warnings.catch_warnings(record=True) as waited:
        warnings.simplefilter("always")
        select(state.step(range(4), [5] * 4).log_probabilities, asks)
    assert len([warning for warning in waited if "called a synchronizing" in str(warning.message)]) == 1


def test_the_host_waits_for_no_encoder_and_no_newcomer(model: LSTMModel) -> None:
    state = model.open(CAPACITY)
    sources = [source(20, 1), source(200, 2)]
    for slot, memory in enumerate(model.encode(sources)):
        state.join([slot], memory)  # makes what stays
    with sync_debug_mode("error"):
        for slot, memory in enumerate(model.encode(sources), start=2):
            state.join([slot], memory)
    memories = model.encode(sources)
    torch.cuda.synchronize()
    assert all(memory.ready for memory in memories)
