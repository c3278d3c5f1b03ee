"""The servers that are compared, each a process of its own on a free port of loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.peers.settings import PeerSettings

JSON = {"Content-Type": "application/json"}
START_SECONDS = 180.0
STOP_SECONDS = 8.0
KINDS: Mapping[str, tuple[str, ...]] = {
    "precis": ("-m", "app"),
    "plain": ("-m", "benchmarks.peers.plain"),
    "litserve": ("-m", "benchmarks.peers.lit"),
    "ray": ("-m", "benchmarks.peers.rayserve"),
    "bentoml": ("-m", "bentoml", "serve", "benchmarks.peers.bento:Summarize", "--host", "127.0.0.1"),
}
OFFLINE = {
    "BENTOML_DO_NOT_TRACK": "true",
    "HF_HUB_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs."""

    url: str
    pid: int


@dataclass(frozen=True, slots=True)
class System:
    """One of `KINDS` in one precision. Of ours, `tuning` only says how long summaries are to be, if at all."""

    kind: str
    precision: str
    store: str = "model_store"
    model: str = "news-en"
    tuning: PeerSettings = field(default_factory=PeerSettings)

    @property
    def name(self) -> str:
        runtime = "" if self.ours or self.tuning.runtime == "network" else f" {self.tuning.runtime}"
        return f"{self.kind}{runtime} {self.precision}"

    @property
    def folder(self) -> str:
        return f"{self.store}/{self.model}"

    @property
    def ours(self) -> bool:
        return self.kind == "precis"

    def body(self, text: str, beams: int, **parameters: Any) -> bytes:
        """A request for one summary; `parameters` are only understood by ours."""
        if self.ours:
            asked = {"num_beams": beams, **self._lengths, **parameters}
            content: Any = {"text": text, "parameters": asked, "timeout_ms": 600_000}
        elif self.kind == "bentoml":
            content = {"items": [{"text": text, "beams": beams}]}
        else:
            content = {"text": text, "beams": beams}
        return json.dumps(content).encode()

    @property
    def _lengths(self) -> dict[str, int]:
        length = self.tuning.length
        return {"min_length": length, "max_length": length} if length else {}

    @property
    def reference(self) -> PeerSettings:
        """How to load what says which summaries are the right ones: the peers' model in float32."""
        runtime = "network" if self.tuning.runtime == "network" else "generate"
        return replace(self.tuning, runtime=runtime, precision="float32", folder=self.folder)

    def summary(self, answer: Any) -> str:
        """The summary in a parsed answer."""
        return str(answer[0] if self.kind == "bentoml" else answer["summary"])

    def command(self, port: int) -> list[str]:
        ending = ["--port", str(port)] if self.kind == "bentoml" else []
        return [sys.executable, *KINDS[self.kind], *ending]

    def environment(self, port: int) -> dict[str, str]:
        """Ours is run as `make serve` does; peers wait for their threads in the library's own way."""
        if self.ours:
            own = {"PRECIS_PORT": str(port), "PRECIS_LOG_LEVEL": "error", "PRECIS_PRECISION": self.precision}
            own |= {"PRECIS_MODEL_STORE": self.store, "PRECIS_MODEL": self.model}
            return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **own}
        tuning = replace(self.tuning, precision=self.precision, folder=self.folder, port=port)
        passed = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        return {**passed, **OFFLINE, **tuning.environment()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(system: System, settings: Mapping[str, str] | None = None, log: Path | None = None) -> Iterator[Server]:
    """Started and answering; stopped by SIGTERM, and with all it started killed if that does not end it.

    settings: more environment variables. log: a file for what it prints. Raises RuntimeError when it does not answer.
    """
    port = free_port()
    environment = {**system.environment(port), **(settings or {}), "PYTHONPATH": os.getcwd()}
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
    with open(log or os.devnull, "ab") as output:
        process = subprocess.Popen(
            system.command(port), env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(system, url, process)
            yield Server(url, process.pid)
        finally:
            _stop(process)


@contextmanager
def server(settings: dict[str, str]) -> Iterator[str]:
    """The service alone with these settings: its address."""
    store, model = settings.get("PRECIS_MODEL_STORE", "model_store"), settings.get("PRECIS_MODEL", "news-en")
    system = System("precis", settings.get("PRECIS_PRECISION", "auto"), store, model)
    with running(system, settings) as started:
        yield started.url


def _wait(system: System, url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.post(f"{url}/summarize", content=system.body("Rain fell.", 1), headers=JSON).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{system.name} did not begin to answer")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    family = descendants(process.pid)
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid, started in family.items():
        if _stat(pid)[1] == started:
            os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> dict[int, str]:
    """The processes that this one started, and those that they started; with the moment when each began."""
    if not Path("/proc/self/stat").exists():
        return {}
    stats = {int(path.name): _stat(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()}
    found: dict[int, str] = {}
    parents = {pid}
    while parents:
        children = {child for child, (parent, _) in stats.items() if parent in parents}
        found |= {child: stats[child][1] for child in children}
        parents = children
    return found


def _stat(pid: int) -> tuple[int, str]:
    """Parent and start time of a process; (0, "") when there is none."""
    try:
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, ""
    return int(values[1]), values[19]
