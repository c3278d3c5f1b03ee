"""BentoML with adaptive batching: `bentoml serve benchmarks.peers.bento:Summarize`.

How long a batch waits is BentoML's own choice, from what it measures; `max_latency_ms` is where it begins to refuse.
"""

import bentoml
from pydantic import BaseModel

from benchmarks.peers.items import Item
from benchmarks.peers.settings import PeerSettings

SETTINGS = PeerSettings.read()
LONGEST_MS = 600_000


class Request(BaseModel):
    """One text."""

    text: str
    beams: int


@bentoml.service(workers=SETTINGS.workers, traffic={"timeout": LONGEST_MS // 1000, "max_concurrency": 4096})
class Summarize:
    """One batch at a time."""

    def __init__(self) -> None:
        self._model = SETTINGS.load()

    @bentoml.api(batchable=True, max_batch_size=SETTINGS.batch, max_latency_ms=LONGEST_MS)
    def summarize(self, items: list[Request]) -> list[str]:
        return self._model.summarize([Item(item.text, item.beams) for item in items])
