"""An engine that cannot do a first text as it should is told of, in one line."""

from typing import Any

import numpy as np
import pytest

from app.engine.request import Summary
from app.engine.trial import COPIES, FEWEST_TOKENS, try_out
from app.errors import CheckpointError
from tests.engine.running import running
from tests.fakes import FakeModel, Row


def test_an_engine_that_works_has_written_a_few_tokens_of_a_few_copies() -> None:
    model = FakeModel()
    with running(model, threads=2) as engine:
        try_out(engine)
    rows = [row for step in model.steps for row in step]
    assert len({row.source for row in rows}) == 1
    assert sum(len(row.prefix) == FEWEST_TOKENS for row in rows) == COPIES


def test_a_model_that_fails_has_failed_its_trial() -> None:
    def fail(_rows: list[Row]) -> None:
        raise RuntimeError("no such kernel")

    with (
        running(FakeModel(before_step=fail)) as engine,
        pytest.raises(CheckpointError, match=r"^fake: the trial after loading failed: The model failed on this text"),
    ):
        try_out(engine)


def test_an_engine_that_does_not_run_has_failed_its_trial() -> None:
    with running(FakeModel()) as engine:
        engine.drain(0.0)
        with pytest.raises(CheckpointError, match="the trial after loading failed"):
            try_out(engine)


def not_finite(summary: Summary) -> None:
    assert summary.attention is not None
    summary.attention.log_probabilities[0] = np.nan


def no_distribution(summary: Summary) -> None:
    assert summary.attention is not None
    summary.attention.weights[0] *= 1.01


def negative(summary: Summary) -> None:
    assert summary.attention is not None
    summary.attention.weights[0, :2] = (-0.5, 1.5)
    summary.attention.weights[0, 2:] = 0.0


def another(summary: Summary) -> None:
    assert summary.attention is not None
    summary.attention.weights[:] = np.roll(summary.attention.weights, 1, axis=1)


@pytest.mark.parametrize(
    ("spoil", "every", "told"),
    [
        (not_finite, True, "a number is not finite"),
        (no_distribution, True, "a row of attention is no distribution"),
        (negative, True, "a row of attention is no distribution"),
        (another, False, "the same text became different summaries"),
    ],
)
def test_what_is_wrong_with_a_summary_is_told(
    spoil: Any, every: bool, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(FakeModel()) as engine:
        submit = engine.submit

        def spoilt(requests: Any) -> Any:
            futures = submit(requests)
            for future in futures if every else futures[-1:]:
                spoil(future.result())
            return futures

        monkeypatch.setattr(engine, "submit", spoilt)
        with pytest.raises(CheckpointError, match=told):
            try_out(engine)
