"""Scores are those of `rouge-score`; intervals those of its own, slower bootstrap."""

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.scoring import BootstrapAggregator, Score

from training.evaluation.rouge import MEASURES, bootstrap, rouge
from training.evaluation.writing import CHARACTERS, WORDS

REFERENCES = ["Council approves new bridges over the river", "Storms close 20 schools", "Mayor resigns"]
SUMMARIES = ["New bridge over river approved", "Schools closed by a storm, 20 of them", "Bridge"]


def test_english_scores_are_the_librarys_stemmed_ones() -> None:
    scorer = RougeScorer(MEASURES, use_stemmer=True)
    expected = [
        [100 * scorer.score(reference, summary)[measure].fmeasure for measure in MEASURES]
        for reference, summary in zip(REFERENCES, SUMMARIES, strict=True)
    ]
    scores = rouge([[reference] for reference in REFERENCES], SUMMARIES, WORDS.rouge())
    np.testing.assert_allclose(scores, expected)
    assert scores[0, 1] > 0 == scores[2].max()


def test_of_several_references_each_measure_takes_the_best() -> None:
    alone = [rouge([[reference]], SUMMARIES[:1], WORDS.rouge())[0] for reference in REFERENCES]
    together = rouge([REFERENCES], SUMMARIES[:1], WORDS.rouge())[0]
    np.testing.assert_array_equal(together, np.max(alone, axis=0))


def test_chinese_is_scored_by_characters() -> None:
    # 6 of 8 characters are shared, in the same order; 4 of the 7 pairs.
    (scores,) = rouge([["北京举行新闻会议"]], ["北京，举办新闻大会。"], CHARACTERS.rouge())
    np.testing.assert_allclose(scores, [100 * 6 / 8, 100 * 3 / 7, 100 * 6 / 8])


def test_intervals_are_those_of_the_librarys_own_bootstrap() -> None:
    scores = np.random.default_rng(5).beta(2, 3, size=(400, 3)) * 100
    aggregator = BootstrapAggregator(n_samples=1000)
    np.random.seed(1)  # the library draws from numpy's global generator
    for row in scores:
        aggregator.add_scores({name: Score(value, value, value) for name, value in zip(MEASURES, row, strict=True)})
    theirs = aggregator.aggregate()
    spread = scores.std() / np.sqrt(len(scores))
    for name, ours in zip(MEASURES, bootstrap(scores, seed=1), strict=True):
        assert ours.low == pytest.approx(theirs[name].low.fmeasure, abs=spread / 4)
        assert ours.mean == pytest.approx(theirs[name].mid.fmeasure, abs=spread / 4)
        assert ours.high == pytest.approx(theirs[name].high.fmeasure, abs=spread / 4)


def test_every_system_is_resampled_alike() -> None:
    scores = np.random.default_rng(5).random((50, 3))
    first, other = bootstrap(scores, seed=3), bootstrap(scores + 1, seed=3)
    assert [one.low + 1 for one in first] == pytest.approx([one.low for one in other])
    assert [one.high + 1 for one in first] == pytest.approx([one.high for one in other])
    assert bootstrap(scores, seed=4) != first
