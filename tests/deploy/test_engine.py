"""The engine of the tests ends with its users, and tests without one are reported as NOT RUN."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.deploy.containers import wait_for
from tests.deploy.engine import Engine, report_missing
from tests.harness.running import ROOT

_USE = """
import subprocess, sys, time
from pathlib import Path
from tests.deploy.engine import shared
engine = shared(Path(sys.argv[1]))
# The program does not exist, but the namespace of the host network is prepared for it.
engine.docker("import", sys.argv[2], "empty")
subprocess.run(["docker", "run", "--network=host", "empty", "none"], env=engine.environment())
print(engine.docker("network", "ls", "--filter", "name=ghmirror", "--quiet"), flush=True)
time.sleep(3600)
"""


def test_missing_engine_is_reported_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test without an engine is NOT RUN, by name and with the reason; in CI it fails."""
    text = "NOT RUN: tests/deploy/test_x.py::test_y: no Docker engine: not root"
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=text):
        report_missing("tests/deploy/test_x.py::test_y", "not root")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=text):
        report_missing("tests/deploy/test_x.py::test_y", "not root")


def test_engine_ends_with_its_last_user(engine: Engine, tmp_path: Path) -> None:
    """If its users are killed, the engine ends, and its files and its bridge are removed."""
    archive = tmp_path / "empty.tar"
    tarfile.open(archive, "w").close()
    with subprocess.Popen(
        [sys.executable, "-c", _USE, str(tmp_path / "engine"), str(archive)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as user:
        assert user.stdout is not None
        bridge = Path(f"/sys/class/net/br-{user.stdout.readline().strip()}")
        data = (tmp_path / "engine" / "socket").readlink().parent
        assert (bridge.exists(), data.exists()) == (True, True)
        user.kill()
    wait_for("its files are removed", lambda: not data.exists())
    assert not bridge.exists()
