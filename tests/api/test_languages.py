"""Checkpoints of several languages in one service: each reads and cuts texts in its own."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from app.schemas import AttentionResponse, Summary
from tests.api.events import events_of
from tests.api.waiting import eventually
from tests.models.lstm.checkpoints import write_checkpoint

LANGUAGES = {"news-en": "en", "news-posix": "en-US-u-va-posix", "news-zh": "zh"}
TEXT = "\u3000\u3000😀昨天在北京会见👩‍👩‍👧代表。\n\u3000\u3000桥梁２０３１年通车，耗资3.5亿元。"
WORDS = "😀 昨天 在 北京 会见 👩‍👩‍👧 代表 。 桥梁 ２０３１ 年 通车 ， 耗资 3.5 亿 元 。"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store = tmp_path_factory.mktemp("languages") / "store"
    for name, language in LANGUAGES.items():
        write_checkpoint(store, name, language=language)
    with TestClient(create_app(Settings(model_store=store, max_rows=8))) as client:
        # The service is ready with its default; the others load after it.
        eventually(lambda: len(client.get("/models").json()["models"]) == len(LANGUAGES))
        yield client


def attend(client: TestClient, **body: Any) -> dict[str, Any]:
    response = client.post("/attention", json={"text": TEXT, "model": "news-zh", "level": "word", **body})
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    assert AttentionResponse.model_validate(content).model_dump(exclude_unset=True) == content
    return content


def texts_of(items: list[dict[str, Any]]) -> list[str]:
    return [item["text"] for item in items]


def test_every_checkpoint_is_listed_with_its_language(client: TestClient) -> None:
    content = client.get("/models").json()
    assert content["default"] == "news-en"
    assert {model["name"]: model["language"] for model in content["models"]} == LANGUAGES


def test_a_chinese_text_is_summarized_by_the_model_that_is_asked_for(client: TestClient) -> None:
    content = client.post("/summarize", json={"text": TEXT, "model": "news-zh"}).json()
    assert Summary.model_validate(content).model_dump(exclude_unset=True) == content
    assert content["model"]["name"] == "news-zh"
    assert content["source"]["used_characters"] == content["source"]["characters"] == len(TEXT)
    assert client.post("/summarize", json={"text": TEXT}).json()["model"]["name"] == "news-en"


def test_attention_stands_between_chinese_words_with_offsets_in_code_points(client: TestClient) -> None:
    content = attend(client, summary="北京会见👩‍👩‍👧代表 2031年通车")
    attention, summary = content["attention"], content["summary"]
    assert " ".join(texts_of(attention["source_tokens"])) == WORDS
    assert " ".join(texts_of(attention["summary_tokens"])) == "北京 会见 👩‍👩‍👧 代表 2031 年 通车"
    for items, text in ((attention["source_tokens"], TEXT), (attention["summary_tokens"], summary)):
        assert all(item["text"] == text[item["start"] : item["end"]] for item in items)
    assert all(sum(row) == pytest.approx(1, abs=1e-3) for row in attention["weights"])


def test_the_words_of_a_written_summary_quote_it(client: TestClient) -> None:
    content = attend(client, format="top")
    items = content["attention"]["summary_tokens"]
    assert items
    assert all(item["text"] == content["summary"][item["start"] : item["end"]] for item in items)
    assert "".join(texts_of(items)) == "".join(content["summary"].split())


def test_words_are_those_of_the_checkpoints_language(client: TestClient) -> None:
    default, posix = (attend(client, text="USA:n", model=model) for model in ("news-en", "news-posix"))
    assert texts_of(default["attention"]["source_tokens"]) == ["USA:n"]
    assert texts_of(posix["attention"]["source_tokens"]) == ["USA", ":", "n"]


def test_parts_of_a_long_chinese_text_are_whole_sentences(client: TestClient) -> None:
    content = client.post("/summarize", json={"text": TEXT * 9, "model": "news-zh", "truncation": "chunk"}).json()
    sources = [(TEXT * 9)[part["source"]["start"] : part["source"]["end"]] for part in content["parts"]]
    assert len(sources) > 1
    assert all(source.endswith("。") for source in sources)
    assert "".join("".join(sources).split()) == "".join((TEXT * 9).split())


@pytest.mark.parametrize("model", LANGUAGES)
def test_the_pieces_of_a_stream_are_the_summary_in_every_language(client: TestClient, model: str) -> None:
    body = {"text": TEXT, "model": model, "parameters": {"min_length": 10}, "stream": True}
    events = list(events_of(client.post("/summarize", json=body).text.split("\n")))
    pieces = [data for name, data in events if name == "token"]
    (summary,) = [data["summary"] for name, data in events if name == "summary"]
    assert len(pieces) == 10
    assert summary == "".join(piece["text"] for piece in pieces)
    assert all(piece["text"] == summary[piece["start"] : piece["end"]] for piece in pieces)
    assert all(0 <= source["start"] <= source["end"] <= len(TEXT) for piece in pieces for source in piece["sources"])
