"""An engine that cannot do a first text as it should is told of, in one line."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np
import pytest

from app.engine.request import Summary, SummaryRequest
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
    assert sum(len(row.prefix) == FEWEST_TOKENS for row in rows) == 2 + COPIES


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
    ("spoil", "number", "told"),
    [
        (not_finite, 0, "a number is not finite"),
        (no_distribution, 1 + COPIES, "a row of attention is no distribution"),
        (negative, 1, "a row of attention is no distribution"),
        (another, 1, "the same text became two different summaries"),
    ],
)
def test_what_is_wrong_with_a_summary_is_told(
    spoil: Callable[[Summary], None], number: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(FakeModel()) as engine:
        submit, answered = engine.submit, list[Summary]()

        def spoilt(requests: Sequence[SummaryRequest]) -> list[Future[Summary]]:
            futures = submit(requests)
            answered.extend(future.result() for future in futures)
            if len(answered) == number + 1:
                spoil(answered[-1])
            return futures

        monkeypatch.setattr(engine, "submit", spoilt)
        with pytest.raises(CheckpointError, match=told):
            try_out(engine)
