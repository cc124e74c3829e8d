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
def test_systemd_has_no_objection(name: str, tmp_path: Path) -> None:
    """systemd-analyze verifies it, with the programs where they are here; nothing is warned of."""
    text = (UNITS / name).read_text().replace("/opt/ghmirror/bin/twistd", str(TWISTD))
    (tmp_path / name).write_text(text)
    instance = name.replace("@", f"@{PORT}")
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / instance)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in (said.stdout + said.stderr).splitlines() if "ghmirror" in line]
    assert (said.returncode, ours) == (0, [])


@pytest.mark.parametrize("name", NAMES)
def test_it_may_do_little(name: str, tmp_path: Path) -> None:
    """systemd counts what a service is exposed to, of 10; ours stays below 2."""
    shutil.copy(UNITS / name, tmp_path)
    said = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager"),
            str(tmp_path / name.replace("@", f"@{PORT}")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("name", NAMES)
def test_how_it_is_started_and_stopped(name: str) -> None:
    """twistd stays in the foreground without a PID file, and is killed only after its graces."""
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


def test_several_share_the_port_and_not_the_metrics() -> None:
    """Each instance has its metrics on a port of its own; the one unit has nothing to share."""
    one, several = (settings(read(name)).server for name in NAMES)
    assert (one.reuse_port, several.reuse_port) == (False, True)
    assert several.listen == one.listen
    assert several.admin_listen == (f"tcp:{PORT}:interface=127.0.0.1",)


def test_the_two_are_hardened_alike() -> None:
    """Whatever one may not do, the other may not either."""
    differing = {"Description", "Environment", "RuntimeDirectory"}
    one, several = (
        {key: value for key, value in read(name).items() if key not in differing} for name in NAMES
    )
    assert one == several
