"""What every test stands on: no settings from outside, and properties that are never judged by the clock."""

import os

from hypothesis import settings

for name in [name for name in os.environ if name.startswith("PRECIS_")]:
    del os.environ[name]

settings.register_profile("precis", parent=settings(), deadline=None)
settings.load_profile("precis")
