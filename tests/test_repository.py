"""Facts about the files around the code: pins, targets, contracts and containers."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import app
from app.config import Settings, variable

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PIN = r"[\w.-]+==\d[\w.]*"
TESTED = ("test", "test-browser", "test-clients", "test-containers", "test-generated", "test-monitoring", "test-ray")
TARGETS = ("serve", "check", "format", "audit", "train", "evaluate", "bench", "soak", *TESTED)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def normalized(requirement: str) -> str:
    """Name of the distribution that a requirement asks for, as the index spells it."""
    name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    return {normalized(line): line for line in read("constraints.txt").splitlines()}


def requirements() -> list[str]:
    project = PROJECT["project"]
    extras = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    return [requirement for requirement in project["dependencies"] + extras if not requirement.startswith("precis[")]


def service() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(read("docker-compose.yml"))["services"]
    assert [name for name, service in services.items() if "profiles" not in service] == ["api"]
    api: dict[str, Any] = services["api"]
    return api


# --- pins ---


def test_constraints_are_nothing_but_exact_versions() -> None:
    assert [line for line in read("constraints.txt").splitlines() if not re.fullmatch(PIN, line, re.ASCII)] == []


def test_constraints_are_sorted_and_name_each_distribution_once() -> None:
    lines = read("constraints.txt").splitlines()
    assert lines == sorted(lines, key=str.lower)
    assert len(pins()) == len(lines)


def test_everything_the_project_asks_for_is_pinned() -> None:
    assert [requirement for requirement in requirements() if normalized(requirement) not in pins()] == []


def test_the_tools_that_generate_clients_are_exact_versions_and_nothing_else() -> None:
    lines = read("tests/generated/requirements.txt").splitlines()
    assert [line for line in lines if not re.fullmatch(PIN, line, re.ASCII)] == []
    assert lines == sorted(lines, key=str.lower)
    packages = json.loads(read("tests/generated/package.json"))["devDependencies"]
    assert [name for name, version in packages.items() if not re.fullmatch(r"\d[\w.]*", version, re.ASCII)] == []


def test_the_clients_of_others_are_exact_versions() -> None:
    versions = read("tests/huggingface/huggingface_hub.txt").split()
    versions += json.loads(read("tests/huggingface/package.json"))["dependencies"].values()
    assert [version for version in versions if not re.fullmatch(r"\d+\.\d+\.\d+", version, re.ASCII)] == []


def test_the_build_backend_is_the_pinned_one() -> None:
    assert PROJECT["build-system"]["requires"] == [pins()["setuptools"]]


def test_torch_is_one_exact_version_in_both_files() -> None:
    assert pins()["torch"] == "torch==2.13.0"
    assert pins()["torch"] in PROJECT["project"]["dependencies"]


# --- project ---


def test_the_changelog_knows_this_version() -> None:
    assert f"## [{app.__version__}]" in read("CHANGELOG.md")


def test_only_the_service_is_packaged() -> None:
    assert PROJECT["tool"]["setuptools"]["packages"]["find"]["include"] == ["app", "app.*"]


def test_warnings_are_errors() -> None:
    assert PROJECT["tool"]["pytest"]["filterwarnings"][0] == "error"


def test_every_model_family_stands_under_the_import_contracts() -> None:
    contracts = {contract["name"]: contract for contract in PROJECT["tool"]["importlinter"]["contracts"]}
    packages = {path.name for path in (ROOT / "app" / "models").iterdir() if (path / "__init__.py").is_file()}
    families = packages - {"kernels"}
    within = contracts["Within models: registry, families, what all of them share, the seam and the kernels"]
    assert families == set(within["layers"][1].split(" | "))
    assert {f"app.models.{family}" for family in families} == set(
        contracts["Nothing above the registry knows a model family"]["forbidden_modules"]
    )


@pytest.mark.parametrize("target", TARGETS)
def test_a_make_target_has_a_recipe_and_a_line_of_help(target: str) -> None:
    assert re.search(rf"^{target}:.* ## \S.*\n\t", read("Makefile"), re.MULTILINE)


def test_the_data_that_make_takes_by_itself_are_in_the_project() -> None:
    names = re.findall(r"training/sample/[\w.]+", read("Makefile"))
    assert names != []
    assert [name for name in names if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("target", ["check", *TESTED])
def test_ci_runs_the_same_targets_as_everybody(target: str) -> None:
    assert re.search(rf"^ *make {target}\b", read(".ci/run"), re.MULTILINE)


# --- containers ---


def test_all_stages_of_the_image_start_from_the_same_python() -> None:
    stages = re.findall(r"^FROM (\S+)", read("Dockerfile"), re.MULTILINE)
    assert stages == ["python:3.11-slim-bookworm"] * 3


def test_the_image_takes_only_the_service_from_the_project() -> None:
    taken = {
        "build": ["LICENSE", "NOTICE", "README.md", "app", "constraints.txt", "pyproject.toml"],
        "bill": ["audit", "constraints.txt"],
        "": [],
    }
    stages = re.findall(r"^FROM \S+(?: AS (\w+))?\n(.*?)(?=^FROM|\Z)", read("Dockerfile"), re.MULTILINE | re.DOTALL)
    copied = {
        name: sorted(" ".join(re.findall(r"^COPY (?!--from)(.*) \S+$", lines, re.MULTILINE)).split())
        for name, lines in stages
    }
    assert copied == taken
    ignored = [line for line in read(".dockerignore").splitlines() if not line.startswith("#")]
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == {*taken["build"], *taken["bill"]}


def test_the_image_carries_its_bill_and_what_has_to_be_told_with_it() -> None:
    assert "COPY --from=bill /bill/sbom.json /usr/share/precis/" in read("Dockerfile").rsplit("FROM python", 1)[1]
    assert PROJECT["project"]["license-files"] == ["LICENSE", "NOTICE"]


def test_nothing_can_be_installed_in_the_image() -> None:
    assert "venv --without-pip /opt/venv" in read("Dockerfile")
    assert re.search(r"^RUN pip uninstall .* pip setuptools wheel$", read("Dockerfile"), re.MULTILINE)


def test_the_image_runs_the_service_as_a_numbered_user_without_a_shell() -> None:
    final = read("Dockerfile").rsplit("FROM", 1)[1]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", final, re.MULTILINE)
    assert final.strip().splitlines()[-1] == 'CMD ["python", "-m", "app"]'
    assert "/readyz" in final.split("HEALTHCHECK", 1)[1]


def test_the_container_can_do_and_write_as_little_as_possible() -> None:
    api = service()
    assert api["read_only"] is True
    assert api["tmpfs"] == ["/tmp:size=64m"]
    assert api["cap_drop"] == ["ALL"]
    assert api["security_opt"] == ["no-new-privileges:true"]
    assert api["init"] is True
    assert api["ulimits"] == {"core": 0}
    limits = api["deploy"]["resources"]["limits"]
    assert limits["pids"] > 0
    assert limits["memory"].endswith("G")


def test_the_model_store_is_mounted_read_only_where_the_image_looks_for_it() -> None:
    (mount,) = service()["volumes"]
    assert mount == {"type": "bind", "source": "./model_store", "target": "/model_store", "read_only": True}
    assert f"PRECIS_MODEL_STORE={mount['target']}" in read("Dockerfile")


def test_the_port_is_open_on_this_machine_only() -> None:
    (port,) = service()["ports"]
    assert port.startswith("127.0.0.1:")


def test_a_container_is_given_more_time_to_stop_than_the_service_takes_to_drain() -> None:
    grace = re.fullmatch(r"(\d+)s", service()["stop_grace_period"])
    assert grace is not None
    assert int(grace[1]) > Settings.model_fields["drain_seconds"].default


def test_compose_hands_on_every_setting_that_the_image_does_not_fix() -> None:
    fixed = {f"PRECIS_{name}" for name in re.findall(r"PRECIS_(\w+)=", read("Dockerfile"))}
    settings = {variable(field) for field in Settings.model_fields}
    assert {name for name in service()["environment"] if not name.startswith("OTEL_")} == settings - fixed


def test_the_gpu_file_adds_a_gpu_and_nothing_else() -> None:
    gpu = {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    overlay = yaml.safe_load(read("docker-compose.gpu.yml"))
    assert overlay == {"services": {"api": {"deploy": {"resources": {"reservations": {"devices": [gpu]}}}}}}
