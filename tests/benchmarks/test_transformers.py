"""Encoder-decoders with random weights are the same wherever they are made, and peers write the same with them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer

from app.models.checkpoint import verify
from benchmarks.folders import folder_of
from benchmarks.peers.items import Item, PeerModel
from benchmarks.peers.settings import PeerSettings
from benchmarks.texts import mixed_texts
from benchmarks.transformers import Plan, peer_rate

NAMES = ("bart-tiny", "t5-tiny")
TEXTS = mixed_texts(6)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("folders")
    for name in NAMES:
        folder_of(path, name)
    return path


def peer(folder: Path, runtime: str, length: int) -> PeerModel:
    return PeerSettings(folder=str(folder), runtime=runtime, length=length, threads=1).load()


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_is_whole_has_a_token_for_each_of_the_network_and_the_same_weights_again(
    store: Path, tmp_path: Path, name: str
) -> None:
    folder = folder_of(store, name)
    assert verify(folder) == verify(folder_of(tmp_path, name))
    assert len(AutoTokenizer.from_pretrained(folder)) == AutoConfig.from_pretrained(folder).vocab_size


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_generate_writes_what_each_text_gets_alone(store: Path, name: str, beams: int) -> None:
    model = peer(store / name, "generate", 8)
    items = [Item(text, beams) for text in TEXTS]
    summaries = model.summarize(items)
    assert summaries == [model.summarize([item])[0] for item in items]
    assert len(set(summaries)) > 1, "a summary depends on its text"


@pytest.mark.parametrize("name", NAMES)
def test_summaries_are_as_long_as_was_asked(store: Path, name: str) -> None:
    items = [Item(text, 1) for text in TEXTS]
    short, long = (peer(store / name, "generate", length).summarize(items) for length in (4, 9))
    for one, other in zip(short, long, strict=True):
        assert other.startswith(one)
        assert len(other) > len(one)


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("name", NAMES)
def test_ctranslate2_writes_what_generate_writes(store: Path, name: str, beams: int) -> None:
    pytest.importorskip("ctranslate2", reason="an extra of the benchmarks")
    from benchmarks.peers.ctranslate import convert

    convert(store / name)
    verify(store / name)
    items = [Item(text, beams) for text in TEXTS]
    written, expected = (peer(store / name, runtime, 8).summarize(items) for runtime in ("ctranslate2", "generate"))
    assert written == expected


def test_every_system_is_asked_for_summaries_of_one_length(tmp_path: Path) -> None:
    systems = Plan(sizes=["t5-tiny"], length=7, store=tmp_path).systems
    assert len({system.name for system in systems}) == len(systems) == 9
    for system in systems:
        asked = json.loads(system.body("A text.", 2))
        settings = system.environment(1)
        assert asked.get("parameters", {}).get("min_length") == (7 if system.ours else None)
        assert settings.get("PEER_LENGTH") == (None if system.ours else "7")
        assert system.reference == replace(
            PeerSettings(), runtime="generate", length=7, folder=f"{tmp_path}/t5-tiny/t5-tiny", precision="float32"
        )


def test_a_peers_rate_counts_every_text(store: Path) -> None:
    assert peer_rate(PeerSettings(f"{store}/t5-tiny", runtime="generate", length=2, batch=4, threads=1), TEXTS, 1) > 0
