"""The bill of components: Python packages told by cyclonedx-bom, Debian's by debsbom, and what neither knows of.

The same environment always gives the same bytes: nothing in it says when it was made.
"""

import json
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

Bill = dict[str, Any]
Component = dict[str, Any]
PROJECT = Path(__file__).parents[1] / "pyproject.toml"
SERVICE = "precis"
EXTRAS = ("otel", "redis", "transformers")  # what the image has beside the dependencies
SWAGGER_UI = "swagger-ui"
WHERE = "from importlib.util import find_spec; print(find_spec('fastapi_offline').origin)"


def of_service() -> Bill:
    """What the service needs of the packages that are installed here."""
    needed = {*needed_packages(), SWAGGER_UI}
    bill = _of_environment(sys.executable)
    kept = [component for component in bill["components"] if canonicalize_name(component["name"]) in needed]
    return {**bill, "components": kept, "dependencies": _among([bill["metadata"]["component"], *kept], bill)}


def of_image(python: str) -> Bill:
    """All of another Python's environment, this system's Debian packages, and its Python."""
    bill, system = _of_environment(python), _of_debian()
    return {
        **bill,
        "components": [*bill["components"], _interpreter(), *system["components"]],
        "dependencies": [*bill["dependencies"], *_among(system["components"], system)],
    }


def needed_packages() -> set[str]:
    """Names of the distributions that the service asks for, and of those that these ask for in turn."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(each for extra in EXTRAS for each in project["optional-dependencies"][extra])]
    waiting = [(Requirement(each), "") for each in asked]
    found: set[tuple[str, str]] = set()
    while waiting:
        requirement, condition = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": condition}):
            continue
        for extra in ("", *requirement.extras):
            if (key := (canonicalize_name(requirement.name), extra)) not in found:
                found.add(key)
                waiting += [(Requirement(each), extra) for each in distribution(requirement.name).requires or ()]
    return {name for name, _ in found}


def _of_environment(python: str) -> Bill:
    """Of every package that this Python finds, the service itself in the middle."""
    bill = _told_by("cyclonedx-py", "environment", "--output-reproducible", "--no-validate", python)
    (own,) = [component for component in bill["components"] if component["name"] == SERVICE]
    # Where it was installed from is a folder of this machine.
    own = {"type": "application", **{key: own[key] for key in ("bom-ref", "name", "version", "licenses")}}
    return {
        **bill,
        "metadata": {**bill["metadata"], "component": own},
        "components": [*(each for each in bill["components"] if each["name"] != SERVICE), _swagger_ui(python)],
    }


def _swagger_ui(python: str) -> Component:
    """What /docs shows. The package that brings it along does not tell of it."""
    package = subprocess.check_output([python, "-c", WHERE], text=True).strip()
    script = Path(package).with_name("static") / "swagger-ui-bundle.js"
    (version,) = re.findall(r'PACKAGE_VERSION:"([\d.]+)"', script.read_text(encoding="utf-8"))
    return {
        "type": "library",
        "bom-ref": f"{SWAGGER_UI}=={version}",
        "name": SWAGGER_UI,
        "version": version,
        "purl": f"pkg:npm/{SWAGGER_UI}@{version}",
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }


def _of_debian() -> Bill:
    return _told_by("debsbom", "generate", "--sbom-type", "cdx", "--with-licenses", "--out", "-")


def _interpreter() -> Component:
    """No package manager tells of it: the base image compiles its own."""
    version = platform.python_version()
    return {
        "type": "platform",
        "bom-ref": f"python=={version}",
        "name": "python",
        "version": version,
        "purl": f"pkg:generic/python@{version}",
        "cpe": f"cpe:2.3:a:python:python:{version}:*:*:*:*:*:*:*",
    }


def _among(components: Iterable[Component], bill: Bill) -> list[dict[str, Any]]:
    """The dependencies of these on each other."""
    refs = {component["bom-ref"] for component in components}
    return [
        {"ref": each["ref"], "dependsOn": [ref for ref in each.get("dependsOn", ()) if ref in refs]}
        for each in bill["dependencies"]
        if each["ref"] in refs
    ]


def _told_by(tool: str, *arguments: str) -> Bill:
    """tool: one that stands beside this Python."""
    command = [str(Path(sys.executable).with_name(tool)), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{tool} failed: {done.stderr}")
    bill: Bill = json.loads(done.stdout)
    return bill
