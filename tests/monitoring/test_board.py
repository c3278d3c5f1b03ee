"""The board and the alerts ask only for what the service tells."""

from collections.abc import Iterator

import promql_parser as promql
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from app.config import Settings
from app.main import create_app
from tests.fakes import FakeModel, fake_info
from tests.monitoring import board
from tests.monitoring.alerts import alerts

# What Prometheus adds by itself, with the labels that it gives to all.
FROM_PROMETHEUS = {"up": set[str](), "ALERTS": {"alertname", "alertstate", "severity"}}
ON_EVERY_SERIES = {"job", "instance"}
Labels = dict[str, set[str]]

SHOWN = board.queries("5m")
ASKED = SHOWN | {name: rule["expr"] for name, rule in alerts().items()}


@pytest.fixture(scope="module")
def told() -> Labels:
    """Names and labels of all that /metrics tells after some traffic."""
    with TestClient(create_app(Settings(), models=[FakeModel(fake_info("news-en"))])) as client:
        assert client.post("/summarize", json={"text": "alpha bravo"}).status_code == 200
        assert client.post("/summarize", json={"text": ""}).status_code == 422
        exposition = client.get("/metrics").text
    labels: Labels = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def nodes(query: str) -> list[promql.Expr]:
    found: list[promql.Expr] = []
    promql.walk(promql.parse(query), pre_visit=found.append)
    return found


def selectors(query: str) -> Iterator[promql.VectorSelector]:
    for node in nodes(query):
        if isinstance(node, promql.MatrixSelector):
            yield node.vector_selector
        elif isinstance(node, promql.VectorSelector):
            yield node


def grouped_by(query: str) -> set[str]:
    modifiers = [node.modifier for node in nodes(query) if isinstance(node, promql.AggregateExpr)]
    return {label for modifier in modifiers if modifier for label in modifier.labels}


@pytest.mark.parametrize("place", ASKED)
def test_a_query_asks_only_for_series_and_labels_that_there_are(place: str, told: Labels) -> None:
    known = told | FROM_PROMETHEUS
    query = ASKED[place]
    asked = list(selectors(query))
    assert asked
    assert {str(selector.name) for selector in asked} <= known.keys()
    labels = ON_EVERY_SERIES.union(*(known[str(selector.name)] for selector in asked))
    assert grouped_by(query) <= labels
    for selector in asked:
        matched = {matcher.name for matcher in selector.matchers.matchers}
        assert matched <= known[str(selector.name)] | ON_EVERY_SERIES


@pytest.mark.parametrize("place", SHOWN)
def test_a_legend_names_only_labels_that_the_query_keeps(place: str) -> None:
    title, legend = place.rsplit(", ", 1)
    named = {part.split("}}")[0] for part in legend.split("{{")[1:]}
    query = SHOWN[place]
    kept = grouped_by(query) or ON_EVERY_SERIES
    assert named <= kept, title


def test_a_service_shows_everything_that_it_tells_on_the_board(told: Labels) -> None:
    shown = {str(selector.name) for query in SHOWN.values() for selector in selectors(query)}
    ours = {name for name in told if name.startswith("precis_") and not name.endswith(("_sum", "_count", "_created"))}
    # Of the queue's four limits the board shows the fullest; deadlines are for the alert.
    assert ours - shown == {"precis_queue_tokens", "precis_queue_rows", "precis_queue_bytes", "precis_deadline_seconds"}


def test_every_panel_says_what_it_tells_and_reads_the_provisioned_source() -> None:
    for panel in board.panels():
        assert len(panel["description"]) > 20, panel["title"]
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert sources == [{"type": "prometheus", "uid": "prometheus"}] * len(sources)


def test_panels_lie_side_by_side_and_never_over_each_other() -> None:
    laid = board.board()["panels"]
    assert len({panel["id"] for panel in laid}) == len(laid)
    cells = [
        (column, line)
        for panel in laid
        for at in [panel["gridPos"]]
        for column in range(at["x"], at["x"] + at["w"])
        for line in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(column for column, _ in cells) < 24
