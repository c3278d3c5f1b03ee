"""From a request to a plan: everything that can be wrong with a text is said here, before it costs anyone else."""

import math
from collections.abc import Iterator

from app.engine.chunking import chunks
from app.engine.job import Plan
from app.engine.request import SummaryRequest
from app.errors import FieldError, InvalidRequestError, TooLargeError
from app.models.base import AttentionOptions, DecodingOptions, Limits, ModelInfo, Seq2SeqModel, Tokens

LONGEST_LENGTH_PENALTY = 10.0  # beyond it, a length to this power leaves the range of a float
MOST_REPETITION_PENALTY = 10.0
# Weights of one answer: 64 MB as float32. Rounded in double precision and written as JSON they take several times as
# much for a moment, about 400 MB in all.
MAX_ATTENTION_CELLS = 16_000_000
LONGEST_CUT = 64  # tokens of a word that are kept beyond the edge where it is cut


def plan(model: Seq2SeqModel, request: SummaryRequest, max_rows: int) -> Plan:
    """Check and tokenize one text. Raises InvalidRequestError, or TooLargeError, with what is wrong where."""
    limits = model.info.limits
    errors = [
        *_option_errors(request.options, limits, max_rows),
        *_attention_errors(request.attention_options, model.info),
        *_text_errors(request),
    ]
    if errors:
        raise _invalid(*errors)
    given = _tokenize_given(model, request.given) if request.given is not None else None
    source = model.tokenize(request.text)
    if not source.ids:
        raise _invalid(FieldError("/text", "holds nothing that the model can read; send text with visible characters"))
    parts = _parts(source, request, model.info)
    if request.attention and len(parts) * request.options.max_length * len(source.ids) > MAX_ATTENTION_CELLS:
        raise TooLargeError(
            "The attention of this text over all its parts would be too large; send it in several requests.",
            (FieldError("/text", f"has {len(source.ids)} tokens in {len(parts)} parts, too many for attention"),),
        )
    needed = _needed(source, parts[-1].stop)
    return Plan(request, needed, parts, given, left_out=len(source.ids) - len(needed.ids))


def _needed(source: Tokens, used: int) -> Tokens:
    """What is kept of a source whose first `used` tokens are read: a long document should hold little while it waits.

    The word at the edge is kept whole, for it may be a number, and those are written whole.
    """
    count, end = len(source.ids), used
    while end < min(count, used + LONGEST_CUT) and source.spans[end].start <= source.spans[end - 1].end:
        end += 1
    return source if end == count else source.head(end)


def _parts(source: Tokens, request: SummaryRequest, info: ModelInfo) -> tuple[range, ...]:
    count, limit = len(source.ids), info.limits.max_source_tokens
    if request.truncation == "chunk":
        return chunks(source, limit, info.language)
    if count > limit and request.truncation == "error":
        advice = 'shorten it, or send truncation "head" or "chunk"'
        raise _invalid(FieldError("/text", f"has {count} tokens and the model reads {limit}; {advice}"))
    return (range(min(count, limit)),)


def _tokenize_given(model: Seq2SeqModel, summary: str) -> Tokens:
    given = model.tokenize_summary(summary)
    limit = model.info.limits.max_summary_tokens
    if not given.ids:
        raise _invalid(FieldError("/summary", "holds nothing that the model could write"))
    if len(given.ids) > limit:
        raise _invalid(FieldError("/summary", f"has {len(given.ids)} tokens and the model writes at most {limit}"))
    return given


def _text_errors(request: SummaryRequest) -> Iterator[FieldError]:
    yield from _string_errors("/text", request.text)
    if request.given is None:
        return
    yield from _string_errors("/summary", request.given)
    if request.truncation == "chunk":
        yield FieldError("/truncation", 'must be "head" or "error" when a summary is given: it belongs to one source')


def _string_errors(pointer: str, text: str) -> Iterator[FieldError]:
    if not text.strip():
        yield FieldError(pointer, "must not be blank")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        yield FieldError(pointer, f"holds a lone surrogate at character {error.start}")


def _option_errors(options: DecodingOptions, limits: Limits, max_rows: int) -> Iterator[FieldError]:
    most_beams = min(limits.max_beams, max_rows)
    if not 1 <= options.num_beams <= most_beams:
        yield FieldError("/parameters/num_beams", f"must be between 1 and {most_beams}")
    if not 1 <= options.max_length <= limits.max_summary_tokens:
        yield FieldError("/parameters/max_length", f"must be between 1 and {limits.max_summary_tokens}")
    if options.min_length < 0:
        yield FieldError("/parameters/min_length", "must not be negative")
    if options.min_length > options.max_length:
        yield FieldError("/parameters/min_length", f"must not be greater than max_length, {options.max_length}")
    if options.no_repeat_ngram_size < 0:
        yield FieldError("/parameters/no_repeat_ngram_size", "must not be negative; 0 allows repetition")
    if not math.fabs(options.length_penalty) <= LONGEST_LENGTH_PENALTY:
        bound = f"{LONGEST_LENGTH_PENALTY:g}"
        yield FieldError("/parameters/length_penalty", f"must be a number between -{bound} and {bound}")
    if not 1 <= options.repetition_penalty <= MOST_REPETITION_PENALTY:
        bound = f"{MOST_REPETITION_PENALTY:g}"
        yield FieldError("/parameters/repetition_penalty", f"must be a number between 1 and {bound}")


def _attention_errors(options: AttentionOptions, info: ModelInfo) -> Iterator[FieldError]:
    there = info.attention
    for name, chosen, count in (("layers", options.layers, there.layers), ("heads", options.heads, there.heads)):
        if chosen is not None and not (chosen and set(chosen) <= set(range(count))):
            yield FieldError(f"/{name}", f"must be below {count}: {info.name} has {count}, counted from 0")


def _invalid(*errors: FieldError) -> InvalidRequestError:
    detail = "; ".join(f"{error.pointer} {error.message}" for error in errors)
    return InvalidRequestError(f"{detail}.", errors)
