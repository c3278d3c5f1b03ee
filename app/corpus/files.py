"""Files as they lie on disk: compressed or not, written as a whole or not at all."""

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from app.errors import CorpusError

Compression = Literal["", ".gz", ".zst"]
READ_AT_ONCE = 1 << 20
COMPRESSED_AT_ONCE = 1 << 14  # little, for it may become much
LONGEST_WINDOW = 1 << 31  # of a frame that was compressed with `zstd --ultra --long=31`


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells one input from another. `modified` only saves reading it again."""

    size: int
    sha256: str
    modified: int  # nanoseconds

    def same_file(self, path: Path) -> bool:
        """Whether nobody has touched it since."""
        found = path.stat()
        return (found.st_size, found.st_mtime_ns) == (self.size, self.modified)


def fingerprint(path: Path) -> Fingerprint:
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        return Fingerprint(found.st_size, hashlib.file_digest(file, "sha256").hexdigest(), found.st_mtime_ns)


@contextmanager
def opened(path: Path, compression: Compression) -> Iterator[BinaryIO]:
    """What the file holds. While it is read, CorpusError is raised where it is damaged or cut off."""
    with path.open("rb") as file:
        try:
            if compression == ".gz":
                yield io.BufferedReader(gzip.GzipFile(fileobj=file), READ_AT_ONCE)
            elif compression == ".zst":
                yield io.BufferedReader(_Stream(_decompressed(file)), READ_AT_ONCE)
            else:
                yield file
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise CorpusError(f"{path}: {error}") from error


def compressed(content: bytes, compression: Compression) -> bytes:
    """Bytes that can be appended to others like them, and are the same whenever they are made."""
    if compression == ".gz":
        return gzip.compress(content, mtime=0)
    if compression == ".zst":
        import zstandard

        return zstandard.ZstdCompressor().compress(content)
    return content


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """After this the file is there with all that was written, whatever happens; before, it is as it was."""
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class _Stream(io.RawIOBase):
    """Pieces as one file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def _decompressed(file: BinaryIO) -> Iterator[bytes]:
    """Of frames, one after the other. The library's own stream takes a file that was cut off for a whole one."""
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=LONGEST_WINDOW)
    unused = b""
    while piece := unused or file.read(COMPRESSED_AT_ONCE):
        frame = decompressor.decompressobj()
        try:
            yield frame.decompress(piece)
            while not frame.eof:
                piece = file.read(COMPRESSED_AT_ONCE)
                if not piece:
                    raise EOFError("it ends in the middle of what was compressed")
                yield frame.decompress(piece)
        except zstandard.ZstdError as error:
            raise EOFError(f"it is damaged: {error}") from error
        unused = frame.unused_data
