"""How good a checkpoint is: ROUGE through the engine that serves it, beside lead baselines, and samples to read."""

import json
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rouge_score.rouge_scorer import RougeScorer

from app.engine.engine import Engine
from app.engine.request import Summary, SummaryRequest
from app.models.base import DecodingOptions
from app.models.registry import load
from training.data import Pair, read

MEASURES = ("rouge1", "rouge2", "rougeL")
LEAD_WORDS = (8, 11, 14)


@dataclass(frozen=True, slots=True)
class Scored:
    """One system over one data set: mean F1 of each measure in percent, and what it wrote."""

    system: str
    scores: tuple[float, ...]
    summaries: tuple[str, ...]
    ended: float | None = None  # share of summaries that the model ended itself


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All systems over one data set."""

    data: str
    model: str
    pairs: tuple[Pair, ...]
    systems: tuple[Scored, ...]


def rouge(references: Sequence[str], summaries: Sequence[str]) -> tuple[float, ...]:
    """Mean ROUGE-1/2/L F1 in percent, stemmed (Lin 2004, as `rouge-score` computes it)."""
    scorer = RougeScorer(MEASURES, use_stemmer=True)
    rows = [scorer.score(reference, summary) for reference, summary in zip(references, summaries, strict=True)]
    return tuple(100 * sum(row[measure].fmeasure for row in rows) / len(rows) for measure in MEASURES)


def summarize(engine: Engine, texts: Sequence[str], options: DecodingOptions) -> list[Summary]:
    """Every text, with the engine kept full; in order."""
    requests = [SummaryRequest(text, options, timeout=86_400.0) for text in texts]
    futures: list[Future[Summary]] = engine.submit(requests)
    return [future.result() for future in track(futures, "summarizing", transient=True)]


def evaluate(
    spec: str, store: Path, name: str, *, num_beams: int | None, precision: str, device: str, max_rows: int
) -> Evaluation:
    """Score a checkpoint of the store on `PATH` or `PATH:ROWS`."""
    pairs = tuple(read(spec))
    references = [pair.summary for pair in pairs]
    systems = [
        Scored(f"first {words} words", rouge(references, leads), tuple(leads))
        for words in LEAD_WORDS
        for leads in [[" ".join(pair.text.split()[:words]) for pair in pairs]]
    ]
    model = load(store, name, device=device, precision=precision)
    default = model.info.defaults if num_beams is None else replace(model.info.defaults, num_beams=num_beams)
    wanted = {f"{name}, greedy": replace(default, num_beams=1), f"{name}, {default.num_beams} beams": default}
    with Engine(model, max_rows=max_rows, max_queue=len(pairs)) as engine:
        for system, options in wanted.items():
            written = summarize(engine, [pair.text for pair in pairs], options)
            texts = tuple(summary.text for summary in written)
            ended = sum(summary.finish_reason == "stop" for summary in written) / len(written)
            systems.append(Scored(system, rouge(references, texts), texts, ended))
    return Evaluation(spec, name, pairs, tuple(systems))


def report(result: Evaluation, samples: int, output: Path | None) -> None:
    """Print the table and the samples; write every summary of the last system when a path is given."""
    console = Console()
    table = Table(title=f"{result.data}, {len(result.pairs)} rows: F1 in percent, stemmed")
    for column in ("system", "ROUGE-1", "ROUGE-2", "ROUGE-L", "words", "ended"):
        table.add_column(column, justify="left" if column == "system" else "right")
    for system in result.systems:
        words = sum(len(text.split()) for text in system.summaries) / len(system.summaries)
        ended = "" if system.ended is None else f"{100 * system.ended:.1f} %"
        table.add_row(system.system, *(f"{score:.2f}" for score in system.scores), f"{words:.1f}", ended)
    console.print(table)
    last = result.systems[-1]
    for index in range(0, len(result.pairs), max(1, len(result.pairs) // max(1, samples)))[:samples]:
        pair = result.pairs[index]
        console.print(f"\n[{pair.id}] {pair.text}", markup=False, highlight=False)
        console.print(f"  reference: {pair.summary}\n  {result.model}: {last.summaries[index]}", markup=False)
    if output is not None:
        lines = (
            json.dumps({"id": pair.id, "summary": text}, ensure_ascii=False)
            for pair, text in zip(result.pairs, last.summaries, strict=True)
        )
        output.write_text("\n".join(lines) + "\n", encoding="utf-8")
