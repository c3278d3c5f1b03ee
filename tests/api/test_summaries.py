"""What each route that works answers, on the fake model."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event, Semaphore
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from app import main, schemas
from app.api import responses, summaries
from app.api.service import LARGE_ANSWERS_AT_ONCE, Service
from app.config import Settings
from app.main import create_app
from app.models.base import AttentionInfo, Limits, Span, Tokens
from app.schemas import AttentionResponse, BatchResponse, Problem
from tests.api.waiting import PATIENCE, eventually
from tests.fakes import NOT_A_NUMBER, UNENCODABLE, UNSTEPPABLE, FakeModel

TEXT = "alpha bravo charlie delta echo foxtrot"


def summarize(client: TestClient, **body: Any) -> Response:
    return client.post("/summarize", json={"text": TEXT, **body})


def batch(client: TestClient, *texts: str, **body: Any) -> Response:
    return client.post("/summarize/batch", json={"texts": texts, **body})


def attend(client: TestClient, **body: Any) -> dict[str, Any]:
    response = client.post("/attention", json={"text": TEXT, **body})
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    assert AttentionResponse.model_validate(content).model_dump(exclude_unset=True) == content
    return content


def problem_of(response: Response, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert Problem.model_validate(problem).model_dump() == problem
    assert problem["status"] == status
    return problem


# --- /summarize ---


def test_a_summary_has_exactly_the_promised_fields(client: TestClient) -> None:
    response = summarize(client)
    assert response.status_code == 200
    content = response.json()
    assert schemas.Summary.model_validate(content).model_dump(exclude_unset=True) == content
    assert content["id"] == response.headers["x-request-id"]
    assert content["model"]["name"] == "news-en"
    assert content["source"] == {
        "characters": len(TEXT),
        "tokens": 6,
        "used_characters": len(TEXT),
        "used_tokens": 6,
        "truncated": False,
    }
    assert content["usage"] == {"source_tokens": 6, "summary_tokens": len(content["summary"].split())}
    assert content["finish_reason"] in ("stop", "length")


def test_server_timing_repeats_the_timing_object(client: TestClient) -> None:
    response = summarize(client)
    timing = response.json()["timing"]
    told = dict(entry.split(";dur=") for entry in response.headers["server-timing"].split(", "))
    assert {f"{name}_ms": float(value) for name, value in told.items()} == timing


def test_parameters_change_the_search(client: TestClient) -> None:
    content = summarize(client, parameters={"num_beams": 1, "max_length": 2, "min_length": 2}).json()
    assert content["usage"]["summary_tokens"] == 2
    assert content["finish_reason"] == "length"


def test_parameters_that_are_left_out_are_the_defaults_of_the_model(client: TestClient, model: FakeModel) -> None:
    defaults = model.info.defaults
    explicit = {"num_beams": defaults.num_beams, "max_length": defaults.max_length}
    assert summarize(client).json()["summary"] == summarize(client, parameters=explicit).json()["summary"]


def test_what_is_cut_is_told(client: TestClient) -> None:
    content = summarize(client, text="alpha " * 70).json()
    assert content["source"]["truncated"] is True
    assert (content["source"]["tokens"], content["source"]["used_tokens"]) == (70, 60)
    assert content["source"]["used_characters"] < content["source"]["characters"] == 420


def test_a_text_that_does_not_fit_is_422_when_that_is_asked_for(client: TestClient) -> None:
    problem = problem_of(summarize(client, text="alpha " * 70, truncation="error"), 422)
    assert problem["errors"][0]["pointer"] == "/text"


def test_a_long_text_is_summarized_in_parts(client: TestClient) -> None:
    text = "alpha bravo charlie. " * 30
    content = summarize(client, text=text, truncation="chunk").json()
    assert content["source"]["truncated"] is False
    assert len(content["parts"]) > 1
    assert content["parts"][-1]["summary"]["end"] == len(content["summary"])
    assert schemas.Summary.model_validate(content).model_dump(exclude_unset=True) == content


@pytest.mark.parametrize("text", ["", "  \n", "\u200b"])
def test_a_blank_text_is_422(client: TestClient, text: str) -> None:
    assert problem_of(summarize(client, text=text), 422)["errors"][0]["pointer"] == "/text"


def test_a_lone_surrogate_is_422(client: TestClient) -> None:
    response = client.post(
        "/summarize", content=b'{"text": "alpha \\ud800"}', headers={"Content-Type": "application/json"}
    )
    problem = problem_of(response, 422)
    assert problem["errors"] == [
        {"pointer": "/text", "message": "holds a lone surrogate, which is no Unicode character"}
    ]


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ({"num_beams": 9}, "/parameters/num_beams"),
        ({"max_length": 65}, "/parameters/max_length"),
        ({"min_length": 9}, "/parameters/min_length"),
        ({"max_length": 3, "min_length": 4}, "/parameters/min_length"),
        ({"num_beams": True}, "/parameters/num_beams"),
        ({"do_sample": False}, "/parameters/do_sample"),
    ],
)
@pytest.mark.parametrize("path", ["/summarize", "/summarize/batch", "/attention"])
def test_a_wrong_parameter_is_422_and_named(
    client: TestClient, path: str, parameters: dict[str, Any], pointer: str
) -> None:
    text = {"texts": [TEXT, ""]} if path.endswith("batch") else {"text": TEXT}
    problem = problem_of(client.post(path, json={**text, "parameters": parameters}), 422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert problem["error"] == problem["detail"]
    assert pointer in problem["detail"]


def test_more_beams_than_the_model_takes_are_422(client: TestClient, model: FakeModel) -> None:
    model.info = replace(model.info, limits=Limits(60, 64, max_beams=2))
    problem = problem_of(summarize(client, parameters={"num_beams": 3}), 422)
    assert problem["errors"] == [{"pointer": "/parameters/num_beams", "message": "must be at most 2 for news-en"}]


def test_a_text_over_the_limit_is_413(client: TestClient, settings: Settings) -> None:
    at_limit = "a" * settings.max_characters
    assert summarize(client, text=at_limit).status_code == 200
    problem = problem_of(summarize(client, text=at_limit + "a"), 413)
    assert problem["errors"][0]["pointer"] == "/text"


def test_characters_are_counted_as_code_points_however_they_are_escaped(client: TestClient, settings: Settings) -> None:
    text = "\N{GRINNING FACE}" * settings.max_characters
    assert summarize(client, text=text).json()["source"]["characters"] == settings.max_characters


def test_an_unknown_model_is_404(client: TestClient) -> None:
    assert problem_of(summarize(client, model="nope"), 404)["error_type"] == "model-not-found"


def test_a_batch_is_not_streamed(client: TestClient) -> None:
    assert problem_of(batch(client, TEXT, stream=True), 422)["errors"][0]["pointer"] == "/stream"


@pytest.mark.parametrize("poison", [UNENCODABLE, UNSTEPPABLE, NOT_A_NUMBER])
def test_a_text_that_makes_the_model_fail_is_500_alone(client: TestClient, poison: str) -> None:
    problem = problem_of(summarize(client, text=f"alpha {poison}"), 500)
    assert problem["error_type"] == "model-failed"
    assert poison not in str(problem)
    assert summarize(client).status_code == 200


def test_a_deadline_that_passes_is_504(client: TestClient, model: FakeModel) -> None:
    model.before_step = lambda _rows: time.sleep(0.002)
    assert problem_of(summarize(client, timeout_ms=1), 504)["error_type"] == "deadline-exceeded"


def test_the_deadline_of_a_request_that_names_none_is_that_of_the_service(settings: Settings, model: FakeModel) -> None:
    model.before_step = lambda _rows: time.sleep(0.002)
    app = create_app(settings.model_copy(update={"timeout_ms": 1}), models=[model])
    with TestClient(app) as client:
        problem_of(summarize(client), 504)
        results = batch(client, TEXT, "golf").json()["results"]
        assert [result["error"]["status"] for result in results] == [504, 504]
        assert summarize(client, timeout_ms=600_000).status_code == 200


def test_a_full_queue_is_503_with_retry_after(client: TestClient, model: FakeModel, settings: Settings) -> None:
    response = _overload(client, model, settings, lambda: summarize(client))
    assert problem_of(response, 503)["error_type"] == "overloaded"
    assert int(response.headers["retry-after"]) >= 1


# --- /summarize/batch ---


def test_a_batch_is_answered_in_order(client: TestClient) -> None:
    texts = [TEXT, "golf hotel india", "juliett"]
    content = batch(client, *texts).json()
    assert BatchResponse.model_validate(content).model_dump(exclude_unset=True) == content
    alone = [summarize(client, text=text).json() for text in texts]
    assert [result["summary"] for result in content["results"]] == [result["summary"] for result in alone]
    assert [result["source"] for result in content["results"]] == [result["source"] for result in alone]
    assert len({result["id"] for result in content["results"]}) == len(texts)


def test_a_bad_text_is_an_error_in_its_own_place(client: TestClient, settings: Settings) -> None:
    texts = [TEXT, " ", "alpha " * 70, "a" * (settings.max_characters + 1), f"alpha {UNENCODABLE}", "golf"]
    response = batch(client, *texts, truncation="error")
    assert response.status_code == 200
    content = response.json()
    assert BatchResponse.model_validate(content).model_dump(exclude_unset=True) == content
    statuses = [result.get("error", {"status": 200})["status"] for result in content["results"]]
    assert statuses == [200, 422, 422, 413, 500, 200]
    pointers = [[error["pointer"] for error in result["error"]["errors"]] for result in content["results"][1:4]]
    assert pointers == [["/texts/1"], ["/texts/2"], ["/texts/3"]]
    assert content["results"][2]["error"]["detail"].startswith("/texts/2 ")
    assert {result["error"]["request_id"] for result in content["results"][1:5]} == {response.headers["x-request-id"]}


def test_a_lone_surrogate_in_a_batch_is_an_error_in_its_own_place(client: TestClient) -> None:
    body = b'{"texts": ["\\ud800", "alpha"]}'
    response = client.post("/summarize/batch", content=body, headers={"Content-Type": "application/json"})
    first, second = response.json()["results"]
    assert first["error"]["errors"][0]["pointer"] == "/texts/0"
    assert second["summary"]


def test_a_batch_of_bad_texts_only_is_200(client: TestClient) -> None:
    assert [result["error"]["status"] for result in batch(client, "", " ").json()["results"]] == [422, 422]


def test_too_many_texts_are_413(client: TestClient, settings: Settings) -> None:
    assert batch(client, *["alpha"] * settings.max_batch_texts).status_code == 200
    problem = problem_of(batch(client, *["alpha"] * (settings.max_batch_texts + 1)), 413)
    assert problem["errors"][0]["pointer"] == "/texts"


def test_a_batch_that_does_not_fit_in_the_queue_is_refused_whole(
    client: TestClient, model: FakeModel, settings: Settings
) -> None:
    response = _overload(client, model, settings, lambda: batch(client, "golf", "hotel"), room=1)
    problem_of(response, 503)
    assert int(response.headers["retry-after"]) >= 1
    assert all(not _saw(model, word) for word in ("golf", "hotel"))


def test_a_batch_is_spread_over_all_threads_of_the_model(
    settings: Settings, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "threads_for", lambda _info, _rows, _cores: 2)
    many = settings.model_copy(update={"max_rows": 16, "max_batch_texts": 128, "max_queue": 128})
    model.gate.close()
    with TestClient(create_app(many, models=[model])) as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(batch, client, *[TEXT] * 128)
        eventually(lambda: len(model.states) == 2 and all(state.occupied for state in model.states))
        model.gate.open()
        assert len(answer.result().json()["results"]) == 128
        assert {len(rows) for rows in model.steps} >= {8}, "rows of a thread that are all in use"


# --- /attention ---


def test_attention_rows_are_summary_tokens_and_columns_source_tokens(client: TestClient) -> None:
    content = attend(client)
    attention = content["attention"]
    for items, text in ((attention["source_tokens"], TEXT), (attention["summary_tokens"], content["summary"])):
        assert [item["text"] for item in items] == text.split()
        assert all(item["text"] == text[item["start"] : item["end"]] for item in items)
    assert len(attention["weights"]) == content["usage"]["summary_tokens"]
    assert all(len(row) == 6 for row in attention["weights"])
    assert all(sum(row) == pytest.approx(1, abs=6e-5) for row in attention["weights"])
    columns = [sum(column) for column in zip(*attention["weights"], strict=True)]
    assert attention["coverage"] == pytest.approx(columns, abs=1e-3)
    assert all(0 <= item["copied"] <= 1 for item in attention["summary_tokens"])


def test_the_summary_is_that_of_summarize(client: TestClient) -> None:
    content = attend(client)
    assert content["summary"] == summarize(client).json()["summary"]


@pytest.mark.parametrize("precision", [1, 3, 8])
def test_numbers_are_rounded_to_the_precision(client: TestClient, precision: int) -> None:
    attention = attend(client, precision=precision)["attention"]
    numbers = [*attention["coverage"], *(weight for row in attention["weights"] for weight in row)]
    numbers += [item[name] for item in attention["summary_tokens"] for name in ("log_probability", "copied")]
    assert numbers == [round(number, precision) for number in numbers]
    assert any(number != round(number, precision - 1) for number in numbers)


@pytest.mark.parametrize("cells", [1, 13])
def test_weights_that_are_written_in_several_goes_are_the_same(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, cells: int
) -> None:
    whole = attend(client)["attention"]
    assert len(whole["weights"]) > 2
    monkeypatch.setattr(responses, "CELLS_AT_ONCE", cells)
    assert attend(client)["attention"] == whole


def test_the_largest_weights_are_those_of_the_whole_matrix(client: TestClient) -> None:
    dense, largest = attend(client)["attention"], attend(client, format="top", top_k=3)["attention"]
    assert "weights" not in largest
    assert "top" not in dense
    for row, entries in zip(dense["weights"], largest["top"], strict=True):
        assert [entry["weight"] for entry in entries] == sorted(row, reverse=True)[:3]
        assert all(row[entry["source"]] == entry["weight"] for entry in entries)


def test_more_weights_than_columns_are_all_of_them(client: TestClient) -> None:
    assert all(len(row) == 6 for row in attend(client, format="top", top_k=1000)["attention"]["top"])


def test_a_word_has_the_weights_of_all_its_tokens(
    client: TestClient, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "tokenize", lambda text: _halved(FakeModel.tokenize(model, text)))
    tokens, words = (attend(client, level=level, precision=8)["attention"] for level in ("token", "word"))
    assert [item["text"] for item in words["source_tokens"]] == TEXT.split()
    assert len(tokens["source_tokens"]) == 2 * len(words["source_tokens"])
    for row, of_tokens in zip(words["weights"], tokens["weights"], strict=True):
        assert row == pytest.approx([sum(pair) for pair in zip(of_tokens[::2], of_tokens[1::2], strict=True)], abs=1e-6)
        assert sum(row) == pytest.approx(1, abs=1e-6)


def test_the_attention_of_a_given_summary_is_told(client: TestClient) -> None:
    content = attend(client, summary=" golf hotel ")
    assert content["finish_reason"] == "given"
    assert [item["text"] for item in content["attention"]["summary_tokens"]] == ["golf", "hotel"]
    assert content["summary"].strip() == "golf hotel"


def test_a_given_summary_that_is_wrong_is_422(client: TestClient, settings: Settings) -> None:
    for change in ({"summary": ""}, {"summary": "golf " * 65}, {"summary": "golf", "truncation": "chunk"}):
        problem = problem_of(client.post("/attention", json={"text": TEXT, **change}), 422)
        assert problem["errors"][0]["pointer"] == "/summary"
    too_long = {"text": TEXT, "summary": "a" * (settings.max_characters + 1)}
    problem_of(client.post("/attention", json=too_long), 413)


def test_attention_in_parts_is_zero_outside_the_part(client: TestClient) -> None:
    content = attend(client, text="alpha bravo charlie. " * 30, truncation="chunk")
    attention = content["attention"]
    assert len(attention["source_tokens"]) == 90
    part = content["parts"][0]
    outside = [n for n, item in enumerate(attention["source_tokens"]) if item["start"] >= part["source"]["end"]]
    assert outside
    assert all(attention["weights"][0][column] == 0 for column in outside)


def test_the_largest_weights_in_parts_stand_within_the_part(client: TestClient) -> None:
    text = "alpha bravo charlie. " * 30
    content = attend(client, text=text, truncation="chunk", format="top", level="word", top_k=3)
    attention, parts = content["attention"], content["parts"]
    for item, row in zip(attention["summary_tokens"], attention["top"], strict=True):
        (part,) = [each for each in parts if each["summary"]["start"] <= item["start"] < each["summary"]["end"]]
        for entry in row:
            column = attention["source_tokens"][entry["source"]]
            assert part["source"]["start"] <= column["start"] < column["end"] <= part["source"]["end"]


def test_a_model_that_cannot_copy_leaves_copied_out(model: FakeModel, client: TestClient) -> None:
    model._copies = False
    assert all("copied" not in item for item in attend(client)["attention"]["summary_tokens"])


def test_a_model_with_one_attention_tells_nothing_of_others_unless_it_is_asked(client: TestClient) -> None:
    text = "alpha, bravo ."
    plain = attend(client, text=text)["attention"]
    assert plain.keys() == {"source_tokens", "summary_tokens", "weights", "coverage"}
    assert all(item.keys() == {"text", "start", "end"} for item in plain["source_tokens"])
    assert all("dropped" not in item for item in plain["summary_tokens"])
    for choice in ({"layers": [0]}, {"heads": [0, 0]}, {"reduce": "mean"}, {"drop_sinks": False}):
        chosen = attend(client, text=text, **choice)["attention"]
        assert chosen.pop("used") == {"layers": [0], "heads": [0], "reduce": "mean", "drop_sinks": False}
        assert [item.pop("sink", False) for item in chosen["source_tokens"]] == [False, False, True]
        assert chosen == plain


@pytest.fixture
def several(model: FakeModel) -> None:
    """The model has three layers and two heads; to be asked for before the client."""
    model.info = replace(model.info, attention=AttentionInfo.of_transformer(3, 2))
    model._copies = False


@pytest.mark.usefixtures("several")
def test_the_attention_that_was_chosen_is_told_with_what_it_dropped(client: TestClient) -> None:
    usual = attend(client)["attention"]
    assert usual["used"] == {"layers": [1], "heads": [0, 1], "reduce": "mean", "drop_sinks": False}
    assert all(0 < item["dropped"] < 1 for item in usual["summary_tokens"])
    assert all(sum(row) == pytest.approx(1, abs=6e-5) for row in usual["weights"])
    seen = [usual["weights"]]
    for choice in ({"layers": [2, 0]}, {"heads": [1]}, {"reduce": "max"}, {"layers": [0], "heads": [0]}):
        chosen = attend(client, **choice)["attention"]
        told = {name: sorted(value) if isinstance(value, list) else value for name, value in choice.items()}
        assert chosen["used"] == usual["used"] | told
        assert all(sum(row) == pytest.approx(1, abs=6e-5) for row in chosen["weights"])
        assert chosen["weights"] not in seen
        seen.append(chosen["weights"])


@pytest.mark.usefixtures("several")
@pytest.mark.parametrize("level", ["token", "word"])
@pytest.mark.parametrize(
    "more", [{}, {"summary": "golf hotel"}, {"truncation": "chunk"}, {"format": "top", "top_k": 1000}]
)
def test_sinks_are_marked_and_dropped_on_request(client: TestClient, level: str, more: dict[str, Any]) -> None:
    options = {"text": "alpha , bravo . charlie — delta . " * 12, "level": level, "precision": 8, **more}
    kept, dropped = attend(client, **options)["attention"], attend(client, drop_sinks=True, **options)["attention"]
    assert dropped["used"] == kept["used"] | {"drop_sinks": True}
    assert dropped["source_tokens"] == kept["source_tokens"]
    sinks = {column for column, item in enumerate(kept["source_tokens"]) if item.get("sink")}
    assert {kept["source_tokens"][column]["text"] for column in sinks} == {",", ".", "—"}
    for before, after, item, same in zip(
        _rows(kept), _rows(dropped), kept["summary_tokens"], dropped["summary_tokens"], strict=True
    ):
        lost = sum(before.get(column, 0) for column in sinks)
        assert sum(after.values()) == pytest.approx(1, abs=1e-5)
        assert all(after.get(column, 0) == 0 for column in sinks)
        assert 1 - same["dropped"] == pytest.approx((1 - item["dropped"]) * (1 - lost), abs=1e-6)
        for column in before.keys() - sinks:
            assert after.get(column, 0) == pytest.approx(before[column] / (1 - lost), abs=1e-6)


@pytest.mark.usefixtures("several")
@pytest.mark.parametrize(
    ("choice", "pointer"),
    [
        ({"layers": [3]}, "/layers"),
        ({"heads": [0, 2]}, "/heads"),
        ({"layers": []}, "/layers"),
        ({"heads": [-1]}, "/heads/0"),
        ({"layers": 1}, "/layers"),
        ({"reduce": "sum"}, "/reduce"),
        ({"drop_sinks": 1}, "/drop_sinks"),
    ],
)
def test_an_attention_that_the_model_has_not_is_422_by_name(
    client: TestClient, choice: dict[str, Any], pointer: str
) -> None:
    problem = problem_of(client.post("/attention", json={"text": TEXT, **choice}), 422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


def test_a_deadline_that_passes_is_504_for_attention_too(client: TestClient, model: FakeModel) -> None:
    model.before_step = lambda _rows: time.sleep(0.002)
    response = client.post("/attention", json={"text": TEXT, "timeout_ms": 1})
    assert problem_of(response, 504)["error_type"] == "deadline-exceeded"


def test_few_answers_with_attention_are_written_at_once(
    client: TestClient, service: Service, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, begun, may_end = summaries._attention_response, Semaphore(0), Event()

    def slowly(*arguments: Any) -> Any:
        begun.release()
        may_end.wait(PATIENCE)
        return write(*arguments)

    monkeypatch.setattr(summaries, "_attention_response", slowly)
    decoded = service.metrics.live_rows.labels("news-en")
    with ThreadPoolExecutor(LARGE_ANSWERS_AT_ONCE + 1) as pool:
        answers = [pool.submit(attend, client) for _ in range(LARGE_ANSWERS_AT_ONCE + 1)]
        try:
            assert all(begun.acquire(timeout=PATIENCE) for _ in range(LARGE_ANSWERS_AT_ONCE))
            eventually(lambda: len(model.encodings) and decoded._value.get() == 0)
            assert not begun.acquire(timeout=0.2), "one more has to wait"
        finally:
            may_end.set()
        assert all(answer.result()["attention"]["weights"] for answer in answers)


def _rows(attention: dict[str, Any]) -> list[dict[int, float]]:
    """Weights by column, however they are told."""
    if "weights" in attention:
        return [dict(enumerate(row)) for row in attention["weights"]]
    return [{entry["source"]: entry["weight"] for entry in row} for row in attention["top"]]


def _halved(tokens: Tokens) -> Tokens:
    """Every token in two."""
    ids = [token for token in tokens.ids for _ in range(2)]
    halves = [(Span(span.start, span.start + 2), Span(span.start + 2, span.end)) for span in tokens.spans]
    spans = [half for pair in halves for half in pair]
    return Tokens(tokens.text, tuple(ids), tuple(spans))


def _saw(model: FakeModel, word: str) -> bool:
    return any(model.tokenize(word).ids == source for sources in model.encodings for source in sources)


def _overload(client: TestClient, model: FakeModel, settings: Settings, request: Any, room: int = 0) -> Response:
    """What a request is answered while the first text is decoded and the queue has room for `room` more."""
    model.gate.close()
    beams = {"num_beams": settings.max_rows}
    with ThreadPoolExecutor(settings.max_queue + 1) as pool:
        pool.submit(summarize, client, parameters=beams)
        model.gate.wait_for_arrival(1)
        waiting = [pool.submit(summarize, client, parameters=beams) for _ in range(settings.max_queue - room)]
        queued = client.app.state.service.metrics.queue_texts.labels("news-en")  # type: ignore[attr-defined]
        eventually(lambda: queued._value.get() == len(waiting))
        response: Response = request()
        model.gate.open()
    return response
