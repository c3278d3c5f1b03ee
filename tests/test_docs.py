"""What the documents say is what the code does."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from fastapi.routing import iter_route_contexts
from starlette.testclient import TestClient

from app.config import Settings, variable
from app.main import create_app
from app.models.registry import load
from tests.fakes import FakeModel

ROOT = Path(__file__).parent.parent
READMES = [ROOT / "README.md", ROOT / "README.zh.md"]
ATTENTION = [ROOT / "docs" / "attention.md", ROOT / "docs" / "attention.zh.md"]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def shown(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default is None else str(default).removesuffix(".0")


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_the_readme_lists_every_setting_with_its_default_and_no_other(readme: Path) -> None:
    rows = dict(re.findall(r"^\| `(PRECIS_\w+)` \| `?([^|`]*?)`? \|", read(readme), flags=re.M))
    expected = {variable(name): shown(field.default) for name, field in Settings.model_fields.items()}
    expected["PRECIS_MAX_ROWS"] = rows.get("PRECIS_MAX_ROWS", "missing")  # chosen by device, in words
    assert rows == expected


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_the_readme_lists_every_endpoint_and_no_other(readme: Path) -> None:
    listed = set(re.findall(r"^\| `((?:GET|POST) /[^`]*)` \|", read(readme), flags=re.M))
    app = create_app(Settings(), models=[FakeModel()])
    served = {
        f"{method} {context.path}"
        for context in iter_route_contexts(app.routes)
        for method in context.methods or ()
        if method != "HEAD" and not str(context.path).startswith(("/docs/", "/page/"))
    }
    assert listed == served


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_the_readmes_requests_get_the_readmes_answers_from_the_shipped_checkpoints(readme: Path) -> None:
    text = read(readme)
    *bodies, streamed = re.findall(r"/summarize -H 'Content-Type: application/json' -d '(\{.*?\})'", text)
    shown_answers = re.findall(r"```json\n(\{.*?\})\n```", text, flags=re.S)
    (shown_events,) = re.findall(r"```text\n(event: token\n.*?)\n```", text, flags=re.S)
    assert len(bodies) == len(shown_answers) == 2
    settings = Settings(model_store=ROOT / "model_store")
    models = [load(settings.model_store, name) for name in (settings.model, "news-zh")]
    with TestClient(create_app(settings, models=models)) as client:
        answers = [client.post("/summarize", json=json.loads(body)).json() for body in bodies]
        events = client.post("/summarize", json=json.loads(streamed)).text
    for answer, expected in zip(answers, map(json.loads, shown_answers), strict=True):
        assert answer.keys() == expected.keys()
        for name in ("model", "summary", "finish_reason", "source", "usage"):
            assert answer[name] == expected[name]
        # The precision is the fastest that the processor has: another one's last digits are others.
        assert answer["score"] == pytest.approx(expected["score"], abs=0.02)
    pieces = re.findall(r'"text":"[^"]*","start":\d+,"end":\d+|"summary":"[^"]*"|^event: .*', shown_events, flags=re.M)
    assert len(pieces) == 2 * 2 + 2 + 1, "two tokens, a summary, the end"
    assert all(piece in events for piece in pieces)


PAGES = ("python-client.md", "clients.md", "command-line.md")


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_what_the_readme_shows_of_clients_stands_on_a_page_whose_code_is_run(readme: Path) -> None:
    pages = "".join(read(ROOT / "docs" / name) for name in PAGES)
    blocks = re.findall(r"```(?:python|console)\n(.*?)```", read(readme), flags=re.S)
    assert len(blocks) == len(PAGES)
    assert [block for block in blocks if block.strip() not in pages] == []


@pytest.mark.parametrize("document", ATTENTION, ids=lambda path: path.name)
def test_every_quoted_line_stands_in_the_network(document: Path) -> None:
    network = {line.strip() for line in read(ROOT / "app/models/lstm/network.py").splitlines()}
    blocks = re.findall(r"```python\n(.*?)```", read(document), flags=re.S)
    quoted = [line for block in blocks for line in block.strip().splitlines()]
    assert len(quoted) >= 12
    assert [line for line in quoted if line.strip() not in network] == []


@pytest.mark.parametrize("document", ATTENTION, ids=lambda path: path.name)
def test_the_worked_example_is_right(document: Path) -> None:
    query = np.array([2.0, 0.0])
    keys = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    values = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    text = read(document)
    for count in (3, 2):
        exponentials = np.exp(query @ keys[:count].T / np.sqrt(2))
        weights = exponentials / exponentials.sum()
        for number in (*exponentials, exponentials.sum(), *weights, *(weights @ values[:count])):
            assert f"{number:.4f}".removesuffix(".0000") in text
        if count == 3:
            generated, copied = 0.25 * 0.04, 0.75 * weights[0]
    assert f"{generated + copied:.4f}      copied = {copied:.4f}" in text
    assert f"= {copied / (generated + copied):.2f}" in text


@pytest.mark.parametrize(
    "document",
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")],
    ids=lambda path: path.name,
)
def test_links_within_the_project_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", read(document))
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_every_test_that_the_threat_model_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", read(ROOT / "docs" / "threat-model.md"))
    assert len(named) >= 20
    present = {(file, name) for file, name in named if (ROOT / file).is_file() and f"def {name}(" in read(ROOT / file)}
    assert set(named) - present == set()


def test_every_threat_names_a_test() -> None:
    rows = re.findall(r"^\| .* \|$", read(ROOT / "docs" / "threat-model.md"), flags=re.M)[1:]
    assert [row for row in rows if "::test_" not in row] == []


def test_no_document_names_a_registry_or_a_path_of_a_machine() -> None:
    wrong = re.compile(r"pypi\.org|files\.pythonhosted|/root/|/home/\w|/work/", flags=re.I)
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("model_store/*/*.md")]
    assert [path.name for path in documents if wrong.search(read(path))] == []
