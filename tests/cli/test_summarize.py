"""Texts in, summaries out; the same here and from a service."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.cli.inputs import Input
from app.cli.summarize import answered
from app.errors import InputError
from app.schemas import Options
from tests.cli.conftest import Precis
from tests.texts import CORPUS

LONG = "The council of Greyford approved a new bridge. " * 60


def objects(output: str) -> list[dict[str, Any]]:
    """JSON Lines, without what differs each time."""
    rows = [json.loads(line) for line in output.splitlines()]
    return [{name: value for name, value in row.items() if name not in ("id", "timing")} for row in rows]


def test_one_file_is_one_summary(precis: Precis, texts: list[Path]) -> None:
    result = precis("summarize", texts[0])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith("\n")
    assert len(result.stdout.splitlines()) == 1
    assert str(texts[0]) not in result.stdout


def test_without_files_standard_input_is_read(precis: Precis, texts: list[Path]) -> None:
    assert precis("summarize", input=texts[0].read_bytes()).stdout == precis("summarize", texts[0]).stdout
    assert precis("summarize", "-", input=texts[0].read_bytes()).stdout == precis("summarize", texts[0]).stdout


def test_summaries_of_several_files_stand_behind_their_names(precis: Precis, texts: list[Path]) -> None:
    alone = [precis("summarize", file).stdout for file in texts]
    together = precis("summarize", *texts).stdout
    assert together == "".join(f"{file}: {summary}" for file, summary in zip(texts, alone, strict=True))


def test_a_text_that_fails_is_told_and_the_others_are_summarized(precis: Precis, texts: list[Path]) -> None:
    folder = texts[0].parent
    (folder / "empty").touch()
    (folder / "latin").write_bytes(b"caf\xe9")
    wrong = [folder / "empty", folder / "missing", folder / "latin"]
    result = precis("summarize", wrong[0], texts[0], wrong[1], texts[1], wrong[2])
    assert result.exit_code == 1
    assert result.stdout == precis("summarize", texts[0], texts[1]).stdout
    assert result.stderr.splitlines() == [
        f"precis: {wrong[0]}: the text must not be empty or blank",
        f"precis: {wrong[1]}: cannot be read: No such file or directory",
        f"precis: {wrong[2]}: not UTF-8: byte 3 is 0xe9",
    ]


def test_of_one_file_that_fails_nothing_comes_out(precis: Precis) -> None:
    result = precis("summarize", input="")
    assert (result.exit_code, result.stdout) == (1, "")


def test_line_for_line_a_summary_comes_out_and_an_empty_line_for_one_that_fails(precis: Precis) -> None:
    lines = [CORPUS[0], "", CORPUS[1]]
    result = precis("summarize", "--lines", input="\n".join(lines))
    assert result.exit_code == 1
    first, second, third = result.stdout.splitlines()
    assert first == precis("summarize", input=lines[0]).stdout.rstrip("\n")
    assert (second, bool(third)) == ("", True)
    assert result.stderr == "precis: -:2: the text must not be empty or blank\n"


def test_a_field_of_json_lines_is_summarized(precis: Precis) -> None:
    rows = "".join(json.dumps({"body": text}) + "\n" for text in CORPUS)
    assert (
        precis("summarize", "--field", "body", input=rows).stdout
        == precis("summarize", "--lines", input="\n".join(CORPUS)).stdout
    )


def test_json_is_the_object_of_the_api_with_the_file_and_the_line(precis: Precis, texts: list[Path]) -> None:
    result = precis("summarize", "--json", texts[0], texts[0].parent / "missing")
    assert result.exit_code == 1
    good, bad = map(json.loads, result.stdout.splitlines())
    assert good.keys() == {
        *("file", "id", "model", "summary", "finish_reason", "score", "source", "usage", "timing"),
    }
    assert good["file"] == str(texts[0])
    assert bad == {"file": f"{texts[0].parent}/missing", "error": "cannot be read: No such file or directory"}
    (line,) = objects(precis("summarize", "--json", "--lines", input=CORPUS[0]).stdout)
    assert (line["file"], line["line"]) == ("-", 1)


def test_a_text_that_is_cut_is_told_or_summarized_in_parts(precis: Precis) -> None:
    cut = precis("summarize", input=LONG)
    assert cut.exit_code == 0
    assert cut.stderr.startswith("precis: -: the first ")
    assert "--truncation chunk" in cut.stderr
    parts = precis("summarize", "--truncation", "chunk", "--json", input=LONG)
    assert (parts.exit_code, parts.stderr) == (0, "")
    assert len(json.loads(parts.stdout)["parts"]) > 1
    assert precis("summarize", "--truncation", "error", input=LONG).exit_code == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--num-beams", "1"],
        ["--max-length", "3"],
        ["--min-length", "9", "--num-beams", "3"],
        ["--length-penalty", "-2"],
        ["--no-repeat-ngram-size", "1", "--any-numbers"],
        ["--truncation", "chunk"],
        ["--truncation", "error"],
        ["--max-length", "1000"],
        [],
    ],
    ids=" ".join,
)
def test_a_service_gives_the_same_as_an_engine_of_ones_own(
    precis: Precis, texts: list[Path], url: str, options: list[str]
) -> None:
    long, empty = texts[0].parent / "long", texts[0].parent / "empty"
    long.write_text(LONG)
    empty.touch()
    command = ["summarize", "--json", *options, *texts, long, empty, "missing"]
    here, there = precis(*command), precis(*command, "--url", url)
    assert objects(there.stdout) == objects(here.stdout)
    assert len(objects(there.stdout)) == 6
    assert (there.exit_code, there.stderr) == (here.exit_code, here.stderr)


def test_the_service_may_stand_in_the_environment(precis: Precis, texts: list[Path]) -> None:
    result = precis("summarize", texts[0], env={"PRECIS_URL": "http://127.0.0.1:9"})
    assert result.exit_code == 1
    assert result.stderr.startswith("precis: 127.0.0.1:9: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("option", [["--device", "cpu"], ["--precision", "int8"], ["--model-store", "x"]], ids=" ".join)
def test_a_service_has_chosen_its_own_settings(precis: Precis, option: list[str]) -> None:
    result = precis("summarize", "--url", "http://127.0.0.1:9", *option)
    assert result.exit_code == 2
    assert option[0] in result.stderr


def test_a_url_that_is_none_is_wrong_use(precis: Precis) -> None:
    assert precis("summarize", "--url", "localhost").exit_code == 2


class Echo:
    """Answers a text with what it holds."""

    def summarize_all(self, texts: Any, _options: Options) -> Any:
        held = []
        for text in texts:  # as late as it is allowed to
            held.append(InputError(text))
            if len(held) == 2:
                yield held.pop(0)
        yield from held


@pytest.mark.parametrize("pattern", ["", "x", "a", "xa", "ax", "aax", "xaxxax", "xxaaxxaaxx"])
def test_inputs_and_answers_stay_together_wherever_the_unreadable_ones_stand(pattern: str) -> None:
    inputs = [
        Input("-", number, InputError(f"unreadable {number}") if kind == "x" else f"text {number}")
        for number, kind in enumerate(pattern)
    ]
    pairs = list(answered(Echo(), iter(inputs), Options()))  # type: ignore[arg-type]
    assert [place.line for place, _ in pairs] == list(range(len(pattern)))
    assert [str(answer) for _, answer in pairs] == [str(each.text) for each in inputs]
