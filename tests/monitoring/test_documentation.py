"""docs/monitoring.md, and its translation, tell of everything that there is to see."""

import re

import pytest
import yaml

from tests.monitoring.alerts import alerts
from tests.monitoring.board import MONITORING, panels

ROOT = MONITORING.parent
TEXTS = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("monitoring.md", "monitoring.zh.md")}
in_every_language = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())


def rows(text: str, section: int) -> list[list[str]]:
    """Cells of the table in one of the sections, without its head."""
    table = [line for line in text.split("\n## ")[section].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table[2:]]


@in_every_language
def test_every_panel_has_its_row_in_the_order_of_the_board(text: str) -> None:
    assert [row[0] for row in rows(text, 1)] == [panel["title"] for panel in panels()]


@in_every_language
def test_every_alert_has_its_row_with_its_severity_and_its_patience(text: str) -> None:
    told = {row[0]: row for row in rows(text, 2)}
    assert told.keys() == alerts().keys()
    for name, rule in alerts().items():
        assert told[name][1] == rule["labels"]["severity"]
        if minutes := re.fullmatch(r"(\d+)m", rule.get("for", "")):
            assert re.search(rf"\b{minutes[1]} (minute|分钟)", told[name][2])


def test_panels_that_an_alert_sends_people_to_are_on_the_board() -> None:
    titles = {panel["title"] for panel in panels()}
    sent_to = {
        name
        for rule in alerts().values()
        for board in re.findall(r"[Bb]oard[^.:]*", rule["annotations"]["runbook"])
        for name in re.findall(r'"([^"]+)"', board)
    }
    assert sent_to
    assert sent_to <= titles


@in_every_language
def test_the_addresses_are_those_of_the_compose_file(text: str) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    published = {port.rsplit(":", 1)[1] for service in services.values() for port in service["ports"]}
    assert published == {"8000", "9090", "3000"}
    assert published == set(re.findall(r"http://127\.0\.0\.1:(\d+)", text)) - {"4318"}
