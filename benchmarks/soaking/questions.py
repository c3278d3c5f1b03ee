"""All that the soak asks: every kind of request, each with the one status and the one answer that are right.

A question is asked again and again, and its answer is always the same but for ids and times. So whatever holds for the
answer at the start, when nobody disturbed it, holds for every answer that equals it.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from benchmarks.soaking import material
from benchmarks.soaking.wire import Message

ENGLISH, CHINESE = "news-en", "news-zh"
JSON = {"Content-Type": "application/json"}
Parameters = tuple[tuple[str, float], ...]

GREEDY: tuple[Parameters, ...] = (
    (("num_beams", 1),),
    (("num_beams", 1), ("max_length", 12)),
    (("num_beams", 1), ("min_length", 8), ("max_length", 24), ("no_repeat_ngram_size", 2)),
    (("num_beams", 1), ("numbers_from_source", False)),
)
BEAMS: tuple[Parameters, ...] = (
    (),
    (("num_beams", 2), ("length_penalty", 0.5)),
    (("num_beams", 4), ("max_length", 20)),
    (("num_beams", 8), ("no_repeat_ngram_size", 0)),
    (("num_beams", 3), ("min_length", 5), ("length_penalty", -0.5)),
)
# How often each kind is asked.
WEIGHTS = {
    "greedy": 30,
    "beams": 12,
    "stream": 10,
    "attention": 9,
    "given": 3,
    "batch": 4,
    "chunk": 3,
    "hugging face": 6,
    "deadline": 3,
    "bad": 9,
    "operations": 6,
    "metrics": 1,
    "models": 2,
    "page": 2,
}
SHORT_TIMEOUTS_MS = (1, 20, 100, 300, 1000)


@dataclass(frozen=True, slots=True)
class Case:
    """A text and how it is summarized: whoever asks for this, on whatever route, gets the same summary."""

    model: str
    text: str
    parameters: Parameters
    truncation: str = "head"

    def sent(self, **more: Any) -> dict[str, Any]:
        parameters = dict(self.parameters)
        return {
            "text": self.text,
            "model": self.model,
            "parameters": parameters,
            "truncation": self.truncation,
            **more,
        }


@dataclass(frozen=True, eq=False)
class Question:
    """One request. `route` as metrics name it; `texts` that wait at most; `cases` whose summaries are in the answer.

    refusals: statuses that are as good as `status`. patient: asked at the start instead, where this one may be refused.
    """

    kind: str
    method: str
    path: str
    route: str
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: Any = None
    cases: tuple[Case, ...] = ()
    texts: int = 1
    refusals: tuple[int, ...] = ()
    patient: "Question | None" = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.method} {self.path}"

    def message(self, host: str, request_id: str) -> Message:
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {host}", f"X-Request-ID: {request_id}"]
        headers = {"Content-Length": len(self.body), **self.headers} if self.method == "POST" else self.headers
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return Message("\r\n".join([*lines, "", ""]).encode(), self.body, self.method != "HEAD")


def post(kind: str, route: str, sent: Any, *cases: Case, path: str = "", **more: Any) -> Question:
    body = sent if isinstance(sent, bytes) else orjson.dumps(sent)
    return Question(kind, "POST", path or route, route, body=body, sent=sent, cases=cases, **{"headers": JSON, **more})


def get(kind: str, path: str, route: str = "", method: str = "GET", **more: Any) -> Question:
    return Question(kind, method, path, route or path, texts=0, **more)


def catalogue(texts: int, source: random.Random) -> list[Question]:
    """Every kind, over so many English texts and some of the others. What must agree with a summary comes after it."""
    cases = list(_cases(texts, source))
    plain = [post(_kind(case), "/summarize", case.sent(), case) for case in cases]
    return [*plain, *_agreeing(cases, plain, source), *_chunked(max(1, texts // 10), source), *_bad(cases), *_others()]


def burst(questions: Sequence[Question], texts: int, source: random.Random) -> list[Question]:
    """Many more texts than the queue takes: batches mostly, and whatever there is between them."""
    batches = [question for question in questions if question.kind == "batch"]
    chosen: list[Question] = []
    while sum(question.texts for question in chosen) < texts:
        chosen.append(source.choice(batches if source.random() < 0.5 else questions))
    return chosen


def _cases(texts: int, source: random.Random) -> Iterator[Case]:
    for text in material.english(texts):
        for choice in (GREEDY, BEAMS):
            yield Case(ENGLISH, text, source.choice(choice))
    for text in material.chinese(max(2, texts // 4), source):
        for choice in (GREEDY, BEAMS):
            yield Case(CHINESE, text, source.choice(choice))


def _kind(case: Case) -> str:
    return "greedy" if dict(case.parameters).get("num_beams") == 1 else "beams"


def _agreeing(cases: Sequence[Case], plain: Sequence[Question], source: random.Random) -> Iterator[Question]:
    """The other routes to the same summaries."""
    for case, question in zip(cases, plain, strict=True):
        yield post("attention", "/attention", case.sent(**_attention(source)), case)
        yield _hugging_face(case, source)
        timeout = source.choice(SHORT_TIMEOUTS_MS)
        yield replace(
            question,
            kind="deadline",
            body=orjson.dumps(case.sent(timeout_ms=timeout)),
            refusals=(503, 504),
            patient=question,
        )
        if _kind(case) == "greedy":
            yield post("stream", "/summarize", case.sent(stream=True), case)
            given = "格林河大桥通车" if case.model == CHINESE else "A bridge of 4.2 miles opens in March"
            yield post("given", "/attention", case.sent(summary=given, **_attention(source)))
    for group in _groups(cases):
        yield _batch(group, source)


def _attention(source: random.Random) -> dict[str, Any]:
    top = {"format": "top"}
    shape: dict[str, Any] = source.choice([{}, {}, top, {**top, "top_k": source.choice((1, 3, 1000))}])
    return {"level": source.choice(("token", "word")), "precision": source.choice((2, 5, 8)), **shape}


def _hugging_face(case: Case, source: random.Random) -> Question:
    parameters: dict[str, Any] = dict(case.parameters)
    if source.random() < 0.5:
        parameters = {"truncation": "longest_first", "generate_parameters": parameters}
    sent = {"inputs": [case.text] if source.random() < 0.5 else case.text, "parameters": parameters}
    if case.model == ENGLISH and source.random() < 0.5:
        return post("hugging face", "/", sent, case)
    return post("hugging face", "/models/{name}", sent, case, path=f"/models/{case.model}")


def _groups(cases: Iterable[Case]) -> Iterator[list[Case]]:
    """At most eight that differ in nothing but their texts."""
    alike: dict[tuple[str, Parameters], list[Case]] = {}
    for case in cases:
        alike.setdefault((case.model, case.parameters), []).append(case)
    for group in alike.values():
        yield from (group[first : first + 8] for first in range(0, len(group), 8))


def _batch(group: Sequence[Case], source: random.Random) -> Question:
    """With a text that is wrong in its own place, now and then."""
    sent = group[0].sent()
    texts = [case.text for case in group]
    if source.random() < 0.3:
        texts.append(source.choice(("", " \n ", "\u3000")))
    sent["texts"] = texts
    del sent["text"]
    return post("batch", "/summarize/batch", sent, *group, texts=len(group))


def _chunked(count: int, source: random.Random) -> Iterator[Question]:
    for text in material.long(count):
        case = Case(ENGLISH, text, source.choice(GREEDY), "chunk")
        # Their parts wait one by one: how many there are is not known before.
        yield post("chunk", "/summarize", case.sent(), case, texts=2 * material.PARTS)
        yield post("chunk", "/attention", case.sent(**_attention(source)), case, texts=2 * material.PARTS)
        yield post("chunk", "/summarize", case.sent(stream=True), case, texts=2 * material.PARTS)


def _bad(cases: Sequence[Case]) -> Iterator[Question]:
    """What is refused, each in its own way."""
    good = cases[-1].sent()
    long = "word " * 1000

    def bad(status: int, sent: Any, route: str = "/summarize", **more: Any) -> Question:
        return post("bad", route, sent, status=status, **{"texts": 0, **more})

    yield bad(400, b'{"text": "half of a')
    yield bad(400, b'{"text": "\xff\xfe"}')
    yield bad(400, b"[" * 20_000)
    yield bad(422, b'{"text": "one", "text": "two"}')
    yield bad(422, b'{"text": "one", "parameters": {"length_penalty": NaN}}')
    yield bad(422, b'{"text": "\\ud800"}')
    yield bad(422, {"text": " \n\u3000"})
    yield bad(422, {})
    yield bad(422, [good])
    yield bad(422, {**good, "txet": "unknown"})
    yield bad(422, {**good, "timeout_ms": 0})
    yield bad(422, {**good, "parameters": {"num_beams": 9}})
    yield bad(422, {**good, "parameters": {"num_beams": 4}, "stream": True})
    yield bad(422, {**good, "text": long, "truncation": "error"})
    yield bad(422, good, path="/summarize?verbose=1")
    yield bad(422, {**good, "summary": "given", "truncation": "chunk"}, "/attention")
    yield bad(422, {**good, "summary": "given " * 200}, "/attention")
    yield bad(422, {**good, "precision": 9}, "/attention")
    yield bad(422, {"texts": []}, "/summarize/batch")
    yield bad(422, {"inputs": ["one", 2]}, "/")
    yield bad(413, {"texts": ["word"] * 129}, "/summarize/batch")
    yield bad(413, {"text": "x" * 200_001})
    yield bad(413, b"", headers={**JSON, "Content-Length": "99999999", "Connection": "close"})
    yield bad(415, good, headers={"Content-Type": "text/plain"})
    yield bad(415, good, headers={**JSON, "Content-Encoding": "gzip"})
    yield bad(404, {**good, "model": "nobody"})
    yield bad(404, {"inputs": "one"}, "/models/{name}", path="/models/nobody")
    yield bad(404, good, "unmatched", path="/nowhere")
    yield get("bad", "/summarize", status=405)
    yield get("bad", "/page/nothing.js", "/page/{name}", status=404)


def _others() -> Iterator[Question]:
    """What costs the model nothing. Readiness may be refused while a worker is replaced."""
    for method in ("GET", "HEAD"):
        yield get("operations", "/livez", method=method)
        yield get("operations", "/readyz", method=method)
        yield get("operations", "/health", method=method)
        yield get("models", "/models", method=method)
    yield get("metrics", "/metrics")
    for name in (ENGLISH, CHINESE):
        yield get("models", f"/models/{name}", "/models/{name}")
    for path in ("/", "/openapi.json", "/docs"):
        yield get("page", path)
    yield get("page", "/page/main.js", "/page/{name}")
