"""The engine of one's own: full, in order, and with every failure in its place."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.cli.backend import Answer
from app.cli.local import MOST_WAITING, Local
from app.config import Settings
from app.errors import ModelFailedError, PrecisError, RequestError
from app.models import registry
from app.models.base import Limits
from app.schemas import AttentionRequest, Options, Parameters, Summary
from tests.fakes import UNSTEPPABLE, WORDS, FakeModel, fake_info

OPTIONS = Options()


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    model = FakeModel(fake_info(limits=Limits(max_source_tokens=400, max_summary_tokens=12, max_beams=4)))
    monkeypatch.setattr(registry, "load", lambda _store, _name, **_options: model)
    monkeypatch.setattr(registry, "available", lambda _store: ["fake"])
    return model


def texts(count: int) -> list[str]:
    return [
        " ".join(WORDS[(number + place) % len(WORDS)] for place in range(1 + number % 9)) for number in range(count)
    ]


def written(answers: Iterator[Any]) -> list[str]:
    return [answer.summary if isinstance(answer, Summary) else type(answer).__name__ for answer in answers]


@pytest.mark.usefixtures("model")
def test_answers_come_in_the_order_of_their_texts_and_are_those_of_each_text_alone() -> None:
    many = texts(MOST_WAITING + 40)
    with Local(Settings()) as backend:
        together = written(backend.summarize_all(many, OPTIONS))
        assert together[::37] == [written(backend.summarize_all([text], OPTIONS))[0] for text in many[::37]]


def test_many_texts_are_with_the_engine_at_once(model: FakeModel) -> None:
    model.gate.close()
    answers: list[Answer] = []

    def asking() -> Iterator[str]:
        for text in texts(40):
            yield text
            assert answers == []
        model.gate.open()

    with Local(Settings()) as backend:
        answers.extend(backend.summarize_all(asking(), OPTIONS))
    assert len(answers) == 40
    assert max(len(rows) for rows in model.steps) > 8


@pytest.mark.parametrize("limit", ["max_queue", "max_queue_tokens", "max_queue_rows", "max_queue_mb"])
@pytest.mark.usefixtures("model")
def test_a_queue_that_is_full_is_waited_for(limit: str) -> None:
    with Local(Settings(max_rows=8, **{limit: 9})) as backend:  # type: ignore[arg-type]
        assert all(isinstance(answer, Summary) for answer in backend.summarize_all(texts(60), OPTIONS))


@pytest.mark.usefixtures("model")
def test_a_text_that_could_never_wait_is_refused_alone() -> None:
    with Local(Settings(max_queue_tokens=4, max_rows=8)) as backend:
        first, long, last = backend.summarize_all(["alpha", "bravo " * 50, "golf"], OPTIONS)
    assert isinstance(first, Summary)
    assert isinstance(long, RequestError)
    assert isinstance(last, Summary)


@pytest.mark.usefixtures("model")
def test_what_is_wrong_with_a_text_stands_in_its_place_and_nowhere_else(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (None, "app"):
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])
    with Local(Settings(max_characters=100)) as backend:
        answers = list(backend.summarize_all(["alpha", "", f"alpha {UNSTEPPABLE}", "x" * 101, "bravo"], OPTIONS))
    assert [isinstance(answer, PrecisError) for answer in answers] == [False, True, True, True, False]
    assert isinstance(answers[2], ModelFailedError)
    assert capfd.readouterr().err == ""  # whoever asked tells it


@pytest.mark.usefixtures("model")
def test_options_that_the_checkpoint_does_not_take_are_told() -> None:
    options = Options(parameters=Parameters(max_length=1000))
    with Local(Settings()) as backend:
        (answer,) = backend.summarize_all(["alpha"], options)
    assert isinstance(answer, RequestError)
    assert answer.errors[0].pointer == "/parameters/max_length"


def test_leaving_early_stops_the_engine_without_its_answers(model: FakeModel) -> None:
    model.gate.close()
    with Local(Settings()) as backend:
        answers = backend.summarize_all(["", *texts(20)], OPTIONS)
        assert isinstance(next(answers), PrecisError)
        model.gate.open()
    assert model.occupied == 0


@pytest.mark.usefixtures("model")
def test_attention_has_a_row_for_each_word_and_a_column_for_each_word_of_the_text() -> None:
    with Local(Settings()) as backend:
        response = backend.attention(AttentionRequest(text="alpha bravo charlie", summary="bravo alpha", level="word"))
    attention = response.attention
    assert response.finish_reason == "given"
    assert [item.text for item in attention.source_tokens] == ["alpha", "bravo", "charlie"]
    assert [item.text for item in attention.summary_tokens] == ["bravo", "alpha"]
    assert attention.weights is not None
    assert [sum(row) for row in attention.weights] == pytest.approx([1, 1], abs=1e-4)


def test_the_models_are_those_of_the_store(store: Path) -> None:
    with Local(Settings(model_store=store, model="small", precision="float32")) as backend:
        listed = backend.models()
        assert listed.default == "small"
        assert [model.name for model in listed.models] == ["small"]
        assert backend.model("small") == listed.models[0]


def test_a_checkpoint_is_loaded_once_and_only_when_it_is_needed(
    model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []

    def load(_store: Path, name: str, **_options: object) -> FakeModel:
        loads.append(name)
        return model

    monkeypatch.setattr(registry, "load", load)
    with Local(Settings(model="mine")) as backend:
        assert loads == []
        for _ in range(2):
            list(backend.summarize_all(["alpha"], OPTIONS))
    assert loads == ["mine"]
