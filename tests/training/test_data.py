"""Rows are read, packed and ordered without losing any."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from app.models.lstm.tokenizer import END, PAD, START
from tests.texts import trained_tokenizer
from tests.training.corpus import write_corpus
from training.data import Packed, Pair, collate, end_to_end, lengthen, pack, plan_epoch, read


def packed_of(lengths: list[int]) -> Packed:
    rows = [np.arange(3, 3 + length, dtype=np.uint16) for length in lengths]
    return end_to_end(rows, rows)


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=80),
    epoch=st.integers(0, 3),
    pairs=st.integers(1, 16),
    tokens=st.integers(60, 400),
)
def test_an_epoch_has_every_row_once_within_both_limits(
    lengths: list[int], epoch: int, pairs: int, tokens: int
) -> None:
    packed = packed_of(lengths)
    plan = plan_epoch(packed, epoch, 7, pairs, tokens)
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(lengths)))
    assert all(len(rows) <= pairs for rows in plan)
    assert all(len(rows) * packed.source_lengths[rows].max() <= tokens for rows in plan)


def test_epochs_differ_but_each_is_reproducible() -> None:
    packed = packed_of([5] * 40)
    first, again, second = (np.concatenate(plan_epoch(packed, epoch, 7, 8, 400)).tolist() for epoch in (0, 0, 1))
    assert first == again != second


def test_rows_of_one_length_share_batches_so_that_little_is_padded() -> None:
    packed = packed_of([10, 20, 30] * 100)
    plan = plan_epoch(packed, 0, 1, 50, 10_000)
    padded = sum(len(rows) * packed.source_lengths[rows].max() for rows in plan)
    assert padded == packed.source_lengths.sum()


def test_a_batch_is_padded_and_its_targets_are_its_inputs_shifted() -> None:
    batch = collate(packed_of([2, 4]), np.array([0, 1]))
    assert batch.source.tolist() == [[3, 4, PAD, PAD], [3, 4, 5, 6]]
    assert batch.lengths.tolist() == [2, 4]
    assert batch.inputs.tolist() == [[START, 3, 4, PAD, PAD], [START, 3, 4, 5, 6]]
    assert batch.targets.tolist() == [[3, 4, END, PAD, PAD], [3, 4, 5, 6, END]]


def test_plain_and_compressed_files_read_alike_and_stop_at_the_given_row(tmp_path: Path) -> None:
    plain = write_corpus(tmp_path / "rows.jsonl", 30)
    compressed = tmp_path / "rows.jsonl.zst"
    compressed.write_bytes(zstandard.ZstdCompressor().compress(plain.read_bytes()))
    assert list(read(str(plain))) == list(read(str(compressed)))
    assert len(list(read(f"{compressed}:7"))) == 7
    assert list(read(f"{compressed}:7-9")) == list(read(str(plain)))[7:9]


def test_a_row_may_have_several_references(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"text": "a", "summary": "b", "references": ["b", "c"]}\n{"text": "a", "summary": "b"}\n', encoding="utf-8"
    )
    assert [pair.wanted for pair in read(str(path))] == [("b", "c"), ("b",)]


@pytest.mark.parametrize(
    "line",
    [
        '{"text": "no summary"}',
        '{"text": "a", "summary": "b", "references": [1]}',
        "not json",
        '["a list"]',
        '{"text": null, "summary": "b"}',
        '{"text": 1, "summary"}',
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "summary": "b"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 2"):
        list(read(str(path)))


def test_pairs_without_words_or_with_too_long_a_summary_are_left_out() -> None:
    def pairs() -> Iterator[Pair]:
        yield Pair("1", "a bridge", "bridge")
        yield Pair("2", " ", "bridge")
        yield Pair("3", "a bridge", "")
        yield Pair("4", "a bridge", "bridge " * 50)

    packed = pack(pairs(), trained_tokenizer(), max_source=1, max_summary=20)
    assert len(packed) == 1
    assert packed.source_lengths.tolist() == [1]


def test_saved_arrays_come_back_equal(tmp_path: Path) -> None:
    packed = packed_of([3, 1, 2])
    packed.save(tmp_path / "packed.npz")
    again = Packed.load(tmp_path / "packed.npz")
    assert [again.source(row).tolist() for row in range(3)] == [packed.source(row).tolist() for row in range(3)]
    assert [again.select(np.array([2, 0])).summary(row).tolist() for row in range(2)] == [[3, 4], [3, 4, 5]]


@given(lengths=st.lists(st.integers(1, 30), min_size=2, max_size=40), share=st.floats(0, 1), longest=st.integers(1, 60))
def test_longer_sources_begin_with_their_own_text_and_keep_their_summary(
    lengths: list[int], share: float, longest: int
) -> None:
    packed = packed_of(lengths)
    longer = lengthen(packed, share, longest, 3)
    for row, length in enumerate(lengths):
        assert longer.source(row)[:length].tolist() == packed.source(row).tolist()
        assert len(longer.source(row)) <= max(length, longest)
        assert longer.summary(row).tolist() == packed.summary(row).tolist()


def test_about_the_wanted_share_of_sources_is_longer() -> None:
    packed = packed_of([5] * 2000)
    lengths = lengthen(packed, 0.3, 500, 1).source_lengths
    assert 0.25 < (lengths > 5).mean() < 0.32
    assert 0.1 < (lengths > 50).mean() < 0.2  # half of them: 50 is ten times 5, and 500 ten times 50
