"""Checkpoints of the library in the whole engine, from a folder to a summary."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, LEDConfig, PreTrainedModel

from app.engine.engine import Engine
from app.engine.request import SummaryRequest
from app.errors import ConfigurationError
from app.models.base import DecodingOptions
from app.models.checkpoint import Checkpoint, write_manifest
from app.models.devices import DTYPES
from app.models.transformers.fallback import FallbackModel
from app.models.transformers.family import TransformersModel, load
from tests.engine.running import PATIENCE, assert_same
from tests.models.lstm.checkpoints import ON_A_CPU
from tests.models.transformers.folders import WRITE_TOKENIZER, write_folder
from tests.models.transformers.networks import (
    AFTER,
    BEFORE,
    CONTENT,
    END,
    PAD,
    START,
    decoding,
    model_of,
    network_of,
)
from tests.texts import CORPUS

pytestmark = pytest.mark.usefixtures("precise")
LONGEST = 8
GREEDY = DecodingOptions(num_beams=1, max_length=6, numbers_from_source=False)

sources = st.lists(st.sampled_from(CONTENT), min_size=1, max_size=16)
options = decoding(st.integers(1, LONGEST), st.integers(0, 1))


@pytest.fixture(scope="module")
def engine(network: PreTrainedModel) -> Iterator[Engine]:
    with Engine(model_of(network), max_rows=16, max_queue=64, threads=2) as engine:
        yield engine


def generated(network: PreTrainedModel, ids: list[int], options: DecodingOptions) -> list[int]:
    """What `generate` makes of these ids: its start, the summary, and the end or one token more."""
    output = network.generate(  # type: ignore[operator]
        torch.tensor([ids]),
        num_beams=options.num_beams,
        max_length=options.max_length + 2,
        min_length=options.min_length + 1,
        length_penalty=options.length_penalty,
        no_repeat_ngram_size=options.no_repeat_ngram_size,
        repetition_penalty=options.repetition_penalty,
        early_stopping=options.early_stopping,
        suppress_tokens=[PAD, START],
        do_sample=False,
    )
    tokens: list[int] = output[0, 1:].tolist()
    return tokens[: tokens.index(END)] if END in tokens else tokens[: options.max_length]


@given(burst=st.lists(st.tuples(sources, options), min_size=1, max_size=6))
@settings(max_examples=30)
def test_a_burst_of_mixed_options_becomes_what_generate_makes_of_each(
    network: PreTrainedModel, engine: Engine, burst: list[tuple[list[int], DecodingOptions]]
) -> None:
    futures = engine.submit([SummaryRequest(" ".join(map(str, source)), chosen) for source, chosen in burst])
    for future, (source, chosen) in zip(futures, burst, strict=True):
        expected = generated(network, [*BEFORE, *source, *AFTER], chosen)
        assert future.result(PATIENCE).text == " ".join(map(str, expected))


@pytest.mark.parametrize("kind", ["bart", "flan-t5"])
@pytest.mark.parametrize("precision", ON_A_CPU)
def test_company_changes_no_bit(kind: str, precision: str) -> None:
    model = model_of(network_of(kind, DTYPES.get(precision, torch.float32)), precision=precision)
    requests = [
        SummaryRequest(" ".join(map(str, CONTENT[start : start + 1 + 4 * start])), chosen, attention=True)
        for start in range(5)
        for chosen in (GREEDY, replace(GREEDY, num_beams=3), replace(GREEDY, num_beams=4, no_repeat_ngram_size=2))
    ]
    with Engine(model, max_rows=16, max_queue=64, threads=2) as engine:
        together = [future.result(PATIENCE) for future in engine.submit(requests)]
        for request, summary in zip(requests, together, strict=True):
            assert_same(summary, engine.submit([request])[0].result(PATIENCE))


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
@pytest.mark.parametrize("architecture", WRITE_TOKENIZER)
def test_a_folder_summarizes_as_the_library_does_with_it(tmp_path: Path, architecture: str) -> None:
    folder = write_folder(tmp_path, architecture)
    model = load(Checkpoint(folder), device="cpu", precision="float32")
    assert isinstance(model, TransformersModel)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    with Engine(model, max_rows=8, max_queue=8) as engine:
        futures = engine.submit([SummaryRequest(text, GREEDY, attention=True) for text in CORPUS[:3]])
        for text, future in zip(CORPUS, futures, strict=False):
            summary = future.result(PATIENCE)
            ids = network.generate(tokenizer(text, return_tensors="pt").input_ids, num_beams=1, max_new_tokens=7)
            written = tokenizer.batch_decode(ids, skip_special_tokens=True)[0]
            assert written.startswith(summary.text)
            assert summary.summary_tokens > 0
            assert summary.attention is not None


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
def test_a_checkpoint_tells_what_it_is(tmp_path: Path, precision: str) -> None:
    info = load(Checkpoint(write_folder(tmp_path, "bart")), device="auto", precision=precision).info
    assert (info.name, info.family, info.device) == ("bart", "transformers", "cpu")
    assert info.precision == precision or precision == "auto"
    assert (info.attention.layers, info.attention.heads, info.attention.default.layers) == (2, 4, (0,))
    assert info.limits.max_source_tokens == 62  # of 64 positions, for `<s>` and `</s>` stand around a text


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
@pytest.mark.parametrize("architecture", WRITE_TOKENIZER)
def test_all_that_is_computed_lies_on_the_device_that_was_asked_for(tmp_path: Path, architecture: str) -> None:
    """`meta` has shapes and no numbers; whatever is not on it cannot be computed with what is."""
    model = load(Checkpoint(write_folder(tmp_path, architecture)), device="meta", precision="float32")
    assert model.info.device == "meta"
    attention = model.info.attention.default
    state = model.open(4)
    for row, memory in enumerate(model.encode([CONTENT[:5], CONTENT[:9]])):
        state.join([row], memory, attention)
    for tokens in ([START, START], CONTENT[:2]):
        output = state.step([0, 1], tokens)
    state.reorder([0], [1])
    assert output.attention.shape == (2, 9)
    assert {output.attention.device.type, output.log_probabilities.device.type} == {"meta"}


def test_a_gpu_is_taken_by_whoever_asks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    checkpoint = Checkpoint(write_folder(tmp_path, "bart"))
    assert load(checkpoint, device="auto", precision="float32").info.device == "cpu"
    with pytest.raises(ConfigurationError, match="PRECIS_PRECISION=int8: only on a CPU"):
        load(checkpoint, device="cuda", precision="int8")


def test_what_has_no_step_of_our_own_is_stepped_by_the_library(tmp_path: Path) -> None:
    size = WRITE_TOKENIZER["bart"](tmp_path)
    config = LEDConfig(vocab_size=size, d_model=16, encoder_layers=2, decoder_layers=2, attention_window=8)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path)  # type: ignore[no-untyped-call]
    write_manifest(tmp_path)
    model = load(Checkpoint(tmp_path), device="cpu", precision="auto")
    assert isinstance(model, FallbackModel)
    assert model.info.decoding == "unbatched"
    assert model.info.precision in ("float32", "bfloat16")
    with pytest.raises(ConfigurationError, match="PRECIS_PRECISION=int8: not one of auto, float32, bfloat16"):
        load(Checkpoint(tmp_path), device="cpu", precision="int8")
