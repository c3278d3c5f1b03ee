"""`python -m tests.generated FOLDER`: the document of a real server is checked and made into clients, which are used.

The tools stand in FOLDER, where `make test-generated` puts them beside copies of this folder's files; what is generated
goes there too.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CODE = {"python": "documented.py", "typescript": "documented.ts"}
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE_SECONDS = 120.0


def main(folder: Path) -> int:
    for source in HERE.glob("[a-z]*.*"):
        shutil.copy(source, folder)
    shutil.rmtree(folder / "precis_client", ignore_errors=True)  # types that are no longer generated must not stay
    path = f"{folder / 'venv' / 'bin'}:{folder / 'node_modules' / '.bin'}:{os.environ['PATH']}"
    with serving(folder / "log") as url:
        write_documented(folder, url)
        (folder / "openapi.json").write_bytes(urllib.request.urlopen(f"{url}/openapi.json").read())
        for command in commands(url):
            print("$", " ".join(command), flush=True)
            if status := subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, check=False).returncode:
                return status
    return 0


def write_documented(folder: Path, url: str) -> None:
    """The code that stands in the documents, as files."""
    text = (ROOT / "docs" / "generated-clients.md").read_text(encoding="utf-8")
    for language, name in CODE.items():
        (code,) = re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
        (folder / name).write_text(code.replace("http://127.0.0.1:8000", url), encoding="utf-8")


def commands(url: str) -> list[list[str]]:
    generate = ["openapi-python-client", "generate", "--path", "openapi.json", "--meta", "none"]
    return [
        ["openapi-spec-validator", "openapi.json"],
        [*generate, "--output-path", "precis_client", "--fail-on-warning"],
        ["mypy"],
        ["python", "use_client.py", url],
        ["python", "documented.py"],
        # It applies the rules of redocly.yaml first.
        ["openapi-typescript", "openapi.json", "--output", "schema.d.ts", "--default-non-nullable", "false"],
        ["tsc"],
        ["node", "use_client.js", url],
        ["node", "documented.js"],
    ]


@contextmanager
def serving(log: Path) -> Iterator[str]:
    """The address of the service on the checkpoints of the model store; it may still be loading them."""
    settings = {"PRECIS_PORT": "0", "PRECIS_LOG_FORMAT": "json"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app"], cwd=ROOT, env={**os.environ, **settings}, stdout=output
        )
    try:
        yield f"http://127.0.0.1:{port_of(process, log)}"
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def port_of(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        lines = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        for line in map(json.loads, lines):
            if line["event"] == "listening":
                return int(line["port"])
        time.sleep(0.05)
    raise RuntimeError(f"the service does not listen; {log} tells more")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute()))
