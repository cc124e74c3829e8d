"""The tables of capacity in the documentation are those of measurements."""

from __future__ import annotations

import re

from benchmarks import capacity
from tests.deploy.kubernetes_objects import kubernetes, pod
from tests.harness.running import ROOT

PAGE = (ROOT / "docs" / "deployment.rst").read_text()
FOUND = {
    "tables": {
        "trace": [
            {"subject": "Varnish", "cpu_us": 1.0, "rate": 1.0},
            {"subject": "mirror, Redis", "cpu_us": 500.0, "rate": 1900.0},
        ]
    },
    "command": "python -m benchmarks.trace",
    "when": "2026-01-01T00:00+00:00",
    "commit": "abc",
    "machine": {"CPU": "2 x CPU"},
    "programs": {"Python": "CPython 3.13"},
}


def test_page_has_the_table_of_redis() -> None:
    """The page's memory of Redis is what its own figures for each record add up to."""
    assert capacity.redis() in PAGE
    redis = (ROOT / "docs" / "redis.rst").read_text()
    rows = dict(re.findall(r"^(an?[a-z, ]+?)  +([\d,]+)  ", redis, re.MULTILINE))
    figures = {name: int(value.replace(",", "")) for name, value in rows.items()}
    assert figures["a grant"] == capacity.GRANT
    assert figures["a recency list with one entry"] == capacity.LIST
    assert figures["a representation, above its content"] == capacity.REPRESENTATION
    assert f"{capacity.CONTENT / 1000} kB compressed" in redis


def test_pods_are_those_of_the_autoscaler() -> None:
    """A pod's cores are the autoscaler's target."""
    scaler = kubernetes()["HorizontalPodAutoscaler"]["spec"]
    (container,) = pod(kubernetes())["containers"]
    cores = int(container["resources"]["requests"]["cpu"].removesuffix("m")) / 1000
    target = scaler["metrics"][0]["resource"]["target"]["averageUtilization"] / 100
    assert cores * target == capacity.CORES_A_POD
    assert scaler["minReplicas"] == capacity.LEAST_PODS


def test_table_of_cores_is_written_into_the_page() -> None:
    """Cores and pods follow from the CPU time of a request; a new table replaces the old one."""
    table = capacity.cores(FOUND)
    rows = [line.split() for line in table.splitlines() if re.match(r" *[\d,]+ +[\d.]+ ", line)]
    assert rows[0] == ["50", "0.03", "3"]
    assert rows[-1] == ["10,000", "5.00", "15"]
    assert "By 500 µs" in table
    page = capacity.with_cores(PAGE, table)
    assert page.count(table) == 1
    assert capacity.with_cores(page, table) == page
