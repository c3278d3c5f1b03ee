"""From what callers send to what the engine takes, with the limits that the operator and the checkpoint set."""

import dataclasses
from collections.abc import Mapping, Sequence

from app.api.problems import invalid
from app.config import Settings
from app.engine.request import SummaryRequest
from app.errors import FieldError, InvalidRequestError, RequestError, TooLargeError
from app.models.base import AttentionOptions, DecodingOptions, ModelInfo
from app.schemas import AttentionRequest, Options, Parameters

CHECKED_AT_ONCE = 200_000  # characters of texts: a fraction of a millisecond
PARAMETERS = tuple(field.name for field in dataclasses.fields(DecodingOptions))


def decoding_options(parameters: Parameters, info: ModelInfo, *, stream: bool = False) -> DecodingOptions:
    """What was sent, completed with the checkpoint's own defaults; one beam for a stream, since with several nothing is
    certain before the end."""
    sent = {name: getattr(parameters, name) for name in PARAMETERS}
    if stream:
        if (parameters.num_beams or 1) > 1:
            raise invalid((FieldError("/parameters/num_beams", "must be 1, or left out, with stream"),))
        sent["num_beams"] = 1
    chosen = {name: getattr(info.defaults, name) if value is None else value for name, value in sent.items()}
    penalties = {name: float(chosen[name]) for name in ("length_penalty", "repetition_penalty")}
    options = DecodingOptions(**{**chosen, **penalties})
    if errors := _beyond(options, info):
        raise invalid(errors)
    return options


def attention_options(request: AttentionRequest) -> AttentionOptions:
    return AttentionOptions(_numbers(request.layers), _numbers(request.heads), request.reduce)


def timeout_seconds(options: Options, settings: Settings) -> float:
    return (options.timeout_ms or settings.timeout_ms) / 1000


def check_text(text: str, settings: Settings, pointer: str = "/text") -> None:
    """Raises what is wrong with one text before the model sees it."""
    if len(text) > settings.max_characters:
        raise TooLargeError(
            f"{pointer} has {len(text)} characters; a text may have {settings.max_characters}",
            (FieldError(pointer, f"has {len(text)} characters; a text may have {settings.max_characters}"),),
        )
    if not text.strip():
        raise invalid((FieldError(pointer, "must not be empty or blank"),))
    if not _is_unicode(text):
        raise invalid((FieldError(pointer, "holds a lone surrogate, which is no Unicode character"),))


def check_count(texts: Sequence[str], settings: Settings, pointer: str = "/texts") -> None:
    if len(texts) > settings.max_batch_texts:
        raise TooLargeError(
            f"the batch has {len(texts)} texts; it may have {settings.max_batch_texts}",
            (FieldError(pointer, f"has {len(texts)} texts; it may have {settings.max_batch_texts}"),),
        )


def admissible(request: SummaryRequest, settings: Settings, place: int) -> SummaryRequest | RequestError:
    """A text of a batch, or what is wrong with it: the others go on."""
    try:
        check_text(request.text, settings, f"/texts/{place}")
    except RequestError as error:
        return error
    return request


def in_place(error: BaseException, places: Mapping[str, str]) -> BaseException:
    """What is wrong is told of the place where the caller wrote it: `places` are pointers by those of `/summarize`."""
    if not isinstance(error, InvalidRequestError):
        return error
    return invalid(tuple(FieldError(places.get(each.pointer, each.pointer), each.message) for each in error.errors))


def _numbers(sent: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if sent is None else tuple(sorted(set(sent)))


def _beyond(options: DecodingOptions, info: ModelInfo) -> tuple[FieldError, ...]:
    """Options that this checkpoint does not take."""
    limits = info.limits
    errors = []
    if options.num_beams > limits.max_beams:
        errors.append(FieldError("/parameters/num_beams", f"must be at most {limits.max_beams} for {info.name}"))
    if options.max_length > limits.max_summary_tokens:
        longest = limits.max_summary_tokens
        errors.append(FieldError("/parameters/max_length", f"must be at most {longest} for {info.name}"))
    if options.min_length > options.max_length:
        message = f"must not be above max_length, which is {options.max_length}"
        errors.append(FieldError("/parameters/min_length", message))
    return tuple(errors)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
