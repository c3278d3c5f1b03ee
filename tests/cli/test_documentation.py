"""Everything on the page about the command line is run, by a shell, and prints what stands there."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.command import app
from tests.api.waiting import PATIENCE
from tests.cli.conftest import ROOT, Precis, served
from tests.cli.test_attention import content
from tests.cli.test_summarize import objects

PAGE = ROOT / "docs" / "command-line.md"
NEWS = {"PRECIS_MODEL_STORE": str(ROOT / "model_store")}
CHANGING = re.compile(r'[0-9a-f]{32}|-?\d+\.\d{3,}|"\w+_ms":[\d.]+|in \w+ on cpu')  # identifiers, scores and times
SHARE = re.compile(r"(\d+)%")
FAINT = re.compile(r" +[▁▂ ] \S+ \d%")  # a look at a word with less than a tenth of the weight
BLOCKS = re.compile("^[▁▂▃▄▅▆▇█ ]+$|[▁▂▃▄▅▆▇█]", flags=re.M)
MARK = "--- printed ---"
ARTICLE = """Northwind Airlines cancelled more than 200 flights on Friday after a computer failure left thousands of
passengers stranded at airports across the country. The company said the fault had been repaired by the evening."""


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("news"), NEWS) as url:
        yield url


def commands(page: str) -> list[tuple[str, str]]:
    """What is typed, with the lines of a document that follow it, and what is printed."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", page, flags=re.S):
        for each in re.split(r"^\$ ", block, flags=re.M)[1:]:
            end = each.index("\nEND\n") + 5 if "<<'END'" in each else each.index("\n") + 1
            found.append((each[:end].rstrip("\n"), each[end:].rstrip("\n")))
    return found


def session(typed: list[str], folder: Path, url: str) -> list[str]:
    """What each command prints, typed one after the other into a shell that has `precis`.

    The service at `url` stands for the one that the page starts, and does all that can be left to a service: loading a
    checkpoint for each of them would take minutes.
    """
    lines = [f'precis() {{ "{sys.executable}" -m app.cli "$@"; }}']
    for command in typed:
        begun = ":" if command.startswith("precis serve") else command.replace("http://127.0.0.1:8080", url)
        lines.append(f"{begun}\nstatus=$?; echo; echo {MARK}; (exit $status)")
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=folder,
        env={**os.environ, **NEWS, "PRECIS_URL": url, "PYTHONPATH": str(ROOT), "COLUMNS": "90"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    return [printed.strip("\n") for printed in done.stdout.split(MARK)[:-1]]


def fixed(printed: str) -> str:
    """Without what differs from time to time, and from one precision of arithmetic to another."""
    for pattern in (FAINT, CHANGING, SHARE, BLOCKS):
        printed = pattern.sub("*" if pattern is CHANGING else "", printed)
    return "\n".join(line.rstrip() for line in printed.splitlines() if line.strip())


def shares(printed: str) -> list[int]:
    return list(map(int, SHARE.findall(FAINT.sub("", printed))))


def test_the_page_shows_what_its_commands_print(tmp_path: Path, news: str) -> None:
    page = commands(PAGE.read_text(encoding="utf-8"))
    printed = session([typed for typed, _ in page], tmp_path, news)
    assert len(printed) == len(page) > 15
    for (typed, expected), actual in zip(page, printed, strict=True):
        assert (typed, fixed(actual)) == (typed, fixed(expected))
        assert shares(actual) == pytest.approx(shares(expected), abs=5)


def test_the_page_shows_the_same_in_chinese() -> None:
    chinese = PAGE.with_suffix(".zh.md").read_text(encoding="utf-8")
    assert commands(chinese) == commands(PAGE.read_text(encoding="utf-8"))


def test_the_page_tells_every_command(precis: Precis) -> None:
    listed = re.findall(r"^│ ([a-z]+) ", precis("--help").stdout, flags=re.M)
    assert len(listed) == 6
    assert [name for name in listed if f"precis {name}" not in PAGE.read_text(encoding="utf-8")] == []


def test_with_the_shipped_checkpoint_a_service_gives_the_same_as_an_engine_of_ones_own(
    tmp_path: Path, news: str
) -> None:
    (tmp_path / "text").write_text(ARTICLE, encoding="utf-8")
    for command, read in (("summarize", objects), ("attention", content)):
        here, there = (
            CliRunner(env=NEWS).invoke(app, [command, "--json", *where, str(tmp_path / "text")])
            for where in ([], ["--url", news])
        )
        assert here.exit_code == there.exit_code == 0
        assert read(here.stdout) == read(there.stdout)
