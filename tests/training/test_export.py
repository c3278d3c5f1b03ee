"""What is published is whole, and says what it was told to say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from app.errors import CheckpointError
from app.models.checkpoint import sha256, verify
from app.models.lstm.tokenizer import END, PAD, START
from app.models.registry import load
from tests.models.lstm.checkpoints import FREQUENT, write_checkpoint
from training.export import QUERY, describe, frequent_tokens


def test_a_card_and_defaults_can_change_without_the_weights(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "store", "old")
    before = load(tmp_path / "store", "old").info
    describe(source, tmp_path / "store" / "new", "# New\n", length_penalty=0.5, num_beams=None)
    after = load(tmp_path / "store", "new").info
    assert sha256(source / "model.safetensors") == sha256(tmp_path / "store" / "new" / "model.safetensors")
    assert after.card == "# New\n"
    assert after.defaults.length_penalty == 0.5
    assert after.defaults.num_beams == before.defaults.num_beams
    assert after.description == before.description
    assert after.digest != before.digest == verify(source)


def test_attention_can_be_made_more_decided_and_nothing_else_changes(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "store", "old")
    describe(source, tmp_path / "store" / "new", sharpen=1.5)
    old, new = (load_file(tmp_path / "store" / name / "model.safetensors") for name in ("old", "new"))
    torch.testing.assert_close(new.pop(QUERY), 1.5 * old.pop(QUERY), rtol=1e-3, atol=0)
    assert all(torch.equal(tensor, new[name]) for name, tensor in old.items())


def test_a_checkpoint_can_be_described_where_it_stands(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "store")
    describe(folder, folder, description="Better words.")
    info = load(tmp_path / "store", "small").info
    assert info.description == "Better words."
    assert info.card == "# small\n"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["small"]


def test_the_frequent_tokens_are_those_of_the_summaries_and_the_end() -> None:
    summaries = np.array([7, 7, 5, 9, 7, 5, START, PAD], dtype=np.uint16)
    assert frequent_tokens([summaries], 12, 3) == [END, 7, 5]
    assert sorted(frequent_tokens([summaries], 12, 100)) == sorted({*range(12)} - {PAD, START})


def test_a_small_data_set_has_as_much_to_say_of_what_is_frequent_as_a_large_one() -> None:
    large, small = np.array([7] * 900 + [5] * 500, dtype=np.uint16), np.array([9, 9, 8], dtype=np.uint16)
    assert frequent_tokens([large, small], 12, 5) == [END, 9, 7, 5, 8]


def test_the_frequent_tokens_stay_or_change_with_what_is_published(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "store", "old")
    for frequent in (None, [END, 5]):
        describe(source, tmp_path / "store" / "new", frequent=frequent)
        tokens = load(tmp_path / "store", "new").shared.tokens
        assert tuple(tokens) == tuple(frequent or FREQUENT)


def test_a_damaged_checkpoint_is_not_published(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "store")
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: sha256"):
        describe(folder, tmp_path / "store" / "new")
    assert not (tmp_path / "store" / "new").exists()
