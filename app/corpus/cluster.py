"""The same over Ray Data: the input is read here, shards travel to engines on all nodes, finished ones come back."""

import logging
import os
import pickle
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Self

import pyarrow as pa
import ray
import ray.data
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from app.api.requests import decoding_options
from app.config import Settings, let_waiting_threads_sleep
from app.corpus.run import model_facts
from app.corpus.shards import Corpus, Done
from app.errors import CheckpointError, CorpusError, in_one_line
from app.models.base import ModelInfo
from app.schemas import Options

SHARDS_AT_ONCE = 2  # in one engine: the second fills the rows that the last texts of the first leave
WATCH_SECONDS = 2.0  # between two looks at the nodes
COLUMN = "content"


class Cluster:
    """Workers on a Ray cluster: each an engine with a GPU, or with a core where there is none.

    Raises CorpusError where there is no cluster, or where not all of its nodes have the same model.
    """

    def __init__(self, address: str, replicas: int | None, settings: Settings, options: Options, pointer: str) -> None:
        if address.startswith("ray://"):
            raise CorpusError("--ray: run this on a machine of the cluster, where its address is auto")
        self._address, self._most = address, replicas
        self._settings = settings.model_copy(update={"model_store": settings.model_store.absolute()})
        self._options, self._pointer = options, pointer

    def __enter__(self) -> Self:
        self._connect()
        try:
            nodes = self._nodes()
            self.replicas = sum(nodes.values()) if self._most is None else min(self._most, sum(nodes.values()))
            self.info = _same_model(self._settings, self._resource, list(nodes))
            decoding_options(self._options.parameters, self.info)
        except BaseException:
            ray.shutdown()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        ray.shutdown()

    @property
    def told(self) -> str:
        return f"{self.replicas} replicas"

    def summarize(self, corpus: Corpus, finished: frozenset[int], tell: Callable[[], object]) -> Iterator[Done]:
        """What a node had begun that is lost is begun again on the others. Raises CorpusError where nothing comes back."""
        while next(corpus.pending(finished), None):
            before = finished
            for done in self._round(corpus, finished):
                finished |= {done.number}
                for _ in range(done.summaries + done.set_aside):
                    tell()
                yield done
            if finished == before:
                raise CorpusError("no node of the cluster finishes anything; its logs tell why")

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        local = {"include_dashboard": False} if self._address == "local" else {}
        try:
            ray.init(self._address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = in_one_line(error)
            raise CorpusError(f"--ray {self._address}: {reason} (ray start --head begins a cluster)") from error
        gpu = self._settings.device.startswith("cuda") or (
            self._settings.device == "auto" and ray.cluster_resources().get("GPU")
        )
        self._resource = "GPU" if gpu else "CPU"
        self._settings = self._settings.model_copy(update={"device": "cuda" if gpu else "cpu"})
