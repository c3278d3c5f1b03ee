"""The bill of the packages that run these tests, made once: that takes seconds."""

import pytest

from audit.bill import Bill, of_service


@pytest.fixture(scope="session")
def bill() -> Bill:
    return of_service()
