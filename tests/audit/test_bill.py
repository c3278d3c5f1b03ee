"""The bill of components, made of the packages that run these tests."""

import json
import re
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

from app.api.docs import ASSETS
from audit.bill import EXTRAS, Bill, needed_packages, of_service
from audit.licences import python_packages
from tests.audit.cuda import of_cuda

ROOT = Path(__file__).parents[2]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def test_the_bill_is_what_the_service_needs_at_the_versions_that_are_pinned(bill: Bill) -> None:
    # A label after the version, such as +cpu, says how it was built.
    told = {canonicalize_name(each["name"]): each["version"].partition("+")[0] for each in python_packages(bill)}
    assert told.keys() == needed_packages()
    pinned = pins()
    assert {name: version for name, version in told.items() if pinned.get(name) != version and not of_cuda(name)} == {}


def test_what_only_tests_and_tools_need_is_not_in_it(bill: Bill) -> None:
    names = {component["name"] for component in bill["components"]}
    assert names >= {"fastapi", "torch", "opentelemetry-sdk", "starlette", "pydantic_core"}
    assert names.isdisjoint({"pytest", "hypothesis", "cyclonedx-bom", "pip", "precis"})


def test_the_script_that_shows_the_docs_is_in_it_though_no_metadata_tells_of_it(bill: Bill) -> None:
    (script,) = [each for each in bill["components"] if each["purl"].startswith("pkg:npm/swagger-ui@")]
    assert f'PACKAGE_VERSION:"{script["version"]}"' in ASSETS["swagger-ui-bundle.js"][0].decode()


def test_the_service_itself_is_in_the_middle(bill: Bill) -> None:
    own = bill["metadata"]["component"]
    assert (own["name"], own["type"]) == ("precis", "application")
    (needs,) = (each["dependsOn"] for each in bill["dependencies"] if each["ref"] == own["bom-ref"])
    assert any(re.match("torch==", ref) for ref in needs)


def test_nothing_in_it_depends_on_something_that_is_not_in_it(bill: Bill) -> None:
    refs = {component["bom-ref"] for component in (bill["metadata"]["component"], *bill["components"])}
    assert {each["ref"] for each in bill["dependencies"]} <= refs
    assert {ref for each in bill["dependencies"] for ref in each["dependsOn"]} <= refs


def test_it_is_the_same_whenever_and_wherever_it_is_made(bill: Bill) -> None:
    assert of_service() == bill
    assert "serialNumber" not in bill
    assert "timestamp" not in bill["metadata"]
    assert "file:" not in str(bill)


def test_it_is_a_bill_as_cyclonedx_has_it(bill: Bill) -> None:
    few = {**bill, "components": bill["components"][-4:], "dependencies": bill["dependencies"][-4:]}  # each takes long
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(few)) is None


def test_it_counts_in_the_extras_that_the_image_is_built_with() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall('ARG PRECIS_EXTRAS="(.+)"', dockerfile) == [" ".join(EXTRAS)]
