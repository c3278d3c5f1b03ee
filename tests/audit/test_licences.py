"""What we expect of licences is what the packages have, and nothing is expected that is not there."""

from typing import Any

import pytest
from packaging.utils import canonicalize_name

from audit.bill import Bill
from audit.licences import Policy, load_policy, python_packages, told, unexpected
from tests.audit.cuda import of_cuda

POLICY = load_policy()
NOTHING_STATED = Policy(POLICY.allowed, {})


@pytest.fixture(scope="module")
def packages(bill: Bill) -> list[dict[str, Any]]:
    return python_packages(bill)


def package(*licences: dict[str, Any], name: str = "some-package") -> dict[str, Any]:
    return {"name": name, "version": "1", "licenses": list(licences)}


def test_every_package_that_the_service_needs_may_be_passed_on(packages: list[dict[str, Any]]) -> None:
    assert packages != []
    assert unexpected(packages, POLICY) == []


def test_nothing_is_stated_of_a_package_that_says_it_itself_or_is_not_there(packages: list[dict[str, Any]]) -> None:
    silent = {canonicalize_name(line.partition(":")[0]) for line in unexpected(packages, NOTHING_STATED)}
    assert {name for name in POLICY.stated if "*" not in name} == {name for name in silent if not of_cuda(name)}


def test_nothing_is_allowed_that_no_package_has(packages: list[dict[str, Any]]) -> None:
    told_of = " ".join(told(each, POLICY) for each in packages)
    assert [each for each in POLICY.allowed if each not in told_of and each != "LicenseRef-NVIDIA"] == []


@pytest.mark.parametrize("name", ["nvidia-cublas", "cuda-toolkit"])
def test_what_torch_brings_for_cuda_is_under_a_licence_of_its_own(name: str) -> None:
    libraries = [package({"license": {"name": "Other/Proprietary License"}}, name=name)]
    assert told(libraries[0], POLICY) == "LicenseRef-NVIDIA"
    assert unexpected(libraries, POLICY) == []


@pytest.mark.parametrize(
    ("licence", "fine"),
    [
        ({"expression": "MIT"}, True),
        ({"license": {"id": "MIT"}}, True),
        ({"expression": "MIT OR GPL-3.0-only"}, True),
        ({"expression": "MIT AND GPL-3.0-only"}, False),
        ({"expression": "MPL-2.0 AND (Apache-2.0 OR GPL-3.0-only)"}, True),
        ({"expression": "(MIT OR ISC) AND AGPL-3.0-only"}, False),
        ({"expression": "Apache-2.0 WITH LLVM-exception"}, True),
        ({"expression": "GPL-3.0-only WITH GCC-exception-3.1"}, False),
        ({"license": {"id": "GPL-3.0-only"}}, False),
        ({"license": {"name": "License :: OSI Approved"}}, False),
        ({"license": {"name": "MIT License, or so"}}, False),
    ],
)
def test_all_parts_of_an_and_must_be_allowed_and_one_of_an_or(licence: dict[str, Any], fine: bool) -> None:
    assert (unexpected([package(licence)], NOTHING_STATED) == []) is fine


def test_of_several_claims_all_must_be_allowed() -> None:
    claims = {"license": {"id": "MIT"}}, {"license": {"id": "GPL-3.0-only"}}
    (line,) = unexpected([package(*claims)], NOTHING_STATED)
    assert line == "some-package: (MIT) AND (GPL-3.0-only) is not allowed by licences.toml"


def test_a_package_that_declares_nothing_is_told_what_to_do() -> None:
    (line,) = unexpected([package()], NOTHING_STATED)
    assert line == "some-package: 'unknown' is no SPDX expression; state its licence in licences.toml"


def test_what_is_stated_goes_before_what_is_declared() -> None:
    stated = Policy(frozenset({"MIT"}), {"some-package": "GPL-3.0-only"})
    assert unexpected([package({"expression": "MIT"}, name="Some_Package")], stated) != []
