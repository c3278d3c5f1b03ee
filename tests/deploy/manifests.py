"""`python -m tests.deploy.manifests`: are the manifests what Kubernetes takes? Asks no cluster.

kustomize, as kubectl has it, builds each variant; every object of it has to fit the schema of this version of
Kubernetes, with no field that it does not know. KubeRay's objects are not in it: of a RayService the pods are looked
at in the same way, and its own fields beside the few that are used here.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from kubernetes_validate import validate

KUBERNETES = "1.37"
FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
VARIANTS = (["base"], ["gpu"], ["base", "keys"], ["gpu", "keys"])  # a component comes second
Manifest = dict[str, Any]

_STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
_GROUP = {"rayStartParams": _STRINGS, "template": {"type": "object"}}
_COUNT = {"type": "integer", "minimum": 0}


def _exactly(**properties: object) -> Manifest:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


RAY_SERVICE = _exactly(
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayService"},
    metadata=_exactly(name={"type": "string"}),
    spec=_exactly(
        excludeHeadPodFromServeSvc={"type": "boolean"},
        serveConfigV2={"type": "string"},
        rayClusterConfig=_exactly(
            rayVersion={"type": "string"},
            enableInTreeAutoscaling={"type": "boolean"},
            headGroupSpec=_exactly(**_GROUP),
            workerGroupSpecs={
                "type": "array",
                "items": _exactly(
                    groupName={"type": "string"}, replicas=_COUNT, minReplicas=_COUNT, maxReplicas=_COUNT, **_GROUP
                ),
            },
        ),
    ),
)


def built(kubectl: Path, variant: list[str]) -> Iterator[Manifest]:
    """The objects of a variant."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        kustomization = {"resources": [f"../{variant[0]}"], "components": [f"../{name}" for name in variant[1:]]}
        Path(folder, "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
        text = subprocess.run([kubectl, "kustomize", folder], check=True, capture_output=True, text=True).stdout
    yield from yaml.safe_load_all(text)


def pods_of(service: Manifest) -> Iterator[Manifest]:
    cluster = service["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, "spec": group["template"]["spec"]}


def main() -> None:
    kubectl = Path(sys.executable).with_name("kubectl")
    count = 0
    for variant in VARIANTS:
        for manifest in built(kubectl, variant):
            validate(manifest, KUBERNETES, strict=True)
            count += 1
    service = yaml.safe_load((FOLDER / "ray" / "rayservice.yaml").read_text(encoding="utf-8"))
    Draft202012Validator(RAY_SERVICE).validate(service)
    for pod in pods_of(service):
        validate(pod, KUBERNETES, strict=True)
    print(f"{count} objects in {len(VARIANTS)} variants and a RayService fit Kubernetes {KUBERNETES}")


if __name__ == "__main__":
    main()
