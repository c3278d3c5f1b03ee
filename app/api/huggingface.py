"""The routes of Hugging Face's summarization task, for clients that exist. They take its requests and give its answers;
errors are ours, in which those clients find the string that they print."""

from collections.abc import Mapping

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.body import BatchRoute
from app.api.openapi import TIMED, ModelName, errors, request_examples
from app.api.requests import CHECKED_AT_ONCE, check_count, check_text, decoding_options, in_place
from app.api.responses import json_response
from app.api.service import Service, ServiceDep
from app.api.threads import by_size
from app.api.work import Result, summarize_all
from app.config import Settings
from app.engine.request import Summary, SummaryRequest, Truncation
from app.errors import FieldError, InvalidRequestError, ModelFailedError
from app.examples import HUGGING_FACE_REQUEST, HUGGING_FACE_TEXTS
from app.models.base import DecodingOptions, ModelInfo
from app.schemas import HuggingFaceParameters, HuggingFaceRequest, HuggingFaceSummary

TRUNCATIONS: dict[str, Truncation] = {
    "head": "head",
    "error": "error",
    "chunk": "chunk",
    "do_not_truncate": "error",
    "longest_first": "head",
    "only_first": "head",
    "only_second": "head",
}
EXAMPLES = request_examples(text=HUGGING_FACE_REQUEST, texts=HUGGING_FACE_TEXTS)
router = APIRouter(route_class=BatchRoute, tags=["Hugging Face"], responses=errors(400, 404, 413, 415, 503, 504))


@router.post(
    "/",
    operation_id="hugging_face_summarization",
    summary="Summarize with the default model, for Hugging Face's clients",
    response_model=list[HuggingFaceSummary],
    response_description="One summary for each input, in order.",
    responses=TIMED,
    openapi_extra=EXAMPLES,
)
async def summarize_with_default(body: HuggingFaceRequest, request: Request, service: ServiceDep) -> Response:
    """One summary for each input, in order. There is no place for an error beside a summary: one wrong text fails all
    of them, with its own status and its place in the pointer."""
    return await _answer(body, request, service, None)


@router.post(
    "/models/{name}",
    operation_id="hugging_face_summarization_with_model",
    summary="Summarize with one model, for Hugging Face's clients",
    response_model=list[HuggingFaceSummary],
    response_description="One summary for each input, in order.",
    responses=TIMED,
    openapi_extra=EXAMPLES,
)
async def summarize_with_model(
    body: HuggingFaceRequest, request: Request, service: ServiceDep, name: ModelName
) -> Response:
    """The same as `POST /`, with the model that the path names."""
    return await _answer(body, request, service, name)


async def _answer(body: HuggingFaceRequest, request: Request, service: Service, model: str | None) -> Response:
    settings = service.settings
    texts = _by_pointer(body.inputs, settings)
    engine = service.engine(model)
    options, truncation = _options(body.parameters or HuggingFaceParameters(), engine.info)
    await by_size(sum(map(len, texts.values())), CHECKED_AT_ONCE, lambda: _check(texts, settings))
    timeout = settings.timeout_ms / 1000
    works = [SummaryRequest(text, options, truncation, timeout=timeout) for text in texts.values()]
    results = await summarize_all(request, engine, works)
    summaries = [_summary(result, pointer) for result, pointer in zip(results, texts, strict=True)]
    timing = summaries[0].timing if len(summaries) == 1 else None
    return json_response([{"summary_text": summary.text} for summary in summaries], timing)


def _by_pointer(inputs: str | list[str], settings: Settings) -> dict[str, str]:
    if isinstance(inputs, str):
        return {"/inputs": inputs}
    check_count(inputs, settings, "/inputs")
    return {f"/inputs/{place}": text for place, text in enumerate(inputs)}


def _check(texts: Mapping[str, str], settings: Settings) -> None:
    for pointer, text in texts.items():
        check_text(text, settings, pointer)


def _options(sent: HuggingFaceParameters, info: ModelInfo) -> tuple[DecodingOptions, Truncation]:
    """What stands in `generate_parameters` wins, and is told of there when it is wrong."""
    nested = sent.generate_parameters.model_dump(exclude_none=True) if sent.generate_parameters else {}
    try:
        options = decoding_options(sent.model_copy(update=nested), info)
    except InvalidRequestError as error:
        places = {f"/parameters/{name}": f"/parameters/generate_parameters/{name}" for name in nested}
        raise in_place(error, places) from None
    return options, TRUNCATIONS[sent.truncation or "head"]


def _summary(result: Result, pointer: str) -> Summary:
    if isinstance(result, Summary):
        return result
    if isinstance(result, ModelFailedError):
        message = "makes the model fail; other texts are not affected"
        raise ModelFailedError(f"{pointer} {message}", (FieldError(pointer, message),))
    raise in_place(result, {"/text": pointer})
