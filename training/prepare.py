"""From JSON lines to a run folder: a vocabulary and packed token ids."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from app.models.lstm.tokenizer import Tokenizer
from training.data import Pair, pack, read


def read_all(specs: Sequence[str]) -> Iterator[Pair]:
    """Rows of several files, each `PATH` or `PATH:ROWS`."""
    return itertools.chain.from_iterable(read(spec) for spec in specs)


def prepare(
    run: Path,
    train: Sequence[str],
    valid: Sequence[str],
    *,
    vocabulary_size: int = 16_000,
    max_source: int = 400,
    max_summary: int = 64,
) -> dict[str, int]:
    """Write `tokenizer.json`, `train.npz` and `valid.npz` into `run`; how many pairs each holds.

    An existing `tokenizer.json` is kept, so that more data can be prepared for a vocabulary that is already in use.
    """
    run.mkdir(parents=True, exist_ok=True)
    path = run / "tokenizer.json"
    if not path.exists():
        Tokenizer.train(_sides(read_all(train)), vocabulary_size).save(path)
    tokenizer = Tokenizer.load(path)
    counts = {}
    for name, specs in (("train", train), ("valid", valid)):
        packed = pack(read_all(specs), tokenizer, max_source, max_summary)
        packed.save(run / f"{name}.npz")
        counts[name] = len(packed)
    return counts


def _sides(pairs: Iterable[Pair]) -> Iterator[str]:
    for pair in pairs:
        yield pair.text
        yield pair.summary
