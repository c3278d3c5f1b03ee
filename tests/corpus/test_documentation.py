"""The page about corpora: every command that is shown with its output is run, and prints what stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.api.waiting import PATIENCE
from tests.cli.conftest import ROOT
from tests.cli.test_documentation import MARK, NEWS, commands

PAGE = (ROOT / "docs" / "corpora.md").read_text(encoding="utf-8")
CHANGING = re.compile(r"\d+ rows/s|[\d.]+% full|(?<=\"score\":)-\d\.\d+")


def test_the_page_shows_what_its_commands_print(tmp_path: Path) -> None:
    page = commands(PAGE)
    lines = [f'precis() {{ "{sys.executable}" -m app.cli "$@"; }}']
    lines += [f"{typed}\nstatus=$?; echo {MARK}; (exit $status)" for typed, _ in page]
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=tmp_path,
        env={**os.environ, **NEWS, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    printed = [each.strip("\n") for each in done.stdout.split(f"{MARK}\n")[:-1]]
    assert len(printed) == len(page) >= 8
    for (typed, expected), actual in zip(page, printed, strict=True):
        assert (typed, CHANGING.sub("*", actual)) == (typed, CHANGING.sub("*", expected))
