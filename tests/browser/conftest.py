"""Chromium, driven by playwright, on a real service with the shipped checkpoints. No other host is reachable."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route, expect, sync_playwright

from app.keys import Key, digest, new_key
from tests.api.waiting import PATIENCE, eventually
from tests.serving import HOLD

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("CHROMIUM", "chromium")
expect.set_options(timeout=PATIENCE * 1000)


@contextmanager
def served(module: str, folder: Path, **settings: str) -> Iterator[str]:
    """The address of `python -m module` while it runs."""
    output = folder / "output"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PRECIS_")}
    environment |= {"PRECIS_PORT": "0", "PRECIS_LOG_FORMAT": "json", **settings}
    with output.open("wb") as written:
        process = subprocess.Popen([sys.executable, "-m", module], cwd=ROOT, env=environment, stdout=written)
    try:
        eventually(lambda: process.poll() is not None or b'"listening"' in output.read_bytes())
        lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
        yield f"http://127.0.0.1:{next(line['port'] for line in lines if line['event'] == 'listening')}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served("app", tmp_path_factory.mktemp("service")) as address:
        eventually(lambda: len(httpx2.get(f"{address}/models").json()["models"]) == 2)
        yield address


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    executable = shutil.which(CHROMIUM)
    assert executable, f"there is no {CHROMIUM}: install it (Debian: apt-get install chromium) or name it in CHROMIUM"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable)
        yield browser
        browser.close()


class Watch:
    """What a page must never do: an error in the console, a breach of its policy, a request to another host."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.errors: list[str] = []
        self.refused: list[str] = []  # what the browser itself says when an answer is an error
        self.elsewhere: list[str] = []
        self._address = address
        context.route(lambda url: not url.startswith(f"{address}/"), self._stop)
        context.on("console", self._listen)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))

    def _stop(self, route: Route) -> None:
        self.elsewhere.append(route.request.url)
        route.abort()

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        kept = self.refused if message.text.startswith("Failed to load resource") else self.errors
        kept.append(message.text)


Open = Callable[..., Page]


@pytest.fixture
def open_page(chromium: Browser, address: str) -> Iterator[Open]:
    """Opens a page in a context of its own; motion is reduced unless something else is asked for."""
    watches: list[Watch] = []
    contexts: list[BrowserContext] = []

    def open_page(path: str = "/", *, at: str = address, **options: Any) -> Page:
        context = chromium.new_context(**{"reduced_motion": "reduce", **options})
        contexts.append(context)
        watches.append(Watch(context, at))
        page = context.new_page()
        page.goto(f"{at}{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    for watch in watches:
        assert watch.errors == []
        assert watch.elsewhere == []


@dataclass(frozen=True)
class Held:
    """A service on a fake model, with room for few; no decoder step ends before `go_on`."""

    address: str
    hold: Path

    def go_on(self) -> None:
        self.hold.unlink()


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    hold = tmp_path / "hold"
    hold.touch()
    with served("tests.serving", tmp_path, PRECIS_MAX_QUEUE="1", PRECIS_MAX_ROWS="8", **{HOLD: str(hold)}) as address:
        yield Held(address, hold)
        hold.unlink(missing_ok=True)  # or the service would wait for its own end


@dataclass(frozen=True)
class Keyed:
    """A service that wants a key for all but its pages."""

    address: str
    key: str


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[Keyed]:
    key = new_key()
    line = str(Key("page", digest(key.encode())))
    settings = {"PRECIS_API_KEYS": line, "PRECIS_PUBLIC_PAGES": "true", HOLD: str(tmp_path / "hold")}
    with served("tests.serving", tmp_path, **settings) as address:
        yield Keyed(address, key)


@pytest.fixture
def page(open_page: Open) -> Page:
    """The page, when its example is there."""
    page = open_page()
    expect(page.locator("#text")).not_to_have_value("")
    return page
