"""Everything that the OpenAPI document promises, through Ray Serve."""

from pathlib import Path

import pytest

from tests.hostile import document
from tests.hostile.siege import Siege
from tests.ray.conftest import Deployed


@pytest.fixture
def siege(service: Deployed, tmp_path: Path) -> Siege:
    return Siege(service.port, tmp_path / "log")


def test_requests_made_from_the_document_are_answered_as_it_says(siege: Siege) -> None:
    assert document.explore(siege, requests=50, seed=1) == []
