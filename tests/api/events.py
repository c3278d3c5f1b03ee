"""Reads server-sent events as the specification says."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

Event = tuple[str, Any]


def events_of(lines: Iterable[str]) -> Iterator[Event]:
    """(name, what its data says) of each event, as soon as it is complete. Comments are left out."""
    name, data = "message", list[str]()
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif not line and data:
            yield name, json.loads("\n".join(data))
            name, data = "message", []
