"""The same over Ray Data: the input is read here, shards travel to engines on all nodes, finished ones come back."""

import logging
import os
import pickle
import queue
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Self

import pyarrow as pa

# Read when Ray is imported: a thread that still waits when we have left the cluster must not start another one.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
import ray
import ray.data

from app.api.requests import decoding_options
from app.config import Settings, let_waiting_threads_sleep
from app.corpus.engine import open_engine
from app.corpus.run import model_facts
from app.corpus.shards import Corpus, Done, Shard
from app.corpus.summarizing import Summarizer
from app.errors import CorpusError, PrecisError, in_one_line
from app.models import registry
from app.models.base import ModelInfo
from app.schemas import Options

SHARDS_AT_ONCE = 2  # of one engine: the second fills the rows that the last texts of the first leave
PATIENCE_SECONDS = 60.0  # without a finished shard, before it is asked whether a node was lost
LOOK_SECONDS = 300.0  # to load a model
COLUMN = "content"
ON_NODE = "ray.io/node-id"  # a label that Ray gives to every node


class Cluster:
    """Workers on a Ray cluster: each an engine with a GPU of its own, or with a core where there are none.

    Raises CorpusError where there is no cluster, or where not all of its nodes have the same model.
    """

    info: ModelInfo
    replicas: int

    def __init__(self, address: str, replicas: int | None, settings: Settings, options: Options, pointer: str) -> None:
        self._address, self._most = address, replicas
        self._settings = settings.model_copy(update={"model_store": settings.model_store.absolute()})
        self._options, self._pointer = options, pointer

    def __enter__(self) -> Self:
        _connect(self._address)
        try:
            self._prepare()
        except BaseException:
            ray.shutdown()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        ray.shutdown()

    @property
    def told(self) -> str:
        return f"{self.replicas} replicas"

    def summarize(self, corpus: Corpus, finished: frozenset[int], tell: Callable[[int], object]) -> Iterator[Done]:
        """Raises CorpusError where the cluster gives up, or waits in vain for a node that is lost."""
        here = replace(corpus, path=corpus.path.absolute())
        if next(corpus.pending(finished), None) is None:
            return
        for done in self._arriving(self._dataset(here, finished)):
            tell(done.summaries + done.set_aside)
            yield done

    def _prepare(self) -> None:
        """See who there is. Raises CorpusError, or InvalidRequestError where the model has no such options."""
        settings = self._settings
        gpus = settings.device == "auto" and bool(ray.cluster_resources().get("GPU"))
        resource = "GPU" if gpus or settings.device.startswith("cuda") else "CPU"
        self._settings = settings.model_copy(update={"device": "cuda" if resource == "GPU" else "cpu"})
        self._needs = {"num_cpus": 1, "num_gpus": 1 if resource == "GPU" else 0}
        nodes = _nodes(resource)
        self.replicas = min(sum(nodes.values()), self._most or sum(nodes.values()))
        self.info = _same_model(self._settings, nodes, resource)
        decoding_options(self._options.parameters, self.info)

    def _arriving(self, dataset: Any) -> Iterator[Done]:
        """What comes back. Ray does again what was under way on a node that is lost, if the others have room for its
        engines; where they have not, it would wait for ever."""
        results = dataset.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0)
        arriving: queue.Queue[Done | Exception | None] = queue.Queue()
        nodes = _alive()
        threading.Thread(target=_receive, args=(results, arriving), daemon=True).start()
        while True:
            try:
                found = arriving.get(timeout=PATIENCE_SECONDS)
            except queue.Empty:
                if nodes - _alive():
                    raise CorpusError(
                        "a node of the cluster was lost; the same command goes on with the others"
                    ) from None
                continue
            if found is None:
                return
            if isinstance(found, Exception):
                raise CorpusError(f"the cluster gave up: {_reason(found)}") from found
            yield found

    def _dataset(self, corpus: Corpus, finished: frozenset[int]) -> Any:
        """One task reads the input, on this machine, as fast as shards are taken from it."""
        context = ray.data.DataContext.get_current()
        context.target_max_block_size = 1  # a shard is a block, so that each is a task of its own
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", module="ray.data")  # of less shards than replicas
        here = {ON_NODE: ray.get_runtime_context().get_node_id()}
        begun = ray.data.from_items([0])
        shards = begun.map_batches(partial(_read, corpus, finished), batch_size=1, num_cpus=0, label_selector=here)
        pool = ray.data.ActorPoolStrategy(
            size=self.replicas,
            max_concurrent_calls_per_actor=SHARDS_AT_ONCE,
            enable_true_multi_threading=True,
        )
        given = (self._settings, self._options, self._pointer, model_facts(self.info))
        return shards.map_batches(
            Replica, fn_constructor_args=given, batch_size=1, batch_format="pyarrow", compute=pool, **self._needs
        )


class Replica:
    """An engine on some node. Ray calls it from several threads, each with a shard."""

    def __init__(self, settings: Settings, options: Options, pointer: str, expected: dict[str, str]) -> None:
        let_waiting_threads_sleep()
        engine = open_engine(settings, options, lanes=1)
        if model_facts(engine.info) != expected:
            raise CorpusError(f"{settings.model_store}: holds another model than when the run was begun")
        engine.start()
        self._summarizer = Summarizer(engine, settings, options, pointer)

    def __call__(self, table: pa.Table) -> pa.Table:
        shards: list[Shard] = [pickle.loads(each) for each in table[COLUMN].to_pylist()]
        return _table(list(self._summarizer.summarize(shards)))


def _read(corpus: Corpus, finished: frozenset[int], _: object) -> Iterator[pa.Table]:
    for shard in corpus.pending(finished):
        yield _table([shard])


def _receive(results: Iterator[pa.Table], arriving: "queue.Queue[Done | Exception | None]") -> None:
    try:
        for table in results:
            for each in table[COLUMN].to_pylist():
                arriving.put(pickle.loads(each))
    except Exception as error:  # whatever it is, whoever waits has to know
        arriving.put(error)
    else:
        arriving.put(None)


def _table(objects: list[Any]) -> pa.Table:
    """Of bytes: what has a zero at its end would lose it in an array of numpy."""
    return pa.table({COLUMN: pa.array(map(pickle.dumps, objects), pa.binary())})


def _connect(address: str) -> None:
    if address.startswith("ray://"):
        raise CorpusError("--ray: run this on a machine of the cluster; its address is auto there")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local = {"include_dashboard": False} if address == "local" else {}
    ending = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL, **local)
    except Exception as error:  # Ray raises that itself, too
        reason = in_one_line(error)
        raise CorpusError(f"--ray {address}: {reason} A cluster begins with: ray start --head") from error
    finally:
        signal.signal(signal.SIGTERM, ending)  # Ray puts its own there


def _alive() -> frozenset[str]:
    return frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])


def _nodes(resource: str) -> dict[str, int]:
    """How many replicas have room on each node that has room for any."""
    room = {node["NodeID"]: int(node["Resources"].get(resource, 0)) for node in ray.nodes() if node["Alive"]}
    found = {node: count for node, count in room.items() if count}
    if not found:
        raise CorpusError(f"no node of the cluster has a {resource}")
    return found


def _look(settings: Settings) -> ModelInfo | str:
    """What is found there; or why nothing is."""
    try:
        info = registry.load(
            settings.model_store, settings.model, device=settings.device, precision=settings.precision
        ).info
    except PrecisError as error:
        return in_one_line(error)
    return info


def _same_model(settings: Settings, nodes: dict[str, int], resource: str) -> ModelInfo:
    """Looked at on each of these nodes. Raises CorpusError where one has it not, or another one."""
    look, share = ray.remote(_look), 0.01 if resource == "GPU" else 0.0
    looks = [
        look.options(num_cpus=0, num_gpus=share, max_retries=0, label_selector={ON_NODE: node}).remote(settings)
        for node in nodes
    ]
    try:
        found: list[ModelInfo | str] = ray.get(looks, timeout=LOOK_SECONDS)
    except Exception as error:
        raise CorpusError(f"a node of the cluster cannot load the model: {_reason(error)}") from error
    names = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
    for node, info in zip(nodes, found, strict=True):
        if isinstance(info, str):
            need = "every node needs the model store at the same path"
            raise CorpusError(f"node {names[node]}: {info}; {need}")
    infos = [info for info in found if isinstance(info, ModelInfo)]
    for node, info in zip(nodes, infos, strict=True):
        if model_facts(info) != model_facts(infos[0]):
            theirs, ours = (", ".join(model_facts(each).values()) for each in (info, infos[0]))
            raise CorpusError(f"node {names[node]} has {theirs}, another one {ours}; see to it that they are the same")
    return infos[0]


def _reason(error: BaseException) -> str:
    """The last line of what Ray tells: what happened, after where it did."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
