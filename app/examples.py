"""The examples of the OpenAPI page. Those of requests can be posted as they are."""

import json
from typing import Any

TEXT = (
    "We study how one process can write many short summaries at the same time. Texts join and leave a running batch "
    "between two steps of the decoder, so that a short summary never waits for a long one. On two processor cores this "
    "doubles the number of summaries per second, and no result depends on the texts that shared its batch."
)
SECOND_TEXT = (
    "We measure how often a pointer network copies names and numbers from its source. Copying is most frequent at the "
    "beginning of a summary and for words that the vocabulary splits into several tokens."
)

PARAMETERS: dict[str, Any] = {"num_beams": 4, "max_length": 32, "no_repeat_ngram_size": 3}
SUMMARIZE_REQUEST: dict[str, Any] = {"text": TEXT, "parameters": PARAMETERS, "truncation": "head"}
BATCH_REQUEST: dict[str, Any] = {"texts": [TEXT, SECOND_TEXT], "parameters": {"num_beams": 2}}
ATTENTION_REQUEST: dict[str, Any] = {"text": TEXT, "level": "word", "format": "top", "top_k": 3}
ATTENTION_OF_GIVEN_SUMMARY: dict[str, Any] = {"text": TEXT, "summary": "Short summaries in one batch", "precision": 3}
HUGGING_FACE_PARAMETERS: dict[str, Any] = {
    "truncation": "longest_first",
    "generate_parameters": {"num_beams": 2, "max_length": 24},
}
HUGGING_FACE_REQUEST: dict[str, Any] = {"inputs": TEXT, "parameters": HUGGING_FACE_PARAMETERS}
HUGGING_FACE_TEXTS: dict[str, Any] = {"inputs": [TEXT, SECOND_TEXT], "parameters": {"num_beams": 2}}

DIGEST = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
REQUEST_ID = "5f0c9a7e2d8b4c31a6e4f1d2c3b4a596"
RANGE: dict[str, Any] = {"start": 0, "end": 41}
MODEL_REF: dict[str, Any] = {"name": "news-en", "digest": DIGEST}
SOURCE_USE: dict[str, Any] = {
    "characters": 326,
    "tokens": 64,
    "used_characters": 326,
    "used_tokens": 64,
    "truncated": False,
}
USAGE: dict[str, Any] = {"source_tokens": 64, "summary_tokens": 5}
TIMING: dict[str, Any] = {"queue_ms": 1.2, "encode_ms": 4.0, "decode_ms": 31.0, "total_ms": 38.1}
PART: dict[str, Any] = {
    "source": {"start": 0, "end": 326},
    "summary": {"start": 0, "end": 23},
    "score": -0.53,
    "finish_reason": "stop",
}
SUMMARY: dict[str, Any] = {
    "id": REQUEST_ID,
    "model": MODEL_REF,
    "summary": "Writing short summaries",
    "finish_reason": "stop",
    "score": -0.53,
    "source": SOURCE_USE,
    "usage": USAGE,
    "timing": TIMING,
}
HUGGING_FACE_SUMMARY: dict[str, Any] = {"summary_text": "Writing short summaries"}
WEIGHTED_RANGE: dict[str, Any] = {"start": 46, "end": 55, "weight": 0.91}
TOKEN_EVENT: dict[str, Any] = {
    "text": " summaries",
    "start": 13,
    "end": 23,
    "log_probability": -0.05,
    "sources": [WEIGHTED_RANGE, {"start": 40, "end": 45, "weight": 0.04}],
}
EVENTS = "".join(
    f"event: {name}\ndata: {json.dumps(data)}\n\n"
    for name, data in (("token", TOKEN_EVENT), ("summary", SUMMARY), ("done", {}))
)


def _invalid(pointer: str, message: str, instance: str) -> dict[str, Any]:
    return {
        "type": "urn:precis:problem:invalid-request",
        "title": "Invalid request",
        "status": 422,
        "detail": f"{pointer} {message}",
        "instance": instance,
        "error": f"{pointer} {message}",
        "error_type": "invalid-request",
        "errors": [{"pointer": pointer, "message": message}],
        "request_id": REQUEST_ID,
    }


PROBLEM = _invalid("/parameters/num_beams", "Input should be less than or equal to 8", "/summarize")
FIELD_PROBLEM: dict[str, Any] = PROBLEM["errors"][0]
BATCH_FAILURE: dict[str, Any] = {"error": _invalid("/texts/1", "must not be empty or blank", "/summarize/batch")}
BATCH_RESPONSE: dict[str, Any] = {"results": [{**SUMMARY, "id": f"{REQUEST_ID}-0"}, BATCH_FAILURE]}

SOURCE_ITEM: dict[str, Any] = {"text": "summaries", "start": 46, "end": 55}
SUMMARY_ITEM: dict[str, Any] = {"text": "summaries", "start": 14, "end": 23, "log_probability": -0.05, "copied": 0.93}
TOP_WEIGHT: dict[str, Any] = {"source": 1, "weight": 0.91}
ATTENTION_USED: dict[str, Any] = {"layers": [4], "heads": [0, 1, 2, 3], "reduce": "mean", "drop_sinks": False}
ATTENTION: dict[str, Any] = {
    "source_tokens": [{"text": "short", "start": 40, "end": 45}, SOURCE_ITEM],
    "summary_tokens": [
        {"text": "short", "start": 8, "end": 13, "log_probability": -0.61, "copied": 0.88},
        SUMMARY_ITEM,
    ],
    "weights": [[0.86, 0.14], [0.09, 0.91]],
    "coverage": [0.95, 1.05],
}
ATTENTION_RESPONSE: dict[str, Any] = {**SUMMARY, "attention": ATTENTION}

LIMITS: dict[str, Any] = {"max_source_tokens": 400, "max_summary_tokens": 64, "max_beams": 8}
DEFAULT_PARAMETERS: dict[str, Any] = {
    "num_beams": 4,
    "max_length": 32,
    "min_length": 0,
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 3,
    "numbers_from_source": True,
    "repetition_penalty": 1.0,
    "early_stopping": False,
}
MODEL_ATTENTION: dict[str, Any] = {"layers": 1, "heads": 1, "default_layers": [0], "default_heads": [0]}
MODEL: dict[str, Any] = {
    "name": "news-en",
    "family": "lstm",
    "language": "en",
    "description": "Headline-length summaries of English text.",
    "digest": DIGEST,
    "limits": LIMITS,
    "default_parameters": DEFAULT_PARAMETERS,
    "parameter_count": 8_300_000,
    "precision": "float32",
    "device": "cpu",
    "decoding": "batched",
    "attention": MODEL_ATTENTION,
    "card": "# news-en",
}
MODEL_LIST: dict[str, Any] = {"default": "news-en", "models": [MODEL]}
RELOAD: dict[str, Any] = {
    "name": "news-en",
    "digest": DIGEST,
    "changed": True,
    "seconds": 1.84,
    "previous_digest": "sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
}
RELOAD_FAILED = (
    "model_store/news-en/config.json: not valid JSON (Expecting value: line 1 column 1 (char 0)); "
    f"{DIGEST} is served as before"
)
HEALTH: dict[str, Any] = {"status": "ok"}
METRICS = (
    "# HELP precis_queue_texts Texts waiting; each part of a long text counts.\n"
    "# TYPE precis_queue_texts gauge\n"
    'precis_queue_texts{model="news-en"} 0.0\n'
)

EXAMPLES = {
    "Parameters": PARAMETERS,
    "SummarizeRequest": SUMMARIZE_REQUEST,
    "BatchRequest": BATCH_REQUEST,
    "AttentionRequest": ATTENTION_REQUEST,
    "HuggingFaceGenerateParameters": HUGGING_FACE_PARAMETERS["generate_parameters"],
    "HuggingFaceParameters": HUGGING_FACE_PARAMETERS,
    "HuggingFaceRequest": HUGGING_FACE_REQUEST,
    "FieldProblem": FIELD_PROBLEM,
    "Problem": PROBLEM,
    "Range": RANGE,
    "ModelRef": MODEL_REF,
    "SourceUse": SOURCE_USE,
    "Usage": USAGE,
    "Timing": TIMING,
    "Part": PART,
    "Summary": SUMMARY,
    "WeightedRange": WEIGHTED_RANGE,
    "TokenEvent": TOKEN_EVENT,
    "HuggingFaceSummary": HUGGING_FACE_SUMMARY,
    "BatchFailure": BATCH_FAILURE,
    "BatchResponse": BATCH_RESPONSE,
    "SourceItem": SOURCE_ITEM,
    "SummaryItem": SUMMARY_ITEM,
    "TopWeight": TOP_WEIGHT,
    "AttentionUsed": ATTENTION_USED,
    "Attention": ATTENTION,
    "AttentionResponse": ATTENTION_RESPONSE,
    "ModelLimits": LIMITS,
    "DefaultParameters": DEFAULT_PARAMETERS,
    "ModelAttention": MODEL_ATTENTION,
    "Model": MODEL,
    "ModelList": MODEL_LIST,
    "Reload": RELOAD,
    "Health": HEALTH,
}
