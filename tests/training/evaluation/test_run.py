"""One data set through one model."""

import json
from pathlib import Path

import pytest

from tests.fakes import WORDS, FakeModel
from tests.training.evaluation.copying import CopyingModel
from training.evaluation.run import Evaluation, Plan, evaluate, label
from training.evaluation.truth import Share

ROWS = 6


def write_rows(path: Path, **added: object) -> Path:
    rows = [
        {"id": f"row-{row}", "text": " ".join(WORDS[row : row + 9]), "summary": " ".join(WORDS[row : row + 4])} | added
        for row in range(ROWS)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def evaluated(folder: Path, plan: Plan) -> Evaluation:
    return evaluate(str(write_rows(folder / "rows.jsonl")), CopyingModel(), plan)


def test_a_copying_model_is_measured_from_end_to_end(tmp_path: Path) -> None:
    found = evaluated(tmp_path, Plan())
    *others, greedy, default = found.systems
    assert [system.options is None for system in found.systems] == [True] * len(others) + [False, False]
    assert greedy.summaries == default.summaries == tuple(" ".join(WORDS[row : row + 3]) for row in range(ROWS))
    assert [one.mean for one in default.rouge] == pytest.approx([100 * 6 / 7, 100 * 4 / 5, 100 * 6 / 7])
    assert (default.form.length, default.form.ratio, default.form.ended) == (3, 3 / 4, 1)
    assert found.belief is not None
    assert found.belief.on_match == Share(3 * ROWS, 3 * ROWS)
    assert found.leave_out is not None
    assert found.leave_out.attended.changed == Share(ROWS, ROWS)
    assert found.long_input[0].system == "plain"


def test_the_expensive_parts_see_as_many_rows_as_they_are_given(tmp_path: Path) -> None:
    found = evaluated(tmp_path, Plan(attention_rows=4, leave_out_rows=3, long_rows=0))
    assert found.belief is not None
    assert found.leave_out is not None
    assert (found.belief.summaries, found.leave_out.random.changed.of) == (4, 3)
    assert found.long_input == ()
    nothing = evaluated(tmp_path, Plan(attention_rows=0, long_rows=0))
    assert nothing.belief is None
    assert nothing.leave_out is None


def test_the_number_of_beams_can_be_chosen(tmp_path: Path) -> None:
    found = evaluated(tmp_path, Plan(num_beams=3, attention_rows=0, long_rows=0))
    assert [system.options.num_beams for system in found.systems if system.options] == [1, 3]


def test_every_reference_of_a_row_counts(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", references=["something else", " ".join(WORDS[:3])])
    found = evaluate(f"{path}:1", CopyingModel(), Plan(attention_rows=0, long_rows=0))
    assert [one.mean for one in found.systems[-1].rouge] == [100, 100, 100]


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="no row to evaluate"):
        evaluate(str(tmp_path / "rows.jsonl"), FakeModel(), Plan())


def test_a_data_set_is_named_without_the_place_where_it_lies() -> None:
    assert label("/somewhere/else/news/test.jsonl.zst:500") == "news/test.jsonl.zst:500"
    assert label("rows.jsonl") == "rows.jsonl"
