"""From what the engine answers to JSON."""

from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.responses import Response

from app.alignment import Item, SummaryItem, align, top
from app.api.problems import describe
from app.api.requests import attention_options
from app.engine.pieces import Piece
from app.engine.request import Part, Summary, Timing
from app.models.base import ModelInfo, Span
from app.schemas import AttentionRequest

JsonObject = dict[str, Any]
DECIMALS = 5  # of what is streamed: those that /attention has when nothing is said
CHOICES = ("layers", "heads", "reduce", "drop_sinks")  # of an attention, where there are several
CELLS_AT_ONCE = 100_000  # weights written in one go: a few milliseconds


def json_response(content: JsonObject | list[JsonObject], timing: Timing | None = None) -> Response:
    """`Server-Timing` repeats the timing object for tools that read headers."""
    headers = {"Server-Timing": _server_timing(timing)} if timing else None
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), 200, headers, "application/json")


def summary_json(summary: Summary, identifier: str) -> JsonObject:
    source = summary.source
    content: JsonObject = {
        "id": identifier,
        "model": {"name": summary.model.name, "digest": summary.model.digest},
        "summary": summary.text,
        "finish_reason": summary.finish_reason,
        "score": float(summary.score),
        "source": {
            "characters": source.characters,
            "tokens": source.tokens,
            "used_characters": source.used_characters,
            "used_tokens": source.used_tokens,
            "truncated": source.truncated,
        },
        "usage": {"source_tokens": source.used_tokens, "summary_tokens": summary.summary_tokens},
        "timing": {name: round(value, 3) for name, value in _milliseconds(summary.timing).items()},
    }
    if summary.parts is not None:
        content["parts"] = [_part(part) for part in summary.parts]
    return content


def piece_json(piece: Piece) -> JsonObject:
    return {
        "text": piece.text,
        "start": piece.start,
        "end": piece.end,
        "log_probability": round(piece.log_probability, DECIMALS),
        "sources": [{**_range(span), "weight": round(weight, DECIMALS)} for span, weight in piece.sources],
    }


def attention_json(summary: Summary, wanted: AttentionRequest) -> JsonObject:
    """Of sinks, and of which attention it is, only a model with several tells, or one that was asked."""
    assert summary.attention is not None  # it was asked for
    info, language = summary.model.attention, summary.model.language
    aligned = align(summary.attention, level=wanted.level, language=language, drop_sinks=wanted.drop_sinks)
    precision = wanted.precision
    tells = not info.whole or not wanted.model_fields_set.isdisjoint(CHOICES)
    content: JsonObject = {
        "source_tokens": [_source_item(item, marked=tells and item.sink) for item in aligned.source],
        "summary_tokens": [_summary_item(item, precision) for item in aligned.summary],
        "coverage": _rounded(aligned.coverage, precision),
    }
    if tells:
        used = info.chosen(attention_options(wanted))
        content["used"] = {
            "layers": used.layers,
            "heads": used.heads,
            "reduce": used.reduce,
            "drop_sinks": wanted.drop_sinks,
        }
    if wanted.format == "dense":
        content["weights"] = _written(aligned.weights, precision)
    else:
        content["top"] = [
            [{"source": column, "weight": round(float(weight), precision)} for column, weight in row]
            for row in top(aligned.weights, wanted.top_k)
        ]
    return content


def failure_json(error: BaseException, *, instance: str, request_id: str) -> JsonObject:
    """In the place of a text of a batch."""
    return {"error": describe(error).document(instance=instance, request_id=request_id)}


def model_json(info: ModelInfo) -> JsonObject:
    return {
        "name": info.name,
        "family": info.family,
        "language": info.language,
        "description": info.description,
        "digest": info.digest,
        "limits": info.limits,
        "default_parameters": info.defaults,
        "parameter_count": info.parameters,
        "precision": info.precision,
        "device": info.device,
        "decoding": info.decoding,
        "attention": {
            "layers": info.attention.layers,
            "heads": info.attention.heads,
            "default_layers": info.attention.default.layers,
            "default_heads": info.attention.default.heads,
        },
        "card": info.card,
    }


def _written(weights: NDArray[np.float32], precision: int) -> list[orjson.Fragment]:
    """Rows of JSON, several in each fragment: whoever writes keeps the interpreter, and the event loop, waiting."""
    rows = max(1, CELLS_AT_ONCE // weights.shape[1])
    blocks = (_rounded(weights[first : first + rows], precision) for first in range(0, len(weights), rows))
    return [orjson.Fragment(orjson.dumps(block, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]) for block in blocks]


def _rounded(values: NDArray[np.float32], precision: int) -> NDArray[np.float64]:
    """In double precision, so that no digits follow the rounded ones."""
    rounded: NDArray[np.float64] = np.ascontiguousarray(np.round(values.astype(np.float64), precision))
    return rounded


def _source_item(item: Item, *, marked: bool) -> JsonObject:
    content: JsonObject = {"text": item.text, "start": item.start, "end": item.end}
    return {**content, "sink": True} if marked else content


def _summary_item(item: SummaryItem, precision: int) -> JsonObject:
    content: JsonObject = {
        "text": item.text,
        "start": item.start,
        "end": item.end,
        "log_probability": round(float(item.log_probability), precision),
    }
    if item.copied is not None:
        content["copied"] = round(float(item.copied), precision)
    if item.dropped is not None:
        content["dropped"] = round(float(item.dropped), precision)
    return content


def _part(part: Part) -> JsonObject:
    return {
        "source": _range(part.source),
        "summary": _range(part.summary),
        "score": float(part.score),
        "finish_reason": part.finish_reason,
    }


def _range(span: Span) -> JsonObject:
    return {"start": span.start, "end": span.end}


def _milliseconds(timing: Timing) -> dict[str, float]:
    return {
        "queue_ms": timing.queue_ms,
        "encode_ms": timing.encode_ms,
        "decode_ms": timing.decode_ms,
        "total_ms": timing.total_ms,
    }


def _server_timing(timing: Timing) -> str:
    names = {name.removesuffix("_ms"): value for name, value in _milliseconds(timing).items()}
    return ", ".join(f"{name};dur={value:.3f}" for name, value in names.items())
