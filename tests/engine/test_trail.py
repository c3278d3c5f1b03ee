"""Attention follows the hypothesis that won, and copied shares are shares of its tokens' probabilities."""

import math

import numpy as np
import pytest
import torch

from app.engine.trail import TOP_SOURCES, AttentionTrail, keep, top_sources
from app.models.base import StepOutput
from app.search import Hypothesis


def step(attention: list[list[float]], copied: list[float] | None) -> StepOutput:
    gate = torch.tensor(copied) if copied else None
    return StepOutput(torch.zeros(len(attention), 9), torch.tensor(attention), gate)


def test_the_winners_rows_are_followed_through_their_parents() -> None:
    trail = AttentionTrail([5, 6, 5])
    trail.record(step([[9, 9, 9, 0], [0.1, 0.2, 0.7, 0]], [0.0, 0.5]), slice(1, 2))
    trail.record(step([[0.3, 0.3, 0.4], [0.5, 0.25, 0.25]], [0.1, 1.0]), slice(0, 2))
    trail.record(step([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [0.1, 0.1]), slice(0, 2))  # the end token's step
    weights, copied, _ = trail.follow(Hypothesis((5, 6), (math.log(0.8), math.log(0.1)), (0, 1), -0.1))
    np.testing.assert_array_equal(weights, np.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]], np.float32))
    assert copied == pytest.approx([0.5 * 0.8 / 0.8, 1.0])  # the second is 0.25 / 0.1 and is clipped


def test_what_is_recorded_does_not_change_with_the_models_buffers() -> None:
    trail = AttentionTrail([5])
    output = step([[1.0]], None)
    trail.record(keep(output), slice(0, 1))
    output.attention.zero_()
    weights, copied, _ = trail.follow(Hypothesis((5,), (-0.1,), (0,)))
    assert weights.tolist() == [[1.0]]
    assert copied is None


def test_attention_that_is_not_finite_is_an_error() -> None:
    trail = AttentionTrail([5])
    trail.record(step([[math.nan]], None), slice(0, 1))
    with pytest.raises(ArithmeticError):
        trail.follow(Hypothesis((5,), (-0.1,), (0,)))


def test_the_largest_sources_of_a_row_are_within_its_own_source() -> None:
    attention = torch.tensor(
        [[0.125, 0.5, 0.25, 0.0625, 0.03125, 0.03125], [1, 0, 0, 0, 0, 0], [0.25, 0.75, 0, 0, 0, 0]]
    )
    assert TOP_SOURCES == 5
    wide, one, two = top_sources(attention, [0, 1, 2])
    assert wide[:4] == ((1, 0.5), (2, 0.25), (0, 0.125), (3, 0.0625))
    assert len(wide) == 5
    assert (one, two) == (((0, 1.0),), ((1, 0.75), (0, 0.25)))
    assert top_sources(attention, [2]) == [two]
    assert top_sources(attention[:, :2], [2]) == [two]
