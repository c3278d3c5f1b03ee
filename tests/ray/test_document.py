"""Everything that the OpenAPI document promises, through Ray Serve."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile import document
from tests.hostile.siege import Siege
from tests.ray.conftest import Deployed

REQUEST_ID = {"$ref": "#/components/parameters/RequestId"}


@pytest.fixture
def siege(service: Deployed, tmp_path: Path) -> Iterator[Siege]:
    """Nobody sends a request id: Ray's proxy would tell it whatever it is. The log is Ray's, and not looked at."""
    log = tmp_path / "log"
    log.touch()
    siege = Siege(service.port, log)
    for operations in siege.document["paths"].values():
        for operation in operations.values():
            operation["parameters"] = [each for each in operation["parameters"] if each != REQUEST_ID]
    yield siege
    siege.check_unharmed()


@pytest.mark.slow
def test_requests_made_from_the_document_are_answered_as_it_says(siege: Siege) -> None:
    assert document.explore(siege, requests=50, seed=1) == []
