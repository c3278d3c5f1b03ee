"""What `config.json` says: every value of the type and in the range that its field has, for every family."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from app.errors import CheckpointError
from app.models.base import DecodingOptions, EarlyStopping, Limits
from app.models.checkpoint import few

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Section = TypeVar("Section", bound=DataclassInstance)

Ranges = Mapping[str, tuple[float, float]]  # both ends included

LIMITS: Ranges = {"max_source_tokens": (1, 16_384), "max_summary_tokens": (1, 16_384), "max_beams": (1, 8)}
DESCRIPTION_CHARACTERS = 1000
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")  # the form of BCP 47
_KINDS: Mapping[object, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    EarlyStopping: 'true, false or "never"',
}


class Said(Protocol):
    """A checkpoint, or what is said of one elsewhere than in its `config.json`."""

    @property
    def config(self) -> Mapping[str, Any]: ...

    @property
    def config_path(self) -> Path: ...


@dataclass(frozen=True, slots=True)
class Config:
    """What a checkpoint of any family says of itself."""

    language: str
    description: str
    limits: Limits
    defaults: DecodingOptions


def read_config(said: Said) -> Config:
    """Raises CheckpointError where a value is missing, or would make a request fail that names no parameter."""
    limits = section(said, "limits", Limits, LIMITS)
    decoding: Ranges = {  # those of the API
        "num_beams": (1, limits.max_beams),
        "max_length": (1, limits.max_summary_tokens),
        "min_length": (0, limits.max_summary_tokens),
        "length_penalty": (-10, 10),
        "no_repeat_ngram_size": (0, 100),
        "repetition_penalty": (1, 10),
    }
    defaults = section(said, "decoding", DecodingOptions, decoding)
    if defaults.min_length > defaults.max_length:
        raise wrong(said, "decoding.min_length", defaults.min_length, "at most decoding.max_length")
    language, description = said.config.get("language"), said.config.get("description")
    if not isinstance(language, str) or not _LANGUAGE.fullmatch(language):
        raise wrong(said, "language", language, "a BCP 47 tag, such as en or zh-Hans")
    if not isinstance(description, str) or not _is_line(description):
        raise wrong(said, "description", description, f"a line of up to {DESCRIPTION_CHARACTERS:,} characters")
    return Config(language, description, limits, defaults)


def section(said: Said, name: str, kind: "type[Section]", ranges: Ranges) -> "Section":
    """An object of `config.json` as a dataclass; every number of it has a range.

    Raises CheckpointError naming the value that is missing, unknown, of another type or out of its range.
    """
    values = said.config.get(name)
    if not isinstance(values, dict):
        raise wrong(said, name, values, "an object")
    known = {field.name: field for field in fields(kind)}
    if unknown := [f"{name}.{each}" for each in values if each not in known]:
        path = said.config_path
        raise CheckpointError(f"{path}: {few(unknown)} is not known; known are {', '.join(known)}")
    return kind(**{each: _value(said, name, field, values, ranges) for each, field in known.items()})


def wrong(said: Said, place: str, value: object, must: str) -> CheckpointError:
    """One line: where in `config.json`, what is there, and what must be."""
    return CheckpointError(f"{said.config_path}: {place} is {told(value)}; it must be {must}")


def _value(
    said: Said, name: str, field: "Field[Any]", values: Mapping[str, Any], ranges: Ranges
) -> int | float | bool | str:
    value, place = values.get(field.name, field.default), f"{name}.{field.name}"
    if value is MISSING:
        raise CheckpointError(f"{said.config_path}: {place} is missing; add it")
    if not _is_a(field.type, value):
        raise wrong(said, place, value, _KINDS[field.type])
    if isinstance(value, bool | str):
        return value
    low, high = ranges[field.name]
    if not low <= value <= high:
        raise wrong(said, place, value, f"from {low:,} to {high:,}")
    return float(value) if field.type is float else value


def _is_a(kind: object, value: object) -> bool:
    if kind == EarlyStopping:
        return type(value) is bool or value == "never"
    return type(value) is kind or (kind is float and type(value) is int)


def told(value: object) -> str:
    """Fit for one line, whatever it is."""
    if isinstance(value, list | dict):
        return "an array" if isinstance(value, list) else "an object"
    if value is None or isinstance(value, bool):
        return {None: "missing", True: "true", False: "false"}[value]
    told = ascii(value)
    return told if len(told) <= 40 else f"{told[:40]}…"


def _is_line(text: str) -> bool:
    """Without control characters and halves of characters, which no answer could hold."""
    return len(text) <= DESCRIPTION_CHARACTERS and not {"Cc", "Cs"} & {*map(unicodedata.category, text)}
