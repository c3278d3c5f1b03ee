"""Real texts of mixed length: whole abstracts of the committed CC0 sample, and their first sentences."""

import re
from pathlib import Path

from training.data import read

SAMPLE = Path(__file__).parent.parent / "training" / "sample" / "train.jsonl.zst"
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def mixed_texts(count: int) -> list[str]:
    """In turn one, two, three sentences and the whole of an abstract, each of another paper."""
    texts = []
    for index, pair in enumerate(read(f"{SAMPLE}:{count}")):
        sentences = _SENTENCE_END.split(pair.text)
        texts.append(" ".join(sentences[: index % 4 + 1]) if index % 4 < 3 else pair.text)
    if len(texts) < count:
        raise ValueError(f"the sample has {len(texts)} texts, not {count}")
    return texts
