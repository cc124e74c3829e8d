"""The installed package works without this tree, in an environment of its own."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from attrs import frozen

from tests.harness.running import ROOT

IGNORED = shutil.ignore_patterns(
    *(".*", "*.egg-info", "__pycache__", "build", "dist", "node_modules", "_trial_temp*"),
    "dropin.cache",
)


@frozen
class Installed:
    """The wheel, and the environment that it was installed into."""

    wheel: Path
    environment: Path
    elsewhere: Path

    @property
    def names(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as wheel:
            return set(wheel.namelist())

    def metadata(self, name: str) -> str:
        """Read a file of the wheel's ``.dist-info``; empty if there is none."""
        with zipfile.ZipFile(self.wheel) as wheel:
            paths = [path for path in wheel.namelist() if path.endswith(f".dist-info/{name}")]
            return wheel.read(paths[0]).decode() if paths else ""

    def run(self, program: str, *arguments: str) -> str:
        """Run an installed program from a directory that has nothing to do with the tree."""
        return run(self.environment / "bin" / program, *arguments, directory=self.elsewhere)


def clean_environment() -> dict[str, str]:
    """Return the environment without what is this test's."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "COVERAGE", "COV_", "GHMIRROR_", "VIRTUAL_ENV"))
    }


def run(program: Path | str, *arguments: str, directory: Path) -> str:
    """Run a program that knows nothing of this test's environment; return what it prints."""
    ended = subprocess.run(
        [str(program), *arguments],
        cwd=directory,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build a wheel from a copy of the tree, and install it with all it needs."""
    base = tmp_path_factory.mktemp("packaging")
    elsewhere = base / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree(ROOT, base / "tree", ignore=IGNORED)
    run(sys.executable, "-m", "venv", str(base / "venv"), directory=base)
    pip = base / "venv" / "bin" / "pip"
    quiet = ("--quiet", "--no-input", "--disable-pip-version-check")
    run(pip, *quiet, "wheel", "--no-deps", "--wheel-dir=dist", "./tree", directory=base)
    (wheel,) = (base / "dist").glob("*.whl")
    run(pip, *quiet, "install", "--no-compile", str(wheel), directory=base)
    return Installed(wheel, base / "venv", elsewhere)


def test_twistd_finds_the_plugin(installed: Installed) -> None:
    """`twistd ghmirror` is a command, and explains its configuration."""
    assert "--config" in installed.run("twistd", "ghmirror", "--help")


def test_every_command_has_help(installed: Installed) -> None:
    """Each installed command prints its help."""
    entries = configparser.ConfigParser()
    entries.read_string(installed.metadata("entry_points.txt"))
    commands = entries.options("console_scripts") if entries.sections() else []
    for command in commands:
        assert "usage" in installed.run(command, "--help").lower()


def test_installed_command_reads_a_directory(installed: Installed) -> None:
    """The command works without the source tree: it lists the snapshots of a directory."""
    assert installed.run("ghmirror", "check-config") == "Valid.\n"
    kept = installed.elsewhere / "kept"
    kept.mkdir()
    config = installed.elsewhere / "ghmirror.ini"
    config.write_text(f"[snapshot]\ntarget = {kept.as_uri()}\n")
    listed = installed.run("ghmirror", "snapshot", "list", "--json", "--config", str(config))
    assert json.loads(listed) == {"target": kept.as_uri(), "snapshots": []}


def test_every_module_is_in_the_wheel(installed: Installed) -> None:
    """The wheel has each package, the plugin, the type marker and the page."""
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "ghmirror_tw").rglob("*.py")}
    page = {str(path.relative_to(ROOT)) for path in (ROOT / "ghmirror_tw/web/page").iterdir()}
    assert len(page) == 4
    expected = {*modules, *page, "ghmirror_tw/py.typed", "twisted/plugins/ghmirror_plugin.py"}
    assert expected <= installed.names


def test_wheel_adds_only_the_plugin_to_twisted(installed: Installed) -> None:
    """The plugin is the only file in Twisted's packages; an __init__.py would break them."""
    inside = {name for name in installed.names if name.startswith("twisted/")}
    assert inside == {"twisted/plugins/ghmirror_plugin.py"}


def test_wheel_has_no_tests_benchmarks_or_docs(installed: Installed) -> None:
    """Tests, benchmarks and documentation are not in the wheel."""
    roots = {name.split("/")[0] for name in installed.names}
    assert {root for root in roots if not root.endswith(".dist-info")} == {"ghmirror_tw", "twisted"}


def test_license_is_in_the_wheel(installed: Installed) -> None:
    """The wheel contains the license."""
    assert "Apache License" in installed.metadata("licenses/LICENSE")


def test_interrupted_installation_is_begun_again(tmp_path: Path) -> None:
    """pip counts a package as installed once half of it is: the environment is made again."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    for name in ("made", "installed"):
        (venv / name).touch()
    command = ["make", "--dry-run", "run", f"VENV={venv}"]

    def steps() -> str:
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert "-m venv --clear" not in steps()
    assert "/bin/twistd" in steps()
    (venv / "installing").touch()
    assert "-m venv --clear" in steps()
    assert "pip --quiet" in steps()
