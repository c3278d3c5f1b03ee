"""The search for decoding options finds what it should, scores nothing twice, and says what it tried."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from app.models.base import DecodingOptions
from tests.fakes import WORDS, FakeModel
from tests.models.lstm.checkpoints import write_checkpoint
from tests.training.corpus import write_corpus
from training.__main__ import app
from training.data import Pair
from training.tune import Log, Trial, climb, exhaust, grid_of, tune

START = DecodingOptions()
GRID = {"num_beams": (1, 2, 4), "length_penalty": (0.5, 1.0, 2.0), "min_length": (0, 6)}
PAIRS = [Pair(str(row), " ".join(WORDS[row : row + 9]), " ".join(WORDS[row : row + 4])) for row in range(5)]
EVERY = {(START.num_beams, START.length_penalty, START.min_length), *itertools.product(*GRID.values())}


def chosen(options: DecodingOptions) -> tuple[float, ...]:
    return options.num_beams, options.length_penalty, options.min_length


@st.composite
def measures(draw: st.DrawFn) -> Callable[[DecodingOptions], float]:
    """A made-up score for each combination; few values, so that many are equal."""
    scores = {combination: draw(st.integers(0, 5)) for combination in sorted(EVERY)}
    return lambda options: scores[chosen(options)]


@given(measures())
def test_no_single_change_betters_what_the_climb_found(measure: Callable[[DecodingOptions], float]) -> None:
    found = climb(START, GRID, measure)
    assert measure(found) >= measure(START)
    for position, values in enumerate(GRID.values()):
        for value in values:
            changed = [*chosen(found)]
            changed[position] = value
            assert measure(DecodingOptions(int(changed[0]), 32, int(changed[2]), changed[1])) <= measure(found)


@given(measures())
def test_every_combination_is_held_against_the_others(measure: Callable[[DecodingOptions], float]) -> None:
    best = max(measure(DecodingOptions(int(beams), 32, int(shortest), penalty)) for beams, penalty, shortest in EVERY)
    assert measure(exhaust(START, GRID, measure)) == best


@given(st.sampled_from([climb, exhaust]))
def test_options_that_change_nothing_stay_as_they_are(search: Callable[..., DecodingOptions]) -> None:
    assert search(START, GRID, lambda _: 1.0) == START


class Recording(Log):
    """Keeps what it is told as well."""

    def __init__(self) -> None:
        super().__init__()
        self.trials: list[Trial] = []

    def tried(self, trial: Trial) -> None:
        self.trials.append(trial)
        super().tried(trial)


@pytest.mark.parametrize("every", [True, False])
def test_each_combination_is_scored_once_and_the_best_wins(every: bool) -> None:
    log = Recording()
    grid = {"num_beams": (1, 2, 3), "length_penalty": (0.0, 1.0), "min_length": (0, 3, 5)}
    best = tune(FakeModel(), PAIRS, grid, every=every, log=log)
    tried = [trial.options for trial in log.trials]
    assert tried[0] == FakeModel().info.defaults
    assert len(set(tried)) == len(tried)
    assert len(tried) == 15 or not every, "the length penalty is nothing to greedy search"
    assert best.mean == max(trial.mean for trial in log.trials)
    assert len({trial.mean for trial in log.trials}) > 1


def test_a_trial_knows_scores_lengths_endings_and_its_change(capsys: pytest.CaptureFixture[str]) -> None:
    log = Recording()
    best = tune(FakeModel(), PAIRS, {"max_length": (2, 8)}, log=log)
    (short,) = (trial for trial in log.trials if trial.options.max_length == 2)
    assert short.length <= 2
    assert 0 <= short.ended <= 1
    assert short.scores.shape == (5, 3)
    change = best.change(short, seed=1)
    assert change.mean == pytest.approx(best.mean - short.mean)
    assert change.low <= change.mean <= change.high
    printed = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("    2 ") for line in printed) == len(log.trials) + 1, "each trial, and the best again"
    assert json.loads(printed[-1])["decoding"]["max_length"] == best.options.max_length


def test_a_change_is_measured_on_the_same_rows() -> None:
    scores = np.arange(30.0).reshape(10, 3)
    trials = [Trial(START, scores + added, 1.0, 1.0) for added in (0.0, 0.5)]
    change = trials[1].change(trials[0], seed=1)
    assert (change.low, change.mean, change.high) == pytest.approx((0.5, 0.5, 0.5))


def test_lists_become_numbers_of_the_options_own_types() -> None:
    grid = grid_of(num_beams="1,2", length_penalty="1,0.5", max_length="")
    assert grid == {"num_beams": (1, 2), "length_penalty": (1.0, 0.5)}
    assert [type(value) for values in grid.values() for value in values] == [int, int, float, float]
    with pytest.raises(ValueError, match="lists of numbers"):
        grid_of(num_beams="1,two")


def test_nothing_is_tuned_on_nothing() -> None:
    with pytest.raises(ValueError, match="no row to tune on"):
        tune(FakeModel(), [], GRID, log=Log())


def test_the_command_tunes_a_checkpoint_of_the_store(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "store")
    data = write_corpus(tmp_path / "rows.jsonl", 8)
    paths = [f"--data={data}", f"--store={tmp_path / 'store'}", "--name=small"]
    lists = ["--num-beams=1,2", "--length-penalty=", "--no-repeat-ngram-size=0,2", "--min-length="]
    result = CliRunner().invoke(app, ["tune", *paths, *lists, "--every"])
    assert result.exit_code == 0, result.output
    assert "best of 4" in result.output
