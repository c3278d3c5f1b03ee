"""`precis corpus --ray`: the same bytes as on one machine, also where a node is lost, or the command."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.systems import OFFLINE
from tests.api.waiting import PATIENCE, eventually
from tests.cli.conftest import ROOT, start
from tests.cli.conftest import environment as environment
from tests.cli.conftest import store as store
from tests.cli.test_command import finished
from tests.texts import CORPUS

pytestmark = pytest.mark.slow
ROWS = 4500  # four shards and a half
QUICK = ("--num-beams", "1", "--max-length", "6")


class Nodes:
    """A cluster, in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.address = self._line()

    def kill_one(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        assert self._line() == "killed"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def nodes() -> Iterator[Nodes]:
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        settings = {**os.environ, **OFFLINE, "RAY_TMPDIR": folder, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.ray.nodes"],
            cwd=ROOT,
            env=settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            yield Nodes(process)
        finally:
            process.communicate(timeout=PATIENCE)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "in.jsonl"
    rows = [{"id": number, "text": CORPUS[number % len(CORPUS)][: 20 + number % 50]} for number in range(ROWS)]
    path.write_text("\n".join([json.dumps(rows[0]), "no row", *map(json.dumps, rows[1:])]), encoding="utf-8")
    return path


def begun(corpus: Path, output: str, environment: dict[str, str], *more: str) -> "subprocess.Popen[bytes]":
    return start("corpus", corpus, corpus.with_name(output), *QUICK, *more, environment={**environment, **OFFLINE})


def results(process: "subprocess.Popen[bytes]", corpus: Path, output: str) -> tuple[bytes, bytes]:
    status, _, errors = finished(process)
    assert status == 0, errors
    assert f"{ROWS:,} summaries by small" in errors
    path = corpus.with_name(output)
    return path.read_bytes(), path.with_name(path.name + ".rejected.jsonl").read_bytes()


def pieces(corpus: Path, output: str) -> int:
    return len(list(corpus.with_name(output + ".partial").glob("*.rows")))


def test_a_cluster_gives_the_same_bytes_also_where_a_node_is_lost(corpus: Path, environment: dict[str, str]) -> None:
    here = results(begun(corpus, "here.jsonl", environment), corpus, "here.jsonl")
    with nodes() as cluster:
        ray = ("--ray", cluster.address)

        there = begun(corpus, "there.jsonl", environment, *ray)
        eventually(lambda: pieces(corpus, "there.jsonl") or there.poll() is not None)
        there.send_signal(signal.SIGKILL)
        finished(there)
        kept = pieces(corpus, "there.jsonl")
        assert 0 < kept < 5
        again = begun(corpus, "there.jsonl", environment, *ray)
        assert results(again, corpus, "there.jsonl") == here

        lost = begun(corpus, "lost.jsonl", environment, *ray)
        eventually(lambda: pieces(corpus, "lost.jsonl") or lost.poll() is not None)
        cluster.kill_one()
        status, _, errors = finished(lost)
        if status:  # it had something under way, for which the other node has no room
            assert "a node of the cluster was lost; the same command goes on with the others" in errors, errors
            again = begun(corpus, "lost.jsonl", environment, *ray)
            assert results(again, corpus, "lost.jsonl") == here
        assert corpus.with_name("lost.jsonl").read_bytes() == here[0]


def test_what_is_wrong_is_told_before_anything_is_begun(corpus: Path, environment: dict[str, str]) -> None:
    with nodes() as cluster:
        wrong = begun(corpus, "out.jsonl", {**environment, "PRECIS_MODEL": "nothing"}, "--ray", cluster.address)
        status, _, errors = finished(wrong)
    assert status == 1
    assert "precis: node " in errors
    assert "no checkpoint 'nothing'" in errors
    assert errors.endswith("every node needs the model store at the same path\n")
    assert not list(corpus.parent.glob("out*"))
