"""A real service on a small checkpoint of its own, and what it takes to administrate it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.systems import System
from tests.models.lstm.checkpoints import write_checkpoint
from tests.test_server import Process

NAME = "small"
TEXTS = ["Rain fell.", "The river rose after three days of rain, and two villages were cut off.", "Snow " * 200]
# Of the file format's own example.
KEY = "precis_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA"
KEYS = "ops admin sha256:bd933911278e09f67be54a03107a2b48fbff87562a71ba1f15f67fb80d569acf"
ADMINISTRATOR = {"Authorization": f"Bearer {KEY}"}


def small(folder: Path) -> System:
    """The service on a store with one small checkpoint."""
    write_checkpoint(folder / "store", NAME)
    return System("precis", "float32", str(folder / "store"), NAME)


def bodies(system: System) -> list[bytes]:
    return [system.body(text, beams) for text in TEXTS for beams in (1, 2)]


@contextmanager
def started(system: System, folder: Path, **settings: str) -> Iterator[Process]:
    """It listens, and perhaps still loads. `folder` is for its log."""
    folder.mkdir(exist_ok=True)
    own = {"PRECIS_MODEL_STORE": system.store, "PRECIS_MODEL": system.model, "PRECIS_PRECISION": system.precision}
    with Process(folder, module="app", **own, **settings) as process:
        yield process


def ready(process: Process) -> bool:
    return process.get("/readyz").status_code == 200
