"""The objects for Kubernetes and OpenShift are valid, and consistent with each other."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from ghmirror_tw.config.value_kinds import size
from tests.deploy.kubernetes_objects import (
    DASHBOARD,
    EXTENSIONS,
    PARAMETER,
    REQUIRED,
    SECRETS,
    SOURCES,
    Objects,
    by_kind,
    helm,
    kubernetes,
    openshift,
    permits,
    pod,
    secret_files,
    settings,
    template,
)
from tests.deploy.kubernetes_programs import KUSTOMIZATION, kustomize
from tests.deploy.prometheus_rule import MANIFEST, RULES, manifest
from tests.harness.running import ROOT


@pytest.fixture(params=SOURCES)
def objects(request: pytest.FixtureRequest) -> Objects:
    """Return the objects of one of the three ways."""
    return SOURCES[request.param]()


def test_objects_are_valid(objects: Objects) -> None:
    """Each object is valid by Kubernetes' schema, without unknown fields."""
    for kind, each in objects.items():
        if kind not in EXTENSIONS:
            kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


def test_all_kinds_of_objects_exist(objects: Objects) -> None:
    """The objects that a fleet needs exist."""
    expected = {
        *("ServiceAccount", "ConfigMap", "Deployment", "Service", "HorizontalPodAutoscaler"),
        *("PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor"),
    }
    assert expected <= set(objects)


def test_config_map_is_a_valid_configuration(objects: Objects, tmp_path: Path) -> None:
    """The ConfigMap is accepted without a warning; its secrets are mounted files."""
    loaded = settings(objects, tmp_path)
    assert loaded.warnings == ()
    assert loaded.cache.backend == "redis"
    assert secret_files(objects) == {
        "cache/credential_secret": ("ghmirror", "credential-secret"),
        "redis/password": ("ghmirror", "redis-password"),
    }
    (container,) = pod(objects)["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["secrets"] == SECRETS
    assert container["args"] == ["--config", f"{mounts['config']}/ghmirror.ini"]
    assert {each["name"] for each in pod(objects)["volumes"]} == set(mounts)


def test_rolling_update_loses_no_request(objects: Objects, tmp_path: Path) -> None:
    """New pods start first; old ones complete their requests before they are killed."""
    server = settings(objects, tmp_path).server
    spec = objects["Deployment"]["spec"]
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert objects["PodDisruptionBudget"]["spec"]["maxUnavailable"] == "25%"
    graces = server.shutdown_delay + server.shutdown_grace
    assert pod(objects)["terminationGracePeriodSeconds"] >= graces + 10
    probe = pod(objects)["containers"][0]["readinessProbe"]
    # until the pod is seen to be unready, and all nodes know it
    assert server.shutdown_delay >= probe["periodSeconds"] * probe["failureThreshold"] + 5
    # a response may begin as late as that
    assert server.shutdown_grace > settings(objects, tmp_path).github.timeout


def test_autoscaler_sets_the_number_of_replicas(objects: Objects) -> None:
    """There are three to a hundred pods, spread over hosts and zones."""
    scaler = objects["HorizontalPodAutoscaler"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 100)
    assert scaler["scaleTargetRef"]["name"] == objects["Deployment"]["metadata"]["name"]
    # `kubectl apply` would reset a fleet to it.
    assert "replicas" not in objects["Deployment"]["spec"]
    (spread,) = pod(objects)["topologySpreadConstraints"]
    assert spread["topologyKey"] == "topology.kubernetes.io/zone"
    assert "podAntiAffinity" in pod(objects)["affinity"]


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


def test_memory_limit_has_room_for_the_stores(objects: Objects, tmp_path: Path) -> None:
    """The memory limit exceeds the fallback store, the copies and the process."""
    loaded = settings(objects, tmp_path)
    (container,) = pod(objects)["containers"]
    limit = size("0B").parse(container["resources"]["limits"]["memory"] + "B")
    assert limit >= loaded.memory.max_size + loaded.redis.local_size + (256 << 20)


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


def test_network_policy_permits_each_destination(objects: Objects, tmp_path: Path) -> None:
    """Pods reach GitHub, its status page, Redis, Sentinel, proxies and DNS, and no other port."""
    loaded = settings(objects, tmp_path)
    policy = objects["NetworkPolicy"]
    urls = [loaded.github.api_url, loaded.github.status_url, loaded.redis.url]
    ports = {
        urlsplit(url).port or {"https": 443, "redis": 6379}[urlsplit(url).scheme] for url in urls
    }
    needed = {*ports, 53, 3128, 26379}
    assert {port for port in needed if not permits(policy, port)} == set()
    permitted = [each for rule in policy["spec"]["egress"] for each in rule["ports"]]
    assert {each["port"] for each in permitted} == {*needed, 80}
    assert {"port": 53, "protocol": "UDP"} in permitted
    (by_address,) = [rule for rule in policy["spec"]["egress"] if "to" in rule]
    assert by_address["to"] == [{"ipBlock": {"cidr": "169.254.170.23/32"}}]
    assert [each["port"] for each in by_address["ports"]] == [80]


def test_kustomization_has_every_file() -> None:
    """kustomization.yaml lists each file of the directory, two of them in comments."""
    text = (KUSTOMIZATION / "kustomization.yaml").read_text()
    read = yaml.safe_load(text)
    (config,) = read["configMapGenerator"]
    alternatives = {"podmonitor.yaml", "ingress.yaml"}
    for name in alternatives:
        assert f"  # - {name}\n" in text
    named = {name for name in read["resources"] if "/" not in name}
    listed = named | alternatives | set(config["files"])
    assert {path.name for path in KUSTOMIZATION.iterdir()} == {*listed, "kustomization.yaml"}


def changed_copy(folder: Path, old: str, new: str) -> Path:
    """Copy the manifests with a changed ghmirror.ini; return the folder of the kustomization."""
    for path in (*KUSTOMIZATION.iterdir(), *(ROOT / "conf" / "grafana").glob("*.*")):
        copied = folder / path.parent.name / path.name
        copied.parent.mkdir(exist_ok=True)
        copied.write_text(path.read_text().replace(old, new))
    return folder / KUSTOMIZATION.name


def config_name(objects: Objects) -> str:
    """Return the name of the ConfigMap that pods mount, which exists."""
    (volume,) = [each for each in pod(objects)["volumes"] if each["name"] == "config"]
    name: str = volume["configMap"]["name"]
    assert objects["ConfigMap"]["metadata"]["name"] == name
    return name


def test_new_configuration_replaces_the_pods(tmp_path: Path) -> None:
    """A change of ghmirror.ini changes the pods: they mount a ConfigMap named by its hash."""
    changed = changed_copy(tmp_path, "url = redis://redis:6379/0", "url = rediss://other:6379/0")
    assert config_name(by_kind(kustomize(changed))) != config_name(kubernetes())
    same = changed_copy(tmp_path, "", "")
    assert kustomize(same) == list(kubernetes().values())


def test_prometheus_rule_equals_the_rules() -> None:
    """The object for Prometheus Operator has exactly the rules of the file."""
    assert MANIFEST.read_text() == manifest()
    rules = yaml.safe_load(RULES.read_text())
    assert kubernetes()["PrometheusRule"]["spec"] == rules
    assert helm()["PrometheusRule"]["spec"] == rules


def test_dashboard_is_in_a_config_map() -> None:
    """The ConfigMap for the sidecar of Grafana has exactly the dashboard."""
    dashboard = (ROOT / "conf" / "grafana" / "dashboard.json").read_text()
    for made in (kubernetes(), helm()):
        assert made[DASHBOARD]["data"] == {"ghmirror.json": dashboard}
        assert made[DASHBOARD]["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_alternative_manifests_are_valid() -> None:
    """The ingress leads to the Service with TLS; the PodMonitor scrapes the admin port."""
    made = kubernetes()
    ingress = yaml.safe_load((KUSTOMIZATION / "ingress.yaml").read_text())
    kubernetes_validate.validate(ingress, kubernetes_validate.latest_version(), strict=True)
    (rule,), (tls,) = ingress["spec"]["rules"], ingress["spec"]["tls"]
    assert tls["hosts"] == [rule["host"]]
    assert f"public_url = https://{rule['host']}" in made["ConfigMap"]["data"]["ghmirror.ini"]
    (path,) = rule["http"]["paths"]
    service = path["backend"]["service"]
    assert service["name"] == made["Service"]["metadata"]["name"]
    assert service["port"]["name"] in [each["name"] for each in made["Service"]["spec"]["ports"]]
    monitor = yaml.safe_load((KUSTOMIZATION / "podmonitor.yaml").read_text())
    assert [end["port"] for end in monitor["spec"]["podMetricsEndpoints"]] == ["admin"]
    labels = made["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert labels[monitor["spec"]["jobLabel"]] == "ghmirror"


def without_names(objects: Objects) -> Objects:
    """Return a copy without namespaces, image, and what a change of the configuration changes."""
    made = deepcopy(objects)
    for each in made.values():
        each["metadata"].pop("namespace", None)
    made["Deployment"]["spec"]["template"]["metadata"].pop("annotations", None)
    pod(made)["containers"][0].pop("image")
    made["ConfigMap"]["metadata"].pop("name")
    (volume,) = [each for each in pod(made)["volumes"] if each["name"] == "config"]
    volume["configMap"].pop("name")
    return made


def test_openshift_template_equals_the_manifests(tmp_path: Path) -> None:
    """OpenShift's objects differ only in image, names, users, a route, rules and dashboard."""
    theirs, ours = without_names(openshift()), without_names(kubernetes())
    assert theirs.pop("Route")["spec"]["host"] == REQUIRED["HOST"]
    assert ours.keys() - theirs.keys() == {"PrometheusRule", DASHBOARD}
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        assert pod(ours)["securityContext"].pop(name) == 10001
    for made in (theirs, ours):
        made["ConfigMap"]["data"] = [settings(made, tmp_path)]
        source = made["NetworkPolicy"]["spec"]["ingress"][1]["from"][0]
        source["namespaceSelector"]["matchLabels"].popitem()
    for kind, each in theirs.items():
        assert ours[kind] == each, kind


def without_release(value: object) -> object:
    """Return a copy without the labels that Helm adds."""
    match value:
        case dict():
            added = {"app.kubernetes.io/instance", "app.kubernetes.io/version", "helm.sh/chart"}
            added |= {"app.kubernetes.io/managed-by"}
            return {key: without_release(each) for key, each in value.items() if key not in added}
        case list():
            return [without_release(each) for each in value]
    return value


def test_chart_equals_the_manifests(tmp_path: Path) -> None:
    """Helm's objects differ only in image and names, labels of the release, and order."""
    theirs, ours = without_names(helm()), without_names(kubernetes())
    assert theirs.keys() == ours.keys()
    for made in (theirs, ours):
        made["ConfigMap"]["data"] = [settings(made, tmp_path)]
        made["NetworkPolicy"]["spec"]["egress"].sort(key=str)
        for each in made.values():
            each["metadata"].pop("annotations", None)
    for kind, each in ours.items():
        assert without_release(theirs[kind]) == each, kind


def test_each_template_parameter_is_used() -> None:
    """Each parameter exists, is used, and changes the objects."""
    read = template()
    names = {each["name"] for each in read["parameters"]}
    assert set(PARAMETER.findall(yaml.safe_dump(read["objects"]))) == names
    required = {each["name"] for each in read["parameters"] if each.get("required")}
    assert set(REQUIRED) <= required
    for name in names:
        assert openshift() != openshift(**{name: "17"}), name
