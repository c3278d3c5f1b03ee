"""Options are those of the API."""

import pytest

from app.cli.options import parameters
from app.schemas import Parameters


@pytest.mark.parametrize(("typed", "sent"), [("true", True), ("false", False), ("never", "never"), (None, None)])
def test_when_beams_stop_is_typed_as_a_word(typed: str | None, sent: object) -> None:
    assert parameters(early_stopping=typed).early_stopping == sent


def test_what_is_not_typed_is_not_sent() -> None:
    assert parameters(early_stopping=None, num_beams=None, max_length=3) == Parameters(max_length=3)
    assert parameters(early_stopping=None, max_length=3).model_fields_set == {"max_length"}
