"""What is published is whole, and says what it was told to say."""

from pathlib import Path

import pytest

from app.errors import CheckpointError
from app.models.checkpoint import sha256, verify
from app.models.registry import load
from tests.models.lstm.checkpoints import write_checkpoint
from training.export import describe


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


def test_a_checkpoint_can_be_described_where_it_stands(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "store")
    describe(folder, folder, description="Better words.")
    info = load(tmp_path / "store", "small").info
    assert info.description == "Better words."
    assert info.card == "# small\n"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["small"]


def test_a_damaged_checkpoint_is_not_published(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "store")
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: sha256"):
        describe(folder, tmp_path / "store" / "new")
    assert not (tmp_path / "store" / "new").exists()
