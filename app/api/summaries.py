"""The routes that work: summaries, batches of them, and their attention."""

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app.api.body import BatchRoute, StrictRoute
from app.api.openapi import TIMED, errors, event_stream, request_examples
from app.api.problems import instance_of
from app.api.record import record_of
from app.api.requests import (
    CHECKED_AT_ONCE,
    admissible,
    attention_options,
    check_count,
    check_text,
    decoding_options,
    in_place,
    timeout_seconds,
)
from app.api.responses import JsonObject, attention_json, failure_json, json_response, summary_json
from app.api.service import Service, ServiceDep
from app.api.stream import stream
from app.api.threads import by_size
from app.api.work import Result, summarize, summarize_all
from app.engine.engine import Engine
from app.engine.request import Summary, SummaryRequest
from app.errors import RequestError
from app.examples import ATTENTION_OF_GIVEN_SUMMARY, ATTENTION_REQUEST, BATCH_REQUEST, SUMMARIZE_REQUEST
from app.schemas import AttentionRequest, AttentionResponse, BatchRequest, BatchResponse, SummarizeRequest
from app.schemas import Summary as SummarySchema

WRITTEN_AT_ONCE = 128  # summaries: a millisecond
WORK_ERRORS = errors(400, 404, 413, 415, 503, 504)
router = APIRouter(route_class=StrictRoute, tags=["Summaries"], responses=WORK_ERRORS)
batch_router = APIRouter(route_class=BatchRoute, tags=["Summaries"], responses=WORK_ERRORS)


@router.post(
    "/summarize",
    operation_id="summarize",
    summary="Summarize one text",
    response_model=SummarySchema,
    response_description="The summary, or the events of one that is streamed.",
    responses=event_stream(),
    openapi_extra=request_examples(text=SUMMARIZE_REQUEST),
)
async def summarize_text(body: SummarizeRequest, request: Request, service: ServiceDep) -> Response:
    """Writes a summary and tells what part of the text was used. With `stream` its tokens are told while they are
    written."""
    check_text(body.text, service.settings)
    engine = service.engine(body.model)
    work = SummaryRequest(
        body.text,
        decoding_options(body.parameters, engine.info, stream=body.stream),
        truncation=body.truncation,
        timeout=timeout_seconds(body, service.settings),
    )
    if body.stream:
        return await stream(request, engine, work)
    summary = await summarize(request, engine, work)
    return json_response(summary_json(summary, record_of(request).request_id), summary.timing)


@batch_router.post(
    "/summarize/batch",
    operation_id="summarize_batch",
    summary="Summarize several texts",
    response_model=BatchResponse,
    response_description="One result for each text.",
    openapi_extra=request_examples(texts=BATCH_REQUEST),
)
async def summarize_batch(body: BatchRequest, request: Request, service: ServiceDep) -> Response:
    """One result for each text, in order. A text that is wrong is an error in its own place; the others are answered.
    A batch that does not fit in the queue is refused whole."""
    check_count(body.texts, service.settings)
    engine = service.engine(body.model)
    length = sum(map(len, body.texts))
    works = await by_size(length, CHECKED_AT_ONCE, lambda: _batch_work(body, engine, service))
    admitted = [work for work in works if isinstance(work, SummaryRequest)]
    answered = iter(await summarize_all(request, engine, admitted))
    results = [work if isinstance(work, RequestError) else next(answered) for work in works]
    return await by_size(len(results), WRITTEN_AT_ONCE, lambda: _batch_response(results, request))


@router.post(
    "/attention",
    operation_id="attend",
    summary="Summarize one text and tell the attention behind it",
    response_model=AttentionResponse,
    response_description="The summary and its attention.",
    responses=TIMED,
    openapi_extra=request_examples(generated=ATTENTION_REQUEST, given=ATTENTION_OF_GIVEN_SUMMARY),
)
async def attend(body: AttentionRequest, request: Request, service: ServiceDep) -> Response:
    """The same summary as `/summarize` and the weights that were used while it was generated; or, with `summary`, the
    weights of that one. Attention tells where the model looked, which is not always why it wrote a word."""
    check_text(body.text, service.settings)
    if body.summary is not None:
        check_text(body.summary, service.settings, "/summary")
    engine = service.engine(body.model)
    work = SummaryRequest(
        body.text,
        decoding_options(body.parameters, engine.info),
        truncation=body.truncation,
        attention=True,
        attention_options=attention_options(body),
        given=body.summary,
        timeout=timeout_seconds(body, service.settings),
    )
    summary = await summarize(request, engine, work)
    async with service.large_answers:
        return await run_in_threadpool(_attention_response, summary, body, request)


def _batch_work(body: BatchRequest, engine: Engine, service: Service) -> list[SummaryRequest | RequestError]:
    options = decoding_options(body.parameters, engine.info)
    timeout = timeout_seconds(body, service.settings)
    return [
        admissible(SummaryRequest(text, options, body.truncation, timeout=timeout), service.settings, place)
        for place, text in enumerate(body.texts)
    ]


def _batch_response(results: list[Result], request: Request) -> Response:
    content = {"results": [_in_batch(result, place, request) for place, result in enumerate(results)]}
    return json_response(content)


def _in_batch(result: Result, place: int, request: Request) -> JsonObject:
    request_id = record_of(request).request_id
    if isinstance(result, BaseException):
        return failure_json(
            in_place(result, {"/text": f"/texts/{place}"}), instance=instance_of(request), request_id=request_id
        )
    return summary_json(result, f"{request_id}-{place}")


def _attention_response(summary: Summary, body: AttentionRequest, request: Request) -> Response:
    content = summary_json(summary, record_of(request).request_id)
    content["attention"] = attention_json(summary, body)
    return json_response(content, summary.timing)
