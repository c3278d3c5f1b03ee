import json
from itertools import product
from pathlib import Path

import pytest
import torch

from benchmarks import roofline
from benchmarks.counting import PRECISIONS, Shape
from benchmarks.roofline import as_json, as_markdown, measure, multiplication, seconds_each
from tests.models.lstm.checkpoints import WITH_KERNELS, write_checkpoint

PLAIN = [Shape(1, 4, 64, 96), Shape(1, 1, 64, 1)]
BATCHED = Shape(3, 2, 64, 40)  # attention, never in int8
pytestmark = WITH_KERNELS


@pytest.mark.parametrize(("kind", "shape"), [*product(PRECISIONS, PLAIN), ("float32", BATCHED), ("bfloat16", BATCHED)])
def test_what_is_timed_is_a_product_of_that_shape(kind: str, shape: Shape) -> None:
    result = multiplication(kind, shape)()
    assert isinstance(result, torch.Tensor)
    assert result.shape[-2:] == (shape.rows, max(shape.outer, 32))
    assert result.numel() == shape.batch * shape.rows * max(shape.outer, 32)


def test_every_core_measures_for_itself() -> None:
    threads: list[int] = []

    def prepare() -> roofline.Action:
        threads.append(torch.get_num_threads())
        return lambda: None

    assert seconds_each(prepare, 3) > 0
    assert threads == [1, 1, 1]


@pytest.mark.parametrize("beams", [1, 2])
def test_a_checkpoint_has_a_roofline_in_every_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beams: int
) -> None:
    write_checkpoint(tmp_path / "store")
    monkeypatch.setattr(roofline, "SECONDS", 0.0)
    monkeypatch.setattr(roofline, "FEWEST", 1)
    monkeypatch.setattr(roofline, "WORKING_SETS", (1 << 16, 1 << 18))
    found = measure(tmp_path / "store", "small", 4, beams, [1, 4])
    cores = len(found.machines)
    assert len(found.rows) == len(PRECISIONS) * 2 * cores
    assert all(row.limit.rate > 0 and row.peak.rate > 0 for row in found.rows)
    assert all(row.limit.rate <= row.peak.rate for row in found.rows)
    figures = json.loads(json.dumps(as_json(found)))
    assert len(figures["rows"]) == len(found.rows)
    assert figures["machines"][0]["throughput"]
    text = as_markdown(found)
    assert all(precision in text for precision in PRECISIONS)
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1
