"""What single measurements are made of."""

from dataclasses import replace
from pathlib import Path

import pytest

from app.engine.engine import Engine
from app.engine.request import SummaryRequest
from benchmarks.alone import BareLoop
from benchmarks.comparison import OFFLINE, OURS, PEERS, Plan, report, results
from benchmarks.connections import percentile
from benchmarks.scaling import sources
from benchmarks.tune import tunings
from tests.fakes import FakeModel, fake_info
from tests.texts import trained_tokenizer


@pytest.mark.parametrize("beams", [1, 3])
def test_the_bare_loop_writes_what_the_engine_writes(beams: int) -> None:
    model = FakeModel(fake_info())
    text, options = "Rain fell in 3 places", replace(model.info.defaults, num_beams=beams)
    with Engine(model, max_rows=8, max_queue=1) as engine:
        expected = engine.submit([SummaryRequest(text, options)])[0].result().text
    tokens = BareLoop(model, options).summarize(model.tokenize(text).ids)
    assert model.detokenize(tokens).text == expected
    assert model.occupied == 0


def test_a_percentile_is_the_edge_of_its_bucket() -> None:
    counts = {0.01: 90.0, 0.05: 99.0, 0.1: 100.0, float("inf"): 100.0}
    assert percentile(counts, 0.5) == 0.01
    assert percentile(counts, 0.99) == 0.05
    assert percentile(counts, 1.0) == 0.1
    assert percentile({}, 0.99) is None


def test_sources_have_the_length_that_was_asked_for() -> None:
    tokenizer = trained_tokenizer()
    pieces = sources(tokenizer, ["The council approved a bridge over the river."] * 20, 10)
    assert len(pieces) > 1
    assert {len(tokenizer.encode(piece).ids) for piece in pieces} <= {9, 10, 11}


def test_tuning_changes_one_thing_at_a_time_from_what_is_used() -> None:
    used, *others = tunings()
    assert used == Plan().tuning
    assert len(set(others)) == len(others)


def test_every_peer_is_measured_in_both_precisions() -> None:
    names = [system.name for system in Plan().systems]
    assert names == ["precis auto", *(f"{peer} {one}" for peer in PEERS for one in ("float32", "bfloat16"))]
    assert [system.kind for system in Plan(only=["ray", OFFLINE]).systems] == ["ray", "ray"]


def test_the_comparison_tells_the_ratios_to_the_best_peer_and_to_the_limit(tmp_path: Path) -> None:
    kept = results(tmp_path)
    same = {"round": 0, "beams": 1, "p50": 1.0, "p95": 1.0, "p99": 1.0, "errors": 0, "same": 1.0}
    for system, rate in ((f"{OURS} auto", 80.0), ("ray float32", 10.0), ("plain float32", 5.0), ("ray bfloat16", 40.0)):
        kept.add({**same, "kind": system.split()[0], "system": system, "clients": 64, "rate": rate})
    kept.add({"kind": OFFLINE, "system": "offline static", "round": 0, "beams": 1, "rows": 64, "rate": 100.0})
    assert "| 64 | 80.0 | 8.00 (ray float32) | 2.00 (ray bfloat16) | 0.80 |" in report(kept)
    assert (tmp_path / "comparison-1.png").exists()
