import re
import tomllib
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from tests.fakes import FakeModel

WEB = files("app") / "web"
PARTS = sorted(file.name for file in WEB.iterdir() if file.name != "index.html")
SCRIPTS = [name for name in PARTS if name.endswith(".js")]


def read(name: str) -> str:
    return (WEB / name).read_text(encoding="utf-8")


def test_the_page_and_its_parts_come_from_this_host_and_from_files_that_exist(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    parts = re.findall(r'(?:src|href)="(page/[^"]+)"', page.text)
    assert len(parts) == 3
    for part in parts:
        assert client.get(f"/{part}").status_code == 200


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_imports_only_what_is_served_beside_it(client: TestClient, name: str) -> None:
    script = client.get(f"/page/{name}")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    imported = re.findall(r'from "(.*?)"', script.text)
    assert {module.removeprefix("./") for module in imported} <= set(SCRIPTS)
    assert all(module.startswith("./") for module in imported)


@pytest.mark.parametrize("path", ["/", "/page/style.css"])
def test_the_policy_allows_this_host_alone_and_nothing_inline(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "img", "connect")} == {"'self'"}
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["index.html", *PARTS])
def test_no_file_names_another_host_or_reads_text_as_html(name: str) -> None:
    text = read(name).replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text) == []
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|style=|<style|\son\w+=", text) == []
    )


def test_the_package_takes_every_file_along() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["*"]
    assert [name for name in PARTS if not any(fnmatch(name, pattern) for pattern in patterns)] == []


@pytest.mark.parametrize("path", ["/", "/page/main.js"])
def test_what_a_browser_has_already_is_not_sent_again(client: TestClient, path: str) -> None:
    first = client.get(path)
    again = client.get(path, headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert client.get(path, headers={"If-None-Match": '"other"'}).content == first.content


@pytest.mark.parametrize("path", ["/", "/page/main.js"])
def test_head_gets_the_headers_of_get(client: TestClient, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(get.content))


@pytest.mark.parametrize("name", ["index.html", "..%2Fconfig.py", "main.js%00"])
def test_nothing_else_is_served_from_there(client: TestClient, name: str) -> None:
    assert client.get(f"/page/{name}").status_code == 404


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/page/style.css"])
def test_the_page_can_be_turned_off(path: str) -> None:
    with TestClient(create_app(Settings(web_page=False), models=[FakeModel()])) as client:
        response = client.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
