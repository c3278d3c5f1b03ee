"""What follows a text is learned to be passed over, and nothing else of the checkpoint changes."""

from itertools import islice
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from typer.testing import CliRunner

from app.models.registry import load
from tests.models.lstm.checkpoints import write_checkpoint
from tests.training.corpus import write_corpus
from training.__main__ import app
from training.data import Packed, end_to_end
from training.relevance import BATCH, joined, make_ready, tell, train, with_relevance

FIRST, LEAST, MOST = 3, 4, 9  # every text begins with the same token, and no other is


def texts(count: int, longest: int = 30) -> Packed:
    random = np.random.default_rng(0)
    sources = [
        np.array([FIRST, *random.integers(LEAST, MOST, random.integers(3, longest))], np.uint16) for _ in range(count)
    ]
    return end_to_end(sources, [source[:1] for source in sources])


@given(st.integers(0, 100), st.integers(1, 80))
def test_joined_texts_say_where_each_but_the_first_begins(seed: int, longest: int) -> None:
    for batch in islice(joined(texts(20), longest, np.random.default_rng(seed)), 2):
        assert batch.source.shape == (BATCH, int(batch.lengths.max()))
        assert batch.source.shape[1] <= longest
        assert (batch.source[~batch.real] == 0).all()
        begins = batch.source == FIRST
        assert begins[:, 0].all()
        begins[:, 0] = False
        assert torch.equal(batch.begins, begins)


def test_texts_of_all_lengths_come_alone_and_in_company() -> None:
    batches = list(islice(joined(texts(50), 60, np.random.default_rng(0)), 8))
    followed = torch.cat([batch.begins.any(1) for batch in batches])
    assert 0.5 < followed.float().mean() < 0.95
    assert torch.cat([batch.lengths for batch in batches]).max() == 60


def test_training_finds_the_end_and_leaves_all_else_as_it_was(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "store")
    model, longest = with_relevance(source, 32, seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    packed = texts(60)
    unlearned = tell(model, packed, longest=60, texts=100, seed=2)
    assert longest == 400
    told = list(train(model, packed, longest=60, steps=120, learning_rate=1e-2, seed=1))
    assert [step for step, _ in told] == [100, 120]
    learned = tell(model, packed, longest=60, texts=100, seed=2)
    assert unlearned.kept > 0.9
    assert unlearned.passed_over < 0.3
    assert learned.kept > 0.9
    assert learned.passed_over > 0.9
    assert learned.loss < 0.3 * unlearned.loss
    make_ready(model, 2.0)
    ready = tell(model, packed, longest=60, texts=100, seed=2)
    assert ready.passed_over > learned.passed_over
    assert ready.kept < learned.kept
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) != name.startswith("relevance."), name


def test_the_command_publishes_the_same_checkpoint_with_relevance(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "store", "plain")
    rows = write_corpus(tmp_path / "rows.jsonl", 40)
    wanted = ["relevance", "--data", str(rows), "--valid", str(rows), "--name", "told", "--from", str(source)]
    result = CliRunner().invoke(app, [*wanted, "--store", str(tmp_path / "store"), "--size", "32", "--steps", "3"])
    assert result.exit_code == 0, result.output
    assert "held out:" in result.output
    old, new = (load(tmp_path / "store", name).info for name in ("plain", "told"))
    assert (old.defaults, old.limits, old.card) == (new.defaults, new.limits, new.card)
    before, after = (load_file(tmp_path / "store" / name / "model.safetensors") for name in ("plain", "told"))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert {name.split(".")[0] for name in after.keys() - before.keys()} == {"relevance"}
