"""What counts as lost, and that a corrupt checkpoint is one."""

from pathlib import Path

import pytest

from app.errors import CheckpointError
from app.models.registry import load
from benchmarks.asking import REFUSED, UNANSWERED, Asked
from benchmarks.restarts import CORRUPT, Deploy, Stop, deploys, new_card
from tests.models.lstm.checkpoints import write_checkpoint

SIGNALLED = 10.0


@pytest.mark.parametrize(
    ("kind", "sent", "known", "lost"),
    [
        ("200", 9.0, True, 0),
        ("503", 9.0, True, 0),
        (REFUSED, 11.0, False, 0),
        (UNANSWERED, 11.0, False, 0),
        (UNANSWERED, 11.0, True, 1),
        (UNANSWERED, 9.0, False, 1),
    ],
)
def test_lost_is_what_was_sent_before_the_signal_or_is_known_to_the_service_and_was_not_answered(
    kind: str, sent: float, known: bool, lost: int
) -> None:
    asked = Asked("a", sent, 12.0, kind)
    assert Stop([asked], SIGNALLED, 1.0, 0, {"a"} if known else set(), 0).lost == lost


@pytest.mark.parametrize("corrupt", CORRUPT, ids=lambda deploy: deploy.__name__)
def test_a_corrupt_checkpoint_cannot_be_loaded(corrupt: Deploy, tmp_path: Path) -> None:
    corrupt(write_checkpoint(tmp_path))
    with pytest.raises(CheckpointError):
        load(tmp_path, "small", device="cpu", precision="float32")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_new_card_is_a_checkpoint_with_another_digest(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path)
    before = load(tmp_path, "small", device="cpu", precision="float32").info.digest
    new_card(folder)
    assert load(tmp_path, "small", device="cpu", precision="float32").info.digest != before


def test_of_twenty_reloads_five_are_to_a_corrupt_checkpoint_each_in_another_way() -> None:
    assert [deploy for deploy in deploys(20) if deploy is not new_card] == list(CORRUPT)
