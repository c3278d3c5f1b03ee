"""A checkpoint on disk: data, never code. safetensors and JSON, every file's sha256 in `manifest.json`.

Sizes are looked at before anything is read, and bytes are given out only when they are those of the manifest. So what
was verified is what is loaded, even where a file changes meanwhile. Nothing here knows a model family.
"""

import ctypes
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from app.errors import CheckpointError

MANIFEST, CONFIG, CARD = "manifest.json", "config.json", "README.md"
MOST_FILES = 100
MOST_BYTES = 16 << 30  # of all files together
MANIFEST_BYTES = CONFIG_BYTES = 64 << 10
CARD_BYTES = 1 << 20

_AGAIN = "copy the checkpoint again from where it was made"
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class Checkpoint:
    """A folder of a model store. Opening it reads the manifest, and looks at what files there are and how large.

    This and all methods raise CheckpointError: one line that says which file, what is wrong there and what to do.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        content = self._content(MANIFEST, MANIFEST_BYTES)
        self.digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self._digests = _listed(content, folder / MANIFEST)
        self._unread = set(self._digests)
        self._look_around()

    def __contains__(self, name: str) -> bool:
        return name in self._digests

    @cached_property
    def config(self) -> dict[str, Any]:
        """The object in `config.json`."""
        return _object(self.read_json(CONFIG, CONFIG_BYTES), self.config_path)

    @property
    def config_path(self) -> Path:
        return self.folder / CONFIG

    @property
    def card(self) -> str:
        """Markdown; empty where there is none."""
        if CARD not in self:
            return ""
        try:
            return self.read(CARD, CARD_BYTES).decode()
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{self.folder / CARD}: not UTF-8 ({error.reason}); save it as UTF-8") from error

    def read_json(self, name: str, at_most: int) -> Any:
        """What a verified file of at most so many bytes says."""
        return parse_json(self.read(name, at_most), self.folder / name)

    def read(self, name: str, at_most: int) -> bytes:
        """The verified content of a file; one of more bytes is not read."""
        if name not in self:
            raise CheckpointError(f"{self.folder / MANIFEST}: does not list {name}; {_AGAIN}")
        content = self._content(name, at_most)
        self._compare(name, hashlib.sha256(content).hexdigest())
        return content

    def verify(self) -> str:
        """Compare what has not been read with the manifest, too; the digest of the whole."""
        for name in sorted(self._unread):
            try:
                self._compare(name, sha256(self.folder / name))
            except OSError as error:
                raise _unreadable(self.folder / name, error) from error
        return self.digest

    def _compare(self, name: str, actual: str) -> None:
        if actual != (expected := self._digests[name]):
            path = self.folder / name
            raise CheckpointError(f"{path}: sha256 is {actual}, but the manifest says {expected}; {_AGAIN}")
        self._unread.discard(name)

    def _content(self, name: str, at_most: int) -> bytes:
        path = self.folder / name
        size = self._size(name)
        if size > at_most:
            raise CheckpointError(f"{path}: {size:,} bytes, where at most {at_most:,} belong; {_AGAIN}")
        try:
            with path.open("rb") as opened:
                return opened.read(size)
        except OSError as error:
            raise _unreadable(path, error) from error

    def _size(self, name: str) -> int:
        """Bytes of a file, which is one, and in the store: links within it may share files, others would climb out."""
        path = self.folder / name
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(os.path.realpath(self.folder.parent)):
            raise CheckpointError(f"{path}: a link out of the model store, to {real}; put the file itself there")
        try:
            status = path.stat()
        except FileNotFoundError as error:
            if name == MANIFEST:
                or_import = f"or, if it is a Hugging Face folder, say `precis models import {self.folder}`"
                raise CheckpointError(f"{path}: missing; {_AGAIN}, {or_import}") from error
            raise CheckpointError(f"{path}: listed in the manifest, but missing; {_AGAIN}") from error
        except OSError as error:
            raise _unreadable(path, error) from error
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{path}: not a file; {_AGAIN}")
        return status.st_size

    def _look_around(self) -> None:
        """What is hidden is nobody's: file managers and version control leave it behind."""
        try:
            names = {path.name for path in self.folder.iterdir() if not path.name.startswith(".")}
        except OSError as error:
            raise _unreadable(self.folder, error) from error
        if stray := sorted(names - {MANIFEST, *self._digests}):
            raise CheckpointError(
                f"{self.folder / MANIFEST}: does not list {few(stray)}; remove what does not belong to the checkpoint"
            )
        if (size := sum(map(self._size, self._digests))) > MOST_BYTES:
            raise CheckpointError(f"{self.folder}: {size:,} bytes, where at most {MOST_BYTES:,} are served; {_AGAIN}")


def few(names: Sequence[str]) -> str:
    """The first names, fit for one line."""
    shown = [name if PLAIN_NAME.fullmatch(name) else ascii(name[:100]) for name in names[:3]]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def parse_json(content: bytes, path: Path) -> Any:
    """JSON as RFC 8259 has it, in UTF-8, no name twice in an object.

    Raises CheckpointError naming the file.
    """
    try:
        return json.loads(content.decode(), object_pairs_hook=_named_once, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise CheckpointError(f"{path}: not valid JSON (nested too deeply); {_AGAIN}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}); {_AGAIN}") from error


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object, of a file that is in no manifest or has been verified.

    Raises CheckpointError naming the file when it is missing or is not one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    return _object(parse_json(content, path), path)


def verify(folder: Path) -> str:
    """Check every file against the manifest; the checkpoint's digest ("sha256:…" of the manifest itself).

    Raises CheckpointError naming the first file that is wrong.
    """
    return Checkpoint(folder).verify()


def write_manifest(folder: Path) -> None:
    """List every file of the folder with its digest, hidden ones not."""
    paths = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    (folder / MANIFEST).write_bytes(_manifest({path.name: sha256(path) for path in paths if path.name != MANIFEST}))


def publish(draft: Path, target: Path, keep: Path | None = None) -> None:
    """Put a finished folder in the place of another at once: a reader sees the old checkpoint or the new one, whole.

    keep: where the old one goes; without it, it is removed.
    """
    write_manifest(draft)
    if not target.exists():
        draft.rename(target)
        return
    _exchange(draft, target)
    if keep is None:
        shutil.rmtree(draft)
    else:
        draft.rename(keep)


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders in one step where the system can (Linux), else in two."""
    libc = ctypes.CDLL(None, use_errno=True)
    renameat2 = getattr(libc, "renameat2", None)
    arguments = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    if renameat2 is not None and renameat2(*arguments) == 0:
        return
    aside = other.with_name(f".{other.name}.old")
    other.rename(aside)
    one.rename(other)
    aside.rename(one)


def _manifest(digests: Mapping[str, str]) -> bytes:
    """In one form only, so that the same files have the same digest, and no other byte goes unnoticed."""
    return (json.dumps({"files": digests}, indent=2, sort_keys=True) + "\n").encode()


def _listed(content: bytes, path: Path) -> dict[str, str]:
    """The digests of a manifest by file name."""
    manifest = parse_json(content, path)
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or not files:
        raise CheckpointError(f"{path}: `files` is not an object of file names and sha256 digests; {_AGAIN}")
    if len(files) > MOST_FILES:
        raise CheckpointError(f"{path}: {len(files):,} files, where at most {MOST_FILES} belong; {_AGAIN}")
    if climbing := [name for name in files if not PLAIN_NAME.fullmatch(name)]:
        raise CheckpointError(f"{path}: {few(climbing)} is not a plain file name; all files lie beside the manifest")
    if unclear := [name for name, digest in files.items() if not _is_digest(digest)]:
        raise CheckpointError(f"{path}: the sha256 of {few(unclear)} is not 64 hexadecimal digits; {_AGAIN}")
    if content != _manifest(files):
        raise CheckpointError(f"{path}: not as it was published, byte for byte; {_AGAIN}")
    return files


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and bool(_DIGEST.fullmatch(value))


def _object(content: object, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a JSON object; {_AGAIN}")
    return content


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{path}: cannot be read ({error.strerror}); look after the file and its permissions")


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for name, value in pairs:
        if name in named:
            raise ValueError(f"{few([name])} stands twice in one object")
        named[name] = value
    return named


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
