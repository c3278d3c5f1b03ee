"""Tests of other folders that need nothing but a service, to be run on another one."""

import inspect
from collections.abc import Callable, Collection
from types import ModuleType
from typing import Any

Test = Callable[..., object]


def reused(*modules: ModuleType, fixtures: Collection[str], without: Collection[str] = ()) -> dict[str, Test]:
    """By name: those that take one of these fixtures at least, and no others."""
    return {
        name: test
        for module in modules
        for name, test in vars(module).items()
        if name.startswith("test_") and name not in without and _taken(test) and _taken(test) <= set(fixtures)
    }


def _taken(test: Test) -> set[str]:
    marks: list[Any] = getattr(test, "pytestmark", [])
    given = {name for mark in marks if mark.name == "parametrize" for name in _names(mark.args[0])}
    used = {name for mark in marks if mark.name == "usefixtures" for name in mark.args}
    return set(inspect.signature(test).parameters) - given | used


def _names(parametrized: str | tuple[str, ...]) -> list[str]:
    return parametrized.replace(" ", "").split(",") if isinstance(parametrized, str) else list(parametrized)
