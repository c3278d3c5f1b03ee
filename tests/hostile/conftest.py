"""The service as it is run, on its own model, for all the attacks."""

from collections.abc import Iterator

import pytest

from tests.hostile.siege import Siege
from tests.test_server import Process


@pytest.fixture(scope="package")
def siege(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    folder = tmp_path_factory.mktemp("siege")
    with Process(folder, module="app", PRECIS_TIMEOUT_MS="60000") as process:
        siege = Siege(process.port, folder / "output")
        yield siege
        siege.check_unharmed()
        process.stop()
        assert process.wait() == 0
    assert process.errors == b""
