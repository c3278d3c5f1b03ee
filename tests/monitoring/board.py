"""The PromQL of the Grafana board. Standard library only: `watched` is run by any Python."""

import json
from pathlib import Path
from typing import Any

MONITORING = Path(__file__).parents[2] / "monitoring"
BOARD = MONITORING / "grafana" / "dashboards" / "precis.json"


def board() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(BOARD.read_text(encoding="utf-8"))
    return content


def panels() -> list[dict[str, Any]]:
    """Those that show something: not the headings."""
    return [panel for panel in board()["panels"] if panel["type"] != "row"]


def queries(rate_interval: str) -> dict[str, str]:
    """By title and legend; Grafana's own variable has the value that is given."""
    return {
        f"{panel['title']}, {target['legendFormat']}": target["expr"].replace("$__rate_interval", rate_interval)
        for panel in panels()
        for target in panel["targets"]
    }
