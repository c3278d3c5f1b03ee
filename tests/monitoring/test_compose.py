"""The containers that watch can do as little as the one that works, and ask nothing of the internet."""

import re
from typing import Any

import pytest
import yaml

from tests.monitoring.board import MONITORING

ROOT = MONITORING.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
WATCHING = {name: service for name, service in COMPOSE["services"].items() if service.get("profiles") == ["monitoring"]}


def read(name: str) -> Any:
    return yaml.safe_load((MONITORING / name).read_text(encoding="utf-8"))


def test_the_profile_adds_prometheus_and_grafana() -> None:
    assert WATCHING.keys() == {"prometheus", "grafana"}


@pytest.mark.parametrize("service", WATCHING.values(), ids=WATCHING.keys())
def test_a_container_that_watches_can_do_and_write_as_little_as_possible(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["healthcheck"]["test"][0] == "CMD"
    assert not service["image"].endswith(":latest")


@pytest.mark.parametrize("service", WATCHING.values(), ids=WATCHING.keys())
def test_what_it_reads_is_in_the_project_and_mounted_read_only(service: dict[str, Any]) -> None:
    mounts = [volume for volume in service["volumes"] if isinstance(volume, dict)]
    assert mounts
    assert [mount for mount in mounts if not mount["read_only"] or not (ROOT / mount["source"]).is_dir()] == []


def test_grafana_shows_the_board_to_viewers_and_lets_nobody_sign_in() -> None:
    environment = WATCHING["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    home = environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].removeprefix("/etc/grafana/provisioning/")
    assert (MONITORING / "grafana" / home).is_file()


def test_grafana_does_not_call_home() -> None:
    environment = WATCHING["grafana"]["environment"]
    off = ("REPORTING_ENABLED", "CHECK_FOR_UPDATES", "CHECK_FOR_PLUGIN_UPDATES", "FEEDBACK_LINKS_ENABLED")
    assert {environment[f"GF_ANALYTICS_{name}"] for name in off} == {"false"}
    assert environment["GF_NEWS_NEWS_FEED_ENABLED"] == environment["GF_SNAPSHOTS_ENABLED"] == "false"
    assert environment["GF_SECURITY_DISABLE_GRAVATAR"] == environment["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"


def test_grafana_finds_its_source_and_its_boards_where_they_are_mounted() -> None:
    (source,) = read("grafana/datasources/prometheus.yml")["datasources"]
    scraped = read("prometheus/prometheus.yml")["global"]["scrape_interval"]
    assert (source["uid"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert source["jsonData"]["timeInterval"] == scraped
    (provider,) = read("grafana/dashboards/boards.yml")["providers"]
    assert provider["options"]["path"] in [volume["target"] for volume in WATCHING["grafana"]["volumes"]]


def test_compose_hands_on_where_the_documentation_says_that_traces_go() -> None:
    named = {name for name in COMPOSE["services"]["api"]["environment"] if name.startswith("OTEL_")}
    told = set(re.findall(r"OTEL_\w+", (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")))
    assert named <= told | {"OTEL_TRACES_SAMPLER_ARG"}
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in named
