import re

import pytest
from starlette.testclient import TestClient


def test_the_page_and_its_parts_come_from_this_host(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    parts = [part for part in re.findall(r'(?:src|href)="([^"]+)"', page.text) if part != "data:,"]
    assert len(parts) == 3
    for part in parts:
        response = client.get(f"/{part}")
        assert response.status_code == 200
        assert response.headers["content-type"].split(";")[0] in ("text/css", "text/javascript")


def test_the_page_runs_nothing_inline_and_reaches_nobody_else(client: TestClient) -> None:
    page = client.get("/docs")
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert re.findall(r"<script(?! src=)[^>]*>|<style|style=|https?://", page.text) == []
    assert "validatorUrl: null" in client.get("/docs/start.js").text


def test_the_page_asks_for_the_document_relative_to_itself(client: TestClient) -> None:
    assert 'url: "openapi.json"' in client.get("/docs/start.js").text
    assert client.get("/openapi.json").headers["content-type"] == "application/json"


def test_the_packaged_swagger_ui_reads_openapi_3_1(client: TestClient) -> None:
    version = re.search(r'PACKAGE_VERSION:"(\d+)\.', client.get("/docs/swagger-ui-bundle.js").text)
    assert version is not None
    assert int(version[1]) >= 5


@pytest.mark.parametrize("name", ["favicon.png", "..%2Fdocs.py", "start.js%00"])
def test_nothing_else_is_served_from_there(client: TestClient, name: str) -> None:
    assert client.get(f"/docs/{name}").status_code == 404
