"""Writes conf/kubernetes/prometheusrule.yaml: the rules of Prometheus as an object of its Operator.

Run as ``python -m tests.deploy.prometheus_rule`` after a change of conf/prometheus/rules.yaml.
"""

from __future__ import annotations

from textwrap import indent
from typing import Final

from tests.harness.running import ROOT

RULES: Final = ROOT / "conf" / "prometheus" / "rules.yaml"
MANIFEST: Final = ROOT / "conf" / "kubernetes" / "prometheusrule.yaml"

_HEAD: Final = """\
# Made from conf/prometheus/rules.yaml by: python -m tests.deploy.prometheus_rule
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: ghmirror
  labels: {app.kubernetes.io/name: ghmirror}
spec:
"""


def manifest() -> str:
    """Return the manifest of the present rules, with their comments."""
    return _HEAD + indent(RULES.read_text(), "  ")


if __name__ == "__main__":
    MANIFEST.write_text(manifest())
