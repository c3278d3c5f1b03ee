"""From JSON lines to a run folder: a vocabulary and packed token ids."""

import dataclasses
import itertools
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.models.lstm.tokenizer import Tokenizer
from training.data import Packed, Pair, Vocabulary, file_of, pack, read

HELD_OUT = 0.05
MOST_HELD_OUT = 2_000
_SERIES = re.compile(r"【([^】]+)】\s*(?=\S)")


@dataclass(frozen=True, slots=True)
class Prepared:
    """Pairs to train on and to validate with; tokens in the vocabulary."""

    training: int
    validation: int
    vocabulary: int


def prepare(
    run: Path,
    train: Sequence[str],
    valid: Sequence[str] = (),
    *,
    vocabulary_size: int = 16_000,
    max_source: int = 400,
    max_summary: int = 64,
    seed: int = 1,
    language: str = "en",
    tokenizer: Path | None = None,
    kind: type[Vocabulary] = Tokenizer,
) -> Prepared:
    """Write `tokenizer.json`, `train.npz` and `valid.npz` into `run`, or find them there from before.

    Without validation data some of the training pairs are held out. With a `tokenizer` none is trained; else `language`
    (a BCP 47 tag) says how words are cut. `kind` is what trains and reads it.

    Raises ValueError when the folder was prepared from other data or settings.
    """
    run.mkdir(parents=True, exist_ok=True)
    given = {"language": language} if tokenizer is None else {"tokenizer": str(tokenizer)}
    identity = _identity(train, valid, given, vocabulary_size, max_source, max_summary, seed)
    record = run / "prepared.json"
    if not record.exists():
        if tokenizer is None:
            kind.train(_sides(read_all(train)), vocabulary_size, language).save(run / "tokenizer.json")
        else:
            shutil.copyfile(tokenizer, run / "tokenizer.json")
        _prepare(run, kind.load(run / "tokenizer.json"), train, valid, max_source, max_summary, seed)
        record.write_text(identity, encoding="utf-8")
    elif record.read_text(encoding="utf-8") != identity:
        raise ValueError(f"{run} was prepared from other data or settings; remove it or choose another name")
    training, validation = (Packed.load(run / f"{name}.npz") for name in ("train", "valid"))
    return Prepared(len(training), len(validation), kind.load(run / "tokenizer.json").vocabulary_size)


def _prepare(
    run: Path,
    tokenizer: Vocabulary,
    train: Sequence[str],
    valid: Sequence[str],
    max_source: int,
    max_summary: int,
    seed: int,
) -> None:
    training = pack(map(without_series, read_all(train)), tokenizer, max_source, max_summary)
    if valid:
        validation = pack(map(without_series, read_all(valid)), tokenizer, max_source, max_summary)
    else:
        training, validation = hold_out(training, seed)
    training.save(run / "train.npz")
    validation.save(run / "valid.npz")


def without_series(pair: Pair) -> Pair:
    """Without the name of a series in 【 】 at the head of a summary, unless the text has it.

    Nobody could tell it from the text: a model that learns to write such names makes them up.
    """
    series = _SERIES.match(pair.summary)
    if series is None or series[1] in pair.text:
        return pair
    return dataclasses.replace(pair, summary=pair.summary[series.end() :])


def hold_out(packed: Packed, seed: int) -> tuple[Packed, Packed]:
    """Training and validation rows, drawn at random.

    Raises ValueError when there are fewer than two pairs.
    """
    if len(packed) < 2:
        raise ValueError("one pair is not enough to train on and to validate with")
    count = max(1, min(MOST_HELD_OUT, int(len(packed) * HELD_OUT)))
    order = np.random.default_rng(seed).permutation(len(packed))
    return packed.select(np.sort(order[count:])), packed.select(np.sort(order[:count]))


def read_all(specs: Sequence[str]) -> Iterator[Pair]:
    """Rows of several files, each `PATH`, `PATH:ROWS` or `PATH:FROM-TO`."""
    return itertools.chain.from_iterable(read(spec) for spec in specs)


def _sides(pairs: Iterable[Pair]) -> Iterator[str]:
    for pair in pairs:
        yield pair.text
        yield pair.summary


def _identity(train: Sequence[str], valid: Sequence[str], given: dict[str, str], *settings: int) -> str:
    """What a prepared folder depends on: names and sizes of the files, and the settings."""
    files = [[(spec, file_of(spec).stat().st_size) for spec in specs] for specs in (train, valid)]
    return json.dumps({"files": files, "settings": settings, **given})
