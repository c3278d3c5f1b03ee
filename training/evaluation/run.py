"""One data set through one checkpoint: everything that is measured, in one record."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from app.engine.engine import Engine
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
    def language(self) -> str:
        return self.engine.info.language

    def system(self, name: str, summaries: Sequence[str]) -> System:
        wanted = [pair.wanted for pair in self.pairs]
        scores = rouge(wanted, summaries, writing(self.language).rouge())
        return System(name, tuple(summaries), bootstrap(scores, self.plan.seed), form(summaries, wanted, self.language))

    def generated(self, name: str, written: Sequence[Summary], options: DecodingOptions) -> System:
        system = self.system(name, [summary.text for summary in written])
        ended = sum(summary.finish_reason == "stop" for summary in written) / len(written)
        return replace(
            system, form=replace(system.form, ended=ended), options=options, truth=self.truth(system.summaries)
        )

    def truth(self, summaries: Sequence[str]) -> Truth:
        return truth([pair.text for pair in self.pairs], summaries, self.casing)


def evaluate(spec: str, model: Seq2SeqModel, plan: Plan) -> Evaluation:
    """Score a model on `PATH`, `PATH:ROWS` or `PATH:FROM-TO`: greedily, and with its default options.

    Raises ValueError when there is no row, and what the engine raises for a text that cannot be summarized.
    """
    default = model.info.defaults if plan.num_beams is None else replace(model.info.defaults, num_beams=plan.num_beams)
    pairs = tuple(read(spec))
    if not pairs:
        raise ValueError(f"{spec}: there is no row to evaluate")
    casing = Casing(text for pair in pairs for text in (pair.text, *pair.wanted))
    with Engine(model, max_rows=plan.max_rows, max_queue=QUEUE) as engine:
        return _evaluate(label(spec), _Bench(engine, pairs, plan, casing), default)


def label(spec: str) -> str:
    """A data set's name without the place where it lies: the last two parts of its path."""
    return "/".join(Path(spec).parts[-2:])


def _evaluate(data: str, bench: _Bench, default: DecodingOptions) -> Evaluation:
    info, pairs, plan = bench.engine.info, bench.pairs, bench.plan
    texts, wanted = [pair.text for pair in pairs], [pair.wanted for pair in pairs]
    systems = [bench.system(name, summaries) for name, summaries in baselines(texts, wanted, info.language)]
    greedy = replace(default, num_beams=1)
    written = summarize(bench.engine, [SummaryRequest(text, greedy, timeout=DAY) for text in texts], "greedy")
    systems.append(bench.generated(f"{info.name}, greedy", written, greedy))
    attended = frozenset(spaced(len(pairs), plan.attention_rows))
    requests = [SummaryRequest(text, default, attention=row in attended, timeout=DAY) for row, text in enumerate(texts)]
    written = summarize(bench.engine, requests, f"{default.num_beams} beams")
    systems.append(bench.generated(f"{info.name}, {default.num_beams} beams", written, default))
    seen = [row for row in sorted(attended) if written[row].summary_tokens]
    left_out = [seen[index] for index in spaced(len(seen), plan.leave_out_rows)]
    return Evaluation(
        data=data,
        model=info,
        torch=torch.__version__,
        plan=plan,
        default=default,
        pairs=pairs,
        systems=tuple(systems),
        reference_truth=bench.truth([pair.summary for pair in pairs]),
        belief=believe(map(aligned_words, (written[row] for row in seen))) if seen else None,
        leave_out=leave_out(
            bench.engine, [requests[row] for row in left_out], [written[row] for row in left_out], plan.seed
        ),
        long_input=tuple(
            long_input(
                bench.engine,
                pairs,
                written,
                spaced(len(pairs), plan.long_rows),
                default,
                writing(info.language),
                plan.seed,
            )
        ),
    )
