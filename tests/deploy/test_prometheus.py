"""The rules and the dashboard query existing series: a real Prometheus scrapes a real mirror."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml
from attrs import define, field, frozen
from twisted.trial.unittest import TestCase

from tests.fakes.github import GitHub
from tests.harness.home import fetch, open_github, reactor
from tests.harness.redis_servers import free_port, start_redis
from tests.harness.running import ROOT, Mirror, start_mirror

RULES = ROOT / "conf" / "prometheus" / "rules.yaml"
DASHBOARD = ROOT / "conf" / "grafana" / "dashboard.json"
RULES_TEST = ROOT / "tests" / "deploy" / "rules_test.yaml"

#: Queries that have a result only after an event that does not happen here.
NEED_AN_EVENT = {
    'ALERTS{alertname=~"Ghmirror.*", alertstate="firing"}': "an alert fires",
    'ghmirror_requests_total{status="500", outcome="error"}': "the mirror has a fault",
    'kube_deployment_status_replicas_ready{deployment="ghmirror"}': "it runs in Kubernetes",
}

_SELECTOR = re.compile(r"\b(?:ghmirror[a-z0-9_:]+|process_[a-z_]+|kube_[a-z_]+|up)\b(?:\{[^}]*\})?")
_PATIENCE_S = 60.0


@frozen
class Rule:
    """A rule of a group: what is recorded, or what is alerted on."""

    name: str
    expression: str
    alerts: bool

    @property
    def selectors(self) -> list[str]:
        """The queried series, without the functions around them."""
        return _SELECTOR.findall(self.expression)


def rules() -> list[Rule]:
    """Return all rules, in their order."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [
        Rule(rule.get("alert") or rule["record"], rule["expr"], "alert" in rule)
        for group in groups
        for rule in group["rules"]
    ]


def panels() -> Iterator[tuple[str, str]]:
    """Yield each query of the dashboard as Grafana would send it, and its panel."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$job", "ghmirror").replace("$__rate_interval", "1m")
            yield f"{panel['title']} {target['refId']}", query


def runbook_queries() -> list[str]:
    """Return the queries that the runbook names, in the text and in blocks."""
    page = (ROOT / "docs" / "runbook.rst").read_text()
    blocks = re.findall(r"::\n\n +(.+)\n", page)
    literals = re.findall(r"``([^`]+)``", " ".join(page.split()))
    return [each for each in (*blocks, *literals) if _SELECTOR.search(each) and "curl" not in each]


def promtool(*arguments: str) -> None:
    """Run a check of promtool."""
    output = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert output.returncode == 0, output.stdout + output.stderr


def test_rules_are_valid() -> None:
    """promtool accepts the rules without a remark."""
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))


def test_each_alert_fires_and_clears() -> None:
    """Prometheus's unit tests of the rules pass: each alert fires and clears."""
    promtool("test", "rules", str(RULES_TEST))


def test_each_alert_has_unit_tests() -> None:
    """Each alert is tested before it fires, while it fires, and after it clears."""
    phases: dict[str, list[bool]] = {rule.name: [] for rule in rules() if rule.alerts}
    for test in yaml.safe_load(RULES_TEST.read_text())["tests"]:
        seen: dict[str, list[bool]] = {}
        for case in test["promql_expr_test"]:
            for name in re.findall(r"Ghmirror\w+", case["expr"]):
                seen.setdefault(name, []).append(bool(case.get("exp_samples")))
        for name, fired in seen.items():
            phases[name] = max(phases[name], fired, key=len)
    wrong = {name: fired for name, fired in phases.items() if fired[-3:] != [False, True, False]}
    assert not wrong


def test_dashboard_is_consistent() -> None:
    """Panels have unique numbers, do not overlap, and use the chosen data source."""
    dashboard = json.loads(DASHBOARD.read_text())
    shown = dashboard["panels"]
    assert len({panel["id"] for panel in shown}) == len(shown)
    taken: set[tuple[int, int]] = set()
    for panel in shown:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"
    assert {each["name"] for each in dashboard["templating"]["list"]} == {"datasource", "job"}


@define(eq=False)
class Prometheus:
    """A real Prometheus that scrapes one mirror five times a second."""

    folder: Path
    port: int = field(factory=free_port)
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self, target: str) -> None:
        """Start to scrape the mirror whose admin port is at *target*."""
        config = self.folder / "prometheus.yml"
        config.write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "200ms", "evaluation_interval": "200ms"},
                    "rule_files": [str(RULES)],
                    "scrape_configs": [
                        {"job_name": "ghmirror", "static_configs": [{"targets": [target]}]}
                    ],
                }
            )
        )
        command = [
            *("prometheus", f"--config.file={config}", f"--storage.tsdb.path={self.folder}/tsdb"),
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)

    def stop(self) -> None:
        """End it, and remove what it has written."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)

    async def query(self, query: str) -> list[Any]:
        """Return the series of an instant query; raise if it can't be understood."""
        got = await fetch("GET", self.port, f"/api/v1/query?{urlencode({'query': query})}")
        assert got.status == 200, (query, got.content)
        result: list[Any] = got.json["data"]["result"]
        return result

    async def is_ready(self) -> bool:
        """Return whether it accepts queries yet."""
        if self.process.poll() is not None:
            raise AssertionError((self.folder / "log").read_text())
        try:
            return (await fetch("GET", self.port, "/-/ready")).status == 200
        except Exception:
            return False


class Queries(TestCase):
    """The queries of rules and dashboard."""

    timeout = 3 * _PATIENCE_S

    async def open(self) -> tuple[GitHub, Mirror, Prometheus]:
        """Start a stand-in for GitHub, a mirror with Redis and snapshots, and a Prometheus."""
        github = await open_github(self)
        redis = start_redis(self)
        folder = Path(tempfile.mkdtemp(prefix="ghmirror-"))
        self.addCleanup(shutil.rmtree, folder)
        sections = {
            "github": {"api_url": github.api_url},
            "cache": {"backend": "redis"},
            "redis": {"url": f"redis://127.0.0.1:{redis.port}"},
            "snapshot": {"target": f"file://{folder}", "interval": "1s"},
        }
        mirror = await start_mirror(self, sections)
        prometheus = Prometheus(Path(tempfile.mkdtemp(prefix="prometheus-")))
        prometheus.start(mirror.admin_url.partition("//")[2])
        self.addCleanup(prometheus.stop)
        while not await prometheus.is_ready():
            pass
        return github, mirror, prometheus

    async def load(self, github: GitHub, port: int, turn: int) -> None:
        """Cause an event of each kind: paid, saved, stale, limited, refused, failed."""
        github.put("/changing", {"turn": turn})
        for token in ("alice-1", "alice-2", "carol-1"):
            for path in ("/changing", "/user", "/steady", "/nowhere", "/broken"):
                await fetch("GET", port, path, token=token)
        await fetch("GET", port, "/limited", token="bob-1")
        with_fault = github.fault("/steady", 503, login="carol")
        await fetch("GET", port, "/steady", token="carol-1")
        with_fault.end()

    async def test_each_query_has_a_result(self) -> None:
        """Under load each queried series exists, with the queried labels."""
        github, mirror, prometheus = await self.open()
        github.put("/steady", {"a": 1})
        github.put("/limited", {"a": 1})
        github.put("/broken", {"a": 1})
        github.fault("/broken", 502)
        github.fault("/limited", "secondary-limit", login="bob")
        expected = {query for _, query in panels()}
        for rule in rules():
            expected.update(rule.selectors if rule.alerts else (rule.expression, rule.name))
        assert set(NEED_AN_EVENT) <= expected
        port, turn = int(mirror.url.rpartition(":")[2]), 0
        missing = expected - set(NEED_AN_EVENT)
        deadline = reactor.seconds() + _PATIENCE_S
        while missing and reactor.seconds() < deadline:
            turn += 1
            await self.load(github, port, turn)
            for query in sorted(missing):
                if await prometheus.query(query):
                    missing.remove(query)
        assert not missing, sorted(missing)

    async def test_each_query_is_valid(self) -> None:
        """Prometheus accepts each query, with or without a result."""
        _, _, prometheus = await self.open()
        documented = runbook_queries()
        assert len(documented) > 20
        queries = [query for _, query in panels()] + [each.expression for each in rules()]
        for query in (*queries, *documented):
            await prometheus.query(query)
