"""What every test stands on: no settings from outside, and properties that are never judged by the clock."""

import os

from hypothesis import settings

# As the service's own threads do, kernels use one core: those that use all are slow beside other work.
os.environ.setdefault("OMP_NUM_THREADS", "1")

for name in [name for name in os.environ if name.startswith("PRECIS_")]:
    del os.environ[name]

settings.register_profile("precis", parent=settings(), deadline=None)
settings.load_profile("precis")
