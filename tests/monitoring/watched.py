"""`python3 -m tests.monitoring.watched PROMETHEUS SERVICE`: does this Prometheus really see this service?

Sends the service a text now and then, until Prometheus has the service as a target that is up and an answer to every
query of the board. Fails after a minute with what is missing, or when a rule cannot be evaluated.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

from tests.monitoring.board import queries

PATIENCE_SECONDS = 60
ARTICLE = Path(__file__).parents[1] / "containers" / "article.json"
OPENER = build_opener(ProxyHandler({}))


def main(prometheus: str, service: str) -> None:
    asked = {place: query for place, query in queries("20s").items() if "ALERTS" not in query}
    asked["the target is up"] = 'up{job="precis"} == 1'
    end = time.monotonic() + PATIENCE_SECONDS
    while missing := [place for place, query in asked.items() if not result(prometheus, query)]:
        if time.monotonic() > end:
            sys.exit(f"Prometheus has no answer to: {'; '.join(missing)}")
        summarize(service)
        time.sleep(1)
    rules = [rule for group in get(prometheus, "/api/v1/rules")["groups"] for rule in group["rules"]]
    if broken := [rule for rule in rules if rule["health"] != "ok"]:
        sys.exit(f"rules that cannot be evaluated, or were not yet: {broken}")
    print(f"{len(asked)} queries are answered, {len(rules)} rules evaluated")


def result(prometheus: str, query: str) -> list[Any]:
    samples: list[Any] = get(prometheus, f"/api/v1/query?{urlencode({'query': query})}")["result"]
    return samples


def get(prometheus: str, path: str) -> Any:
    with OPENER.open(prometheus + path, timeout=10) as answer:
        return json.load(answer)["data"]


def summarize(service: str) -> None:
    body = ARTICLE.read_bytes()
    request = Request(f"{service}/summarize", body, {"Content-Type": "application/json"})
    with OPENER.open(request, timeout=30) as answer:
        answer.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
