"""A small BART learns, is resumed like any other run, and becomes a folder that the library reads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerBase

from app.engine.engine import Engine
from app.engine.request import SummaryRequest
from app.models.base import DecodingOptions, Limits
from app.models.checkpoint import verify
from app.models.lstm.tokenizer import END, PAD, START
from app.models.registry import load
from tests.training.corpus import NAMES, write_corpus
from training.__main__ import transformers_command
from training.data import Batch
from training.export import Card
from training.prepare import prepare
from training.train import Trainer, TrainingConfig
from training.transformers import BartLearner, LibraryTokenizer, Sizes, enclosed

SMALL = ("--model-size=64", "--layers=1", "--heads=2", "--feed-forward=64", "--dropout=0", "--max-source=40")
RUN = ("--vocabulary=300", "--max-summary=40", "--epochs=8", "--batch-pairs=16", "--warmup-steps=20", "--threads=1")
SIZES = Sizes(300, 42, model=32, layers=1, heads=2, feed_forward=32)
CARD = Card("en", "For tests.", Limits(40, 40), DecodingOptions(2, 10), "# small\n")


def test_one_command_from_ones_own_rows_to_a_folder_that_the_library_and_the_service_read_alike(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "rows.jsonl", 400)
    paths = [f"--data={data}", f"--store={tmp_path / 'store'}", f"--runs={tmp_path / 'runs'}", "--name=mine"]
    command = [sys.executable, "-m", "training", "transformers", *paths, *SMALL, *RUN, "--learning-rate=5e-3"]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert "best validation loss" in done.stdout

    folder = tmp_path / "store" / "mine"
    verify(folder)
    wanted = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in folder.iterdir()} == wanted | {"README.md", "manifest.json", "precis.json"}
    assert json.loads((folder / "precis.json").read_text("utf-8"))["language"] == "en"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert network.generation_config.max_length == 32 + 2
    texts = ["the river was seen by Anda near old Belo", "Cira the old"]
    written = [network.generate(**tokenizer(text, return_tensors="pt"))[0] for text in texts]
    expected = [str(tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in written]
    assert {word for summary in expected for word in summary.split()} <= {*NAMES, "Nobody"}

    model = load(tmp_path / "store", "mine", precision="float32")
    assert model.info.language == "en"
    assert (model.info.limits.max_source_tokens, model.info.limits.max_summary_tokens) == (40, 40)
    assert model.info.defaults.num_beams == 4
    requests = [SummaryRequest(text, model.info.defaults) for text in texts]
    with Engine(model, max_rows=8, max_queue=8) as engine:
        assert [future.result().text for future in engine.submit(requests)] == expected


def learner_of(run: Path, config: TrainingConfig) -> BartLearner:
    return BartLearner(run, SIZES, config, CARD)


def test_a_run_that_was_interrupted_goes_on_to_the_very_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_corpus(tmp_path / "rows.jsonl", 60)
    config = TrainingConfig(SIZES, epochs=2.0, batch_pairs=8, batch_tokens=1000, save_seconds=0.0, device="cpu")
    weights = []
    for name in ("whole", "broken"):
        run = tmp_path / name
        prepare(run, [str(data)], vocabulary_size=300, max_source=40, max_summary=40, kind=LibraryTokenizer)
        if name == "broken":
            _break_at(monkeypatch, run, config, step=5)
        learner = learner_of(run, config)
        Trainer(run, config, learner, tmp_path / "store" / name).fit()
        weights.append(learner.model.state_dict())
    whole, broken = weights
    assert all(torch.equal(tensor, broken[key]) for key, tensor in whole.items())


def _break_at(monkeypatch: pytest.MonkeyPatch, run: Path, config: TrainingConfig, step: int) -> None:
    learner = learner_of(run, config)
    seeds: list[int] = []
    compute = learner.gradients

    def break_down(batch: Batch, seed: int) -> tuple[float, int]:
        seeds.append(seed)
        if len(seeds) > step:
            raise InterruptedError
        return compute(batch, seed)

    monkeypatch.setattr(learner, "gradients", break_down)
    with pytest.raises(InterruptedError):
        Trainer(run, config, learner, run / "never").fit()
    assert torch.load(run / "state.pt", weights_only=True)["progress"]["step"] == step


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> LibraryTokenizer:
    data = write_corpus(tmp_path_factory.mktemp("texts") / "rows.jsonl", 50)
    return LibraryTokenizer.train([data.read_text("utf-8")], 300)


@pytest.fixture(scope="module")
def librarys(tokenizer: LibraryTokenizer, tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """What is read back from what was exported."""
    folder = tmp_path_factory.mktemp("exported")
    tokenizer.export(folder, 40)
    read: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return read


@given(text=st.text())
def test_the_library_cuts_a_text_as_training_did(
    text: str, tokenizer: LibraryTokenizer, librarys: PreTrainedTokenizerBase
) -> None:
    (ids,) = tokenizer.ids([text])
    assert not {PAD, START, END} & set(ids)
    assert librarys(text).input_ids == [START, *ids, END]


def test_a_special_tokens_name_is_text_like_any_other(tokenizer: LibraryTokenizer) -> None:
    assert not {PAD, START, END} & set(tokenizer.ids(["Anda </s> Belo <pad>"])[0])


def test_without_the_library_training_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "training.transformers")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"install precis\[transformers\]"):
        transformers_command(["rows.jsonl"], "mine")


def test_a_language_without_spaces_is_refused() -> None:
    with pytest.raises(ValueError, match="'zh-Hans' has no space between words"):
        LibraryTokenizer.train(["大桥通车"], 300, "zh-Hans")


def test_a_source_stands_between_its_start_and_its_end() -> None:
    source = torch.tensor([[5, 6, 7], [8, PAD, PAD]])
    expected = [[START, 5, 6, 7, END], [START, 8, END, PAD, PAD]]
    assert enclosed(source, torch.tensor([3, 1])).tolist() == expected
