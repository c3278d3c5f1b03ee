"""The package as others see it."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import app.client
from app.client import AsyncClient, Client

ROOT = Path(__file__).parents[2]
METHODS = ("summarize", "attention", "stream", "summarize_all", "models", "model", "ready")


def test_the_client_loads_nothing_of_the_service_but_schemas_and_errors() -> None:
    code = """
import sys
import app.client
heavy = {"fastapi", "numpy", "orjson", "starlette", "structlog", "tokenizers", "torch", "uvicorn"}
ours = {name for name in sys.modules if name.startswith("app.") and not name.startswith("app.client")}
print(sorted(heavy & sys.modules.keys()), sorted(ours))
"""
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[] ['app.errors', 'app.examples', 'app.schemas']"


def test_type_checkers_of_others_may_look_at_the_types() -> None:
    assert Path(app.client.__file__).parents[1].joinpath("py.typed").is_file()


@pytest.mark.parametrize("method", METHODS)
def test_both_clients_take_the_same_arguments(method: str) -> None:
    blocking, awaited = (inspect.signature(getattr(kind, method)) for kind in (Client, AsyncClient))
    assert blocking.parameters == awaited.parameters


def test_both_clients_are_made_with_the_same_arguments() -> None:
    blocking, awaited = (inspect.signature(kind).parameters for kind in (Client, AsyncClient))
    assert list(blocking) == list(awaited)
    for name in ("api_key", "timeout", "retries", "http", "clock"):
        assert blocking[name].default == awaited[name].default


def test_both_clients_can_do_the_same() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(Client) - {"close"} == public(AsyncClient) - {"aclose"} == set(METHODS)


def test_everything_that_is_exported_is_there() -> None:
    assert [name for name in app.client.__all__ if not hasattr(app.client, name)] == []
    assert app.client.__all__ == sorted(app.client.__all__)
