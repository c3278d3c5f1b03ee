"""Clients of others, as they are installed by `make test-clients`, on a real service with the shipped checkpoints."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.keys import Key, digest, new_key
from app.models import registry
from tests.api.waiting import eventually
from tests.test_server import Process

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KEY, SLOW_KEY = new_key(), new_key()
VERSIONS = (HERE / "huggingface_hub.txt").read_text().split()


@dataclass(frozen=True)
class Kind:
    """One client, and one of the ways in which it can be used."""

    command: tuple[str, ...]
    packages: Path | None = None  # where its Python packages are; there are no others
    way: str = "plain"

    @property
    def environment(self) -> dict[str, str]:
        """Without a token, and without the home of the user, where one may lie."""
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
        return {**kept, "HOME": str(HERE)} | ({"PYTHONPATH": str(self.packages)} if self.packages else {})


def hub(version: str, way: str = "plain") -> Kind:
    return Kind(
        (sys.executable, "-S", str(HERE / "ask.py")), ROOT / ".venv-clients" / f"huggingface_hub-{version}", way
    )


NODE = Kind(("node", str(HERE / "ask.mjs")))
KINDS = {
    "hf.js": NODE,
    **{f"huggingface_hub-{version}": hub(version) for version in VERSIONS},
    **{f"huggingface_hub-{version}-async": hub(version, "async") for version in VERSIONS if version[0] != "0"},
}


class Client:
    """A process that asks."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._process = subprocess.Popen(
            kind.command, env=kind.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(
        self,
        url: str,
        inputs: str | list[str],
        parameters: dict[str, Any] | None = None,
        way: str | None = None,
        **of_client: Any,
    ) -> dict[str, Any]:
        """What the client makes of the answer: its summaries, or its error."""
        call = {"url": url, "inputs": inputs, "parameters": parameters or {}, "of_client": of_client}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({**call, "way": way or self.kind.way}), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="session", params=KINDS)
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    client = Client(KINDS[request.param])
    yield client
    client.close()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """`news-en` and `news-zh`."""
    with Process(tmp_path_factory.mktemp("service"), "app", PRECIS_MAX_ROWS="64") as service:
        names = registry.available(ROOT / "model_store")
        eventually(lambda: {model["name"] for model in service.get("/models").json()["models"]} == set(names))
        yield service


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A service that can be held, in whose queue one text may wait."""
    with Process(tmp_path_factory.mktemp("small"), PRECIS_MAX_QUEUE="1") as small:
        yield small


@pytest.fixture(scope="session")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A service that wants a key."""
    lines = (Key("desk", digest(KEY.encode())), Key("slow", digest(SLOW_KEY.encode()), requests=1))
    with Process(tmp_path_factory.mktemp("keyed"), PRECIS_API_KEYS="; ".join(map(str, lines))) as keyed:
        yield keyed
