"""The Serve config files, and what the page about Ray says of the code."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from app import ray_serve
from app.config import Settings, load_settings, variable

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "deploy" / "ray").glob("*.yaml"))
PAGE = (ROOT / "docs" / "ray.md").read_text(encoding="utf-8")


def content(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_config_file_is_one_of_rays_and_says_nothing_that_ray_does_not_know(file: Path) -> None:
    schema = ServeDeploySchema.model_validate(content(file))
    (application,) = schema.applications
    assert application.import_path == "app.ray_serve:app"
    told = schema.model_dump(mode="json", exclude_unset=True)
    assert told["applications"][0]["deployments"] == content(file)["applications"][0]["deployments"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_config_file_names_our_deployment_and_settings_that_are_some(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (application,) = content(file)["applications"]
    for name, value in application["runtime_env"]["env_vars"].items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    (deployment,) = application["deployments"]
    assert deployment["name"] == ray_serve.deployment(settings).name
    device = "cuda" if deployment["ray_actor_options"].get("num_gpus") else "cpu"
    assert settings.device == device


def test_a_deployment_lets_no_more_in_than_the_service_and_waits_for_its_drain() -> None:
    deployment = ray_serve.deployment(Settings(max_connections=77, drain_seconds=12))
    assert deployment.max_ongoing_requests == 77
    assert deployment._deployment_config.graceful_shutdown_timeout_s == 12 + ray_serve.STOP_SECONDS


def test_the_page_tells_the_times_of_the_code() -> None:
    assert f"and {ray_serve.STOP_SECONDS:g} s at most" in PAGE
    assert f"notices within {ray_serve.CHECK_SECONDS:g} s" in PAGE
    assert f"after {ray_serve.PATIENCE_SECONDS:g} s without a ready engine" in PAGE
    assert f"`Retry-After: {ray_serve.RETRY_AFTER}`" in PAGE


def test_the_page_names_every_config_file_and_settings_that_are_some() -> None:
    assert [file.name for file in FILES if f"deploy/ray/{file.name}" not in PAGE] == []
    assert set(re.findall(r"PRECIS_[A-Z_]*[A-Z]", PAGE)) <= {variable(name) for name in Settings.model_fields}
