"""Both clients and the real service, in a process of its own on a real socket."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.client import (
    ApiError,
    Client,
    ContentTooLargeError,
    DeadlineExceededError,
    NotFoundError,
    PrecisError,
    Summary,
    TokenEvent,
    UnprocessableError,
)
from tests.api.waiting import PATIENCE, eventually
from tests.client.conftest import Connect
from tests.client.either import Clock
from tests.test_server import Process

TEXT = "alpha bravo charlie delta"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with Process(tmp_path_factory.mktemp("service")) as process:
        yield process


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One text of eight beams fills it, and one more its queue."""
    with Process(tmp_path_factory.mktemp("small"), PRECIS_MAX_ROWS="8", PRECIS_MAX_QUEUE="1") as process:
        yield process


class Until(Clock):
    """Whoever sleeps makes something happen."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__()
        self._happens = happens

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self._happens()


def test_a_summary_is_what_the_service_answers(service: Process, connect: Connect) -> None:
    answer = connect(service.url).summarize(TEXT)
    expected = Summary.model_validate_json(service.summarize(TEXT).content)
    assert answer.model_copy(update={"id": expected.id, "timing": expected.timing}) == expected
    assert answer.source.used_tokens == answer.usage.source_tokens == 4


def test_options_reach_the_service(service: Process, connect: Connect) -> None:
    client = connect(service.url)
    short = client.summarize(TEXT, model="news-en", num_beams=1, max_length=2, truncation="error")
    assert (short.usage.summary_tokens, short.finish_reason) == (2, "length")
    chunked = client.summarize(" ".join([TEXT] * 150), truncation="chunk")
    assert chunked.parts is not None
    assert len(chunked.parts) > 1


@pytest.mark.parametrize("text", [TEXT, " ".join([TEXT] * 150)])
def test_a_stream_ends_with_the_summary_that_its_pieces_are(service: Process, connect: Connect, text: str) -> None:
    client = connect(service.url)
    *tokens, summary = client.stream(text, truncation="chunk")
    assert isinstance(summary, Summary)
    assert summary.summary == client.summarize(text, truncation="chunk", num_beams=1).summary
    pieces = [token for token in tokens if isinstance(token, TokenEvent)]
    assert len(pieces) == len(tokens) >= summary.usage.summary_tokens
    assert "".join(piece.text for piece in pieces) == summary.summary
    for piece in pieces:
        assert piece.text == summary.summary[piece.start : piece.end]


def test_attention_comes_with_the_summary(service: Process, connect: Connect) -> None:
    client = connect(service.url)
    dense = client.attention(TEXT, level="word")
    assert dense.summary == client.summarize(TEXT).summary
    assert dense.attention.weights is not None
    assert [item.text for item in dense.attention.source_tokens] == TEXT.split()
    given = client.attention(TEXT, summary="alpha golf", format="top", top_k=1)
    assert (given.finish_reason, given.summary) == ("given", "alpha golf")
    assert given.attention.top is not None
    assert [len(row) for row in given.attention.top] == [1, 1]


def test_the_models_are_told(service: Process, connect: Connect) -> None:
    client = connect(service.url)
    assert client.ready() is True
    (model,) = client.models().models
    assert client.models().default == model.name == "news-en"
    assert client.model("news-en") == model
    assert model.limits.max_beams == 8


def test_what_is_wrong_is_told_by_its_class_and_its_problem(service: Process, connect: Connect) -> None:
    client = connect(service.url)
    with pytest.raises(UnprocessableError, match="/parameters/num_beams") as raised:
        client.summarize(TEXT, num_beams=100)
    assert raised.value.problem is not None
    assert [field.pointer for field in raised.value.problem.errors] == ["/parameters/num_beams"]
    assert raised.value.request_id == raised.value.problem.request_id
    with pytest.raises(UnprocessableError, match="/num_beans is not a known field"):
        client.summarize(TEXT, num_beans=1)  # type: ignore[call-arg, unused-ignore]  # one of the clients is typed
    with pytest.raises(UnprocessableError, match="lone surrogate"):
        client.summarize("\ud800")
    with pytest.raises(UnprocessableError, match="num_beams"):
        list(client.stream(TEXT, num_beams=2))
    for length in (200_001, 5_000_000):  # the service answers the second before it has read all of it
        with pytest.raises(ContentTooLargeError):
            client.summarize("a" * length)
    with pytest.raises(NotFoundError, match="nope"):
        client.summarize(TEXT, model="nope")
    with pytest.raises(NotFoundError):
        client.model("no/pe")


def test_many_texts_are_answered_and_bad_ones_are_errors_in_their_place(service: Process, connect: Connect) -> None:
    texts = [*(f"alpha bravo {number}" for number in range(30)), " ", "\ud800", "unsteppable"]
    client = connect(service.url)
    results = list(client.summarize_all(texts, concurrency=4, num_beams=1))
    for text, result in zip(texts[:30], results, strict=False):
        assert isinstance(result, Summary)
        assert result.summary == client.summarize(text, num_beams=1).summary
    statuses = [result.status for result in results if isinstance(result, ApiError)]
    assert [isinstance(result, PrecisError) for result in results] == [False] * 30 + [True] * 3
    assert statuses == [422, 422, 500]


def test_a_deadline_that_passes_frees_what_was_held_for_it(service: Process, connect: Connect) -> None:
    service.hold()
    with pytest.raises(DeadlineExceededError):
        connect(service.url).summarize(TEXT, timeout=1.0)
    service.go_on()
    eventually(lambda: service.metric("precis_live_rows") == 0)


def test_a_full_service_is_asked_again_when_it_wants(small: Process, connect: Connect) -> None:
    with Client(small.url, timeout=PATIENCE) as others, ThreadPoolExecutor(2) as pool:
        small.hold()
        admitted = [pool.submit(others.summarize, TEXT, num_beams=8)]
        eventually(lambda: small.metric("precis_live_rows") == 8)
        admitted.append(pool.submit(others.summarize, TEXT))
        eventually(lambda: small.metric("precis_queue_texts") == 1)

        def finish() -> None:
            small.go_on()
            assert all(answer.result().summary for answer in admitted)

        clock = Until(finish)
        assert connect(small.url, clock=clock).summarize(TEXT).summary
    (slept,) = clock.slept
    assert slept >= 1
