"""One data set through one checkpoint: everything that is measured, in one record."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from app.engine.engine import Engine, threads_for
from app.engine.request import Summary, SummaryRequest
from app.models.base import DecodingOptions, ModelInfo, Seq2SeqModel
from training.data import Pair, read
from training.evaluation.attention import Belief, LeaveOut, aligned_words, believe, leave_out
from training.evaluation.baselines import baselines
from training.evaluation.form import Form, form
from training.evaluation.long import LongInput, long_input
from training.evaluation.rouge import Interval, bootstrap, rouge
from training.evaluation.summarizing import DAY, spaced, summarize
from training.evaluation.truth import Casing, Truth, truth
from training.evaluation.writing import writing

QUEUE = 1_000_000  # texts; nobody is to be refused here


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of a data set the expensive parts see: rows at equal distances. 0 leaves a part out.

    num_beams: instead of the checkpoint's own default.
    """

    num_beams: int | None = None
    attention_rows: int = 1000
    leave_out_rows: int = 500
    long_rows: int = 500
    max_rows: int = 64
    seed: int = 1


@dataclass(frozen=True, slots=True)
class System:
    """What one system wrote, and how good it is. `options` and `truth` where a model wrote it."""

    name: str
    summaries: tuple[str, ...]
    rouge: tuple[Interval, ...]
    form: Form
    options: DecodingOptions | None = None
    truth: Truth | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that is known of a checkpoint on one data set."""

    data: str
    model: ModelInfo
    torch: str
    plan: Plan
    default: DecodingOptions
    pairs: tuple[Pair, ...]
    systems: tuple[System, ...]
    reference_truth: Truth
    belief: Belief | None
    leave_out: LeaveOut | None
    long_input: tuple[LongInput, ...]


@dataclass(frozen=True, slots=True)
class _Bench:
    """What every measurement of one data set needs."""

    engine: Engine
    pairs: tuple[Pair, ...]
    plan: Plan
    casing: Casing

    @property
    def texts(self) -> list[str]:
        return [pair.text for pair in self.pairs]

    @property
    def wanted(self) -> list[tuple[str, ...]]:
        return [pair.wanted for pair in self.pairs]

    def baselines(self) -> list[System]:
        found = baselines(self.texts, self.wanted, self.engine.info.language)
        return [self._system(name, summaries) for name, summaries in found]

    def summarize(self, options: DecodingOptions, attended: Collection[int] = ()) -> list[Summary]:
        """Every text; with attention for these rows."""
        requests = [
            SummaryRequest(text, options, attention=row in attended, timeout=DAY) for row, text in enumerate(self.texts)
        ]
        return summarize(self.engine, requests, describe(options))

    def generated(self, written: Sequence[Summary], options: DecodingOptions) -> System:
        name = f"{self.engine.info.name}, {describe(options)}"
        ended = sum(summary.finish_reason == "stop" for summary in written) / len(written)
        system = self._system(name, [summary.text for summary in written], ended)
        return replace(system, options=options, truth=truth(self.texts, system.summaries, self.casing))

    def leave_out(self, written: Sequence[Summary], seen: Sequence[int], options: DecodingOptions) -> LeaveOut | None:
        rows = [seen[index] for index in spaced(len(seen), self.plan.leave_out_rows)]
        chosen = [(self.pairs[row].text, written[row]) for row in rows]
        return leave_out(self.engine, chosen, options, self.plan.seed)

    def long_input(self, written: Sequence[Summary], options: DecodingOptions) -> tuple[LongInput, ...]:
        rows = spaced(len(self.pairs), self.plan.long_rows)
        return tuple(long_input(self.engine, self.pairs, written, rows, options, self.plan.seed))

    def _system(self, name: str, summaries: Sequence[str], ended: float | None = None) -> System:
        language = self.engine.info.language
        scores = rouge(self.wanted, summaries, writing(language).rouge())
        found = form(summaries, self.wanted, language, ended)
        return System(name, tuple(summaries), bootstrap(scores, self.plan.seed), found)


def describe(options: DecodingOptions) -> str:
    return "greedy" if options.num_beams == 1 else f"{options.num_beams} beams"


def evaluate(spec: str, model: Seq2SeqModel, plan: Plan) -> Evaluation:
    """Score a model on `PATH`, `PATH:ROWS` or `PATH:FROM-TO`: greedily, and with its default options.

    Raises ValueError when there is no row, and what the engine raises for a text that cannot be summarized.
    """
    default = model.info.defaults if plan.num_beams is None else replace(model.info.defaults, num_beams=plan.num_beams)
    pairs = tuple(read(spec))
    if not pairs:
        raise ValueError(f"{spec}: there is no row to evaluate")
    casing = Casing(text for pair in pairs for text in (pair.text, *pair.wanted))
    threads = threads_for(model.info, plan.max_rows)
    with Engine(model, max_rows=plan.max_rows, max_queue=QUEUE, threads=threads) as engine:
        return _evaluate(label(spec), _Bench(engine, pairs, plan, casing), default)


def label(spec: str) -> str:
    """A data set's name without the place where it lies: the last two parts of its path."""
    return "/".join(Path(spec).parts[-2:])


def _evaluate(data: str, bench: _Bench, default: DecodingOptions) -> Evaluation:
    attended = spaced(len(bench.pairs), bench.plan.attention_rows)
    greedy = replace(default, num_beams=1)
    systems = [*bench.baselines(), bench.generated(bench.summarize(greedy), greedy)]
    written = bench.summarize(default, frozenset(attended))
    systems.append(bench.generated(written, default))
    seen = [row for row in attended if written[row].summary_tokens]
    return Evaluation(
        data=data,
        model=bench.engine.info,
        torch=torch.__version__,
        plan=bench.plan,
        default=default,
        pairs=bench.pairs,
        systems=tuple(systems),
        reference_truth=truth(bench.texts, [pair.summary for pair in bench.pairs], bench.casing),
        belief=believe(aligned_words(written[row]) for row in seen) if seen else None,
        leave_out=bench.leave_out(written, seen, default),
        long_input=bench.long_input(written, default),
    )
