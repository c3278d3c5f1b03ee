"""`python -m tests.reliability.serving`: the real service, its lanes in two processes, on a model family of the tests.

Faults come from outside, by signals and the system, or with texts: the family fails on the words of `POISON` as the
fake model does, and `FEVER` kills the process that reads it. The environment can make it impatient, move its clock, and
take its folder for temporary files away. Lanes import this module too: what stands at its top is theirs as well.
"""

import os
import random
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from app import __main__ as service
from app.models import registry
from app.models.base import Limits, Seq2SeqModel
from app.models.checkpoint import Checkpoint, write_manifest
from tests.fakes import WORD_IDS, FakeModel, Row, fake_info

FAMILY, FEVER = "faulty", "zulu"
IMPATIENT, JUMPING, WITHOUT_TMP = "TEST_IMPATIENT", "TEST_JUMPING", "TEST_WITHOUT_TMP"
STEP_SECONDS = 0.002

if __name__ != "tests.reliability.serving":  # not where a test takes only names from here
    registry.FAMILIES[FAMILY] = "tests.reliability.serving:load"
if JUMPING in os.environ:
    time.time = partial(random.uniform, 5e8, 2e9)  # anywhere between 1985 and 2033


def store(folder: Path) -> Path:
    """A model store with one checkpoint of this family."""
    checkpoint = folder / "store" / "news-en"
    checkpoint.mkdir(parents=True)
    (checkpoint / "config.json").write_text(f'{{"family": "{FAMILY}"}}')
    write_manifest(checkpoint)
    return checkpoint.parent


def load(checkpoint: Checkpoint, **_options: str) -> Seq2SeqModel:
    limits = Limits(max_source_tokens=400, max_summary_tokens=64, max_beams=8)
    return FakeModel(fake_info(checkpoint.folder.name, limits=limits, digest=checkpoint.digest), before_step=_step)


def _step(rows: list[Row]) -> None:
    if any(WORD_IDS[FEVER] in row.source for row in rows):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(STEP_SECONDS)


def main() -> int:
    from app.engine import process

    os.sched_getaffinity = lambda _pid: {0, 1}  # two lanes on every machine
    if IMPATIENT in os.environ:
        process.SILENT_SECONDS = 0.2
        process.STALLED_SECONDS = 2.0
        process.START_SECONDS = 20.0
    if WITHOUT_TMP in os.environ:
        tempfile.tempdir = "/nowhere"
    return service.main()


if __name__ == "__main__":
    sys.exit(main())
