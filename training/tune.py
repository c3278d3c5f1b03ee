"""Decoding options tuned on validation data, through the engine that serves them.

Every combination is scored once: by the mean of ROUGE-1, -2 and -L, over all rows.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product

import numpy as np

from app.engine.engine import Engine, threads_for
from app.engine.request import SummaryRequest
from app.models.base import DecodingOptions, Seq2SeqModel
from training.data import Pair
from training.evaluation.rouge import Interval, Scores, bootstrap, rouge
from training.evaluation.run import QUEUE
from training.evaluation.summarizing import DAY
from training.evaluation.writing import writing

Grid = Mapping[str, Sequence[float]]  # fields of DecodingOptions, and the values to try
Measure = Callable[[DecodingOptions], float]

HEADER = (
    "beams penalty ngram  min  max ROUGE-1 ROUGE-2 ROUGE-L    mean  length    ended  better than the first by, 95 %"
)


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One combination and what came of it. `length` is in words or characters, `ended` a share."""

    options: DecodingOptions
    scores: Scores  # (rows, 3)
    length: float
    ended: float

    @property
    def mean(self) -> float:
        return float(self.scores.mean())

    def change(self, other: "Trial", seed: int) -> Interval:
        """How much better the mean is than the other's on the same rows."""
        differences = (self.scores - other.scores).mean(1, keepdims=True)  # (rows, 1)
        return bootstrap(differences, seed)[0]


def climb(start: DecodingOptions, grid: Grid, measure: Measure) -> DecodingOptions:
    """Coordinate ascent: vary one option, keep the best, go on to the next; until a whole round changes nothing."""
    best, before = start, None
    while best != before:
        before = best
        for name, values in grid.items():
            best = max([best, *_varied(best, {name: values})], key=measure)  # the first, so what is there, of equals
    return best


def exhaust(start: DecodingOptions, grid: Grid, measure: Measure) -> DecodingOptions:
    """The best of every combination there is."""
    return max([start, *_varied(start, grid)], key=measure)


def _varied(options: DecodingOptions, grid: Grid) -> Iterator[DecodingOptions]:
    for values in product(*grid.values()):
        yield replace(options, **dict(zip(grid, values, strict=True)))  # type: ignore[arg-type]  # ints where ints were


class Log:
    """Prints every trial as a row of a table, as it comes."""

    def __init__(self, seed: int = 1) -> None:
        self._seed = seed
        self._trials: list[Trial] = []

    def tried(self, trial: Trial) -> None:
        if not self._trials:
            print(HEADER)
        self._trials.append(trial)
        print(self._row(trial), flush=True)

    def found(self, best: Trial) -> None:
        """The last lines: the best again, and as it stands in a checkpoint's config.json."""
        print(f"\nbest of {len(self._trials)}:\n{self._row(best)}\n{json.dumps({'decoding': asdict(best.options)})}")

    def _row(self, trial: Trial) -> str:
        scores = " ".join(f"{score:7.2f}" for score in (*trial.scores.mean(0), trial.mean))
        row = f"{_line(trial.options)} {scores} {trial.length:7.1f} {100 * trial.ended:6.1f} %"
        if trial is self._trials[0]:
            return row
        change = trial.change(self._trials[0], self._seed)
        return f"{row}  {change.mean:+.2f} [{change.low:+.2f}, {change.high:+.2f}]"


def tune(
    model: Seq2SeqModel, pairs: Sequence[Pair], grid: Grid, *, every: bool = False, max_rows: int = 64, log: Log
) -> Trial:
    """The best trial, starting from the checkpoint's own options: coordinate by coordinate, or of `every` combination.

    Raises ValueError when there is no row, and what the engine raises for options that it does not take.
    """
    if not pairs:
        raise ValueError("there is no row to tune on")
    with Engine(model, max_rows=max_rows, max_queue=QUEUE, threads=threads_for(model.info, max_rows)) as engine:

        @cache
        def different(options: DecodingOptions) -> Trial:
            trial = attempt(engine, pairs, options)
            log.tried(trial)
            return trial

        def tried(options: DecodingOptions) -> Trial:
            greedy = options.num_beams == 1  # which ranks nothing, so that a penalty changes nothing
            return different(replace(options, length_penalty=1.0) if greedy else options)

        search = exhaust if every else climb
        best = tried(search(model.info.defaults, grid, lambda options: tried(options).mean))
    log.found(best)
    return best


def attempt(engine: Engine, pairs: Sequence[Pair], options: DecodingOptions) -> Trial:
    """Summarize every text with these options, and score the summaries."""
    requests = [SummaryRequest(pair.text, options, timeout=DAY) for pair in pairs]
    written = [future.result() for future in engine.submit(requests)]
    texts, style = [summary.text for summary in written], writing(engine.info.language)
    return Trial(
        options,
        rouge([pair.wanted for pair in pairs], texts, style.rouge()),
        length=float(np.mean([len(style.units(text)) for text in texts])),
        ended=float(np.mean([summary.finish_reason == "stop" for summary in written])),
    )


def grid_of(**lists: str) -> Grid:
    """Lists such as "1,2,4" as numbers, of the types that the options have; an empty list leaves its option alone.

    Raises ValueError when one is something else.
    """
    types = {name: type(value) for name, value in asdict(DecodingOptions()).items()}
    try:
        return {name: tuple(map(types[name], text.split(","))) for name, text in lists.items() if text}
    except ValueError as error:
        raise ValueError(f"options are tried as lists of numbers, such as 1,2,4: {error}") from error


def _line(options: DecodingOptions) -> str:
    return (
        f"{options.num_beams:5} {options.length_penalty:7g} {options.no_repeat_ngram_size:5} "
        f"{options.min_length:4} {options.max_length:4}"
    )
