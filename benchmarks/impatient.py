"""`python -m benchmarks.impatient`: the service, but a process that hangs is given up after a few seconds."""

import sys

from app.__main__ import main

PATIENCE_SECONDS = 3.0


def impatient() -> int:
    from app.engine import process

    process.STALLED_SECONDS = PATIENCE_SECONDS
    return main()


if __name__ == "__main__":
    sys.exit(impatient())
