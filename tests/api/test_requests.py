"""What callers send reaches the engine, and what they leave out is the checkpoint's own."""

from dataclasses import fields, replace
from typing import Any

import pytest

from app.api.requests import PARAMETERS, decoding_options
from app.models.base import DecodingOptions
from app.schemas import DefaultParameters, Parameters
from tests.fakes import fake_info

SENT = {
    "num_beams": 3,
    "max_length": 7,
    "min_length": 2,
    "length_penalty": 0.5,
    "no_repeat_ngram_size": 4,
    "numbers_from_source": False,
    "repetition_penalty": 1.5,
    "early_stopping": "never",
}


@pytest.mark.parametrize(("name", "value"), SENT.items())
def test_a_parameter_that_is_sent_replaces_the_default_of_the_checkpoint(name: str, value: Any) -> None:
    info = fake_info()
    changed: dict[str, Any] = {name: value}
    assert getattr(info.defaults, name) != value
    assert decoding_options(Parameters(**changed), info) == replace(info.defaults, **changed)


def test_every_option_can_be_sent_and_is_listed() -> None:
    options = {field.name for field in fields(DecodingOptions)}
    assert (
        options == set(SENT) == set(PARAMETERS) == set(Parameters.model_fields) == set(DefaultParameters.model_fields)
    )
