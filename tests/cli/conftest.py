"""A store with one tiny checkpoint, the command line on it, and a service on it."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.cli.command import app
from app.models.lstm.network import NetworkConfig
from tests.api.waiting import PATIENCE, eventually
from tests.models.lstm.checkpoints import write_checkpoint
from tests.texts import CORPUS

ROOT = Path(__file__).parents[2]
Precis = Callable[..., Result]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With sizes for which no result depends on the texts beside it."""
    folder = tmp_path_factory.mktemp("cli") / "store"
    write_checkpoint(folder, "small", NetworkConfig(320, 32, encoder_size=32, decoder_size=64, key_size=32))
    return folder


@pytest.fixture(scope="session")
def environment(store: Path) -> dict[str, str]:
    """Settings for the tiny checkpoint, in a precision that every processor has."""
    return {"PRECIS_MODEL_STORE": str(store), "PRECIS_MODEL": "small", "PRECIS_PRECISION": "float32"}


@pytest.fixture
def precis(environment: dict[str, str]) -> Precis:
    """The command line within this process."""
    return lambda *arguments, **more: CliRunner(env=environment).invoke(app, [*map(str, arguments)], **more)


@pytest.fixture
def texts(tmp_path: Path) -> list[Path]:
    """Files with a text each."""
    files = [tmp_path / f"{number}.txt" for number in range(3)]
    for file, text in zip(files, CORPUS, strict=False):
        file.write_text(text, encoding="utf-8")
    return files


def start(*arguments: object, environment: dict[str, str], **more: object) -> "subprocess.Popen[bytes]":
    """The command line as a process of its own; its streams are pipes."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    command = [sys.executable, "-m", "app.cli", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, **pipes)  # type: ignore[call-overload,no-any-return]


@contextlib.contextmanager
def served(folder: Path, environment: dict[str, str], *arguments: str) -> Iterator[str]:
    """The URL of a service that `precis serve` started; it is ended with SIGTERM, and must end well."""
    log = folder / "log"
    with log.open("wb") as output:
        process = start("serve", "--port", "0", *arguments, environment=environment, stdout=output)

    def events() -> dict[str, dict[str, object]]:
        lines = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return {line["event"]: line for line in map(json.loads, lines)}

    try:
        eventually(lambda: process.poll() is not None or {"listening", "model loaded"} <= events().keys())
        assert process.poll() is None, process.communicate()[1].decode()
        yield f"http://127.0.0.1:{events()['listening']['port']}"
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, b"")


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("service"), environment) as url:
        yield url
