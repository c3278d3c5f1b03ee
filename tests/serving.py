"""`python -m tests.serving`: the real server, with the settings of the environment, on a fake model.

Every decoder step waits while the file named by HOLD exists.
"""

import os
import sys
import time
from pathlib import Path

from app.config import load_settings
from app.logs import configure_logs
from app.main import create_app
from app.models.base import Limits
from app.server import serve
from tests.fakes import FakeModel, fake_info

HOLD = "TEST_HOLD"


def main() -> int:
    settings = load_settings()
    configure_logs(settings)
    hold = Path(os.environ[HOLD])

    def wait(_rows: object) -> None:
        while hold.exists():
            time.sleep(0.005)

    limits = Limits(max_source_tokens=400, max_summary_tokens=64, max_beams=8)
    model = FakeModel(fake_info("news-en", limits=limits), before_step=wait)
    return serve(create_app(settings, models=[model]), settings)


if __name__ == "__main__":
    sys.exit(main())
