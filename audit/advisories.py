"""Known weaknesses of the versions that are pinned: pip-audit asks a database of advisories.

It takes a version that the database does not know for a good one. Here that is as bad as a known weakness.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PINS = Path(__file__).parents[1] / "constraints.txt"


def ask(database: str, pins: Path = PINS) -> list[str]:
    """What stands against the pins: a line for each weakness, or for what could not be found out.

    database: `osv`, `pypi`, `esms`, or the address of a copy of OSV.
    """
    tool = str(Path(sys.executable).with_name("pip-audit"))
    pinned = ["--requirement", str(pins), "--disable-pip", "--no-deps"]
    service = ["osv", "--osv-url", database] if "://" in database else [database]
    told = ["--format", "json", "--desc", "off", "--progress-spinner", "off"]
    command = [tool, *pinned, *told, "--vulnerability-service", *service]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return [f"not checked, for {database!r} could not be asked: {reason}"]
    return [*_weaknesses(packages), *_unknown(packages, database)]


def _weaknesses(packages: list[dict[str, Any]]) -> list[str]:
    return [
        f"{package['name']} {package['version']}: {each['id']}, fixed in {', '.join(each['fix_versions']) or 'none'}"
        for package in packages
        for each in package.get("vulns", ())
    ]


def _unknown(packages: list[dict[str, Any]], database: str) -> list[str]:
    skipped = [package for package in packages if "skip_reason" in package]
    if not skipped:
        return []
    return [f"{len(skipped)} of {len(packages)} not checked by {database!r}, the first: {skipped[0]['skip_reason']}"]
