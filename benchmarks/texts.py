"""Real texts of mixed length: whole abstracts of the committed CC0 sample, and their first sentences."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from training.data import Pair, read

SAMPLE = Path(__file__).parent.parent / "training" / "sample" / "train.jsonl.zst"
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def mixed(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """In turn one, two, three sentences and the whole of a text, each of another pair."""
    for index, pair in enumerate(pairs):
        sentences = _SENTENCE_END.split(pair.text)
        yield pair if index % 4 == 3 else replace(pair, text=" ".join(sentences[: index % 4 + 1]))


def mixed_texts(count: int) -> list[str]:
    """Those of the committed sample."""
    texts = [pair.text for pair in mixed(read(f"{SAMPLE}:{count}"))]
    if len(texts) < count:
        raise ValueError(f"the sample has {len(texts)} texts, not {count}")
    return texts
