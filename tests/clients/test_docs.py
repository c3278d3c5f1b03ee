"""Everything in docs/clients.md is run as it stands there, and prints what it says there."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.api.waiting import PATIENCE, eventually
from tests.clients.conftest import HERE, KINDS, ROOT, VERSIONS, Kind
from tests.clients.test_clients import full
from tests.test_server import Process

ADDRESS = "http://127.0.0.1:8000"
BLOCK = re.compile(r"^```(sh|python|js)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    output: str

    def run(self, url: str, folder: Path, kind: Kind) -> str:
        interpreter = {
            "sh": ("bash", "-eu", "-"),
            "python": (sys.executable, "-S", "-"),
            "js": ("node", "--input-type=module", "-"),
        }
        done = subprocess.run(
            interpreter[self.language],
            input=self.code.replace(ADDRESS, url),
            cwd=folder,
            env=kind.environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
        return done.stdout.rstrip("\n")


BLOCKS = [
    Block(language, code, (output or "").rstrip("\n"))
    for language, code, output in BLOCK.findall((ROOT / "docs" / "clients.md").read_text(encoding="utf-8"))
]
ARTICLE, *EXAMPLES = BLOCKS
PATIENT = [block for block in EXAMPLES if "Retry-After" in block.code]
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


def refused(service: Process) -> int:
    return sum(line["status"] == 503 for line in service.lines("request"))


def test_all_code_of_the_document_is_run() -> None:
    text = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(BLOCKS) + 2 * len(EXAMPLES)
    assert {block.language for block in EXAMPLES} == {"sh", "python", "js"}
