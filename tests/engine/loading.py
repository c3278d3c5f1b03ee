"""Models that a process loads by itself: functions of a module, for what a test says must travel there."""

import os
import signal

from app.errors import CheckpointError
from app.models.base import AttentionInfo, Seq2SeqModel
from tests.fakes import WORD_IDS, FakeModel, Row, fake_info

FEVER = "zulu"  # a word that kills the process
HEAVY_MIB = 64


def fake() -> Seq2SeqModel:
    return FakeModel()


def mortal() -> Seq2SeqModel:
    def step(rows: list[Row]) -> None:
        if any(WORD_IDS[FEVER] in row.source for row in rows):
            os.kill(os.getpid(), signal.SIGKILL)

    return FakeModel(before_step=step)


def several() -> Seq2SeqModel:
    return FakeModel(fake_info(attention=AttentionInfo.of_transformer(2, 2)))


def changed() -> Seq2SeqModel:
    return FakeModel(fake_info(digest="sha256:" + "1" * 64))


def missing() -> Seq2SeqModel:
    raise CheckpointError("no checkpoint here any more")


def heavy() -> Seq2SeqModel:
    model = FakeModel()
    model.weights = os.urandom(HEAVY_MIB << 20)  # type: ignore[attr-defined]
    return model


def fatal() -> Seq2SeqModel:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
