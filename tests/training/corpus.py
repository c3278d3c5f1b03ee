"""A made-up language in which a summary is the capitalised words of its text: quick to learn, free to commit."""

import json
import random
from pathlib import Path

NAMES = ("Anda", "Belo", "Cira", "Dorn", "Esko", "Fara", "Gild", "Hova")
WORDS = ("the", "river", "was", "seen", "by", "many", "people", "near", "old", "town", "on", "monday")


def write_corpus(path: Path, rows: int, seed: int = 0) -> Path:
    """JSON lines of `text` and `summary`."""
    source = random.Random(seed)
    lines = []
    for index in range(rows):
        words = [source.choice(NAMES if source.random() < 0.25 else WORDS) for _ in range(source.randint(5, 14))]
        names = [word for word in words if word in NAMES] or ["Nobody"]
        lines.append(json.dumps({"id": str(index), "text": " ".join(words), "summary": " ".join(names)}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
