"""A soak of some seconds: real processes, tiny checkpoints, all that a long one does; and two that have to fail."""

import os
import random
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from app.models.lstm.network import NetworkConfig
from benchmarks import soak, systems
from benchmarks.report import Results
from benchmarks.soak import MAX_QUEUE, Plan
from benchmarks.soaking import disturbances
from benchmarks.soaking.questions import CHINESE, ENGLISH, WEIGHTS
from benchmarks.soaking.traffic import MOST_TEXTS
from benchmarks.systems import System
from tests.models.lstm.checkpoints import write_checkpoint

SMALL = NetworkConfig(320, embedding_size=32, encoder_size=32, decoder_size=64, key_size=32)
SHORT = Plan(
    seed=1,
    minutes=4 / 60,
    reloads=False,
    texts=2,
    calibration=0.5,
    sample=0.5,
    burst_texts=MAX_QUEUE + MOST_TEXTS,
    bursts_every=2.0,
    faults_every=1.5,
)


def records(folder: Path, what: str) -> list[dict[str, object]]:
    return [record for record in Results(folder, "soak", ("what",)).read() if record["what"] == what]


def test_bursts_faults_and_bad_manners_make_no_answer_wrong_and_no_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disturbances, "GROWN_SECONDS", 1.0)
    for name, language in ((ENGLISH, "en"), (CHINESE, "zh")):
        write_checkpoint(tmp_path / "store", name, SMALL, language)
    report, well = soak.measure(SHORT, System("precis", "float32", str(tmp_path / "store")), tmp_path)
    assert well, report
    assert "**Nothing wrong.**" in report
    assert (tmp_path / "soak.png").stat().st_size > 0
    (counts,) = records(tmp_path, "counts")
    assert isinstance(counts["outcomes"], dict)
    assert isinstance(counts["happened"], dict)
    assert counts["outcomes"].keys() == WEIGHTS.keys()
    assert counts["happened"].keys() & {"lane killed", "lane stopped for a while"}
    assert counts["happened"]["burst"] > 0
    assert records(tmp_path, "sample")


def test_a_service_that_lies_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems, "KINDS", {"precis": ("-m", "tests.benchmarks.soaking.lying")})
    report, well = soak.measure(SHORT, System("precis", "float32"), tmp_path)
    assert not well
    assert "another answer than at the start" in report
    assert records(tmp_path, "wrong")


def test_a_service_that_dies_fails_and_leaves_what_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def kill(pid: int, _source: random.Random) -> str:
        os.kill(pid, signal.SIGKILL)
        return "the service killed"

    monkeypatch.setattr(soak, "disturb_a_lane", kill)
    monkeypatch.setattr(systems, "KINDS", {"precis": ("-m", "tests.benchmarks.soaking.lying")})
    report, well = soak.measure(replace(SHORT, minutes=1.0, faults_every=0.5), System("precis", "float32"), tmp_path)
    assert not well
    assert "the run broke off" in report
    assert records(tmp_path, "load")
