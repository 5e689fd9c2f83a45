"""Every combination of manifests builds, validates strictly, and keeps what docs/operations.md promises. No cluster, no network."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cosmop_common.endpoints import Endpoints
from cosmop_common.settings import ConnectionSettings
from cosmop_common.topology import CONSUMERS, JOB_SERVICES, streams
from cosmop_local.servers import find_program
from cosmop_local.supervisor import SERVICES

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
#: In the order in which a kustomization lists them.
COMPONENTS = ("namespace", "seaweedfs", "keda", "gpu")
COMBINATIONS = [chosen for count in range(len(COMPONENTS) + 1) for chosen in itertools.combinations(COMPONENTS, count)]
OVERLAYS = sorted(p.name for p in (K8S / "overlays").iterdir())

Manifest = dict[str, Any]


def build(folder: Path) -> list[Manifest]:
    done = subprocess.run([find_program("kubectl"), "kustomize", str(folder)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "kustomize warns of what will stop working"
    return [m for m in yaml.safe_load_all(done.stdout) if m]


def combine(folder: Path, chosen: tuple[str, ...]) -> list[Manifest]:
    at = os.path.relpath(K8S, folder)
    kustomization = {"resources": [f"{at}/base"], "components": [f"{at}/components/{name}" for name in chosen], "namespace": "cosmop"}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return build(folder)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """The base with all components."""
    # Beside the manifests' own file system, since kustomize takes relative paths only.
    return combine(tmp_path_factory.mktemp("everything"), COMPONENTS)


def templates(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Name and pod template of all that makes pods."""
    for m in manifests:
        if m["kind"] in {"Deployment", "StatefulSet", "Job"}:
            yield m["metadata"]["name"], m["spec"]["template"]
        elif m["kind"] == "ScaledJob":
            yield m["metadata"]["name"], m["spec"]["jobTargetRef"]["template"]


#: Manifests that were found valid: combinations share most of theirs.
_valid: set[str] = set()


def validate(manifests: list[Manifest]) -> None:
    for m in manifests:
        text = json.dumps(m, sort_keys=True)
        if text in _valid:
            continue
        if not m["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(m, kubernetes_validate.latest_version(), strict=True)
        elif m["kind"] == "ScaledJob":  # what Kubernetes gets to see of it
            job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": m["metadata"], "spec": m["spec"]["jobTargetRef"]}
            kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
        _valid.add(text)


@pytest.mark.parametrize("chosen", COMBINATIONS, ids="+".join)
def test_every_combination_of_components_is_valid(tmp_path: Path, chosen: tuple[str, ...]) -> None:
    manifests = combine(tmp_path, chosen)
    validate(manifests)
    kinds = {m["kind"] for m in manifests}
    assert ("ScaledJob" in kinds) == ("keda" in chosen)
    gpus = {name for name, t in templates(manifests) if "nvidia.com/gpu" in t["spec"]["containers"][0]["resources"]["limits"]}
    assert gpus == ({"gan-trainer-job", "fid-evaluator-job", "classifier-job", "human-detector-job"} if "gpu" in chosen else set())
    assert {name for name, _ in templates(manifests) if name.endswith("-job")} == {f"{s}-job" for s in JOB_SERVICES}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_is_valid(overlay: str) -> None:
    validate(build(K8S / "overlays" / overlay))


def test_an_alien_key_is_refused_so_that_the_validation_means_something(everything: list[Manifest]) -> None:
    broken = next(m for m in everything if m["kind"] == "Deployment") | {"specs": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        validate([broken])


def test_every_pod_is_hardened_bounded_and_pinned(everything: list[Manifest]) -> None:
    for name, template in templates(everything):
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name
            assert "cpu" in container["resources"]["requests"], name
            tag = container["image"].partition(":")[2]
            assert tag not in {"", "latest"}, f"{name}: {container['image']} is not pinned"


def test_what_pods_refer_to_exists(everything: list[Manifest]) -> None:
    maps = {m["metadata"]["name"] for m in everything if m["kind"] == "ConfigMap"}
    for name, template in templates(everything):
        pod = template["spec"]
        used = {v["configMap"]["name"] for v in pod.get("volumes", []) if "configMap" in v}
        sources = [e for c in pod["containers"] for e in c.get("envFrom", [])]
        used |= {e["configMapRef"]["name"] for e in sources if "configMapRef" in e}
        assert used <= maps, name
        assert {e["secretRef"]["name"] for e in sources if "secretRef" in e} <= {"cosmop-secrets"}, name
    assert not [m for m in everything if m["kind"] == "Secret"], "secrets are the operator's, never in the manifests"


def test_every_service_serves_under_its_name_with_probes(everything: list[Manifest]) -> None:
    services = {m["metadata"]["name"]: m["spec"] for m in everything if m["kind"] == "Service"}
    pods = dict(templates(everything))
    for service in SERVICES:
        address = getattr(Endpoints.model_construct(), f"{service.replace('-', '_')}_addr")
        assert address == f"{service}:50051"
        spec = services[service]
        assert spec["clusterIP"] == "None", "round_robin needs every address"
        assert {p["port"] for p in spec["ports"]} == {50051, 8080}
        behind = [name for name, t in pods.items() if spec["selector"].items() <= t["metadata"]["labels"].items()]
        assert len(behind) == 1
        container = pods[behind[0]]["spec"]["containers"][0]
        assert container["livenessProbe"]["grpc"] == {"port": 50051}
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert "startupProbe" in container


def test_settings_are_ones_that_the_code_knows() -> None:
    lines = [line for line in (K8S / "base" / "config.env").read_text().splitlines() if line and not line.startswith("#")]
    values = dict(line.split("=", 1) for line in lines)
    known = {f"COSMOP_{name.upper()}" for name in ConnectionSettings.model_fields}
    known |= {"COSMOP_BIND", "COSMOP_GRPC_PORT", "COSMOP_HTTP_PORT", "COSMOP_CACHE_DIR", "COSMOP_CONSOLE_DATA"}
    assert set(values) <= known
    assert values["COSMOP_ENVIRONMENT"] == "production", "default secrets are refused"


def test_nothing_is_open_that_is_not_said(everything: list[Manifest]) -> None:
    policies = {m["metadata"]["name"]: m["spec"] for m in everything if m["kind"] == "NetworkPolicy"}
    assert policies["deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, template in templates(everything):
        if name == "provision":  # servers alone, by the policy for all
            continue
        own = policies[name]
        assert own["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        assert set(own["policyTypes"]) == {"Ingress", "Egress"}
    web = [e for e in policies["scraper-job"]["egress"] for to in e["to"] if "ipBlock" in to]
    assert web
    for rule in web:
        assert {"10.0.0.0/8", "169.254.0.0/16", "100.64.0.0/10", "192.168.0.0/16"} <= set(rule["to"][0]["ipBlock"]["except"])


def test_keda_watches_consumers_that_are_declared(everything: list[Manifest]) -> None:
    declared = {c.name for c in streams(ConnectionSettings())}
    triggers = {m["metadata"]["name"]: m["spec"]["triggers"] for m in everything if m["kind"] in {"ScaledObject", "ScaledJob"}}
    assert set(triggers) == {"dedup-hash", "human-detector", *(f"{s}-job" for s in JOB_SERVICES)}
    for name, (trigger,) in triggers.items():
        data = trigger["metadata"]
        assert data["stream"] in declared, name
        assert CONSUMERS[data["consumer"]].stream == data["stream"], name
        assert data["account"] == "$G"
        assert data["natsServerMonitoringEndpoint"].endswith(":8222")
    owned = {m["spec"]["scaleTargetRef"]["name"] for m in everything if m["kind"] == "ScaledObject"}
    for m in everything:
        if m["kind"] == "Deployment":
            assert ("replicas" in m["spec"]) != (m["metadata"]["name"] in owned), "one owner of the number of pods"
