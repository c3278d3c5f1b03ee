"""Everything that the OpenAPI document promises, tried with what it allows and what it does not."""

from tests.hostile import document
from tests.hostile.siege import Siege


def test_requests_made_from_the_document_are_answered_as_it_says(siege: Siege) -> None:
    assert document.explore(siege, requests=50, seed=1) == []
