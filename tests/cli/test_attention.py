"""Where the model looked; the same here and from a service."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Precis
from tests.texts import CORPUS


def content(output: str) -> dict[str, Any]:
    return {name: value for name, value in json.loads(output).items() if name not in ("id", "timing")}


def test_a_file_or_standard_input_is_shown(precis: Precis, texts: list[Path]) -> None:
    shown = precis("attention", texts[0])
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "where the model looked" in shown.stdout
    assert precis("attention", input=texts[0].read_bytes()).stdout == shown.stdout


def test_the_summary_is_the_one_of_summarize(precis: Precis, texts: list[Path]) -> None:
    summary = precis("summarize", texts[0]).stdout.strip()
    assert content(precis("attention", "--json", texts[0]).stdout)["summary"] == summary


def test_a_given_summary_is_followed_word_by_word(precis: Precis, texts: list[Path]) -> None:
    answer = content(precis("attention", "--json", "--summary", "council approved", texts[0]).stdout)
    assert [item["text"] for item in answer["attention"]["summary_tokens"]] == ["council", "approved"]
    tokens = content(precis("attention", "--json", "--level", "token", texts[0]).stdout)["attention"]
    assert len(tokens["source_tokens"]) > len(answer["attention"]["source_tokens"])


def test_a_page_and_a_picture_are_written_instead(precis: Precis, texts: list[Path]) -> None:
    html, png = texts[0].parent / "a.html", texts[0].parent / "a.png"
    result = precis("attention", texts[0], "--html", html, "--png", png)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert ">Greyford</span>" in html.read_text(encoding="utf-8")
    assert png.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--summary", " "], "--summary must not be empty or blank"),
        (
            ["--summary", "a", "--truncation", "chunk"],
            "--summary a given summary cannot be used with truncation 'chunk'",
        ),
        (["--summary", "bridge " * 200], "--summary has "),
        (["--max-length", "1000"], "--max-length must be at most 64 for small"),
        (["--layers", "0", "--layers", "1"], "--layers must be below 1: small has 1, counted from 0"),
    ],
    ids=["blank", "chunk", "long", "limit", "layer"],
)
def test_what_is_wrong_is_one_line_here_and_there(
    precis: Precis, texts: list[Path], url: str, options: list[str], message: str
) -> None:
    results = [precis("attention", texts[0], *options, *where) for where in ([], ["--url", url])]
    for result in results:
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"precis: {message}")
        assert result.stderr == results[0].stderr
        assert result.stderr.count("\n") == 1


def test_a_text_that_is_none_is_one_line(precis: Precis, texts: list[Path]) -> None:
    missing = texts[0].parent / "missing"
    assert precis("attention", missing).stderr == f"precis: {missing}: cannot be read: No such file or directory\n"
    assert precis("attention", input=b"").stderr == "precis: the text must not be empty or blank\n"


@pytest.mark.parametrize(
    "options",
    [[], ["--level", "token"], ["--truncation", "chunk", "--num-beams", "3"], ["--summary", "a bridge"]],
    ids=" ".join,
)
def test_a_service_gives_the_same_as_an_engine_of_ones_own(precis: Precis, url: str, options: list[str]) -> None:
    text = "\n".join(CORPUS * 12)
    here, there = (precis("attention", "--json", *options, *where, input=text) for where in ([], ["--url", url]))
    assert content(here.stdout) == content(there.stdout)
    here, there = (precis("attention", *options, *where, input=text) for where in ([], ["--url", url]))
    assert here.stdout == there.stdout
