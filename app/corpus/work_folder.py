"""What is finished already, beside the output: a run that was ended, however it was, is taken up again from there.

OUTPUT.partial/
    run.json                     what the run is, written before all else and removed before all else
    00000012-1020-4.rows         shard 12 is finished: 1,020 rows of the output, 4 that were set aside,
    00000012.rejected            which are here, written before
OUTPUT.rejected.jsonl            at the end, where any were set aside
OUTPUT                           at the very end

Every file is there as a whole or not at all.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.corpus.files import write_whole
from app.corpus.shards import Corpus, Done
from app.errors import CorpusError

RUN = "run.json"
_PIECE = re.compile(r"(\d{8,})-(\d+)-(\d+)\.rows")
_OURS = re.compile(rf"{re.escape(RUN)}|{_PIECE.pattern}|\d{{8,}}\.rejected|\..+\.draft")


@dataclass(frozen=True, slots=True)
class Count:
    """Rows."""

    summaries: int = 0
    set_aside: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.summaries + other.summaries, self.set_aside + other.set_aside)

    @property
    def rows(self) -> int:
        return self.summaries + self.set_aside


class WorkFolder:
    """That of one output. Made by `work_on`, which keeps others out."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path = folder_of(output)
        self.rejected = output.with_name(output.name + ".rejected.jsonl")

    def begun(self) -> dict[str, Any] | None:
        """What the run in it is; None where there is none."""
        path = self.path / RUN
        if not path.exists():
            return None
        run: dict[str, Any] = json.loads(path.read_bytes())
        return run

    def begin(self, run: Mapping[str, Any]) -> None:
        """Whatever lies in it is of no use. Raises CorpusError where something is not ours."""
        self._empty()
        if others := os.listdir(self.path):
            raise CorpusError(f"{self.path}: is in the way, with {others[0]!r} in it; move it away")
        self.rejected.unlink(missing_ok=True)
        write_whole(self.path / RUN, lambda file: file.write(json.dumps(run, indent=1).encode()))

    def finished(self) -> dict[int, Count]:
        """By the numbers of shards."""
        names = filter(None, map(_PIECE.fullmatch, os.listdir(self.path)))
        return {int(name[1]): Count(int(name[2]), int(name[3])) for name in names}

    def keep(self, done: Done) -> Count:
        if done.set_aside:
            write_whole(self._rejected(done.number), lambda file: file.write(done.rejected))
        count = Count(done.summaries, done.set_aside)
        write_whole(self._piece(done.number, count), lambda file: file.write(done.rows))
        return count

    def complete(self, corpus: Corpus) -> None:
        """Put the output together, and tidy up."""
        finished = sorted(self.finished().items())
        pieces = [self._piece(number, count) for number, count in finished]
        rejected = [self._rejected(number) for number, count in finished if count.set_aside]
        if rejected:
            write_whole(self.rejected, lambda file: [file.write(each.read_bytes()) for each in rejected])
        write_whole(self.output, lambda file: corpus.join(pieces, file))
        self.remove()

    def remove(self) -> None:
        """Before all else, what makes a run of it."""
        (self.path / RUN).unlink(missing_ok=True)
        self._empty()
        with suppress(OSError):  # somebody else's files lie there
            self.path.rmdir()

    def _empty(self) -> None:
        for name in filter(_OURS.fullmatch, os.listdir(self.path)):
            (self.path / name).unlink()

    def _piece(self, number: int, count: Count) -> Path:
        return self.path / f"{number:08}-{count.summaries}-{count.set_aside}.rows"

    def _rejected(self, number: int) -> Path:
        return self.path / f"{number:08}.rejected"


def folder_of(output: Path) -> Path:
    return output.with_name(output.name + ".partial")


@contextmanager
def work_on(output: Path) -> Iterator[WorkFolder]:
    """Raises CorpusError where the output is there, or another process works on it."""
    folder = WorkFolder(output)
    with _locked(folder.path):
        try:
            if output.exists() and folder.begun() is None:
                raise CorpusError(f"{output}: there already; remove it, or name another output")
            yield folder
        finally:
            if folder.path.exists() and folder.begun() is None:
                folder.remove()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Until the end of this process at the latest, however it comes."""
    while True:
        path.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CorpusError(f"{path}: another process works on it") from error
            if not _is_still(path, descriptor):
                continue  # somebody has finished it just now
            yield
            return
        finally:
            os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
