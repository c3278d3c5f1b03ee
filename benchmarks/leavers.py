"""A thousand clients who leave before they are answered: how soon their rows are free, and what is left of them."""

import json
import random
import re
import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from benchmarks import load
from benchmarks.processes import family, resident_mib
from benchmarks.report import Results, say, table
from benchmarks.systems import System, running
from benchmarks.texts import mixed_texts

TEXTS = 400
WARM_UP_SECONDS = 5.0
SETTLING_SECONDS = 2.0
LONGEST_STAY = 0.5  # seconds
QUIET_SECONDS = 1.0  # in which nothing more is told
PATIENCE = 60.0
RESET = struct.pack("ii", 1, 0)  # no goodbye
_LINE = re.compile(r"^(precis_\w+|process_open_fds)({[^}]*})? (\S+)$", re.MULTILINE)
Told = dict[str, float]


def measure(precision: str, clients: int, rounds: int, folder: Path) -> str:
    """Every round all of them come at once; each leaves after a while of its own, one in four with a reset."""
    kept = Results(folder, "leavers", ("clients",))
    kept.forget(lambda _: True)
    system, texts = System("precis", precision), mixed_texts(TEXTS)
    with running(system) as server:
        load.closed_loop(server.url, [system.body(text, 4) for text in texts], 64, WARM_UP_SECONDS)
        time.sleep(SETTLING_SECONDS)  # the last of these left, too
        _leave(server.url, texts, clients, seed=0)  # so that the first round finds what the next ones leave
        for number in range(1, rounds + 1):
            before, files, memory = told(server.url), _files(server.pid), resident_mib(server.pid)
            samples = _leave(server.url, texts, clients, seed=number)
            after = told(server.url)
            change = {name: value - before.get(name, 0.0) for name, value in after.items()}
            kept.add(
                {
                    "clients": clients,
                    "round": number,
                    "left": change["left"],
                    "unseen": clients - change["left"] - change["answered"] - change["refused"],
                    "answered": change["answered"],
                    "refused": change["refused"],
                    "cancelled": change["cancelled"],
                    "steps": _steps_to_freedom(samples),
                    "rows": after["rows"],
                    "waiting": after["waiting"],
                    "sockets": after["sockets"] - before["sockets"],
                    "files": _files(server.pid) - files,
                    "mib": resident_mib(server.pid) - memory,
                }
            )
            say(f"round {number}: {change['left']:g} left, {after['rows']:g} rows in use")
    return _report(kept)


def told(url: str) -> Told:
    """What /metrics tells, in few words."""
    text = httpx2.get(f"{url}/metrics", timeout=PATIENCE).text
    found = {"left": 0.0, "answered": 0.0, "refused": 0.0, "cancelled": 0.0, "rows": 0.0, "waiting": 0.0, "steps": 0.0}
    names = {
        "precis_cancelled_total": "cancelled",
        "precis_live_rows": "rows",
        "precis_queue_texts": "waiting",
        "precis_token_seconds_count": "steps",
        "process_open_fds": "sockets",
    }
    by_status = {'"499"': "left", '"200"': "answered", '"503"': "refused"}
    for name, labels, value in _LINE.findall(text):
        key = names.get(name)
        if name == "precis_requests_total" and '"/summarize"' in labels:
            key = next((key for status, key in by_status.items() if status in labels), None)
        if key:
            found[key] = found.get(key, 0.0) + float(value)
    return found


def _leave(url: str, texts: Sequence[str], clients: int, seed: int) -> list[Told]:
    """What was told from the moment when the last one had left until nobody was waited for."""
    source = random.Random(seed)
    there: list[tuple[float, socket.socket]] = []
    for number in range(clients):
        caller = socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=PATIENCE)
        there.append((source.uniform(0.0, LONGEST_STAY), caller))
        caller.sendall(load.request(url, _body(source.choice(texts), stream=number % 2 == 0)))
    began = time.monotonic()
    for number, (stay, caller) in enumerate(sorted(there, key=lambda one: one[0])):
        time.sleep(max(0.0, began + stay - time.monotonic()))
        if number % 4 == 0:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        caller.close()
    samples = [told(url)]
    end = time.monotonic() + PATIENCE
    quiet = time.monotonic()
    while samples[-1]["rows"] or samples[-1]["waiting"] or time.monotonic() - quiet < QUIET_SECONDS:
        if time.monotonic() > end:
            raise RuntimeError(f"some who left are still waited for: {samples[-1]}")
        samples.append(told(url))
        if samples[-1] != samples[-2]:
            quiet = time.monotonic()
    return samples


def _steps_to_freedom(samples: Sequence[Told]) -> float:
    """At most so many decoder steps, of all lanes, lie between the last leaving that was noticed and free rows."""
    final = samples[-1]["left"]
    noticed = next(number for number, one in enumerate(samples) if one["left"] == final)
    free = next(one for one in samples[noticed:] if not one["rows"] and not one["waiting"])
    return free["steps"] - samples[max(0, noticed - 1)]["steps"]


def _body(text: str, *, stream: bool) -> bytes:
    """A long summary: nobody is answered at once."""
    longest = {"min_length": 64, "max_length": 64, "num_beams": 1 if stream else 4}
    return json.dumps({"text": text, "parameters": longest, "stream": stream}).encode()


def _files(pid: int) -> int:
    """Open files of the service and all it started."""
    return sum(each.files for each in family(pid))


def _report(kept: Results) -> str:
    names = (
        "round",
        "left",
        "unseen",
        "answered",
        "refused",
        "cancelled",
        "steps",
        "rows",
        "waiting",
        "sockets",
        "files",
        "mib",
    )
    rows = [[f"{one[name]:.1f}".removesuffix(".0") for name in names] for one in kept.read()]
    how = (
        "Clients come at once, half of them to stream, ask for summaries of 64 tokens, with four beams where they do "
        f"not stream, and leave within {LONGEST_STAY:g} s, a quarter with a reset. `unseen`: had left before they were "
        "read. `cancelled`: texts that were admitted. `steps`: of all lanes, at most, between the "
        "last sample in which somebody's leaving was not noticed and the first with every row free. `sockets`, "
        "`files`, `mib`: what there is more than before the round, in the service alone or with its processes."
    )
    return kept.write([how, table(names, rows)])
