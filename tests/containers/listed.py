"""Fails unless the bill of the image names what is in it and nothing else. Runs there: `python - < listed.py`."""

import json
import platform
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

Names = set[tuple[str, ...]]
bill = json.loads(Path("/usr/share/precis/sbom.json").read_text(encoding="utf-8"))
service = bill["metadata"]["component"]


def told(kind: str) -> Names:
    """Debian's source packages are told of beside those that were built from them."""
    components = [each for each in bill["components"] if each["purl"].startswith(f"pkg:{kind}/")]
    return {(each["name"], each["version"]) for each in components if "arch=source" not in each["purl"]}


installed = subprocess.check_output(["dpkg-query", "-W", "-f", "${Package} ${Version}\n"], text=True).splitlines()
told_and_there: dict[str, tuple[Names, Names]] = {
    "Python packages": (
        told("pypi") | {(service["name"], service["version"])},
        {(each.metadata["Name"], each.version) for each in distributions()},
    ),
    "Debian packages": (told("deb"), {tuple(line.split()) for line in installed}),
    "Pythons": (told("generic"), {("python", platform.python_version())}),
    "packages beside them": (set(), {(path.name,) for path in Path("/usr/local/lib").rglob("*.dist-info")}),
}
for kind, (listed, there) in told_and_there.items():
    print(f"{kind}: {len(listed)}")
    if listed != there:
        sys.exit(f"{kind} that are not told of: {sorted(there - listed)}; that are not there: {sorted(listed - there)}")
