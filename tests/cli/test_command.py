"""The commands as processes: how they start, and every way in which they end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app import __version__
from tests.api.waiting import PATIENCE
from tests.cli.conftest import ROOT, Precis, start

LIGHT = """
import sys
from app.cli.command import main
sys.argv = ["precis", *sys.argv[1:]]
try:
    main()
finally:
    heavy = {"torch", "numpy", "fastapi", "httpx2", "matplotlib", "tokenizers"} & sys.modules.keys()
    assert not heavy, heavy
"""


COMMANDS = ["serve", "summarize", "attention", "corpus", "models", "keys"]
BLANK = "precis: -:2: the text must not be empty or blank\n"


def finished(process: "subprocess.Popen[bytes]", given: bytes = b"") -> tuple[int, str, str]:
    output, errors = process.communicate(given, timeout=PATIENCE)
    return process.returncode, output.decode(), errors.decode()


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], *([name, "-h"] for name in COMMANDS), ["keys", "new", "desk"]],
    ids=" ".join,
)
def test_help_version_and_keys_load_no_heavy_library(arguments: list[str]) -> None:
    process = subprocess.run([sys.executable, "-c", LIGHT, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout


def test_it_tells_its_version(precis: Precis) -> None:
    assert precis("--version").stdout == f"precis {__version__}\n"


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids="precis {}".format)
def test_every_help_has_examples_that_can_be_typed(precis: Precis, command: list[str]) -> None:
    help_text = precis(*command, "--help").stdout
    examples = [line.strip() for line in help_text.partition("Examples")[2].splitlines() if " precis " in f" {line}"]
    assert len(examples) >= 3
    assert all(" ".join(command) in line for line in examples if "COMMAND" not in line)


def test_the_project_installs_it_under_its_name() -> None:
    assert 'precis = "app.cli.command:main"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "arguments",
    [["nothing"], ["summarize", "--nothing"], ["summarize", "--num-beams", "9"], ["summarize", "--truncation", "tail"]],
    ids=" ".join,
)
def test_wrong_use_is_status_2(precis: Precis, arguments: list[str]) -> None:
    result = precis(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "precis --help" in result.stderr or "-h" in result.stderr


def test_a_wrong_setting_is_status_2_and_one_line(precis: Precis) -> None:
    result = precis("summarize", env={"PRECIS_MAX_ROWS": "3"})
    assert result.exit_code == 2
    assert result.stderr.startswith("precis: PRECIS_MAX_ROWS: ")
    assert result.stderr.count("\n") == 1


def test_an_unknown_checkpoint_is_status_1_and_one_line(precis: Precis, texts: list[Path]) -> None:
    result = precis("summarize", "--model", "nothing", texts[0])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("precis: no checkpoint 'nothing' in ")
    assert result.stderr.count("\n") == 1


def test_a_file_that_cannot_be_written_is_status_1_and_one_line(precis: Precis, texts: list[Path]) -> None:
    nowhere = texts[0].parent / "nowhere" / "page.html"
    result = precis("attention", texts[0], "--html", nowhere)
    assert (result.exit_code, result.stderr) == (1, f"precis: {nowhere}: No such file or directory\n")


def test_a_reader_who_has_enough_ends_it_quietly(environment: dict[str, str]) -> None:
    process = start("summarize", "--lines", environment=environment)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(b"The council approved a bridge.\n" * 300)
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.close()
    process.stdin.close()
    assert process.wait(PATIENCE) == 1
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.parametrize("here", [True, False], ids=["own engine", "service"])
def test_an_interrupt_ends_it_at_once_and_quietly(here: bool, environment: dict[str, str], url: str) -> None:
    process = start("summarize", "--lines", *([] if here else ["--url", url]), environment=environment)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"The council approved a bridge.\n" * 300)
    process.stdin.flush()
    process.stdout.readline()  # now it works, and waits for more
    process.send_signal(signal.SIGINT)
    status, _, errors = finished(process)
    assert (status, errors) == (130, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_streams_that_are_closed_are_no_reason_to_fail_without_a_word(closed: str, environment: dict[str, str]) -> None:
    command = f'"{sys.executable}" -m app.cli summarize --lines {closed}'
    shell = subprocess.Popen(
        ["bash", "-c", command],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    status, output, errors = finished(shell, b"The council approved a bridge.\n\nThe mayor spoke.\n")
    assert status == 1
    assert len(output.splitlines()) == {"<&-": 0, ">&-": 0, "2>&-": 3}[closed]
    told = {"<&-": "precis: -: cannot be read: Bad file descriptor\n", ">&-": BLANK, "2>&-": ""}
    assert errors == told[closed]


def test_characters_that_the_output_has_not_are_written_as_escapes(
    environment: dict[str, str], texts: list[Path]
) -> None:
    ascii_only = {**environment, "PYTHONIOENCODING": "ascii"}
    status, output, errors = finished(start("attention", texts[0], environment=ascii_only))
    assert (status, errors) == (0, "")
    assert "\\u25" in output


def test_streams_that_are_no_terminal_get_no_progress_and_no_colour(
    environment: dict[str, str], texts: list[Path]
) -> None:
    status, output, errors = finished(start("summarize", *texts, environment=environment))
    assert (status, errors) == (0, "")
    assert [line.split(": ")[0] for line in output.splitlines()] == list(map(str, texts))
    _, output, _ = finished(start("attention", texts[0], environment=environment))
    assert "\x1b" not in output


def on_a_terminal(*arguments: object, environment: dict[str, str]) -> bytes:
    """What a terminal gets to see of it."""
    ours, theirs = os.openpty()
    process = start(*arguments, environment=environment, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    seen = b""
    try:
        while block := os.read(ours, 65536):
            seen += block
    except OSError:  # how a terminal says that nobody writes any more
        pass
    os.close(ours)
    assert process.wait(PATIENCE) == 0
    return seen


def test_a_terminal_gets_a_bar_for_several_texts(environment: dict[str, str], texts: list[Path]) -> None:
    seen = on_a_terminal("summarize", *texts, environment={**environment, "TERM": "xterm", "COLUMNS": "200"})
    assert b"3/3" in seen
    assert seen.count(b".txt: ") == 3


def test_a_terminal_shows_the_card_of_a_model_line_by_line(environment: dict[str, str]) -> None:
    seen = on_a_terminal("models", "show", "small", environment={**environment, "TERM": "xterm"}).decode()
    assert "small" in seen.rpartition("--numbers-from-source")[2]
    assert "\N{REPLACEMENT CHARACTER}" not in seen


@pytest.mark.parametrize("colour", [True, False], ids=["with colours", "NO_COLOR"])
def test_a_terminal_gets_colours_unless_it_does_not_want_them(
    colour: bool, environment: dict[str, str], texts: list[Path]
) -> None:
    wishes = {"TERM": "xterm-256color", "COLORTERM": "truecolor", **({} if colour else {"NO_COLOR": "1"})}
    seen = on_a_terminal("attention", texts[0], environment={**environment, **wishes})
    assert (b"\x1b[38;2;" in seen) == colour
    assert "█".encode() in seen
