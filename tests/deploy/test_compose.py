"""What docker-compose.replicas.yml lays over docker-compose.yml."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RESET = "reset"


class Loader(yaml.SafeLoader):
    """Knows compose's own tag."""


Loader.add_constructor("!reset", lambda _loader, _node: RESET)


def services(name: str) -> dict[str, Any]:
    text = (ROOT / name).read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.load(text, Loader)["services"]
    return found


API = services("docker-compose.yml")["api"]
OVERLAY = services("docker-compose.replicas.yml")
NGINX = OVERLAY["nginx"]


def test_it_takes_the_port_from_the_service_and_gives_it_to_nginx() -> None:
    assert OVERLAY["api"] == {"ports": RESET, "healthcheck": {"start_period": "180s"}}
    assert OVERLAY.keys() == {"api", "nginx"}
    (ours,), (theirs,) = API["ports"], NGINX["ports"]
    assert ours.rsplit(":", 1)[0] == theirs.rsplit(":", 1)[0]
    assert theirs.startswith("127.0.0.1:")


def test_nginx_can_do_and_write_as_little_as_the_service() -> None:
    for name in ("read_only", "cap_drop", "security_opt", "init", "ulimits", "restart", "stop_grace_period", "logging"):
        assert NGINX[name] == API[name], name
    assert int(NGINX["user"].split(":")[0]) > 0
    assert [mount for mount in NGINX["volumes"] if mount["read_only"] is not True] == []
    assert NGINX["deploy"]["resources"]["limits"].keys() == {"memory", "pids"}


def test_nginx_is_new_enough_to_look_replicas_up_again() -> None:
    version = NGINX["image"].rsplit(":", 1)[1]
    assert tuple(int(part) for part in version.split(".")) >= (1, 28)


def test_nginx_stops_politely_and_has_time_for_it() -> None:
    configuration = (ROOT / "deploy" / "nginx" / "nginx.conf").read_text(encoding="utf-8")
    assert NGINX["stop_signal"] == "SIGQUIT"
    assert "worker_shutdown_timeout 35s;" in configuration
    assert NGINX["stop_grace_period"] == "40s"
