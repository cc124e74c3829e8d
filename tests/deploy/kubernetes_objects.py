"""The objects that Kustomize, OpenShift and Helm make of conf/, by kind."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from ghmirror_tw.config.settings import Settings
from ghmirror_tw.config.settings_loader import load
from tests.deploy.kubernetes_programs import helm_template, kustomize
from tests.harness.running import ROOT

TEMPLATE: Final = ROOT / "conf" / "openshift" / "template.yaml"

#: Kinds that extensions add to Kubernetes; its own schema does not have them.
EXTENSIONS: Final = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "Route"}

#: The parameters of the template without a default.
REQUIRED: Final = {"IMAGE": "registry.example.org/ghmirror:1", "HOST": "ghmirror.example.org"}

#: The additions of the chart to its defaults where a manifest is used unchanged.
AS_THE_MANIFESTS: Final = (
    "--set=config.server.public_url=https://ghmirror.example.org",
    "--set=monitoring.serviceMonitor.enabled=true",
    "--set=monitoring.prometheusRule.enabled=true",
    "--set=monitoring.dashboard.enabled=true",
)

PARAMETER: Final = re.compile(r"\$\{\{?([A-Z_]+)\}?\}")
SECRETS: Final = "/run/secrets/ghmirror"
DASHBOARD: Final = "Dashboard"

Object = dict[str, Any]
Objects = dict[str, Object]


def by_kind(objects: list[Object]) -> Objects:
    """Return objects by kind; the ConfigMap for Grafana is a kind of its own."""
    labels = [each["metadata"].get("labels", {}) for each in objects]
    kinds = [
        DASHBOARD if "grafana_dashboard" in label else each["kind"]
        for each, label in zip(objects, labels, strict=True)
    ]
    assert len(set(kinds)) == len(kinds), kinds
    return dict(zip(kinds, objects, strict=True))


@cache
def kubernetes() -> Objects:
    """Return what Kustomize makes of the manifests."""
    return by_kind(kustomize())


@cache
def helm() -> Objects:
    """Return what Helm makes of the chart, with the monitoring that the manifests have."""
    return by_kind(helm_template(*AS_THE_MANIFESTS))


def template() -> Object:
    """Return OpenShift's template."""
    read: Object = yaml.safe_load(TEMPLATE.read_text())
    return read


def filled(value: Any, values: dict[str, str]) -> Any:
    """Return a part of the template with its parameters replaced, as OpenShift does it."""
    match value:
        case dict():
            return {key: filled(each, values) for key, each in value.items()}
        case list():
            return [filled(each, values) for each in value]
        case str() if value.startswith("${{"):
            return yaml.safe_load(PARAMETER.sub(lambda found: values[found[1]], value))
        case str():
            return PARAMETER.sub(lambda found: values[found[1]], value)
    return value


def openshift(**parameters: str) -> Objects:
    """Return what OpenShift makes of the template."""
    read = template()
    values = {each["name"]: each.get("value", "") for each in read["parameters"]}
    return by_kind([filled(each, values | REQUIRED | parameters) for each in read["objects"]])


SOURCES: Final[dict[str, Callable[[], Objects]]] = {
    "kubernetes": kubernetes,
    "openshift": openshift,
    "helm": helm,
}


def pod(objects: Objects) -> Object:
    """Return the specification of a pod."""
    spec: Object = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


def secret_files(objects: Objects) -> dict[str, tuple[str, str]]:
    """Return the Secret and its key of each file, by the path below the mount."""
    (secrets,) = [each for each in pod(objects)["volumes"] if each["name"] == "secrets"]
    sources = [each["secret"] for each in secrets["projected"]["sources"] or []]
    return {
        item["path"]: (source["name"], item["key"])
        for source in sources
        for item in source["items"]
    }


def settings(objects: Objects, folder: Path) -> Settings:
    """Return the mirror's settings by the ConfigMap, with the files of Secrets in a folder."""
    text = objects["ConfigMap"]["data"]["ghmirror.ini"]
    for name in secret_files(objects):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        url = "http://user:password@proxy.example.org:3128"
        secret = "a secret of the tests, of more than 32 characters"
        path.write_text(url if path.name == "proxy" else secret)
    path = folder / "ghmirror.ini"
    path.write_text(text.replace(SECRETS, str(folder)))
    return load(path, {})


def permits(policy: Object, port: int) -> bool:
    """Return whether a NetworkPolicy permits connections to a TCP port at any address."""
    rules = [rule for rule in policy["spec"]["egress"] if "to" not in rule]
    return {"port": port, "protocol": "TCP"} in [each for rule in rules for each in rule["ports"]]
