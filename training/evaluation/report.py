"""What was measured, for people (a console, Markdown for a card) and for programs (JSON)."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from training.evaluation.attention import LeaveOut
from training.evaluation.rouge import MEASURES, Interval
from training.evaluation.run import Evaluation, Plan, System
from training.evaluation.summarizing import spaced
from training.evaluation.truth import Share
from training.evaluation.writing import writing

WIDTH = 120  # of the tables where there is no terminal
_TRUTH = {
    "numbers": "numbers",
    "number_pairs": "numbers with their next word",
    "names": "names",
    "multi_word_names": "multi-word names",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A title, column names (the first is text, the others are figures) and rows."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(result: Evaluation) -> Iterator[Table]:
    """Everything that was measured on one data set."""
    yield _rouge_table(result)
    yield _form_table(result)
    yield _truth_table(result)
    if result.belief:
        yield _attention_table(result)
    if result.long_input:
        yield _long_table(result)


def _rouge_table(result: Evaluation) -> Table:
    unit = writing(result.model.language).unit
    counted = "over characters" if unit == "characters" else "stemmed"
    several = ", best of references" if any(len(pair.wanted) > 1 for pair in result.pairs) else ""
    title = f"{result.data}, {len(result.pairs):,} rows: ROUGE F1 in percent, {counted}{several}, 95 % interval"
    rows = tuple((system.name, *map(_interval, system.rouge), f"{system.form.length:.1f}") for system in result.systems)
    return Table(title, ("system", "ROUGE-1", "ROUGE-2", "ROUGE-L", unit), rows)


def _form_table(result: Evaluation) -> Table:
    columns = ("system", "length / reference", "ended by itself", "a bigram twice", "a word twice in a row")
    rows = tuple(
        (
            system.name,
            f"{form.ratio:.2f}",
            _percent(100 * form.ended),
            _percent(100 * form.repeated_bigrams),
            _percent(100 * form.repeated_words),
        )
        for system in _generated(result)
        for form in [system.form]
        if form.ended is not None
    )
    return Table(f"{result.data}: form of the summaries", columns, rows)


def _truth_table(result: Evaluation) -> Table:
    columns = {"references": result.reference_truth} | {
        system.name: system.truth for system in _generated(result) if system.truth
    }
    rows = tuple(
        (label, *(_share(getattr(found, name)) for found in columns.values())) for name, label in _TRUTH.items()
    )
    return Table(f"{result.data}: what stands in the source", ("share that does", *columns), rows)


def _attention_table(result: Evaluation) -> Table:
    found, left = result.belief, result.leave_out
    assert found is not None
    rows = [
        ("largest weight on the only match", _share(found.on_match)),
        ("the same, words that were copied", _share(found.copied_on_match)),
        ("mean weight on the only match", f"{found.weight_on_match:.3f}"),
        ("entropy, nats", f"{found.entropy:.2f}"),
        ("entropy / that of even weights", f"{found.normalized:.2f}"),
        ("attention on the most attended source word", _percent(100 * found.sink)),
        ("attention on punctuation", _percent(100 * found.punctuation)),
    ]
    if left:
        rows += [
            ("summary changes without the three most attended words", _share(left.attended.changed)),
            ("summary changes without three random words", _share(left.random.changed)),
            ("ratio of these two", "" if left.ratio is None else f"{left.ratio:.2f}"),
            ("fall of log-probability without the most attended, nats a token", f"{left.attended.drop:.2f}"),
            ("fall of log-probability without random ones, nats a token", f"{left.random.drop:.2f}"),
        ]
    title = f"{result.data}: attention between words, {found.summaries:,} summaries, default options"
    return Table(title, ("measure", "value"), tuple(rows))


def _long_table(result: Evaluation) -> Table:
    unit = writing(result.model.language).unit
    rows = tuple(
        (
            entry.system,
            f"{entry.length:.0f}",
            _percent(100 * entry.truncated),
            *(f"{interval.mean:.2f}" for interval in entry.rouge),
            "" if entry.system == "plain" else " / ".join(f"{interval.mean:+.2f}" for interval in entry.change),
        )
        for entry in result.long_input
    )
    title = f"{result.data}: unrelated text appended up to so many {unit}, {result.long_input[0].rows:,} rows"
    return Table(title, ("input", unit, "cut", "ROUGE-1", "ROUGE-2", "ROUGE-L", "change"), rows)


def _generated(result: Evaluation) -> list[System]:
    return [system for system in result.systems if system.options]


def _interval(value: Interval) -> str:
    return f"{value.mean:.2f} [{value.low:.2f}, {value.high:.2f}]"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} %"


def _share(value: Share) -> str:
    return f"{_percent(value.percent)} of {value.of:,}" if value.of else "none"


def show(result: Evaluation) -> None:
    """Every table on the console."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    for table in tables(result):
        console.print(f"\n{table.title}")
        shown = RichTable(box=box.SIMPLE_HEAD)
        for index, column in enumerate(table.columns):
            shown.add_column(column, justify="right" if index else "left")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)


def command(results: Sequence[Evaluation]) -> str:
    """What makes these figures again, where the data lie beside it."""
    plan, defaults = dataclasses.asdict(results[0].plan), dataclasses.asdict(Plan())
    chosen = {name: value for name, value in plan.items() if value != defaults[name]}
    parts = [
        f"--name {results[0].model.name}",
        *(f"--data {result.data}" for result in results),
        *(f"--{name.replace('_', '-')} {value}" for name, value in chosen.items()),
        *([] if results[0].model.precision == "float32" else [f"--precision {results[0].model.precision}"]),
    ]
    return f"python -m training evaluate {' '.join(parts)}"


def markdown(results: Sequence[Evaluation]) -> str:
    """Tables for a card, below the facts that make them again."""
    first = results[0]
    options = ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(first.default).items())
    facts = (
        f"`{first.model.name}` ({first.model.digest}), {first.model.precision} on {first.model.device}, "
        f"torch {first.torch}; default options: {options}."
    )
    shown = [_markdown(table) for result in results for table in tables(result)]
    return "\n\n".join([facts, f"```sh\n{command(results)}\n```", *shown]) + "\n"


def _markdown(table: Table) -> str:
    lines = [table.columns, ("---", *["---:"] * (len(table.columns) - 1)), *table.rows]
    return "\n".join([f"**{table.title}**", "", *("| " + " | ".join(line) + " |" for line in lines)])


def scores(results: Sequence[Evaluation]) -> dict[str, Any]:
    """Every figure, with what is needed to make it again; no text of the data."""
    first = results[0]
    return {
        "checkpoint": {"name": first.model.name, "digest": first.model.digest, "parameters": first.model.parameters},
        "precision": first.model.precision,
        "device": first.model.device,
        "torch": first.torch,
        "command": command(results),
        "plan": dataclasses.asdict(first.plan),
        "data": [_figures(result) for result in results],
    }


def _figures(result: Evaluation) -> dict[str, Any]:
    return {
        "data": result.data,
        "rows": len(result.pairs),
        "systems": [_without_texts(system) for system in result.systems],
        "references": {"truth": _plain(result.reference_truth)},
        "attention": _plain(result.belief),
        "leave_out": _plain(result.leave_out),
        "long_input": _plain(result.long_input),
    }


def _without_texts(system: System) -> dict[str, Any]:
    return {name: value for name, value in _plain(system).items() if name != "summaries"}


def _plain(value: Any) -> Any:
    """Records as objects, with what follows from their fields; scores by the names of their measures."""
    if isinstance(value, tuple) and value and isinstance(value[0], Interval):
        return dict(zip(MEASURES, map(_plain, value), strict=True))
    if isinstance(value, tuple):
        return list(map(_plain, value))
    if not dataclasses.is_dataclass(value):
        return value
    found = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    derived = {Share: "percent", LeaveOut: "ratio"}.get(type(value))
    return found | ({derived: getattr(value, derived)} if derived else {})


def reading(results: Sequence[Evaluation], rows: int) -> str:
    """So many rows of each data set, at equal distances, to be judged by reading: id, text, reference, summary."""
    blocks = []
    for result in results:
        for row in spaced(len(result.pairs), rows):
            pair, summary = result.pairs[row], result.systems[-1].summaries[row]
            blocks.append(f"[{pair.id}] {pair.text}\n  reference: {pair.summary}\n  summary:   {summary}\n")
    return "\n".join(blocks)


def write(folder: Path, results: Sequence[Evaluation], rows_to_read: int) -> None:
    """`scores.json` and `scores.md` may be published; `summaries.jsonl` and `reading.txt` hold what the data hold."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "scores.json": json.dumps(scores(results), indent=1, ensure_ascii=False) + "\n",
        "scores.md": markdown(results),
        "summaries.jsonl": "".join(_summaries(results)),
        "reading.txt": reading(results, rows_to_read),
    }
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8")


def _summaries(results: Sequence[Evaluation]) -> Iterator[str]:
    for result in results:
        greedy, default = (system.summaries for system in _generated(result))
        for pair, *written in zip(result.pairs, greedy, default, strict=True):
            row = {"data": result.data, "id": pair.id, "greedy": written[0], "summary": written[1]}
            yield json.dumps(row, ensure_ascii=False) + "\n"
