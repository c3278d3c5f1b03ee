"""Peers are given the same network: what they write is what the service writes."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.engine.engine import Engine
from app.engine.request import SummaryRequest
from app.models.checkpoint import Checkpoint, write_manifest
from app.models.lstm.family import FREQUENT_FILE, load
from app.rules import repeated_ngram_tokens
from benchmarks.peers.items import Item
from benchmarks.peers.model import Summarizer, block_repeated_ngrams
from benchmarks.systems import System
from benchmarks.texts import mixed_texts

TEXTS = mixed_texts(6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published checkpoint, with the whole vocabulary, as peers have it."""
    path = tmp_path_factory.mktemp("peers") / "news-en"
    shutil.copytree(System("precis", "float32").folder, path)
    (path / FREQUENT_FILE).unlink(missing_ok=True)
    write_manifest(path)
    return path


@pytest.mark.parametrize("beams", [1, 4])
def test_a_peer_writes_what_the_service_writes(folder: Path, beams: int) -> None:
    model = load(Checkpoint(folder), device="cpu", precision="float32")
    options = replace(model.info.defaults, num_beams=beams, numbers_from_source=False)
    with Engine(model, max_rows=16, max_queue=8) as engine:
        expected = [future.result().text for future in engine.submit([SummaryRequest(text, options) for text in TEXTS])]
    assert len(set(expected)) == len(TEXTS)
    assert Summarizer(folder).summarize([Item(text, beams) for text in TEXTS]) == expected


def test_a_batch_of_several_beams_keeps_its_order(folder: Path) -> None:
    model = Summarizer(folder)
    items = [Item(TEXTS[0], 4), Item(TEXTS[1], 1), Item(TEXTS[1], 4), Item(TEXTS[0], 1)]
    assert model.summarize(items) == [model.summarize([item])[0] for item in items]


@given(st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=4), st.integers(0, 4))
def test_the_same_ngrams_are_blocked_as_in_our_search(rows: list[list[int]], size: int) -> None:
    scores = block_repeated_ngrams(torch.zeros(len(rows), 4), torch.tensor(rows), size)
    blocked = [set((row == -torch.inf).nonzero().flatten().tolist()) for row in scores]
    assert blocked == [set(repeated_ngram_tokens(row, size)) for row in rows]
