"""`precis corpus` as people use it: whole files, processes that are killed, and what is told."""

import json
import signal
import sys
from pathlib import Path

import pytest

from app.cli.progress import Lines
from benchmarks.corpus import TOLD
from tests.api.waiting import eventually
from tests.cli.conftest import Precis, start
from tests.cli.test_command import finished
from tests.texts import CORPUS

ROWS = 1500  # a shard and a half
QUICK = ("--num-beams", "1", "--max-length", "6")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real rows, two of which are bad."""
    path = tmp_path_factory.mktemp("corpus") / "in.jsonl"
    rows = [{"id": number, "text": CORPUS[number % len(CORPUS)][: 20 + number % 50]} for number in range(ROWS)]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join([lines[0], "no row", *lines[1:1200], '{"id": 1}', *lines[1200:]]), encoding="utf-8")
    return path


def results(output: Path) -> tuple[bytes, bytes]:
    assert not output.with_name(output.name + ".partial").exists()
    return output.read_bytes(), output.with_name(output.name + ".rejected.jsonl").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, environment: dict[str, str]) -> tuple[bytes, bytes]:
    """Of one uninterrupted run, with one core's rows instead of all of them."""
    output = corpus.with_name("undisturbed.jsonl")
    status, out, errors = finished(
        start("corpus", corpus, output, *QUICK, environment={**environment, "PRECIS_MAX_ROWS": "8"}),
    )
    assert (status, out) == (0, ""), errors
    told = TOLD.search(errors)
    assert told is not None, errors
    assert told[1] == f"{ROWS:,}"
    assert errors.splitlines()[1] == f"precis: {output}.rejected.jsonl: 2 rows that were set aside"
    return results(output)


def test_a_run_that_is_ended_goes_on_where_it_was_byte_for_byte(
    corpus: Path, environment: dict[str, str], undisturbed: tuple[bytes, bytes]
) -> None:
    output = corpus.with_name("disturbed.jsonl")
    partial = output.with_name("disturbed.jsonl.partial")

    def ended(number: signal.Signals, when: str) -> tuple[int, str]:
        """By a signal, as soon as such a file is there."""
        process = start("corpus", corpus, output, *QUICK, environment=environment)
        eventually(lambda: any(partial.glob(when)) or process.poll() is not None)
        process.send_signal(number)
        status, _, errors = finished(process)
        return status, errors

    told = f"precis: {output}: not finished yet; the same command goes on where it was\n"
    assert ended(signal.SIGTERM, "run.json") == (128 + signal.SIGTERM, told)
    assert ended(signal.SIGKILL, "*.rows") == (-signal.SIGKILL, "")
    assert not output.exists()
    status, _, errors = finished(start("corpus", corpus, output, *QUICK, environment=environment))
    assert (status, bool(TOLD.search(errors))) == (0, True), errors
    assert results(output) == undisturbed


def test_the_rows_that_came_in_come_out_with_their_summaries(undisturbed: tuple[bytes, bytes]) -> None:
    good, bad = ([json.loads(line) for line in each.splitlines()] for each in undisturbed)
    assert [row["id"] for row in good] == list(range(ROWS))
    assert list(good[0]) == ["id", "text", "summary", "summary_details"]
    assert [(row["row"], row["reason"]) for row in bad] == [
        (2, "the row is not JSON: invalid literal, expected 'null' at column 1"),
        (1202, "/text is required"),
    ]
    assert b"timing" not in undisturbed[0]
    assert b"sha256" not in undisturbed[0]


def test_it_says_what_summarize_says(precis: Precis, corpus: Path, undisturbed: tuple[bytes, bytes]) -> None:
    first = corpus.with_name("first.jsonl")
    first.write_bytes(b"".join(undisturbed[0].splitlines(keepends=True)[:10]))
    written = [json.loads(line)["summary"] for line in first.read_text(encoding="utf-8").splitlines()]
    result = precis("summarize", "--field", "text", "--json", *QUICK, first)
    assert [json.loads(line)["summary"] for line in result.stdout.splitlines()] == written


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["in.txt", "out.jsonl"], 2, "in.txt: its name does not tell what it is; it should be *.jsonl"),
        (["in.jsonl", "out.parquet"], 2, "out.parquet: Parquet comes out of Parquet"),
        (["nowhere.jsonl", "out.jsonl"], 1, "nowhere.jsonl: No such file or directory"),
        (["in.jsonl", "nowhere/out.jsonl"], 1, "nowhere/out.jsonl.partial: No such file or directory"),
        (["in.jsonl", "out.jsonl", "--text-field", "body"], 1, "name another with --text-field (there: 'text')"),
        (["in.jsonl", "out.jsonl", "--num-beams", "8", "--max-length", "999"], 1, "--max-length must be at most"),
        (["in.jsonl", "out.jsonl", "--replicas", "2"], 2, "--replicas is for a cluster, which --ray names"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_told_and_nothing_is_left(
    precis: Precis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"text": "alpha"}\n')
    result = precis("corpus", *arguments)
    assert result.exit_code == status
    assert told in " ".join(result.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_without_ray_it_is_told_how_to_get_it(precis: Precis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "in.jsonl").write_text('{"text": "alpha"}\n')
    result = precis("corpus", "--ray", "auto", tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    told = "precis: --ray: Ray is not installed; say pip install 'precis[ray]'\n"
    assert (result.exit_code, result.stderr) == (2, told)


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    monkeypatch.setattr("app.cli.progress.time.monotonic", lambda: now)
    lines = Lines()
    lines.begin(1000, 500)
    lines.advance(1)
    now = 59.0
    lines.advance(1)
    assert capsys.readouterr().err == ""
    now = 100.0
    lines.advance(1)
    lines.advance(1)
    assert capsys.readouterr().err == "precis: 503 of 1,000 rows, 0/s, 4:36:07 left\n"
