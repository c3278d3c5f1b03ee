"""The page for strangers: every snippet runs, and prints what stands below it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from app.client import Client
from tests.api.waiting import eventually

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "python-client.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The service as `make serve` starts it, but on a free port."""
    output = tmp_path_factory.mktemp("docs") / "output"

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in output.read_text().splitlines(keepends=True) if line.endswith("\n")]

    settings = {**os.environ, "PRECIS_PORT": "0", "PRECIS_LOG_FORMAT": "json", "OMP_NUM_THREADS": "1"}
    with (
        output.open("wb") as log,
        subprocess.Popen([sys.executable, "-m", "app"], cwd=ROOT, env=settings, stdout=log) as process,
    ):
        try:
            eventually(lambda: process.poll() is not None or any(line["event"] == "listening" for line in lines()))
            (port,) = (line["port"] for line in lines() if line["event"] == "listening")
            url = f"http://127.0.0.1:{port}"
            with Client(url) as client:
                eventually(client.ready)
                eventually(lambda: len(client.models().models) == 2)
            yield url
        finally:
            process.terminate()


def test_every_snippet_prints_what_stands_below_it(url: str) -> None:
    snippets = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, flags=re.S)
    assert len(snippets) == PAGE.count("```python") == PAGE.count("```text") >= 9
    page: dict[str, Any] = {"__name__": "page"}
    for code, expected in snippets:
        printed = StringIO()
        with redirect_stdout(printed):
            exec(compile(code.replace(ADDRESS, url), "docs/python-client.md", "exec"), page)
        assert printed.getvalue().strip() == expected.strip()
    page["precis"].close()
