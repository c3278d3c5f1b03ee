"""Records are kept, medians taken, tables written."""

from pathlib import Path

from benchmarks.report import Results, table


def test_a_measurement_is_the_median_of_its_rounds(tmp_path: Path) -> None:
    results = Results(tmp_path, "speed", ("system",))
    for number, rate in enumerate((3.0, 1.0, 2.0)):
        results.add({"system": "ours", "round": number, "rate": rate})
    results.add({"system": "theirs", "round": 0, "rate": 9.0})
    ours, theirs = results.medians()
    assert (ours["rate"], ours["rounds"]) == (2.0, 3)
    assert (theirs["rate"], theirs["rounds"]) == (9.0, 1)


def test_what_is_measured_again_is_forgotten_and_the_rest_kept(tmp_path: Path) -> None:
    results = Results(tmp_path, "speed", ("system",))
    results.add({"system": "ours", "round": 0})
    results.add({"system": "theirs", "round": 0})
    results.forget(lambda record: record["system"] == "ours")
    assert not results.has(system="ours")
    assert results.has(system="theirs", round=0)
    assert not results.has(system="theirs", round=1)


def test_a_report_names_machine_commit_and_command(tmp_path: Path) -> None:
    results = Results(tmp_path, "speed", ("system",))
    results.add({"system": "ours", "round": 0})
    text = results.write(["words"])
    assert (tmp_path / "speed.md").read_text(encoding="utf-8") == text
    assert all(f"- {name}: " in text for name in ("Machine", "Commit", "Command"))
    assert results.read()[0]["commit"] in text


def test_numbers_stand_to_the_right() -> None:
    assert table(("name", "size"), [("one", 1), ("ten", 10)]) == "\n".join(
        ("| name | size |", "| --- | ---: |", "| one | 1 |", "| ten | 10 |")
    )
