"""A value of `config.json` that is missing, unknown, of another type or out of its range is named."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import CheckpointError
from app.models.base import DecodingOptions, Limits
from app.models.checkpoint import Checkpoint, write_manifest
from app.models.config import read_config, section
from app.schemas import Parameters

WHOLE: dict[str, Any] = {
    "language": "en",
    "description": "For tests.",
    "limits": {"max_source_tokens": 400, "max_summary_tokens": 64},
    "decoding": {"num_beams": 2, "max_length": 10, "length_penalty": 1},
}


def written(folder: Path, config: dict[str, Any]) -> Checkpoint:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_manifest(folder)
    return Checkpoint(folder)


def test_a_whole_config_is_read_with_the_defaults_of_what_it_leaves_out(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, WHOLE))
    assert config.limits == Limits(400, 64, 8)
    assert config.defaults == DecodingOptions(2, 10, length_penalty=1.0)
    assert type(config.defaults.length_penalty) is float
    assert (config.language, config.description) == ("en", "For tests.")


@pytest.mark.parametrize(
    ("section", "name", "value", "said"),
    [
        ("limits", "max_source_tokens", 0, "limits.max_source_tokens is 0; it must be from 1 to 16,384"),
        ("limits", "max_source_tokens", 10**4000, "limits.max_source_tokens is 1000"),
        ("limits", "max_beams", 9, "limits.max_beams is 9; it must be from 1 to 8"),
        ("limits", "max_beams", True, "limits.max_beams is true; it must be a whole number"),
        ("limits", "max_beams", 8.0, "limits.max_beams is 8.0; it must be a whole number"),
        ("limits", "colour", 1, "limits.colour is not known; known are max_source_tokens,"),
        ("limits", "a\nb\ud800", 1, r"'limits.a\nb\ud800' is not known"),
        ("decoding", "num_beams", 9, "decoding.num_beams is 9; it must be from 1 to 8"),
        ("decoding", "num_beams", 0, "decoding.num_beams is 0; it must be from 1 to 8"),
        ("decoding", "num_beams", "4", "decoding.num_beams is '4'; it must be a whole number"),
        ("decoding", "max_length", 65, "decoding.max_length is 65; it must be from 1 to 64"),
        ("decoding", "min_length", 11, "decoding.min_length is 11; it must be at most decoding.max_length"),
        ("decoding", "min_length", -1, "decoding.min_length is -1; it must be from 0 to 64"),
        ("decoding", "length_penalty", 10**400, "decoding.length_penalty is 1000"),
        ("decoding", "length_penalty", [[]], "decoding.length_penalty is an array; it must be a number"),
        ("decoding", "no_repeat_ngram_size", {}, "decoding.no_repeat_ngram_size is an object"),
        ("decoding", "numbers_from_source", 1, "decoding.numbers_from_source is 1; it must be true or false"),
        ("decoding", "repetition_penalty", 0.5, "decoding.repetition_penalty is 0.5; it must be from 1 to 10"),
        ("decoding", "early_stopping", "ever", "decoding.early_stopping is 'ever'; it must be true, false or"),
        ("decoding", "early_stopping", 1, "decoding.early_stopping is 1; it must be true, false or"),
    ],
)
def test_a_wrong_value_is_named_with_what_it_must_be(
    tmp_path: Path, section: str, name: str, value: object, said: str
) -> None:
    checkpoint = written(tmp_path, {**WHOLE, section: {**WHOLE[section], name: value}})
    with pytest.raises(CheckpointError) as refused:
        read_config(checkpoint)
    assert str(refused.value).startswith(f"{tmp_path}/config.json: {said}")
    assert len(str(refused.value)) < len(str(tmp_path)) + 300


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("limits", None, "limits is missing; it must be an object"),
        ("limits", {"max_source_tokens": 400}, "limits.max_summary_tokens is missing; add it"),
        ("limits", {**WHOLE["limits"], "max_beams": 1}, "decoding.num_beams is 2; it must be from 1 to 1"),
        ("decoding", [], "decoding is an array; it must be an object"),
        ("language", None, "language is missing; it must be a BCP 47 tag"),
        ("language", "en\n", r"language is 'en\\n'; it must be a BCP 47 tag"),
        ("description", "a\nb", r"description is 'a\\nb'; it must be a line"),
        ("description", "\ud800", r"description is '\\ud800'; it must be a line"),
        ("description", "x" * 1001, "description is 'xxx"),
    ],
)
def test_a_missing_or_wrong_part_is_named(tmp_path: Path, name: str, value: object, said: str) -> None:
    checkpoint = written(tmp_path, {**WHOLE, name: value})
    with pytest.raises(CheckpointError, match=rf"config\.json: {said}"):
        read_config(checkpoint)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1e999"])
def test_a_number_that_is_not_finite_is_refused(tmp_path: Path, number: str) -> None:
    text = json.dumps(WHOLE).replace('"length_penalty": 1', f'"length_penalty": {number}')
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    write_manifest(tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json: (not valid JSON|decoding\.length_penalty is -?inf)"):
        read_config(Checkpoint(tmp_path))


@dataclass(frozen=True)
class Sizes:
    width: int
    share: float = 0.1


def test_a_family_reads_its_own_part_with_its_own_ranges(tmp_path: Path) -> None:
    checkpoint = written(tmp_path, {"network": {"width": 8}})
    assert section(checkpoint, "network", Sizes, {"width": (1, 8), "share": (0, 1)}) == Sizes(8, 0.1)
    with pytest.raises(CheckpointError, match=r"network\.width is 8; it must be from 1 to 7"):
        section(checkpoint, "network", Sizes, {"width": (1, 7), "share": (0, 1)})


@given(st.fixed_dictionaries({}, optional={"num_beams": st.integers(-1, 10), "length_penalty": st.floats()}))
def test_a_default_that_is_accepted_would_be_accepted_from_a_caller(
    tmp_path_factory: pytest.TempPathFactory, changed: dict[str, Any]
) -> None:
    checkpoint = written(tmp_path_factory.mktemp("config"), {**WHOLE, "decoding": {**WHOLE["decoding"], **changed}})
    try:
        defaults = read_config(checkpoint).defaults
    except CheckpointError:
        return
    Parameters(num_beams=defaults.num_beams, length_penalty=defaults.length_penalty)
