"""Whether the licence of every Python package of a bill is one that we expect."""

import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

from license_expression import ExpressionError, Licensing, get_spdx_licensing
from packaging.utils import canonicalize_name

from audit.bill import Bill, Component

POLICY = Path(__file__).with_name("licences.toml")


@dataclass(frozen=True, slots=True)
class Policy:
    """allowed: SPDX identifiers, with their exception if they need one. stated: licences by package or pattern."""

    allowed: frozenset[str]
    stated: dict[str, str]


def load_policy() -> Policy:
    content = tomllib.loads(POLICY.read_text(encoding="utf-8"))
    return Policy(frozenset(content["allowed"]), content["stated"])


def python_packages(bill: Bill) -> list[Component]:
    packages = [component for component in bill["components"] if component.get("purl", "").startswith("pkg:pypi/")]
    return sorted(packages, key=lambda component: str(component["name"]).lower())


def told(package: Component, policy: Policy) -> str:
    """The licence: as we state it, else as the package's own metadata declares it."""
    name = canonicalize_name(package["name"])
    stated = [licence for pattern, licence in policy.stated.items() if fnmatch(name, pattern)]
    return " AND ".join(stated or _declared(package)) or "unknown"


def unexpected(packages: list[Component], policy: Policy) -> list[str]:
    """One line for each package whose licence is not allowed, or not told as an SPDX expression."""
    lines = []
    for package in packages:
        licence = told(package, policy)
        try:
            fine = licence in policy.allowed or _allows(_licensing().parse(licence, validate=True), policy.allowed)
        except ExpressionError:
            lines.append(f"{package['name']}: {licence!r} is no SPDX expression; state its licence in {POLICY.name}")
        else:
            if not fine:
                lines.append(f"{package['name']}: {licence} is not allowed by {POLICY.name}")
    return lines


def _declared(package: Component) -> list[str]:
    claims = [each.get("expression") or _named(each["license"]) for each in package.get("licenses", ())]
    return [f"({claim})" if len(claims) > 1 else claim for claim in claims]


def _named(licence: dict[str, str]) -> str:
    return licence.get("id") or licence["name"]


def _allows(expression: Any, allowed: frozenset[str]) -> bool:
    """All parts of an AND, one of an OR."""
    operator = getattr(expression, "operator", "").strip()
    if operator == "AND":
        return all(_allows(part, allowed) for part in expression.args)
    if operator == "OR":
        return any(_allows(part, allowed) for part in expression.args)
    return str(expression) in allowed


@cache
def _licensing() -> Licensing:
    return get_spdx_licensing()
