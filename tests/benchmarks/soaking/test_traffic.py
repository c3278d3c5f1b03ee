"""Whatever a service gets wrong is told; a service that gets nothing wrong is not blamed."""

import asyncio
import random
import re
from collections.abc import Callable

import pytest

from benchmarks.soaking import traffic
from benchmarks.soaking.answers import difference
from benchmarks.soaking.questions import WEIGHTS, burst, catalogue
from benchmarks.soaking.traffic import Traffic
from benchmarks.soaking.wire import Manner
from tests.benchmarks.soaking.lying import Lie, Told, liar

QUESTIONS = catalogue(2, random.Random(1))
CLIENTS = 4


def swap(path: str, old: str, new: str) -> Callable[[Told], None]:
    """Of 200s of this path; `old` must be there at least once."""

    def change(told: Told) -> None:
        if told.path == path and told.status == 200:
            told.body = re.sub(old.encode(), new.encode(), told.body)

    return change


def lose_an_event(told: Told) -> None:
    if told.headers["content-type"].startswith("text/event-stream"):
        told.body = told.body.split(b"\n\n", 1)[1]


def refuse(told: Told) -> None:
    if told.path == "/attention":
        told.status, told.body = 503, b'"no"'


def forget_when_to_come_again(told: Told) -> None:
    if told.path == "/summarize/batch":
        told.status = 503


def change_the_id(told: Told) -> None:
    if told.path == "/models/news-en":
        told.headers["X-Request-ID"] = "mine"


def blame_the_caller(told: Told) -> None:
    if told.status == 413:
        told.status = 400


def told_by(lie: Lie, asleep_at_first: bool, *kinds: str) -> list[str]:
    """What is told of a service with this lie, from the start or only after it, by those who ask these kinds."""
    told: list[str] = []

    async def main(url: str) -> None:
        asked = [each for each in QUESTIONS if each.kind in ("greedy", "beams", *kinds)]
        asking = Traffic(url, asked, random.Random(1), lambda words, _: told.append(words))
        before = await asking.metrics()
        lie.awake = not asleep_at_first
        await asking.prepare()
        lie.awake = True
        if asleep_at_first:
            await asking.again(CLIENTS)
        await asking.come_to_rest(before)
        asking.close()

    with liar(lie) as server:
        asyncio.run(main(server.url))
    return told


@pytest.mark.parametrize(
    ("one", "other", "where"),
    [
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, "/a/1/b: '2'"),
        ({"a": 1}, {"a": 1, "b": 2}, "/b: 'None'"),
        ([("token", {"text": "x"})], [("token", {"text": "y"})], "/0/1/text: 'x'"),
        ({"a": [1]}, {"a": [1, 2]}, "/a: '[1]'"),
        (b"one", b"other", ": \"b'one'\""),
    ],
)
def test_the_first_difference_is_told(one: object, other: object, where: str) -> None:
    assert difference(one, other) == where


def test_every_kind_is_asked() -> None:
    assert {question.kind for question in QUESTIONS} == set(WEIGHTS)


def test_a_burst_is_as_large_as_it_should_be() -> None:
    texts = [question.texts for question in burst(QUESTIONS, 500, random.Random(1))]
    assert 500 <= sum(texts) < 500 + max(texts)


def test_who_tells_the_truth_is_not_blamed() -> None:
    assert told_by(Lie(), True, *WEIGHTS) == []


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        (
            "greedy",
            swap("/summarize", r'"summary":"', '"summary":"x'),
            "greedy: POST /summarize, plain: another answer",
        ),
        (
            "greedy",
            swap("/summarize", r'"score":-(\d+)\.(\d+)', r'"score":-\1.\g<2>1'),
            "another answer than at the start, /score: '-",
        ),
        (
            "attention",
            swap("/attention", r'"coverage":\[(\d)', r'"coverage":[1\1'),
            "attention: POST /attention, plain: another",
        ),
        (
            "batch",
            swap("/summarize/batch", r'-0","model"', '-1","model"'),
            "batch: POST /summarize/batch, plain: the ids",
        ),
        (
            "hugging face",
            swap("/", r'"summary_text":"', '"summary_text":" '),
            "hugging face: POST /, plain: another answer",
        ),
        ("page", swap("/openapi.json", "Precis", "Precise"), "page: GET /openapi.json, plain: another answer"),
        ("metrics", swap("/metrics", r'(precis_live_rows\{model="news-en"\}) 0.0', r"\1 1.0"), "precis_live_rows is 1"),
        ("operations", swap("/metrics", r'(route="/livez",status="200"\}) \d', r"\1 9"), "/livez, 200: "),
        ("operations", swap("/livez", r"\{", "{{"), "it cannot be read"),
        ("stream", lose_an_event, "stream: POST /summarize, plain: another answer"),
        ("attention", refuse, "a refusal that is no problem"),
        ("attention", refuse, "requests were refused between bursts"),
        ("bad", forget_when_to_come_again, "503 without Retry-After"),
        ("models", change_the_id, "another X-Request-ID than was sent"),
        ("bad", blame_the_caller, "a problem of status 413 under 400"),
    ],
)
def test_a_lie_after_the_start_is_told(
    monkeypatch: pytest.MonkeyPatch, kind: str, change: Callable[[Told], None], words: str
) -> None:
    monkeypatch.setattr(traffic, "RESTING_SECONDS", 0.1)
    assert any(words in each for each in told_by(Lie(change), True, kind))


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("attention", swap("/attention", r'"weights":\[\[', '"weights":[[1.5,'), "weights for"),
        (
            "attention",
            swap("/attention", r'"weights":\[\[0', '"weights":[[1'),
            "rows of attention that do not sum to 1",
        ),
        (
            "attention",
            swap("/attention", r'"top":\[\[\{"source":\d+,"weight":0', '"top":[[{"source":0,"weight":2'),
            "above 1",
        ),
        ("attention", swap("/attention", r'"coverage":\[0', '"coverage":[9'), "a coverage"),
        (
            "attention",
            swap("/attention", r'"text":"word","start":0', '"text":"wurd","start":0'),
            "offsets that cut other words",
        ),
        ("attention", swap("/attention", r'"log_probability":-', '"log_probability":'), "probabilities above 1"),
        ("attention", swap("/attention", r'"summary":"', '"summary":"x'), "another summary than /summarize gave"),
        ("greedy", swap("/summarize", r'"truncated":false', '"truncated":true'), "truncated without a cut"),
        ("greedy", swap("/summarize", r'"score":-', '"score":'), "a score that is no log-probability"),
        ("greedy", swap("/summarize", r'"characters":', '"characters":1'), "characters that the text has not"),
        (
            "greedy",
            swap("/summarize", r'"finish_reason":"\w+"', '"finish_reason":"why"'),
            "an answer of the wrong shape",
        ),
        ("chunk", swap("/summarize", r'"source":\{"start":0,', '"source":{"start":99999,'), "parts that do not follow"),
        ("stream", swap("/summarize", r'data: \{"text":"(\w)', r'data: {"text":"x\1'), "pieces that are not"),
        ("stream", swap("/summarize", "event: done", "event: over"), "events in the order"),
        ("hugging face", swap("/", r'"summary_text":"', '"summary_text":" '), "other summaries than /summarize gave"),
        (
            "batch",
            swap("/summarize/batch", r'"summary":"', '"summary":"x'),
            "batch: POST /summarize/batch: another summary",
        ),
    ],
)
def test_a_lie_from_the_start_is_told(
    monkeypatch: pytest.MonkeyPatch, kind: str, change: Callable[[Told], None], words: str
) -> None:
    monkeypatch.setattr(traffic, "RESTING_SECONDS", 0.1)
    assert any(words in each for each in told_by(Lie(change), False, kind))


@pytest.mark.parametrize("manner", Manner)
def test_the_service_and_its_callers_count_alike_whatever_their_manners(manner: Manner) -> None:
    told: list[str] = []
    kinds = ("greedy", "stream", "batch", "attention", "bad")
    chosen = [next(each for each in QUESTIONS if each.kind == kind) for kind in kinds]

    async def main(url: str) -> Traffic:
        asking = Traffic(url, QUESTIONS, random.Random(1), lambda words, _: told.append(words))
        before = await asking.metrics()
        await asyncio.gather(*(asking.ask(question, manner) for question in 4 * chosen))
        await asking.come_to_rest(before)
        asking.close()
        return asking

    with liar(Lie()) as server:
        asking = asyncio.run(main(server.url))
    assert told == []
    assert sum(asking.counts.values()) >= 4 * len(chosen)
