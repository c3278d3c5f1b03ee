"""A checkpoint on disk: data, never code. safetensors and JSON, every file's sha256 in `manifest.json`."""

import ctypes
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from app.errors import CheckpointError

MANIFEST = "manifest.json"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object.

    Raises CheckpointError naming the file when it is missing or is not one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return content


def verify(folder: Path, required: Iterable[str] = ()) -> str:
    """Check every file against the manifest; the checkpoint's digest ("sha256:…" of the manifest itself).

    Raises CheckpointError naming the first file that is missing, changed or not listed by a plain name; `required` ones
    must be listed, so that nothing is read that was not checked.
    """
    files = read_json(folder / MANIFEST).get("files")
    if not isinstance(files, dict) or not files:
        raise CheckpointError(f"{folder / MANIFEST}: `files` is not an object of file names and sha256 digests")
    if unlisted := sorted(set(required) - set(files)):
        raise CheckpointError(f"{folder / MANIFEST}: does not list {', '.join(unlisted)}")
    for name, expected in files.items():
        if Path(name).name != name:
            raise CheckpointError(f"{folder / MANIFEST}: {name!r} is not a plain file name")
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path}: listed in the manifest, but missing")
        actual = sha256(path)
        if actual != expected:
            raise CheckpointError(f"{path}: sha256 is {actual}, but the manifest says {expected}")
    return f"sha256:{sha256(folder / MANIFEST)}"


def write_manifest(folder: Path) -> None:
    """List every file of the folder with its digest."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
    manifest = {"files": {name: sha256(folder / name) for name in names}}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def publish(draft: Path, target: Path) -> None:
    """Put a finished folder in the place of another at once: a reader sees the old checkpoint or the new one, whole."""
    write_manifest(draft)
    if not target.exists():
        draft.rename(target)
        return
    _exchange(draft, target)
    shutil.rmtree(draft)


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
