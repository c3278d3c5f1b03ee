"""Reports say the same thing three times, and publish no text."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import WORDS, fake_info
from tests.training.evaluation.copying import CopyingModel
from tests.training.evaluation.test_run import ROWS, write_rows
from training.evaluation import report
from training.evaluation.run import Evaluation, Plan, evaluate


@pytest.fixture
def result(tmp_path: Path) -> Evaluation:
    path = write_rows(tmp_path / "rows.jsonl")
    return evaluate(str(path), CopyingModel(fake_info("mine")), Plan(long_rows=2, seed=3))


def test_a_folder_holds_figures_to_publish_and_texts_to_read(result: Evaluation, tmp_path: Path) -> None:
    report.write(tmp_path / "scores", [result], rows_to_read=2)
    figures, tables, summaries, reading = (
        (tmp_path / "scores" / name).read_text(encoding="utf-8")
        for name in ("scores.json", "scores.md", "summaries.jsonl", "reading.txt")
    )
    assert not any(word in figures + tables for word in WORDS)
    rows = [json.loads(line) for line in summaries.splitlines()]
    assert [row["id"] for row in rows] == [f"row-{row}" for row in range(ROWS)]
    assert rows[1]["summary"] == rows[1]["greedy"] == " ".join(WORDS[1:4])
    assert [f"row-{row}" in reading for row in range(ROWS)] == [True, False, False, True, False, False]


def test_json_holds_every_figure_of_the_tables(result: Evaluation) -> None:
    figures = json.loads(json.dumps(report.scores([result])))
    assert figures["checkpoint"]["digest"] == result.model.digest
    (data,) = figures["data"]
    assert data["rows"] == ROWS
    assert [system["name"] for system in data["systems"]] == [system.name for system in result.systems]
    assert data["systems"][-1]["options"]["num_beams"] == 2
    assert data["systems"][-1]["rouge"]["rougeL"]["mean"] == result.systems[-1].rouge[2].mean
    assert data["attention"]["on_match"] == {"count": 3 * ROWS, "of": 3 * ROWS, "percent": 100}
    assert data["leave_out"]["ratio"] >= 1
    assert [entry["system"] for entry in data["long_input"]] == [entry.system for entry in result.long_input]


def test_every_table_is_whole_and_stands_in_the_card(result: Evaluation) -> None:
    text = report.markdown([result])
    for table in report.tables(result):
        assert table.title in text
        assert {len(row) for row in table.rows} == {len(table.columns)}
        assert all(f"| {' | '.join(row)} |" in text for row in table.rows)


def test_the_console_shows_every_system(result: Evaluation, capsys: pytest.CaptureFixture[str]) -> None:
    report.show(replace(result, data="rows.jsonl:100"))
    shown = capsys.readouterr().out
    assert all(system.name in shown for system in result.systems)
    assert "rows.jsonl:100, 6 rows: ROUGE F1 in percent, stemmed, 95 % interval" in shown


def test_the_command_names_what_is_not_the_default(result: Evaluation) -> None:
    assert report.command([result, result]) == (
        f"python -m training evaluate --name mine --data {result.data} --data {result.data} --long-rows 2 --seed 3"
    )


def test_rows_to_read_come_from_every_data_set(result: Evaluation) -> None:
    assert report.reading([result, result], 2).count("[row-0] ") == 2
    assert report.reading([result], 0) == ""
