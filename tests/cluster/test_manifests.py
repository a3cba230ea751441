"""The deploy files say what the README promises, in the words that Ray and KubeRay read."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped,unused-ignore]
import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "cluster"


def load(name: str) -> dict[str, Any]:
    """A YAML file of the cluster room."""
    value: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))
    return value


def autoscaler_schema() -> dict[str, Any]:
    """The schema that ships in Ray."""
    found = importlib.util.find_spec("ray")
    assert found is not None
    assert found.origin is not None
    path = Path(found.origin).parent / "autoscaler" / "ray-schema.json"
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


def test_the_autoscaler_file_obeys_the_schema_of_ray() -> None:
    """And the schema is not so lax that it accepts anything."""
    config, schema = load("autoscaler.yaml"), autoscaler_schema()
    jsonschema.validate(config, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**config, "max_wokers": 4}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({key: config[key] for key in config if key != "provider"}, schema)


def test_the_autoscaler_runs_no_task_on_the_head() -> None:
    """The head has no CPU to offer, in the node type and in the command that starts it."""
    config = load("autoscaler.yaml")
    assert config["available_node_types"][config["head_node_type"]]["resources"]["CPU"] == 0
    starts = [command for command in config["head_start_ray_commands"] if "ray start" in command]
    assert len(starts) == 1
    assert "--num-cpus=0" in starts[0]
    workers = [kind for name, kind in config["available_node_types"].items() if name != "head"]
    assert sum(kind["max_workers"] for kind in workers) <= config["max_workers"]


def cluster_spec(name: str) -> dict[str, Any]:
    """The cluster part of a KubeRay manifest."""
    manifest = load(name)
    spec: dict[str, Any] = manifest["spec"]
    return spec if manifest["kind"] == "RayCluster" else spec["rayClusterSpec"]


@pytest.mark.parametrize("name", ["kuberay-raycluster.yaml", "kuberay-rayjob.yaml"])
def test_kuberay_clusters_have_an_idle_head_and_one_shared_store(name: str) -> None:
    """num-cpus "0" (a string, as KubeRay wants it), one image, the runs volume on every pod."""
    assert load(name)["apiVersion"] == "ray.io/v1"
    spec = cluster_spec(name)
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    containers = [container for pod in pods for container in pod["containers"]]
    assert len(containers) == len(pods) >= 2
    assert len({container["image"] for container in containers}) == 1
    for pod, container in zip(pods, containers, strict=True):
        assert {"name": "runs", "mountPath": "/runs"} in container["volumeMounts"]
        assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "seg1b-runs"
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert {"name": "RAY_task_oom_retries", "value": "3"} in container["env"]


def test_workers_can_hold_the_tasks() -> None:
    """At least two CPUs of workers in both manifests."""
    for name in ("kuberay-raycluster.yaml", "kuberay-rayjob.yaml"):
        for group in cluster_spec(name)["workerGroupSpecs"]:
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
            cpus = group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"]
            assert group["minReplicas"] * int(cpus) >= 2


def test_the_job_is_bounded_and_named_after_its_run() -> None:
    """backoffLimit, a deadline, the run id as submission id, and the joined cluster as executor."""
    spec = load("kuberay-rayjob.yaml")["spec"]
    assert spec["backoffLimit"] == 2
    assert spec["submitterConfig"]["backoffLimit"] == 2
    assert spec["activeDeadlineSeconds"] == 3600
    assert spec["shutdownAfterJobFinishes"] is True
    assert re.fullmatch(r"[0-9a-f]{32}", spec["jobId"])
    assert "--address auto" in spec["entrypoint"]
    assert "--runs /runs" in spec["entrypoint"]


def test_the_readme_names_every_deploy_file() -> None:
    """A file that no reader finds helps nobody."""
    readme = (CLUSTER / "README.md").read_text(encoding="utf-8")
    for path in CLUSTER.glob("*.yaml"):
        assert path.name in readme
