"""API keys: what a line that stands for one says, and which keys count now.

    name role sha256:HEX [requests=N] [characters=N]

Only the digest of a key is kept. A fast one is right: passwords need a slow one because they can be guessed, these keys
are 256 random bits (`new_key`), and no hash makes so many easier to guess or harder to try.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import structlog

from app.errors import ConfigurationError

PREFIX = "precis_"  # by which a key is known where it should not be
SECRET_BYTES = 32
ROLES = ("user", "admin")
LIMITS = ("requests", "characters")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_LIMIT = re.compile(r"(requests|characters)=([1-9][0-9]{0,11})")
log = structlog.get_logger("precis")


@dataclass(frozen=True, slots=True)
class Key:
    """Limits are per minute; None is no limit."""

    name: str
    digest: bytes
    admin: bool = False
    requests: int | None = None
    characters: int | None = None

    def __str__(self) -> str:
        """The line that stands for it."""
        limits = (f"{each}={amount}" for each in LIMITS if (amount := getattr(self, each)) is not None)
        return " ".join((self.name, ROLES[self.admin], f"sha256:{self.digest.hex()}", *limits))


def new_key() -> str:
    return PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def parse_line(line: str) -> Key:
    """Raises ValueError, which never quotes the line: by mistake it may hold a key."""
    words = line.split()
    name, role, hashed = (*words, "", "", "")[:3]
    if not _NAME.fullmatch(name):
        raise ValueError("the name must be 1 to 64 letters, digits, dots, dashes or underscores")
    if role not in ROLES:
        raise ValueError("the role, the second word, must be user or admin")
    matched = _DIGEST.fullmatch(hashed)
    if matched is None:
        raise ValueError("the third word must be sha256: and 64 hexadecimal digits, as 'precis keys new' writes it")
    return Key(name, bytes.fromhex(matched[1]), role == "admin", **_limits(words[3:]))


def _limits(words: Sequence[str]) -> dict[str, int]:
    matches = [_LIMIT.fullmatch(word) for word in words]
    found = {match[1]: int(match[2]) for match in matches if match}
    if len(found) < len(words):
        raise ValueError("after the digest may stand requests=N and characters=N, once each, whole numbers above 0")
    return found


@dataclass(frozen=True, slots=True)
class Ring:
    """All the keys that count, by digest; and what is wrong with the lines that do not."""

    keys: Mapping[bytes, Key]
    problems: tuple[str, ...]

    @classmethod
    def read(cls, sources: Iterable[tuple[str, str]]) -> Self:
        """sources: where lines come from, as it is told, and the lines."""
        keys: dict[str, Key] = {}
        digests: dict[bytes, Key] = {}
        problems = []
        for source, text in sources:
            for number, line in _lines(text):
                try:
                    key = parse_line(line)
                    if key.name in keys or key.digest in digests:
                        raise ValueError("a key before it has the same name or the same digest")
                except ValueError as error:
                    problems.append(f"{source}, line {number}: {error}")
                else:
                    keys[key.name] = digests[key.digest] = key
        return cls(digests, tuple(problems))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """What is neither blank nor a comment, with its place. A semicolon ends a line too, where there is only one."""
    for number, line in enumerate(text.split("\n"), 1):
        yield from ((number, part) for part in line.partition("#")[0].split(";") if part.strip())


class Keys:
    """The keys of a service. The file is looked at with every question and read again when it has changed.

    Then a line that is wrong counts no more, and the others do: a key can be revoked whatever else is in the file.
    While the file cannot be read, what it said last holds.
    """

    def __init__(self, lines: str | None, file: Path | None) -> None:
        """Both count. Raises ConfigurationError: at the start every line must be right, and there must be one."""
        self._lines = lines or ""
        self._file = file
        self._seen: object = None
        try:
            self._seen = self._look()
            self._ring = self._read()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"PRECIS_API_KEYS_FILE: {_reason(error)}") from None
        if self._ring.problems:
            raise ConfigurationError("; ".join(self._ring.problems))
        if not self._ring.keys:
            raise ConfigurationError("API keys are on and there is none; 'precis keys new NAME' makes one")

    def find(self, sent: bytes) -> Key | None:
        """The key that was sent, if it counts. How long that takes tells nothing of the others."""
        self._refresh()
        hashed = digest(sent)
        key = self._ring.keys.get(hashed)
        return key if key is not None and hmac.compare_digest(key.digest, hashed) else None

    def _refresh(self) -> None:
        try:
            seen = self._look()
            if seen == self._seen:
                return
            self._ring = self._read()
        except (OSError, UnicodeDecodeError) as error:
            if self._seen is not None:
                log.error("the keys cannot be read again; those read last hold", reason=_reason(error))
            self._seen = None
            return
        self._seen = seen
        log.info("keys read", keys=len(self._ring.keys))
        for problem in self._ring.problems:
            log.error("key left out", reason=problem)

    def _look(self) -> object:
        """Another one, when the file has changed."""
        if self._file is None:
            return ()
        status = self._file.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def _read(self) -> Ring:
        file = [] if self._file is None else [(str(self._file), self._file.read_text(encoding="utf-8"))]
        return Ring.read([("PRECIS_API_KEYS", self._lines), *file])


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else "the file is not UTF-8"


def open_keys(lines: str | None, file: Path | None) -> Keys | None:
    """None when keys are off: no setting says that there are any. Raises ConfigurationError."""
    return None if lines is None and file is None else Keys(lines, file)
