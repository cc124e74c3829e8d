"""The chart accepts what its schema describes, and each of its values has an effect."""

from __future__ import annotations

import json
import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import kubernetes_validate
import pytest
import yaml

from ghmirror_tw import __version__
from ghmirror_tw.config.settings import OPTIONS
from tests.deploy.kubernetes_objects import (
    AS_THE_MANIFESTS,
    DASHBOARD,
    EXTENSIONS,
    Objects,
    by_kind,
    permits,
    pod,
    secret_files,
    settings,
)
from tests.deploy.kubernetes_programs import CHART, helm_template, output, run
from tests.harness.running import ROOT

EVERYTHING = {
    "image": {"digest": "sha256:" + 64 * "0", "pullSecrets": ["image-host"]},
    "config": {
        "server": {
            "allowed_users": ["alice", "bot[bot]"],
            "public_url": "https://api.example.org",
            "reuse_port": True,
        },
        "github": {"reserve": 1000000},
        "redis": {"url": "rediss://mymaster/0", "sentinels": ["one:26379", "two:26379"]},
        "snapshot": {"target": "s3://bucket/prefix"},
    },
    "secretFiles": {
        "redis": {"password_path": {"secret": "redis", "key": "password"}},
        "github": {"proxy_path": {"secret": "proxy", "key": "url"}},
    },
    "env": [{"name": "AWS_REGION", "value": "eu-central-1"}],
    "envFrom": [{"secretRef": {"name": "s3"}}],
    "autoscaling": {"enabled": False},
    "replicas": 5,
    "podAnnotations": {"example.org/team": "platform"},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "priorityClassName": "high",
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/mirror"}},
    "service": {"port": 8080, "annotations": {"example.org/zone": "internal"}},
    "ingress": {"enabled": True, "host": "api.example.org"},
    "networkPolicy": {
        "monitoringNamespace": "observability",
        "egress": {"proxy": None, "other": {"ports": [8443], "udp": True}},
    },
    "monitoring": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "podMonitor": {"enabled": True, "interval": "30s"},
        "prometheusRule": {
            "enabled": True,
            "labels": {"release": "prometheus"},
            "runbook": "https://wiki.example.net/runbook.html",
        },
        "dashboard": {"enabled": True},
    },
}


def made_with(values: dict[str, Any], folder: Path, release: str = "api") -> Objects:
    """Return the objects of a release with values of a file; each is valid for Kubernetes."""
    path = folder / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    made = by_kind(helm_template(f"--values={path}", release=release))
    for kind, each in made.items():
        if kind not in EXTENSIONS:
            kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)
    return made


def test_lint_finds_nothing() -> None:
    """`helm lint` accepts the chart, strictly."""
    output("helm", "lint", "--strict", str(CHART))


def test_chart_has_the_version_of_the_mirror() -> None:
    """The chart installs the image of the same version as the manifests and the package."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    kustomization = yaml.safe_load((ROOT / "conf/kubernetes/kustomization.yaml").read_text())
    assert chart["appVersion"] == kustomization["images"][0]["newTag"] == __version__
    image = pod(by_kind(helm_template()))["containers"][0]["image"]
    assert image == f"registry.example.org/ghmirror:{chart['appVersion']}"


def test_packaged_chart_has_rules_and_dashboard(tmp_path: Path) -> None:
    """`helm package` makes a chart with its own copies of rules and dashboard."""
    output("helm", "package", str(CHART), "--destination", str(tmp_path))
    (package,) = tmp_path.iterdir()
    rendered = output(
        "helm", "template", "ghmirror", str(package), "-n", "ghmirror", *AS_THE_MANIFESTS
    )
    made = by_kind([each for each in yaml.safe_load_all(rendered) if each])
    assert made == by_kind(helm_template(*AS_THE_MANIFESTS))


def test_each_value_has_an_effect(tmp_path: Path) -> None:
    """The objects with all values are valid, and have each of them in its place."""
    made = made_with(EVERYTHING, tmp_path)
    loaded = settings(made, tmp_path)
    assert loaded.server.allowed_users == {"alice", "bot[bot]"}
    assert (loaded.server.reuse_port, loaded.github.reserve) == (True, 1000000)
    assert loaded.redis.sentinels == (("one", 26379), ("two", 26379))
    assert secret_files(made) == {
        "cache/credential_secret": ("ghmirror", "credential-secret"),
        "github/proxy": ("proxy", "url"),
        "redis/password": ("redis", "password"),
    }
    spec = pod(made)
    (container,) = spec["containers"]
    assert container["image"].endswith("/ghmirror@sha256:" + 64 * "0")
    assert spec["imagePullSecrets"] == [{"name": "image-host"}]
    for name in ("nodeSelector", "tolerations", "priorityClassName"):
        assert spec[name] == EVERYTHING[name]
    for name in ("env", "envFrom"):
        assert container[name] == EVERYTHING[name]
    assert made["Deployment"]["spec"]["replicas"] == 5
    assert "HorizontalPodAutoscaler" not in made
    annotations = made["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["example.org/team"] == "platform"
    assert made["ServiceAccount"]["metadata"]["annotations"].keys() == {
        "eks.amazonaws.com/role-arn"
    }
    assert made["Service"]["spec"]["ports"][0]["port"] == 8080
    assert made["Service"]["metadata"]["annotations"] == {"example.org/zone": "internal"}
    assert made["Ingress"]["spec"]["rules"][0]["host"] == "api.example.org"
    assert made["Ingress"]["spec"]["tls"][0]["hosts"] == ["api.example.org"]
    policy = made["NetworkPolicy"]
    assert "observability" in str(policy["spec"]["ingress"])
    assert [permits(policy, port) for port in (443, 26379, 8443, 3128)] == [True, True, True, False]
    assert made["ServiceMonitor"]["metadata"]["labels"]["release"] == "prometheus"
    assert made["PodMonitor"]["spec"]["podMetricsEndpoints"][0]["interval"] == "30s"
    rules = [rule for group in made["PrometheusRule"]["spec"]["groups"] for rule in group["rules"]]
    for rule in rules:
        if "alert" in rule:
            url = f"https://wiki.example.net/runbook.html#{rule['alert'].lower()}"
            assert rule["annotations"]["runbook_url"] == url


def test_objects_are_named_by_the_release(tmp_path: Path) -> None:
    """Each object, and each reference to one, has the name of the release."""
    made = made_with(EVERYTHING, tmp_path)
    names = {kind: each["metadata"]["name"] for kind, each in made.items()}
    assert names.pop(DASHBOARD) == "api-ghmirror-dashboard"
    assert set(names.values()) == {"api-ghmirror"}
    spec = pod(made)
    assert spec["serviceAccountName"] == "api-ghmirror"
    assert {"name": "config", "configMap": {"name": "api-ghmirror"}} in spec["volumes"]
    backend = made["Ingress"]["spec"]["rules"][0]["http"]["paths"][0]["backend"]
    assert backend["service"]["name"] == "api-ghmirror"
    assert 'deployment="api-ghmirror"' in json.dumps(made["PrometheusRule"]).replace("\\", "")
    labels = made["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        made["Deployment"]["spec"]["selector"]["matchLabels"],
        made["Service"]["spec"]["selector"],
        made["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        made["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        made["PodMonitor"]["spec"]["selector"]["matchLabels"],
        made["ServiceMonitor"]["spec"]["selector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector["app.kubernetes.io/instance"] == "api"
        assert selector.items() <= labels.items()


def test_new_configuration_replaces_the_pods(tmp_path: Path) -> None:
    """A change of an option changes the pods' annotation; other changes do not."""
    default, other, same = (
        by_kind(helm_template(*arguments))["Deployment"]["spec"]["template"]
        for arguments in ((), ("--set=config.log.level=debug",), ("--set=service.port=81",))
    )
    assert default != other
    assert default == same


def test_null_removes_files_and_objects(tmp_path: Path) -> None:
    """Without Redis no password is needed; OpenShift chooses users; objects can be left out."""
    values = {
        "config": {"cache": {"backend": "memory"}, "redis": None},
        "secretFiles": None,
        "podSecurityContext": dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup")),
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
    }
    made = made_with(values, tmp_path)
    assert settings(made, tmp_path).cache.backend == "memory"
    assert secret_files(made) == {}
    assert pod(made)["securityContext"].keys() == {"runAsNonRoot", "seccompProfile"}
    assert not made.keys() & {"PodDisruptionBudget", "NetworkPolicy", "Ingress", "ServiceMonitor"}


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ("replica=3", "replica"),
        ("image.digest=sha256:12", "/image/digest"),
        ("config.server.listen.port=1", "/config/server/listen"),
        ("config.Server.listen=tcp:1", "Server"),
        ("secretFiles.redis.password.secret=a", "password"),
        ("secretFiles.redis.password_path=a", "/secretFiles/redis/password_path"),
        ("podDisruptionBudget.maxUnavailable=some", "/podDisruptionBudget/maxUnavailable"),
        ("networkPolicy.egress.https.ports={http}", "/networkPolicy/egress/https/ports/0"),
        ("service.port=0", "/service/port"),
        ("monitoring.podMonitor.interval=often", "/monitoring/podMonitor/interval"),
        ("monitoring.prometheusRule.runbook=a#b", "/monitoring/prometheusRule/runbook"),
    ],
)
def test_schema_refuses_wrong_values(wrong: str, where: str) -> None:
    """Helm refuses an unknown or a wrong value, and names its place."""
    done = run("helm", "template", "ghmirror", str(CHART), f"--set={wrong}")
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr
    assert f"'{where}'" in done.stderr


def test_default_options_exist() -> None:
    """Each option that values.yaml names is an option of the mirror, in the same section."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    known = {(option.section, option.name) for option in OPTIONS}
    for place in ("config", "secretFiles"):
        named = {(section, name) for section, each in values[place].items() for name in each}
        assert named <= known


def test_notes_name_url_and_secrets() -> None:
    """After the installation Helm prints the URL for clients, and each Secret that pods need."""
    arguments = ("install", "ghmirror", str(CHART), "--namespace=there", "--dry-run=client")
    notes = output("helm", *arguments).partition("NOTES:")[2]
    assert "http://ghmirror.there.svc:80\n" in notes
    assert "ghmirror, with the key redis-password: [redis] password_path" in notes
    notes = output("helm", *arguments, "--set=ingress.enabled=true").partition("NOTES:")[2]
    assert "https://ghmirror.example.org\n" in notes


def test_documented_values_are_accepted(tmp_path: Path) -> None:
    """The values that the documentation shows make valid objects and a valid configuration."""
    page = (ROOT / "docs" / "deployment.rst").read_text()
    shown = re.findall(r"^\.\. code-block:: yaml\n\n((?:(?: {4}.*)?\n)+)", page, re.MULTILINE)
    (values,) = [text for text in shown if "secretFiles" in text]
    made = made_with(yaml.safe_load(dedent(values)), tmp_path, "ghmirror")
    loaded = settings(made, tmp_path)
    assert loaded.warnings == ()
    assert loaded.server.allowed_users == {"alice", "renovate[bot]"}
    assert secret_files(made)["redis/password"] == ("elasticache", "password")
    assert {"Ingress", "ServiceMonitor", "PrometheusRule", DASHBOARD} <= made.keys()
