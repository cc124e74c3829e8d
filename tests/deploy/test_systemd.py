"""The units of systemd are right, and start the mirror as it wants to be started."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from ghmirror_tw.config.settings import Settings
from ghmirror_tw.config.settings_loader import load
from tests.harness.running import ROOT, TWISTD

UNITS = ROOT / "conf" / "systemd"
NAMES = ("ghmirror.service", "ghmirror@.service")
PORT = "9101"

Unit = dict[str, list[str]]


def read(name: str) -> Unit:
    """Return the values of each directive of a unit, for the instance that is called PORT."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in (UNITS / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            directive, _, value = line.partition("=")
            found[directive].append(value.replace("%i", PORT))
    return found


def settings(unit: Unit) -> Settings:
    """Return what the mirror understands of the example and the unit's environment."""
    pairs = [pair for line in unit["Environment"] for pair in shlex.split(line)]
    environment = dict(pair.split("=", 1) for pair in pairs)
    return load(ROOT / "conf" / "ghmirror.ini", environment)


@pytest.mark.parametrize("name", NAMES)
def test_units_pass_systemd_analyze(name: str, tmp_path: Path) -> None:
    """systemd-analyze verifies the units without a warning."""
    text = (UNITS / name).read_text().replace("/opt/ghmirror/bin/twistd", str(TWISTD))
    (tmp_path / name).write_text(text)
    instance = name.replace("@", f"@{PORT}")
    output = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / instance)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in (output.stdout + output.stderr).splitlines() if "ghmirror" in line]
    assert (output.returncode, ours) == (0, [])


@pytest.mark.parametrize("name", NAMES)
def test_exposure_of_units_is_below_2(name: str, tmp_path: Path) -> None:
    """systemd rates the exposure of a service up to 10; these units stay below 2."""
    shutil.copy(UNITS / name, tmp_path)
    output = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager"),
            str(tmp_path / name.replace("@", f"@{PORT}")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert output.returncode == 0, output.stdout + output.stderr


@pytest.mark.parametrize("name", NAMES)
def test_units_run_twistd_in_the_foreground(name: str) -> None:
    """twistd has no PID file, and is killed only after its grace periods."""
    unit = read(name)
    (start,) = unit["ExecStart"]
    assert start.split() == [
        *("/opt/ghmirror/bin/twistd", "--nodaemon", "--pidfile=", "ghmirror"),
        *("--config", "/etc/ghmirror/ghmirror.ini"),
    ]
    assert "-HUP $MAINPID" in unit["ExecReload"][0]
    server = settings(unit).server
    assert float(unit["TimeoutStopSec"][0]) > server.shutdown_delay + server.shutdown_grace
    # Seen to break TLS: its callbacks are made at run time.
    assert not unit["MemoryDenyWriteExecute"]


def test_instances_share_the_port_and_not_the_metrics() -> None:
    """Each instance has a metrics port of its own; the single unit shares nothing."""
    one, several = (settings(read(name)).server for name in NAMES)
    assert (one.reuse_port, several.reuse_port) == (False, True)
    assert several.listen == one.listen
    assert several.admin_listen == (f"tcp:{PORT}:interface=127.0.0.1",)


def test_both_units_have_the_same_hardening() -> None:
    """Both units have the same restrictions."""
    differing = {"Description", "Environment", "RuntimeDirectory"}
    one, several = (
        {key: value for key, value in read(name).items() if key not in differing} for name in NAMES
    )
    assert one == several
