"""How a peer is run, in environment variables: every server starts its workers in a way of its own."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import torch

from benchmarks.peers.model import Summarizer

PREFIX = "PEER_"


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """`workers` processes hold a model each, whose kernels use `threads` cores. `wait_ms`: for a batch to fill."""

    folder: str = "model_store/news-en"
    precision: str = "float32"
    batch: int = 32
    wait_ms: int = 10
    workers: int = 1
    threads: int = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    port: int = 8000

    def environment(self) -> dict[str, str]:
        return {f"{PREFIX}{name.upper()}": str(value) for name, value in asdict(self).items()}

    @classmethod
    def read(cls) -> Self:
        """Those of the environment."""
        known = asdict(cls())
        given = {name: os.environ.get(f"{PREFIX}{name.upper()}", value) for name, value in known.items()}
        return cls(**{name: type(known[name])(value) for name, value in given.items()})

    def load(self) -> Summarizer:
        """The model of this process."""
        torch.set_num_threads(self.threads)
        return Summarizer(Path(self.folder), self.precision)
