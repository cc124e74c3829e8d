"""A real Alertmanager, with the inhibitions and routes of the configuration for it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml
from attrs import define, field
from twisted.trial.unittest import TestCase

from tests.harness.home import fetch
from tests.harness.redis_servers import free_port
from tests.harness.running import ROOT

CONFIGURATION = ROOT / "conf" / "prometheus" / "alertmanager.yaml"
RULES = ROOT / "conf" / "prometheus" / "rules.yaml"
#: Values for the labels by which causes and effects are matched.
LABELS = {"job": "ghmirror", "user": "octocat", "resource": "core"}


def alerts() -> dict[str, dict[str, Any]]:
    """Return all alerts by name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def pairs() -> list[tuple[str, str, list[str]]]:
    """Return cause, effect and the labels that both share, for each inhibition."""
    found = []
    for rule in yaml.safe_load(CONFIGURATION.read_text())["inhibit_rules"]:
        (cause,), (effects,) = (
            re.findall(r"Ghmirror[\w|]+", " ".join(rule[f"{end}_matchers"]))
            for end in ("source", "target")
        )
        found += [(cause, effect, rule["equal"]) for effect in effects.split("|")]
    return found


def test_the_configuration_is_valid() -> None:
    """Amtool accepts it."""
    subprocess.run(["amtool", "check-config", CONFIGURATION], check=True, capture_output=True)


def test_inhibitions_name_alerts() -> None:
    """Causes and effects exist, and no alert silences another in a circle."""
    causes = {cause for cause, _, _ in pairs()}
    effects = {effect for _, effect, _ in pairs()}
    assert causes | effects <= set(alerts())
    assert causes & effects == {"GhmirrorSnapshotFails"}  # an effect of Redis away


def test_severities_select_receivers() -> None:
    """Only alerts that a person can act upon at once are routed to the pager."""
    routed: dict[str, set[str]] = {}
    for name, rule in alerts().items():
        severity = rule["labels"]["severity"]
        shown = subprocess.run(
            [
                *("amtool", "config", "routes", "test", f"--config.file={CONFIGURATION}"),
                *(f"alertname={name}", f"severity={severity}"),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        routed.setdefault(shown.stdout.strip(), set()).add(name)
    assert routed["pager"] == {"GhmirrorErrors", "GhmirrorNoReplicaReady"}
    assert routed["none"] == {"GhmirrorStale", "GhmirrorSharingSwitchedOff"}
    assert set(routed) == {"pager", "channel", "none"}


@define(eq=False)
class Alertmanager:
    """A real Alertmanager with the configuration."""

    port: int = field(factory=free_port)
    folder: Path = field(factory=lambda: Path(tempfile.mkdtemp(prefix="alertmanager-")))
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """Start it; it forms no cluster."""
        command = [
            *("prometheus-alertmanager", f"--config.file={CONFIGURATION}"),
            *(f"--storage.path={self.folder}", "--cluster.listen-address="),
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self) -> None:
        """End it, and remove what it has written."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)

    async def is_ready(self) -> bool:
        """Return whether it accepts alerts."""
        if self.process.poll() is not None:
            raise AssertionError((self.folder / "log").read_text())
        try:
            return (await fetch("GET", self.port, "/-/ready")).status == 200
        except Exception:
            return False

    async def fire(self, *labels: dict[str, str], ended: bool = False) -> None:
        """Send alerts with these labels, as Prometheus does."""
        ends_at = {"endsAt": "2020-01-01T00:00:00Z"} if ended else {}
        sent = [{"labels": each, "startsAt": "2019-01-01T00:00:00Z", **ends_at} for each in labels]
        got = await fetch(
            "POST",
            self.port,
            "/api/v2/alerts",
            headers={"Content-Type": "application/json"},
            body=json.dumps(sent).encode(),
        )
        assert got.status == 200, got.content

    async def active(self) -> list[dict[str, str]]:
        """Return the labels of the alerts that would be notified of."""
        got = await fetch("GET", self.port, "/api/v2/alerts?inhibited=false")
        return [each["labels"] for each in got.json]


class Inhibition(TestCase):
    """Causes silence their effects, and nothing else."""

    timeout = 120

    async def start(self) -> Alertmanager:
        """Start an Alertmanager."""
        made = Alertmanager()
        made.start()
        self.addCleanup(made.stop)
        while not await made.is_ready():
            pass
        return made

    async def test_each_effect_is_silent_while_its_cause_fires(self) -> None:
        """It is notified of before and after, and in another job at any time."""
        made = await self.start()
        for number, (cause, effect, equal) in enumerate(pairs()):
            # Each pair has a job of its own, since alerts of pairs before may be under way still.
            shared = {name: LABELS[name] for name in equal} | {"job": f"job-{number}"}
            of_cause = {"alertname": cause, **shared, "instance": "a"}
            of_effect = {"alertname": effect, **shared, "instance": "b"}
            elsewhere = {**of_effect, "job": "other"}
            await made.fire(of_effect, elsewhere)
            assert of_effect in await made.active(), effect
            await made.fire(of_cause)
            while of_effect in await made.active():
                pass
            shown = await made.active()
            assert of_cause in shown, cause
            assert elsewhere in shown, effect
            await made.fire(of_cause, elsewhere, ended=True)
            while of_effect not in await made.active():
                pass

    async def test_quota_of_another_user_is_no_cause(self) -> None:
        """Labels besides the job count as well."""
        made = await self.start()
        used_up = {"alertname": "GhmirrorQuotaUsedUp", **LABELS}
        for user, silent in (("octocat", True), ("hubot", False)):
            runs_out = {"alertname": "GhmirrorQuotaRunsOut", **LABELS, "user": user}
            await made.fire(used_up, runs_out)
            while silent is (runs_out in await made.active()):
                pass
