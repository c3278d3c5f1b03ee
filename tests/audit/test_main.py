"""The commands as `make audit` runs them: what is wrong is told in a line and is an error."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def audit(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "audit", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("licence", "status", "told"),
    [("MIT", 0, ""), ("GPL-3.0-only", 1, "licences: some-package: GPL-3.0-only is not allowed by licences.toml\n")],
)
def test_a_licence_that_is_not_expected_is_an_error(licence: str, status: int, told: str, tmp_path: Path) -> None:
    package = {"name": "some-package", "version": "1", "purl": "pkg:pypi/some-package@1"}
    bill = {"components": [{**package, "licenses": [{"expression": licence}]}]}
    (tmp_path / "sbom.json").write_text(json.dumps(bill), encoding="utf-8")
    done = audit("licences", tmp_path / "sbom.json")
    assert (done.returncode, done.stderr) == (status, told)
    assert done.stdout.split() == ["some-package", "1", licence]


def test_a_database_that_cannot_be_asked_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}/v1/query"
    done = audit("advisories", nowhere)
    assert done.returncode == 1
    assert done.stderr.startswith("advisories: not checked, ")
    assert done.stdout == ""
