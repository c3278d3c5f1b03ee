"""Shards through an engine: whole, in order, and one begun before the last is over."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from app.config import Settings
from app.corpus import summarizing
from app.corpus.engine import Occupancy
from app.corpus.shards import Answer, Done, Shard
from app.corpus.summarizing import Summarizer
from app.engine.engine import Engine
from app.errors import InvalidRequestError, OverloadedError, RequestError, TooLargeError
from app.schemas import Options, Parameters
from tests.api.waiting import eventually
from tests.fakes import UNENCODABLE, UNSTEPPABLE, WORDS, FakeModel


@dataclass(frozen=True)
class Texts(Shard):
    """Answers are kept."""

    number: int
    content: Sequence[str | RequestError]
    answers: list[Answer]

    def texts(self) -> list[str | RequestError]:
        return list(self.content)

    def done(self, answers: Sequence[Answer]) -> Done:
        self.answers.extend(answers)
        return Done(self.number, len(answers), 0, b"", b"")


def shard(number: int, *texts: str | RequestError) -> Texts:
    return Texts(number, texts, [])


def summarizer(engine: Engine, **chosen: object) -> Summarizer:
    return Summarizer(engine, Settings(max_characters=99), Options.model_validate(chosen), "/body")


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def engine(model: FakeModel) -> Iterator[Engine]:
    with Engine(model, max_rows=8, max_queue=64) as engine:
        yield engine


def alone(engine: Engine, text: str) -> str:
    list(summarizer(engine).summarize([only := shard(0, text)]))
    (answer,) = only.answers
    return answer.detail if isinstance(answer, RequestError) else answer.text


def test_every_row_has_the_answer_that_its_text_has_alone(engine: Engine) -> None:
    texts = [" ".join(WORDS[:count]) for count in (3, 9, 1, 5)]
    shards = [shard(0, *texts), shard(1, *reversed(texts))]
    told: list[int] = []
    assert [done.number for done in summarizer(engine).summarize(shards, told.append)] == [0, 1]
    expected = [alone(engine, text) for text in texts]
    for one, summaries in zip(shards, (expected, expected[::-1]), strict=True):
        assert [answer.text for answer in one.answers if not isinstance(answer, RequestError)] == summaries
    assert told == [1] * 8


def test_what_is_wrong_with_a_text_stands_in_its_place_and_is_told_of_its_field(engine: Engine) -> None:
    unread = InvalidRequestError("unread")
    texts = (
        "alpha",
        unread,
        " ",
        "x" * 100,
        f"alpha {UNENCODABLE}",
        f"alpha {UNSTEPPABLE}",
        "\ud800",
        "\u200b",
        "bravo",
    )
    list(summarizer(engine).summarize([only := shard(0, *texts)]))
    told = [answer.detail if isinstance(answer, RequestError) else None for answer in only.answers]
    assert told == [
        None,
        "unread",
        "/body must not be empty or blank",
        "/body has 100 characters; a text may have 99",
        "The model failed on this text; other texts are not affected.",
        "The model failed on this text; other texts are not affected.",
        "/body holds a lone surrogate, which is no Unicode character",
        "/body holds nothing that the model can read; send text with visible characters",
        None,
    ]


def test_the_next_shard_begins_before_the_last_row_of_one_is_over(
    model: FakeModel, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summarizing, "MOST_WAITING", 3)
    model.gate.close()
    begun: list[int] = []

    def shards() -> Iterator[Texts]:
        for number in range(9):
            begun.append(number)
            yield shard(number, "alpha bravo")

    results = summarizer(engine, parameters={"num_beams": 1}).summarize(shards())
    thread = threading.Thread(target=lambda: next(results))
    thread.start()
    eventually(lambda: len(begun) == 4)  # the fourth waits for room
    assert len(begun) == 4, "no more are read than are needed"
    model.gate.open()
    thread.join()
    assert [done.number for done in results] == list(range(1, 9))


def test_long_texts_are_submitted_first(model: FakeModel) -> None:
    with Engine(model, max_rows=4, max_queue=64) as engine:
        list(summarizer(engine, parameters={"num_beams": 4}).summarize([shard(0, "alpha", "alpha " * 9, "alpha " * 4)]))
    lengths = [len(source) for batch in model.encodings for source in batch]
    assert lengths == [9, 4, 1]


def test_no_room_for_many_texts_is_waited_for(model: FakeModel) -> None:
    texts = [f"{word} {word}" for word in WORDS]
    with Engine(model, max_rows=4, max_queue=99, max_queue_tokens=4) as engine:
        list(summarizer(engine).summarize([only := shard(0, *texts, "alpha " * 5)]))
    too_long = only.answers.pop()
    assert isinstance(too_long, TooLargeError)
    assert not any(isinstance(answer, RequestError) for answer in only.answers)


def test_an_engine_that_cannot_go_on_is_no_fault_of_a_text(model: FakeModel, engine: Engine) -> None:
    model.gate.close()
    results = summarizer(engine).summarize([shard(0, "alpha", "bravo")])

    def stop() -> None:
        model.gate.wait_for_arrival(1)
        engine.drain(0.0)

    stopping = threading.Thread(target=stop)
    stopping.start()
    with pytest.raises(OverloadedError):
        list(results)
    model.gate.open()
    stopping.join()


def test_options_that_the_model_does_not_take_are_refused_at_once(engine: Engine) -> None:
    with pytest.raises(InvalidRequestError, match="num_beams must be at most 4"):
        summarizer(engine, parameters=Parameters(num_beams=5))


def test_parts_of_long_texts_are_told(engine: Engine) -> None:
    list(summarizer(engine, truncation="chunk").summarize([only := shard(0, "alpha " * 16)]))
    (answer,) = only.answers
    assert not isinstance(answer, RequestError)
    assert answer.parts


def test_how_full_an_engine_is_counts_from_its_first_row_to_its_last(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 10.0, 14.0, 15.0, 16.0, 90.0, 92.0])
    monkeypatch.setattr("app.corpus.engine.monotonic", lambda: next(moments))
    occupancy = Occupancy()
    assert occupancy.share == 0
    for live in (0, 8, 4, 0, 0, 8, 0):
        occupancy.rows_changed(live, 8)
    assert occupancy.share == (4 * 1 + 1 * 0.5 + 2 * 1) / 7
