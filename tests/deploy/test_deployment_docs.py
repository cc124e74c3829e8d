"""The page about deployment speaks of what there is, and of all of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import yaml

from tests.harness.running import ROOT

PAGE = (ROOT / "docs" / "deployment.rst").read_text()
CONF = ROOT / "conf"


def test_each_documented_file_exists() -> None:
    """Each path below conf/ and docs/ that the page names exists."""
    named = set(re.findall(r"\b((?:conf|docs)/[\w./@-]*\w/?)", PAGE))
    made_by_you = {"conf/compose/credential-secret"}
    assert {name for name in named if not (ROOT / name).exists()} == made_by_you


def test_each_deployment_is_documented() -> None:
    """Each directory in conf/ is named on the page."""
    shown = {path.name for path in CONF.iterdir()} - {"compose"}
    assert {name for name in shown if name not in PAGE} == set()


def test_each_alert_has_a_section_of_the_runbook() -> None:
    """Each alert has one section, each section is of an alert, and the alert links to it."""
    groups = yaml.safe_load((CONF / "prometheus" / "rules.yaml").read_text())["groups"]
    alerts = {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}
    page = (ROOT / "docs" / "runbook.rst").read_text()
    sections = re.split(r"^(Ghmirror\w+)\n-+\n", page, flags=re.MULTILINE)[1:]
    assert sorted(sections[::2]) == sorted(alerts)
    for name, text in zip(sections[::2], sections[1::2], strict=True):
        for part in ("Users notice", "Look at", "Do", "Leave it alone"):
            assert re.search(rf"^{part}$", text, re.MULTILINE), (name, part)
        url = alerts[name]["annotations"]["runbook_url"]
        assert url == f"docs/runbook.rst#{name.lower()}"


def test_documented_command_sets_the_runbook(tmp_path: Path) -> None:
    """It changes the URL of each alert in both files, and nothing else."""
    (command,) = re.findall(r"^    (sed -i .*\\\n.*)$", PAGE, re.MULTILINE)
    paths = re.findall(r"conf/\S+", command)
    assert len(paths) == 2
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    for path in paths:
        before, after = ((folder / path).read_text().splitlines() for folder in (ROOT, tmp_path))
        changed = [pair for pair in zip(before, after, strict=True) if len(set(pair)) == 2]
        assert len(changed) == sum("alert: " in line for line in before)
        for old, new in changed:
            there = "https://wiki.example.net/ghmirror/runbook.html#"
            assert new == old.replace("docs/runbook.rst#", there)


def test_documented_commands_equal_those_in_the_files() -> None:
    """A command is the same on the page and in the file that it is for."""
    for path, command in (
        ("compose.yaml", "docker compose --file conf/compose.yaml up --build --detach"),
        ("kubernetes/kustomization.yaml", "kubectl apply -k conf/kubernetes"),
        ("openshift/template.yaml", "oc process -f conf/openshift/template.yaml"),
        ("systemd/ghmirror@.service", "systemctl enable --now ghmirror@9101.service"),
        ("aws/ghmirror.yaml", "--template-file conf/aws/ghmirror.yaml --stack-name ghmirror"),
    ):
        assert command in PAGE, command
        assert command in (CONF / Path(path)).read_text(), path


def test_each_recorded_series_is_documented() -> None:
    """The page about metrics describes exactly the recorded series."""
    groups = yaml.safe_load((CONF / "prometheus" / "rules.yaml").read_text())["groups"]
    recorded = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    page = (ROOT / "docs" / "metrics.rst").read_text()
    assert set(re.findall(r"^``(ghmirror:[\w:]+)`` ", page, re.MULTILINE)) == recorded
