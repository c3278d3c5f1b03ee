"""What real services stand on in these tests."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Its path is short: that of a socket has room for a hundred characters."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
