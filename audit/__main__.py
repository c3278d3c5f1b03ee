"""`python -m audit`: a bill of components, its licences, and what is known against the pins."""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path

from audit import advisories, bill, licences

BILL = Path("build") / "sbom.json"


def main() -> None:
    parser = ArgumentParser(prog="python -m audit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    sbom = commands.add_parser("sbom", help="write what the service needs of the packages that are installed here")
    sbom.add_argument("--image", metavar="PYTHON", help="all packages of this Python, and of this Debian")
    check = commands.add_parser("licences", help="list the licences of Python packages; one not expected is an error")
    for command in (sbom, check):
        command.add_argument("file", type=Path, nargs="?", default=BILL, help="CycloneDX, in JSON (%(default)s)")
    known = commands.add_parser("advisories", help="a known weakness of a pinned version is an error")
    known.add_argument("database", help="osv, pypi, esms, or the address of a copy of OSV")
    chosen = parser.parse_args()
    if chosen.command == "sbom":
        write(chosen.file, chosen.image)
    elif chosen.command == "licences":
        look_at(chosen.file)
    else:
        ask(chosen.database)


def write(file: Path, python: str | None) -> None:
    content = bill.of_image(python) if python else bill.of_service()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{file}: {len(content['components'])} components")


def look_at(file: Path) -> None:
    policy = licences.load_policy()
    packages = licences.python_packages(json.loads(file.read_text(encoding="utf-8")))
    for package in packages:
        print(f"{package['name']:<42} {package['version']:<16} {licences.told(package, policy)}")
    fail("licences", licences.unexpected(packages, policy))


def ask(database: str) -> None:
    fail("advisories", advisories.ask(database))
    print(f"advisories: {database!r} knows all pinned versions, and nothing against them")


def fail(check: str, lines: list[str]) -> None:
    if lines:
        sys.exit("\n".join(f"{check}: {line}" for line in lines))


if __name__ == "__main__":
    main()
