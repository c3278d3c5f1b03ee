"""A cluster of Ray nodes on this machine, each a family of processes, and the service on them by a Serve config."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from app.ray_serve import HAPROXY
from benchmarks.systems import OFFLINE, descendants, free_port

OURS = "app.ray_serve:app"
APPLICATION, DEPLOYMENT = "default", "precis"
REPLICA, CONTROLLER = "ray::ServeReplica", "ray::ServeController"
PROXY_TITLES = ("ray::ProxyActor", "ray::HAProxyManager")
# Settings of the cluster. A text may be summarized twice: HAProxy may send it again wherever no answer has begun.
PROXIES: Mapping[str, Mapping[str, str]] = {
    "Ray's proxy": {},
    "HAProxy": {HAPROXY: "1", "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response"},
}
OBJECT_STORE = 80 * 2**20  # bytes; nothing of ours goes through it
AGENTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
PATIENCE = 180.0
Config = dict[str, Any]


@dataclass(slots=True)
class RayCluster:
    """The first of its nodes has the only proxy, at `url`. Where a node is asked for, its number counts from 0."""

    cluster: Cluster
    port: int
    folder: Path
    nodes: list[Any] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add_node(self, cores: int) -> None:
        """Another one, for so many replicas of one core."""
        # Where its agents may choose their ports, a node gives up when they take longer than 15 s, on a busy machine.
        ports = {name: free_port() for name in AGENTS}
        node = self.cluster.add_node(num_cpus=cores, object_store_memory=OBJECT_STORE, include_dashboard=False, **ports)
        self.nodes.append(node)

    def kill_node(self, number: int) -> float:
        """Returns the moment."""
        return kill(self.cluster, self.nodes.pop(number))

    def deploy(self, config: Config) -> None:
        """As `serve deploy` does; returns at once. Replicas that may stay as they are are not replaced."""
        _get_global_client().deploy_apps(ServeDeploySchema.model_validate(config))

    def run(self, config: Config) -> None:
        """Deployed, and all of its replicas there. Raises RuntimeError with Ray's reason where that fails."""
        self.deploy(config)
        self.wait_for(config["applications"][0]["deployments"][0]["num_replicas"])

    def wait_for(self, replicas: int) -> float:
        """Seconds until there are exactly so many, and all of them serve."""
        started = time.monotonic()
        while time.monotonic() < started + PATIENCE:
            application = serve.status().applications.get(APPLICATION)
            if application and "FAILED" in application.status:
                raise RuntimeError("\n".join([application.message, *_messages(application)]))
            if application and application.status == "RUNNING":
                states = application.deployments[DEPLOYMENT].replica_states
                if states == {"RUNNING": replicas}:
                    return time.monotonic() - started
            time.sleep(0.05)
        raise TimeoutError(f"there were never {replicas} replicas; {serve.status()}")

    def wait_for_others(self, gone: set[int], replicas: int) -> None:
        """Until so many serve, and none of those processes is among them. Ray does not notice at once who has died."""
        end = time.monotonic() + PATIENCE
        while len(set(self.replicas()) - gone) < replicas:
            if time.monotonic() > end:
                raise TimeoutError(f"nobody has taken the place of {gone}")
            time.sleep(0.05)
        self.wait_for(replicas)

    def log_of(self, pid: int) -> str:
        """What a replica has printed."""
        return "".join(path.read_text() for path in self.folder.glob(f"ray/session_latest/logs/worker-*-{pid}.out"))

    def replicas(self, number: int | None = None) -> list[int]:
        """The processes of all replicas, or of those on one node."""
        return self.processes(REPLICA, number)

    def proxies(self) -> list[int]:
        """The processes that callers are connected to, and those that own them: HAProxy is a child."""
        owners = [pid for title in PROXY_TITLES for pid in self.processes(title)]
        return [*owners, *(pid for owner in owners for pid in descendants(owner))]

    def processes(self, title: str, number: int | None = None) -> list[int]:
        """Those of Ray's workers whose title begins so."""
        nodes = self.nodes if number is None else [self.nodes[number]]
        raylets = [each.process.pid for node in nodes for each in node.all_processes["raylet"]]
        return [pid for raylet in raylets for pid in descendants(raylet) if title_of(pid).startswith(title)]


def kill(cluster: Cluster, node: Any) -> float:
    """All processes of a node at once, as if its machine were gone, without a word to anybody. Returns the moment."""
    # Ray's own way leaves its workers alive until they notice: so long they would go on with their work.
    raylets = [each.process.pid for each in node.all_processes["raylet"]]
    for pid in [*raylets, *(pid for raylet in raylets for pid in descendants(raylet))]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    struck = time.monotonic()
    cluster.remove_node(node, allow_graceful=False)
    return struck


def _messages(application: Any) -> list[str]:
    return [deployment.message for deployment in application.deployments.values()]


def title_of(pid: int) -> str:
    """How a process calls itself; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@contextmanager
def ray_cluster(cores: Sequence[int], settings: Mapping[str, str] | None = None) -> Iterator[RayCluster]:
    """A node for each number of cores. Ended, with all of its processes, at the end; one at a time.

    settings: more environment variables, of every process of the cluster.
    """
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        _environment({**OFFLINE, "RAY_TMPDIR": folder, "PYTHONPATH": os.getcwd(), **(settings or {})}),
    ):
        own = RayCluster(Cluster(), free_port(), Path(folder))
        try:
            for each in cores:
                own.add_node(each)
            ray.init(address=own.cluster.address, log_to_driver=False, logging_level="error")
            serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": own.port})
            yield own
        finally:
            if ray.is_initialized():
                serve.shutdown()
                ray.shutdown()
            own.cluster.shutdown()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def config(
    replicas: int,
    settings: Mapping[str, str] | None = None,
    import_path: str = OURS,
    **options: Any,
) -> Config:
    """A Serve config of one application; `settings` are environment variables, `options` those of the deployment."""
    return {
        "proxy_location": "HeadOnly",
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": import_path,
                "runtime_env": {"env_vars": dict(settings or {})},
                "deployments": [{"name": DEPLOYMENT, "num_replicas": replicas, **options}],
            }
        ],
    }
