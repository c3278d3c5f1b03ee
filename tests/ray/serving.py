"""Replicas on a fake model, which waits before every decoder step while the file named by HOLD exists.

A file beside it, `STEP`, lets one step through.
"""

import os
import time
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve

from app.config import Settings, load_settings
from app.ray_serve import Replica, deployment

HOLD, STEP = "TEST_HOLD", "step"


class Fake(Replica):
    longest = 400  # tokens of a source

    def create(self, settings: Settings) -> FastAPI:
        from app.main import create_app  # with torch: only here, as in the service
        from app.models.base import Limits
        from tests.fakes import FakeModel, fake_info

        info = fake_info("news-en", limits=Limits(self.longest, max_summary_tokens=64, max_beams=8))
        return create_app(settings, models=[FakeModel(info, before_step=_wait)])


class Short(Fake):
    """As in the tests of the API."""

    longest = 60


def _wait(_rows: object) -> None:
    hold = Path(os.environ[HOLD])
    step = hold.with_name(STEP)
    while hold.exists():
        if step.exists():
            step.unlink(missing_ok=True)
            return
        time.sleep(0.005)


def fake(chosen: dict[str, Any]) -> serve.Application:
    settings = load_settings(**chosen)
    return deployment(settings, Fake).bind(settings)


def short(chosen: dict[str, Any]) -> serve.Application:
    settings = load_settings(**chosen)
    return deployment(settings, Short).bind(settings)
