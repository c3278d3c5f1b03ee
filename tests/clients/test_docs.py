"""Everything in docs/clients.md is run as it stands there, and prints what it says there."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.api.problems import Failure
from tests.api.waiting import PATIENCE, eventually
from tests.clients.conftest import HERE, KINDS, ROOT, VERSIONS, Kind
from tests.clients.refusing import refusing
from tests.clients.test_clients import full
from tests.test_server import Process

ADDRESS = "http://127.0.0.1:8000"
INTERPRETERS = {
    "sh": ("bash", "-eu", "-"),
    "python": (sys.executable, "-S", "-"),
    "js": ("node", "--input-type=module", "-"),
}
BLOCK = re.compile(r"^```(sh|python|js)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    output: str

    def started(self, url: str, folder: Path, kind: Kind) -> subprocess.Popen[str]:
        """Its code asks `url` and reads files of `folder`."""
        process = subprocess.Popen(
            INTERPRETERS[self.language],
            cwd=folder,
            env=kind.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(self.code.replace(ADDRESS, url))
        process.stdin.close()
        process.stdin = None
        return process

    def run(self, url: str, folder: Path, kind: Kind) -> str:
        with self.started(url, folder, kind) as process:
            output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        return output.rstrip("\n")


BLOCKS = [
    Block(language, code, (output or "").rstrip("\n"))
    for language, code, output in BLOCK.findall((ROOT / "docs" / "clients.md").read_text(encoding="utf-8"))
]
ARTICLE, *EXAMPLES = BLOCKS
PATIENT = [block for block in EXAMPLES if "Retry-After" in block.code]
BUSY = Failure(503, "Overloaded", "overloaded", "the queue is full", headers={"Retry-After": "1000"})
IN_PYTHON = [KINDS[f"huggingface_hub-{version}"] for version in VERSIONS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the article lies and hf.js is installed."""
    ARTICLE.run("", tmp_path, KINDS["hf.js"])
    (tmp_path / "node_modules").symlink_to(HERE / "node_modules")
    return tmp_path


def kinds(block: Block) -> list[Kind]:
    """huggingface_hub 0.36 has no asyncio without a package more."""
    if block.language != "python":
        return [KINDS["hf.js"]]
    return IN_PYTHON[1:] if "Async" in block.code else IN_PYTHON


@pytest.mark.parametrize("block", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_prints_what_stands_below_it(block: Block, service: Process, folder: Path) -> None:
    for kind in kinds(block):
        assert block.run(service.url, folder, kind) == block.output != ""


@pytest.mark.parametrize("block", PATIENT, ids=lambda block: block.language)
def test_the_examples_that_wait_try_again_and_are_answered(block: Block, small: Process, folder: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        with full(small):
            before = refused(small)
            answer = pool.submit(block.run, small.url, folder, kinds(block)[-1])
            eventually(lambda: refused(small) > before)
        assert answer.result(PATIENCE)


@pytest.mark.parametrize("block", PATIENT, ids=lambda block: block.language)
def test_the_examples_that_wait_ask_once_in_that_time(block: Block, folder: Path) -> None:
    with refusing(BUSY) as server, block.started(server.url, folder, kinds(block)[-1]) as process:
        eventually(lambda: server.asked)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.kill()
        assert server.asked == 1


def test_hf_js_by_itself_asks_again_at_once(folder: Path) -> None:
    patient = next(block for block in PATIENT if block.language == "js")
    impatient = Block("js", patient.code.replace("fetch: patient, ", ""), "")
    with refusing(BUSY) as server, impatient.started(server.url, folder, KINDS["hf.js"]) as process:
        eventually(lambda: server.asked > 10)
        process.kill()


def refused(service: Process) -> int:
    return sum(line["status"] == 503 for line in service.lines("request"))


def test_all_code_of_the_document_is_run() -> None:
    text = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(BLOCKS) + 2 * len(EXAMPLES)
    assert {block.language for block in EXAMPLES} == {"sh", "python", "js"}
