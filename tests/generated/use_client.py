"""Uses the generated client against the service at the given address. mypy has checked before that it fits."""

import json
import sys
import time
from pathlib import Path

from precis_client import Client, models
from precis_client.api.hugging_face import hugging_face_summarization
from precis_client.api.models import get_model, list_models
from precis_client.api.operations import get_metrics, is_alive, is_healthy, is_ready
from precis_client.api.summaries import attend, summarize, summarize_batch
from precis_client.models import (
    AttentionFormat,
    AttentionLevel,
    AttentionRequest,
    AttentionResponse,
    BatchFailure,
    BatchRequest,
    BatchResponse,
    FinishReason,
    Health,
    HuggingFaceRequest,
    Model,
    ModelList,
    Parameters,
    Problem,
    SummarizeRequest,
    Summary,
    Truncation,
)
from precis_client.types import Unset

TEXT = (
    "Northwind Airlines cancelled more than 200 flights on Friday after a computer failure left thousands of "
    "passengers stranded at airports across the country. Chief executive Dana Whitfield apologised and "
    "promised refunds. 🙂"
)
PATIENCE_SECONDS = 120.0


def main(url: str) -> None:
    names()
    with Client(base_url=url, raise_on_unexpected_status=True) as client:
        wait_until_loaded(client)
        operations(client)
        catalog(client)
        summaries(client)
        long_text(client)
        batch(client)
        attention(client)
        hugging_face(client)
        problems(client)


def names() -> None:
    """No type has a name that the generator had to make up."""
    schemas = json.loads(Path("openapi.json").read_text(encoding="utf-8"))["components"]["schemas"]
    assert set(models.__all__) <= set(schemas)


def wait_until_loaded(client: Client) -> None:
    """Until all models are: of one that is not there the service says so only then."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        answer = get_model.sync_detailed("nope", client=client)
        assert isinstance(answer.parsed, Problem)
        if answer.parsed.status == 404:
            return
        assert (answer.parsed.status, answer.parsed.error_type) == (503, "draining")
        assert int(answer.headers["Retry-After"]) >= 1
        assert time.monotonic() < deadline, answer.parsed.detail
        time.sleep(0.2)


def operations(client: Client) -> None:
    well = Health(status="ok")
    assert is_alive.sync(client=client) == is_ready.sync(client=client) == is_healthy.sync(client=client) == well
    metrics = get_metrics.sync(client=client)
    assert isinstance(metrics, str)
    assert "precis_queue_texts" in metrics


def catalog(client: Client) -> None:
    loaded = list_models.sync(client=client)
    assert isinstance(loaded, ModelList)
    default = get_model.sync(loaded.default, client=client)
    assert isinstance(default, Model)
    assert default in loaded.models
    assert default.limits.max_beams >= default.default_parameters.num_beams >= 1


def summaries(client: Client) -> None:
    answer = summarize.sync_detailed(client=client, body=SummarizeRequest(text=TEXT), x_request_id="generated.1")
    summary = answer.parsed
    assert isinstance(summary, Summary)
    assert summary.id == answer.headers["X-Request-ID"] == "generated.1"
    assert summary.finish_reason is FinishReason.STOP
    assert summary.source.characters == len(TEXT)
    assert not summary.source.truncated
    assert isinstance(summary.parts, Unset)
    assert answer.headers["Server-Timing"].endswith(f"total;dur={summary.timing.total_ms:.3f}")
    short = SummarizeRequest(text=TEXT, parameters=Parameters(num_beams=1, max_length=3), truncation=Truncation.ERROR)
    cut = summarize.sync(client=client, body=short)
    assert isinstance(cut, Summary)
    assert (cut.finish_reason, cut.usage.summary_tokens) == (FinishReason.LENGTH, 3)


def long_text(client: Client) -> None:
    text = " ".join([TEXT] * 20)
    body = SummarizeRequest(text=text, truncation=Truncation.CHUNK, parameters=Parameters(num_beams=1))
    summary = summarize.sync(client=client, body=body)
    assert isinstance(summary, Summary)
    assert not isinstance(summary.parts, Unset)
    assert len(summary.parts) > 1
    assert summary.parts[-1].summary.end == len(summary.summary)


def batch(client: Client) -> None:
    answer = summarize_batch.sync(client=client, body=BatchRequest(texts=[TEXT, " ", TEXT]))
    assert isinstance(answer, BatchResponse)
    first, failed, last = answer.results
    assert isinstance(first, Summary)
    assert isinstance(failed, BatchFailure)
    assert isinstance(last, Summary)
    assert first.summary == last.summary
    assert (failed.error.status, failed.error.errors[0].pointer) == (422, "/texts/1")


def attention(client: Client) -> None:
    dense = attend.sync(client=client, body=AttentionRequest(text=TEXT))
    assert isinstance(dense, AttentionResponse)
    weights = dense.attention.weights
    assert not isinstance(weights, Unset)
    assert isinstance(dense.attention.top, Unset)
    assert len(weights) == len(dense.attention.summary_tokens)
    assert {len(row) for row in weights} == {len(dense.attention.source_tokens)} == {len(dense.attention.coverage)}
    assert all(TEXT[item.start : item.end] == item.text for item in dense.attention.source_tokens)
    body = AttentionRequest(
        text=TEXT, summary=dense.summary, level=AttentionLevel.WORD, format_=AttentionFormat.TOP, top_k=2
    )
    given = attend.sync(client=client, body=body)
    assert isinstance(given, AttentionResponse)
    assert given.finish_reason is FinishReason.GIVEN
    assert isinstance(given.attention.weights, Unset)
    assert not isinstance(given.attention.top, Unset)
    assert {len(row) for row in given.attention.top} == {2}


def hugging_face(client: Client) -> None:
    one = hugging_face_summarization.sync(client=client, body=HuggingFaceRequest(inputs=TEXT))
    two = hugging_face_summarization.sync(client=client, body=HuggingFaceRequest(inputs=[TEXT, TEXT]))
    assert isinstance(one, list)
    assert one[0].summary_text
    assert two == one * 2


def problems(client: Client) -> None:
    wrong = SummarizeRequest(text=TEXT, parameters=Parameters(num_beams=99))
    invalid = summarize.sync(client=client, body=wrong)
    assert isinstance(invalid, Problem)
    assert (invalid.status, invalid.errors[0].pointer) == (422, "/parameters/num_beams")
    unknown = summarize.sync(client=client, body=SummarizeRequest(text=TEXT, model="nope"))
    assert isinstance(unknown, Problem)
    assert (unknown.status, unknown.error_type) == (404, "model-not-found")
    assert "'nope'" in unknown.detail == unknown.error
    missing = get_model.sync("nope", client=client)
    assert isinstance(missing, Problem)
    assert (missing.status, missing.instance) == (404, "/models/nope")
    long = attend.sync(client=client, body=AttentionRequest(text="a" * 200_001))
    assert isinstance(long, Problem)
    assert long.status == 413
    late = summarize.sync(client=client, body=SummarizeRequest(text=" ".join([TEXT] * 100), timeout_ms=1))
    assert isinstance(late, Problem)
    assert late.status in (503, 504)


if __name__ == "__main__":
    main(sys.argv[1])
