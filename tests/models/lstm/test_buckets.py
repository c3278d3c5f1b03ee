"""Shapes are a source's own, or make no difference."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from app.models.lstm.arithmetic import Arithmetic
from app.models.lstm.buckets import (
    ENCODED_ROWS,
    FEWEST_PLACES,
    Shape,
    bucket_width,
    buckets,
    buckets_in_use,
    encoder_passes,
)
from app.models.lstm.fixed import FixedStep, Sources
from app.models.lstm.network import Seq2Seq
from app.models.lstm.step import Stepped
from tests.models.lstm.checkpoints import FREQUENT, SMALL


class Unsteady(FixedStep):
    """Over one number of places it is off in the last place."""

    wrong = 0

    def __call__(self, tokens: Tensor, hidden: Tensor, cell: Tensor, sources: Sources) -> Stepped:
        stepped = super().__call__(tokens, hidden, cell, sources)
        if len(sources.keys) == self.wrong:
            stepped.attention[-1] = stepped.attention[-1].nextafter(torch.tensor(2.0))
        return stepped


@torch.inference_mode()
def test_a_bucket_that_is_not_bit_equal_is_not_used_but_where_nothing_else_fits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    step = Unsteady(Seq2Seq(SMALL).eval(), Arithmetic(torch.float32), torch.tensor(FREQUENT))
    assert buckets_in_use(step, Shape(128, 2), 32) == [8, 16, 32]
    assert not caplog.records
    step.wrong = 16
    assert buckets_in_use(step, Shape(128, 2), 32) == [8, 32]
    step.wrong = 32
    assert buckets_in_use(step, Shape(128, 2), 32) == [8, 16, 32]
    assert [record.message.rpartition("only ")[2] for record in caplog.records] == [
        "[8, 32] are bit-equal",
        "[8, 16] are bit-equal",
    ]


@given(st.integers(1, 5000))
def test_every_number_of_places_has_a_bucket_of_at_most_twice_as_many(places: int) -> None:
    largest = buckets(places)[-1]
    assert places <= largest < max(2 * places, FEWEST_PLACES + 1)
    assert all(size % FEWEST_PLACES == 0 for size in buckets(places))


@given(st.integers(1, 2000), st.integers(0, 2000))
def test_a_source_fits_its_width(positions: int, own: int) -> None:
    width = bucket_width(positions, own)
    assert max(positions, 2 * own) <= width < max(2 * max(positions, 2 * own), 129)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=100))
def test_how_a_source_is_encoded_is_its_own_affair(lengths: list[int]) -> None:
    passes = encoder_passes(lengths)
    assert sorted(number for numbers, _ in passes for number in numbers) == list(range(len(lengths)))
    assert all(len(numbers) <= ENCODED_ROWS for numbers, _ in passes)
    assert all(width == bucket_width(lengths[number], 0) for numbers, width in passes for number in numbers)
