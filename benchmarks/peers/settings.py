"""How a peer is run, in environment variables: every server starts its workers in a way of its own."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import torch

from benchmarks.peers.items import PeerModel

PREFIX = "PEER_"


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """`workers` processes hold a model each, whose kernels use `threads` cores. `wait_ms`: for a batch to fill.

    runtime: what runs the model, one of `RUNTIMES`. length: tokens of every summary; 0 leaves that to the checkpoint.
    """

    folder: str = "model_store/news-en"
    precision: str = "float32"
    runtime: str = "network"
    length: int = 0
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

    def load(self) -> PeerModel:
        """The model of this process. The libraries are imported here, for not every peer has all of them."""
        torch.set_num_threads(self.threads)
        return RUNTIMES[self.runtime](self)


def _network(settings: PeerSettings) -> PeerModel:
    from benchmarks.peers.model import Summarizer

    return Summarizer(Path(settings.folder), settings.precision)


def _generate(settings: PeerSettings) -> PeerModel:
    from benchmarks.peers.generate import Generator

    return Generator(Path(settings.folder), settings.precision, settings.length)


def _ctranslate2(settings: PeerSettings) -> PeerModel:
    from benchmarks.peers.ctranslate import Translator

    return Translator(Path(settings.folder), settings.precision, settings.length, settings.threads)


RUNTIMES: Mapping[str, Callable[[PeerSettings], PeerModel]] = {
    "network": _network,
    "generate": _generate,
    "ctranslate2": _ctranslate2,
}
