"""What every answer must be. Each check yields in words what is wrong.

`broken` looks into an answer as deep as it goes; `fixed` is the part of it that never changes.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from app import schemas
from benchmarks.soaking.questions import Case, Question
from benchmarks.soaking.wire import Answer

JsonObject = dict[str, Any]
Event = tuple[str, JsonObject]
PROBLEM = "application/problem+json"
EVENTS = "text/event-stream"
LONGEST_SHOWN = 100
FLOAT_ERROR = 1e-4  # of a sum of float32 weights
_EVENT = re.compile(r"event: (\w+)\ndata: (.*)")


# --- every answer, and what is the same in each ---


def parsed(answer: Answer) -> Any:
    """JSON, or events; bytes of anything else. Raises ValueError where it is not what it is said to be."""
    kind = answer.headers.get("content-type", "")
    if answer.body and "json" in kind:
        return orjson.loads(answer.body)
    return _events(answer.body) if EVENTS in kind else answer.body


def envelope(question: Question, answer: Answer, content: Any, request_id: str) -> Iterator[str]:
    """What holds for any answer, whatever its status."""
    if answer.headers.get("x-request-id") != request_id:
        yield "another X-Request-ID than was sent"
    if answer.status >= 400:
        yield from _refusal(question, answer, request_id)
    elif strange := [each for each in _ids(content) if each != request_id]:
        yield f"the ids {strange}"


def fixed(answer: Answer, content: Any) -> object:
    """What is left of the content without ids, times and digests: always the same for the same question."""
    if "text/plain" in answer.headers.get("content-type", ""):  # metrics
        return None
    for each in _objects(content):
        for name in ("id", "request_id", "timing"):
            each.pop(name, None)
    for each in _checkpoints(content):
        for name in ("digest", "card"):
            each.pop(name, None)
    return content


def difference(one: Any, other: Any, where: str = "") -> str:
    """The first place where they differ, and what the first has there."""
    if isinstance(one, dict) and isinstance(other, dict):
        name = next(name for name in (*one, *other) if one.get(name) != other.get(name))
        return difference(one.get(name), other.get(name), f"{where}/{name}")
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        place = next(place for place, each in enumerate(one) if each != other[place])
        return difference(one[place], other[place], f"{where}/{place}")
    return f"{where}: {str(one)[:LONGEST_SHOWN]!r}"


def digests(content: Any) -> set[str]:
    """Of all checkpoints that are named."""
    return {each["digest"] for each in _checkpoints(content) if "digest" in each}


def _events(body: bytes) -> list[Event]:
    found = []
    for block in body.decode().split("\n\n"):
        if not block or block.startswith(":"):
            continue
        matched = _EVENT.fullmatch(block)
        if not matched:
            raise ValueError("what was streamed is no event")
        found.append((matched[1], orjson.loads(matched[2])))
    return found


def _refusal(question: Question, answer: Answer, request_id: str) -> Iterator[str]:
    if question.method == "HEAD":
        return
    if answer.headers.get("content-type") != PROBLEM:
        yield f"a refusal of type {answer.headers.get('content-type')!r}"
    try:
        problem = schemas.Problem.model_validate_json(answer.body)
    except ValidationError:
        yield "a refusal that is no problem"
        return
    if problem.status != answer.status:
        yield f"a problem of status {problem.status} under {answer.status}"
    if problem.type != f"urn:precis:problem:{problem.error_type}" or problem.error != problem.detail:
        yield "a problem that contradicts itself"
    if problem.instance != question.path.partition("?")[0]:
        yield f"a problem of {problem.instance!r}"
    if problem.request_id != request_id:
        yield "a problem with another request_id"
    if answer.status == 405 and not answer.headers.get("allow"):
        yield "405 without Allow"
    if answer.status == 503 and not re.fullmatch("[1-9][0-9]*", answer.headers.get("retry-after", "")):
        yield "503 without Retry-After"


def _objects(content: Any) -> Iterator[JsonObject]:
    """Those that may have ids: an object, events, the results of a batch and the errors among them."""
    if isinstance(content, list):
        yield from (each[1] for each in content if isinstance(each, tuple))
    if isinstance(content, dict):
        yield content
        for result in _results(content):
            yield result
            if "error" in result:
                yield result["error"]


def _checkpoints(content: Any) -> Iterator[JsonObject]:
    """Where answers name one, and where they describe it."""
    for each in _objects(content):
        yield each
        yield from (model for model in (each.get("model"), *each.get("models", ())) if isinstance(model, dict))


def _ids(content: Any) -> Iterator[str]:
    """A summary of a batch has its place after the id of the request."""
    places = {id(result): f"-{place}" for place, result in enumerate(_results(content))}
    for each in _objects(content):
        yield from (each[name].removesuffix(places.get(id(each), "")) for name in ("id", "request_id") if name in each)


def _results(content: Any) -> Sequence[JsonObject]:
    results: Sequence[JsonObject] = content.get("results", ()) if isinstance(content, dict) else ()
    return results


# --- one answer, as deep as it goes ---


def broken(question: Question, answer: Answer, known: Mapping[Case, JsonObject]) -> Iterator[str]:
    """`known`: the summaries that other routes gave already."""
    if answer.status != 200 or question.method == "HEAD" or question.kind == "bad":
        return
    try:
        yield from _inner(question, answer, known)
    except ValidationError as error:
        yield f"an answer of the wrong shape: {[each['loc'] for each in error.errors()]}"


def summary_of(answer: Answer) -> JsonObject:
    """What all routes must agree on, of an answer of /summarize."""
    return _core(orjson.loads(answer.body))


def _inner(question: Question, answer: Answer, known: Mapping[Case, JsonObject]) -> Iterator[str]:
    if question.sent is None:
        return
    if question.kind == "batch":
        yield from _batch(question, answer, known)
    elif question.kind == "hugging face":
        TypeAdapter(list[schemas.HuggingFaceSummary]).validate_json(answer.body)
        summaries = [each["summary_text"] for each in orjson.loads(answer.body)]
        if summaries != [known[case]["summary"] for case in question.cases]:
            yield "other summaries than /summarize gave"
    elif question.sent.get("stream"):
        yield from _stream(question, answer, known)
    else:
        yield from _single(question, answer, known)


def _single(question: Question, answer: Answer, known: Mapping[Case, JsonObject]) -> Iterator[str]:
    shape: type[BaseModel] = schemas.AttentionResponse if question.route == "/attention" else schemas.Summary
    shape.model_validate_json(answer.body)
    content = orjson.loads(answer.body)
    yield from summary(content, question.sent["text"])
    yield from _disagreement(content, question.cases, known)
    if "attention" in content:
        yield from attention(content, question.sent)


def _disagreement(content: JsonObject, cases: Sequence[Case], known: Mapping[Case, JsonObject]) -> Iterator[str]:
    for case in cases:
        if case in known and _core(content) != known[case]:
            yield "another summary than /summarize gave"


def _core(content: JsonObject) -> JsonObject:
    return {name: value for name, value in content.items() if name not in ("id", "timing", "attention")}


def summary(content: JsonObject, text: str) -> Iterator[str]:
    source, usage = content["source"], content["usage"]
    if source["characters"] != len(text) or not 0 < source["used_characters"] <= len(text):
        yield "characters that the text has not"
    if source["truncated"] != (source["used_tokens"] < source["tokens"]):
        yield "truncated without a cut, or cut without being told"
    if usage["source_tokens"] != source["used_tokens"] or usage["summary_tokens"] < 0:
        yield "tokens that were not used"
    if not (math.isfinite(content["score"]) and content["score"] <= FLOAT_ERROR):
        yield "a score that is no log-probability"
    if any(value < 0 for value in content["timing"].values()):
        yield "a negative time"
    for name, whole in (("source", text), ("summary", content["summary"])):
        ranges = [(part[name]["start"], part[name]["end"]) for part in content.get("parts", ())]
        edges = [0, *itertools.chain.from_iterable(ranges), len(whole)]
        if edges != sorted(edges):
            yield f"parts that do not follow each other in the {name}"


def attention(content: JsonObject, sent: JsonObject) -> Iterator[str]:
    """Offsets, and the sums of weights within the rounding of `precision` decimals."""
    found, rounding = content["attention"], 0.5 * 10.0 ** -sent.get("precision", 5)
    columns, rows = found["source_tokens"], found["summary_tokens"]
    yield from _spans(columns, sent["text"], "source")
    yield from _spans(rows, content["summary"], "summary")
    if any(row["log_probability"] > rounding + FLOAT_ERROR or row.get("copied", 0) > 1 + FLOAT_ERROR for row in rows):
        yield "probabilities above 1"
    if len(found["coverage"]) != len(columns):
        yield "a coverage of other columns"
    if abs(sum(found["coverage"]) - len(rows)) > len(columns) * rounding + len(rows) * FLOAT_ERROR:
        yield "a coverage that does not sum to the number of rows"
    if "weights" in found:
        yield from _dense(found, rounding, content.get("parts", ()) if sent.get("level") == "token" else ())
    else:
        yield from _top(found, sent.get("top_k", 5), rounding)


def _spans(items: Sequence[JsonObject], text: str, name: str) -> Iterator[str]:
    if any(item["text"] != text[item["start"] : item["end"]] for item in items):
        yield f"offsets that cut other words out of the {name}"
    if any(item["text"] != item["text"].strip() for item in items):
        yield f"white space at the edges of words of the {name}"
    for one, other in itertools.pairwise(items):
        if one["start"] > other["start"] or one["end"] > other["end"]:
            yield f"offsets that cross in the {name}"
            return


def _dense(found: JsonObject, rounding: float, parts: Sequence[JsonObject]) -> Iterator[str]:
    rows, columns = len(found["summary_tokens"]), len(found["source_tokens"])
    if [len(row) for row in found["weights"]] != [columns] * rows:
        yield f"weights for other than {rows} rows and {columns} columns"
        return
    weights = np.array(found["weights"], np.float64)
    if weights.min(initial=0.0) < 0 or np.abs(weights.sum(1) - 1).max(initial=0.0) > columns * rounding + FLOAT_ERROR:
        yield "rows of attention that do not sum to 1"
    coverage = np.array(found["coverage"])
    if np.abs(weights.sum(0) - coverage).max(initial=0.0) > (rows + 1) * rounding + FLOAT_ERROR:
        yield "a coverage that is not the sum of its column"
    for part in parts:
        own = [bool(each["text"]) and _within(each, part["summary"]) for each in found["summary_tokens"]]
        others = [not _within(each, part["source"]) for each in found["source_tokens"]]
        if weights[np.ix_(own, others)].any():
            yield "attention outside the part of the text that was read"


def _within(item: JsonObject, span: JsonObject) -> bool:
    return bool(span["start"] <= item["start"] and item["end"] <= span["end"])


def _top(found: JsonObject, count: int, rounding: float) -> Iterator[str]:
    columns = len(found["source_tokens"])
    if len(found["top"]) != len(found["summary_tokens"]):
        yield "other rows than tokens"
    for row in found["top"]:
        weights = [each["weight"] for each in row]
        if len(row) != min(count, columns) or {each["source"] for each in row} - set(range(columns)):
            yield "weights of columns that there are not"
        if weights != sorted(weights, reverse=True):
            yield "weights that are not the largest first"
        whole = len(row) == columns
        if sum(weights) > 1 + columns * rounding + FLOAT_ERROR:
            yield "rows of attention above 1"
        if whole and sum(weights) < 1 - columns * rounding - FLOAT_ERROR:
            yield "rows of attention that do not sum to 1"


def _batch(question: Question, answer: Answer, known: Mapping[Case, JsonObject]) -> Iterator[str]:
    schemas.BatchResponse.model_validate_json(answer.body)
    results = orjson.loads(answer.body)["results"]
    texts, cases = question.sent["texts"], question.cases
    if len(results) != len(texts):
        yield f"{len(results)} results for {len(texts)} texts"
        return
    for text, case, result in itertools.zip_longest(texts, cases, results):
        if not text.strip():
            if result.get("error", {}).get("status") != 422:
                yield "no error in the place of a blank text"
        elif "error" in result:
            yield "an error in the place of a good text"
        else:
            yield from summary(result, text)
            yield from _disagreement(result, [case], known)


def _stream(question: Question, answer: Answer, known: Mapping[Case, JsonObject]) -> Iterator[str]:
    *told, last, done = _events(answer.body)
    if {name for name, _ in told} - {"token"} or last[0] != "summary" or done != ("done", {}):
        yield f"events in the order {[name for name, _ in (*told, last, done)]}"
        return
    content, end = last[1], 0
    schemas.Summary.model_validate_json(orjson.dumps(content))
    yield from summary(content, question.sent["text"])
    yield from _disagreement(content, question.cases, known)
    for _, piece in told:
        schemas.TokenEvent.model_validate_json(orjson.dumps(piece))
        if piece["start"] != end or piece["text"] != content["summary"][piece["start"] : piece["end"]]:
            yield "pieces that are not those of the summary"
            return
        end = piece["end"]
        weights = [each["weight"] for each in piece["sources"]]
        if weights != sorted(weights, reverse=True) or sum(weights) > 1 + FLOAT_ERROR:
            yield "sources of a token that are not the largest first"
    if "".join(piece["text"] for _, piece in told) != content["summary"]:
        yield "pieces that do not join to the summary"
