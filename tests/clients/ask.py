"""Asks with huggingface_hub, of whichever version is on the path: a call on each line of input, its answer on a line of
output, in JSON. tests/clients/conftest.py runs it, in a process of its own."""

import asyncio
import json
import sys
from typing import Any

from huggingface_hub import AsyncInferenceClient, InferenceClient

Json = dict[str, Any]


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(_answer(**json.loads(line))), flush=True)


def _answer(url: str, inputs: str, parameters: Json, way: str, of_client: Json) -> Json:
    try:
        if way == "async":
            summary = asyncio.run(AsyncInferenceClient(url, **of_client).summarization(inputs, **parameters))
        else:
            summary = InferenceClient(url, **of_client).summarization(inputs, **parameters)
        return {"summaries": [summary.summary_text]}
    except Exception as error:
        return {"error": _told(error)}


def _told(error: Exception) -> Json:
    response = getattr(error, "response", None)
    return {
        "kind": type(error).__name__,
        "message": str(error),
        "status": None if response is None else response.status_code,
        "retry_after": None if response is None else response.headers.get("Retry-After"),
        "request_id": getattr(error, "request_id", None),
    }


main()
