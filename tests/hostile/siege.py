"""A server under attack: every answer is checked, and the next good request gets the answer that it always gets."""

import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.api.waiting import PATIENCE, eventually
from tests.hostile import promises
from tests.hostile.texts import SECRET
from tests.hostile.wire import Answer, Attack, ask, converse, statuses

GOOD = {
    "text": "Heavy rain flooded the old town of Greyford on Monday, and 300 people left their homes. Engineers say "
    "the bridge over the river is safe.",
    "parameters": {"num_beams": 1, "max_length": 8},
}
LARGEST_HEAD = 32 * 1024  # bytes that are read
_FREE = ("precis_live_rows", "precis_queue_texts")
_TOTALS = ("precis_worker_restarts_total",)
_SAME = ("summary", "finish_reason", "score", "source", "usage", "detail")
_ORDINARY = {"model loaded", "listening", "request"}  # what the log tells of a service that is well


@dataclass(slots=True)
class Tally:
    """What came back."""

    statuses: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0  # seconds
    slowest_attack: str = ""

    def count(self, status: str, seconds: float, attack: str) -> None:
        self.statuses[status] += 1
        if seconds > self.slowest:
            self.slowest, self.slowest_attack = seconds, attack


class Siege:
    """Of the server on this port of loopback, whose standard output goes to `log`; good requests have the key."""

    def __init__(self, port: int, log: Path, key: str = "") -> None:
        self.port = port
        self.tally = Tally()
        self._log = log
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=PATIENCE)
        eventually(lambda: self._client.get("/readyz").status_code == 200)
        self.document: dict[str, Any] = self._client.get("/openapi.json").json()
        self._totals = self._metrics(_TOTALS)
        self._usual = self._good()
        assert self._usual[0] == 200, self._usual

    def attack(self, attack: Attack) -> Answer | None:
        """The answer; None where the connection ended before it, which only a head that is too large may cause."""
        started = time.monotonic()
        try:
            answer = ask(self.port, attack)
        except ConnectionError:
            assert len(attack.head) > LARGEST_HEAD, f"not answered: {attack!r}"
            answer = None
        self.tally.count(str(answer.status) if answer else "closed", time.monotonic() - started, repr(attack))
        if answer is not None:
            promises.check(answer, with_body=attack.method != "HEAD")
        self.check_good()
        return answer

    def send(self, sent: bytes, *, cut: bool = True) -> list[Answer]:
        """What comes back of bytes that need not be HTTP, until the server ends the connection; see `converse`."""
        started = time.monotonic()
        answers = converse(self.port, sent, cut=cut)
        told = " ".join(map(str, statuses(answers))) or "closed"
        self.tally.count(told, time.monotonic() - started, repr(sent[:200]))
        for answer in answers:
            promises.check(answer)
        self.check_good()
        return answers

    def check_good(self) -> None:
        answer = self._good()
        assert answer == self._usual, (answer, self._usual)

    def check_unharmed(self) -> None:
        """Nobody waits any more, no worker was replaced, and the log holds nothing of what was sent."""
        eventually(lambda: set(self._metrics(_FREE).values()) == {0.0})
        assert self._metrics(_TOTALS) == self._totals
        self._client.close()
        logged = self._log.read_text(encoding="utf-8")
        assert SECRET not in logged
        events = {json.loads(line)["event"] for line in logged.splitlines(keepends=True) if line.endswith("\n")}
        assert events <= _ORDINARY, events

    def _good(self) -> tuple[int, Any]:
        response = self._client.post("/summarize", json=GOOD)
        told = response.json()
        return response.status_code, {name: told[name] for name in _SAME if name in told}

    def _metrics(self, names: tuple[str, ...]) -> dict[str, float]:
        text = self._client.get("/metrics").text
        return {name: sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))) for name in names}
