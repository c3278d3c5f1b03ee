"""The alert rules of Prometheus."""

from typing import Any

import yaml

from tests.monitoring.board import MONITORING

PROMETHEUS = MONITORING / "prometheus"


def alerts() -> dict[str, dict[str, Any]]:
    """By name."""
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}
