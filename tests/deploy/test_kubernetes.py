"""What runs the mirror in Kubernetes and OpenShift is valid, and its parts fit together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from ghmirror_tw.config.settings import Settings
from ghmirror_tw.config.settings_loader import load
from ghmirror_tw.config.value_kinds import size
from tests.harness.running import ROOT

KUBERNETES = ROOT / "conf" / "kubernetes"
TEMPLATE = ROOT / "conf" / "openshift" / "template.yaml"

#: What others have added to Kubernetes; it says nothing of them.
EXTENSIONS = {"ServiceMonitor", "Route"}

#: What somebody who processes the template has to give.
REQUIRED = {"IMAGE": "registry.example.org/ghmirror:1", "HOST": "ghmirror.example.org"}

_PARAMETER = re.compile(r"\$\{\{?([A-Z_]+)\}?\}")
_SECRETS = "/run/secrets/ghmirror"

Object = dict[str, Any]
Objects = dict[str, Object]


def kubernetes() -> Objects:
    """Return the objects that kustomization.yaml names, by kind."""
    names = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    made = [yaml.safe_load((KUBERNETES / name).read_text()) for name in names]
    return {each["kind"]: each for each in made}


def filled(value: Any, given: dict[str, str]) -> Any:
    """Return a part of the template with parameters in their places, as OpenShift does it."""
    match value:
        case dict():
            return {key: filled(each, given) for key, each in value.items()}
        case list():
            return [filled(each, given) for each in value]
        case str() if value.startswith("${{"):
            return yaml.safe_load(_PARAMETER.sub(lambda found: given[found[1]], value))
        case str():
            return _PARAMETER.sub(lambda found: given[found[1]], value)
    return value


def template() -> Object:
    """Return OpenShift's template."""
    read: Object = yaml.safe_load(TEMPLATE.read_text())
    return read


def openshift(**given: str) -> Objects:
    """Return the objects that the template makes."""
    read = template()
    values = {each["name"]: each.get("value", "") for each in read["parameters"]}
    made = [filled(each, values | REQUIRED | given) for each in read["objects"]]
    return {each["kind"]: each for each in made}


BOTH = [pytest.param(kubernetes(), id="kubernetes"), pytest.param(openshift(), id="openshift")]
both = pytest.mark.parametrize("objects", BOTH)


def pod(objects: Objects) -> Object:
    """Return the specification of a pod."""
    spec: Object = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


def settings(objects: Objects, folder: Path) -> Settings:
    """Return what the mirror understands of its ConfigMap, with the secrets in a folder."""
    text = objects["ConfigMap"]["data"]["ghmirror.ini"]
    (secrets,) = [each for each in pod(objects)["volumes"] if each["name"] == "secrets"]
    for item in secrets["secret"]["items"]:
        (folder / item["path"]).write_text("what only we know, in 32 characters and more")
    path = folder / "ghmirror.ini"
    path.write_text(text.replace(_SECRETS, str(folder)))
    return load(path, {})


@both
def test_objects_are_valid(objects: Objects) -> None:
    """Each object is valid by Kubernetes' schema, without unknown fields."""
    for kind, each in objects.items():
        if kind not in EXTENSIONS:
            kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


@both
def test_all_kinds_of_objects_exist(objects: Objects) -> None:
    """The objects that a fleet needs exist."""
    expected = {
        *("ServiceAccount", "ConfigMap", "Deployment", "Service", "HorizontalPodAutoscaler"),
        *("PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor"),
    }
    assert expected <= set(objects)


@both
def test_config_map_is_a_valid_configuration(objects: Objects, tmp_path: Path) -> None:
    """The ConfigMap is accepted without a warning; its secrets are mounted files."""
    loaded = settings(objects, tmp_path)
    assert loaded.warnings == ()
    assert loaded.cache.backend == "redis"
    (container,) = pod(objects)["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["secrets"] == _SECRETS
    assert container["args"] == ["--config", f"{mounts['config']}/ghmirror.ini"]
    assert {each["name"] for each in pod(objects)["volumes"]} == set(mounts)


@both
def test_rolling_update_loses_no_request(objects: Objects, tmp_path: Path) -> None:
    """New pods start first; old ones complete their requests before they are killed."""
    server = settings(objects, tmp_path).server
    spec = objects["Deployment"]["spec"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert objects["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    graces = server.shutdown_delay + server.shutdown_grace
    assert pod(objects)["terminationGracePeriodSeconds"] >= graces + 10
    probe = pod(objects)["containers"][0]["readinessProbe"]
    # until it is seen to be unready, and until that has got around
    assert server.shutdown_delay >= probe["periodSeconds"] * probe["failureThreshold"] + 5
    # an answer may take that long to begin
    assert server.shutdown_grace > settings(objects, tmp_path).github.timeout


@both
def test_autoscaler_sets_the_number_of_replicas(objects: Objects) -> None:
    """There are three to a hundred pods, spread over hosts and zones."""
    scaler = objects["HorizontalPodAutoscaler"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 100)
    assert scaler["scaleTargetRef"]["name"] == objects["Deployment"]["metadata"]["name"]
    # `kubectl apply` would take a fleet back to it.
    assert "replicas" not in objects["Deployment"]["spec"]
    (spread,) = pod(objects)["topologySpreadConstraints"]
    assert spread["topologyKey"] == "topology.kubernetes.io/zone"
    assert "podAntiAffinity" in pod(objects)["affinity"]


@both
def test_pods_have_least_privileges(objects: Objects) -> None:
    """Pods are non-root, write only to /tmp, and have no token or service variables."""
    spec = pod(objects)
    (container,) = spec["containers"]
    assert spec["enableServiceLinks"] is False
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = [mount for mount in container["volumeMounts"] if not mount.get("readOnly")]
    assert [mount["mountPath"] for mount in writable] == ["/tmp"]
    assert container["resources"]["requests"].keys() >= {"cpu", "memory"}


@both
def test_memory_limit_has_room_for_the_stores(objects: Objects, tmp_path: Path) -> None:
    """The memory limit exceeds the fallback store, the copies and the process."""
    loaded = settings(objects, tmp_path)
    (container,) = pod(objects)["containers"]
    limit = size("0B").parse(container["resources"]["limits"]["memory"] + "B")
    assert limit >= loaded.memory.max_size + loaded.redis.local_size + (256 << 20)


@both
def test_ports_and_labels_match(objects: Objects, tmp_path: Path) -> None:
    """Probes, Service, NetworkPolicy and ServiceMonitor name existing ports and pods."""
    (container,) = pod(objects)["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    server = settings(objects, tmp_path).server
    assert server.listen == (f"tcp:{ports['http']}",)
    assert server.admin_listen == (f"tcp:{ports['admin']}",)
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness")}
    assert {get["path"] for get in probes.values()} == {"/healthz"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    served = {port["name"]: port["targetPort"] for port in objects["Service"]["spec"]["ports"]}
    assert set(served.values()) <= set(ports)
    monitor = objects["ServiceMonitor"]["spec"]
    assert [end["port"] for end in monitor["endpoints"]] == ["admin"]
    allowed = [
        port["port"]
        for rule in objects["NetworkPolicy"]["spec"]["ingress"]
        for port in rule["ports"]
    ]
    assert set(allowed) == set(ports)
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert objects["Service"]["spec"]["selector"].items() <= labels.items()
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert objects[kind]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    # The rules of Prometheus go by the job's name.
    service = objects["Service"]["metadata"]
    assert service["labels"][monitor["jobLabel"]] == "ghmirror"
    assert monitor["selector"]["matchLabels"].items() <= service["labels"].items()


def test_kustomization_has_every_file() -> None:
    """kustomization.yaml lists each file of the directory."""
    named = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert {path.name for path in KUBERNETES.iterdir()} == {*named, "kustomization.yaml"}


def test_openshift_template_equals_the_manifests() -> None:
    """OpenShift's objects differ only in image, names, users, and a route."""
    theirs, ours = openshift(), kubernetes()
    assert theirs.pop("Route")["spec"]["host"] == REQUIRED["HOST"]
    assert pod(theirs)["containers"][0].pop("image") == REQUIRED["IMAGE"]
    assert pod(ours)["containers"][0].pop("image") == "ghmirror"
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        assert pod(ours)["securityContext"].pop(name) == 10001
    for objects in (theirs, ours):
        ini = objects["ConfigMap"]["data"]["ghmirror.ini"]
        kept = [line.rstrip() for line in ini.splitlines() if line and line[0] != ";"]
        objects["ConfigMap"]["data"] = [line for line in kept if "public_url" not in line]
        source = objects["NetworkPolicy"]["spec"]["ingress"][1]["from"][0]
        source["namespaceSelector"]["matchLabels"].popitem()
    for kind, each in ours.items():
        assert theirs[kind] == each, kind


def test_each_template_parameter_is_used() -> None:
    """Each parameter exists, is used, and changes the objects."""
    read = template()
    names = {each["name"] for each in read["parameters"]}
    assert set(_PARAMETER.findall(yaml.safe_dump(read["objects"]))) == names
    required = {each["name"] for each in read["parameters"] if each.get("required")}
    assert set(REQUIRED) <= required
    for name in names:
        assert openshift() != openshift(**{name: "17"}), name
