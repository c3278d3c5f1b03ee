import re
from typing import Any

import pytest
import yaml

from tests.monitoring.alerts import PROMETHEUS, alerts


@pytest.mark.parametrize("rule", alerts().values(), ids=alerts().keys())
def test_an_alert_says_what_is_wrong_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "runbook"}
    assert rule["annotations"]["summary"].endswith(".")
    assert len(rule["annotations"]["runbook"]) > 100


def test_every_alert_is_seen_to_fire_by_its_own_test_and_to_be_silent_before() -> None:
    tests = yaml.safe_load((PROMETHEUS / "alerts.test.yml").read_text(encoding="utf-8"))["tests"]
    expected = [str(test["promql_expr_test"]) for test in tests]
    fired = {name for text in expected for name in re.findall(r'alertname="(\w+)"', text)}
    assert fired == alerts().keys()
    assert [text for text in expected if "'exp_samples': []" not in text] == []


def test_prometheus_reads_the_alerts() -> None:
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    assert configuration["rule_files"] == ["alerts.yml"]
    assert [job["job_name"] for job in configuration["scrape_configs"]] == ["precis"]
