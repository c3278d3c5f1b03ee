"""The manifests agree with each other, and with the service that they run. Their schemas: `tests.deploy.manifests`."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import app
from app.config import Settings, variable
from app.metrics import Metrics

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
LABELS = {"app.kubernetes.io/name": "precis"}


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


BASE = {name: read(f"base/{name}") for name in read("base/kustomization.yaml")["resources"]}
POD = BASE["deployment.yaml"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
SETTINGS = dict(line.split("=", 1) for line in (FOLDER / "base" / "settings.env").read_text("utf-8").splitlines())


def test_every_manifest_of_the_folder_is_named() -> None:
    assert {path.name for path in (FOLDER / "base").glob("*.yaml")} == {*BASE, "kustomization.yaml"}


def test_everything_chooses_the_pods_of_the_deployment() -> None:
    assert POD["metadata"]["labels"] == LABELS
    assert BASE["deployment.yaml"]["spec"]["selector"]["matchLabels"] == LABELS
    assert BASE["service.yaml"]["spec"]["selector"] == LABELS
    assert BASE["disruption.yaml"]["spec"]["selector"]["matchLabels"] == LABELS
    assert BASE["network.yaml"]["spec"]["podSelector"]["matchLabels"] == LABELS
    spread = POD["spec"]["topologySpreadConstraints"]
    assert [each["labelSelector"]["matchLabels"] for each in spread] == [LABELS] * 2
    assert BASE["autoscaler.yaml"]["spec"]["scaleTargetRef"]["name"] == BASE["deployment.yaml"]["metadata"]["name"]


def test_the_settings_are_settings() -> None:
    known = {variable(field) for field in Settings.model_fields}
    given = [
        literal.split("=")[0]
        for variant in ("gpu", "keys")
        for literal in read(f"{variant}/kustomization.yaml")["configMapGenerator"][0]["literals"]
    ]
    assert {*SETTINGS, *given} <= known
    assert SETTINGS.keys().isdisjoint(given)


def test_variables_that_kubernetes_makes_of_services_are_not_taken_for_settings() -> None:
    assert POD["spec"]["enableServiceLinks"] is False


def test_it_is_alive_by_livez_and_ready_by_readyz() -> None:
    paths = {name: CONTAINER[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {name: probe["path"] for name, probe in paths.items()} == {
        "startup": "/readyz",
        "readiness": "/readyz",
        "liveness": "/livez",
    }
    (port,) = CONTAINER["ports"]
    assert {probe["port"] for probe in paths.values()} == {port["name"]}
    assert BASE["service.yaml"]["spec"]["ports"][0]["targetPort"] == port["name"]
    assert f"PRECIS_PORT={port['containerPort']}" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_what_was_admitted_can_be_answered_before_the_pod_ends() -> None:
    pause = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["spec"]["terminationGracePeriodSeconds"] > pause + float(SETTINGS["PRECIS_DRAIN_SECONDS"])


def test_a_pod_can_do_and_write_as_little_as_possible() -> None:
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    everybody = POD["spec"]["securityContext"]
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert user is not None
    assert (everybody["runAsUser"], everybody["runAsGroup"]) == (int(user[1]), int(user[2]))
    assert everybody["runAsNonRoot"] is True
    assert everybody["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["spec"]["automountServiceAccountToken"] is False


def test_it_asks_nobody() -> None:
    spec = BASE["network.yaml"]["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["egress"] == []


def test_pods_are_replaced_without_one_less_that_works() -> None:
    assert BASE["deployment.yaml"]["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert "replicas" not in BASE["deployment.yaml"]["spec"]
    assert BASE["disruption.yaml"]["spec"]["maxUnavailable"] == 1
    assert BASE["autoscaler.yaml"]["spec"]["minReplicas"] > 1


@pytest.mark.parametrize("variant", ["base", "gpu"])
def test_the_autoscaler_asks_for_what_the_adapter_makes_of_metrics_that_there_are(variant: str) -> None:
    (metric,) = read(f"{variant}/autoscaler.yaml")["spec"]["metrics"]
    (rule,) = read("prometheus-adapter.yaml")["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    asked = set(re.findall(r"precis_\w+", rule["metricsQuery"] + rule["seriesQuery"]))
    told = {metric.name for metric in Metrics().registry.collect()}
    assert asked
    assert asked <= told


def test_the_image_is_that_of_this_version() -> None:
    (image,) = read("base/kustomization.yaml")["images"]
    assert image["newTag"] == app.__version__
    assert CONTAINER["image"] == image["name"]


def test_a_gpu_is_asked_for_and_used() -> None:
    (container,) = read("gpu/deployment.yaml")["spec"]["template"]["spec"]["containers"]
    assert container["name"] == CONTAINER["name"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "PRECIS_DEVICE=cuda" in json.dumps(read("gpu/kustomization.yaml"))


def test_ray_is_that_of_the_constraints_everywhere() -> None:
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned is not None
    assert f"ARG RAY={pinned[1]}-py311" in (FOLDER / "ray" / "Dockerfile").read_text(encoding="utf-8")
    assert read("ray/rayservice.yaml")["spec"]["rayClusterConfig"]["rayVersion"] == pinned[1]


def test_ray_serves_the_application_on_the_cores_of_its_workers_alone() -> None:
    spec = read("ray/rayservice.yaml")["spec"]
    (application,) = yaml.safe_load(spec["serveConfigV2"])["applications"]
    assert application["import_path"] == "app.ray_serve:app"
    assert spec["rayClusterConfig"]["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    known = {variable(field) for field in Settings.model_fields}
    assert application["runtime_env"]["env_vars"].keys() <= known
