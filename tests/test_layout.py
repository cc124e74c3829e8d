"""Imports run downward, and nothing depends on what is not in the repository."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from tests.running import ROOT

PACKAGE = "ghmirror_tw"
ADAPTERS = {"store", "github", "snapshots", "web"}
CONFIG = {"config", "config_values"}

LAYERS = {
    "policy": 0,
    **dict.fromkeys(
        (
            "headers",
            "logs",
            "metrics",
            "tallies",
            "threads",
            "staying",
            "authorities",
            "budget",
            "server_identity",
        ),
        1,
    ),
    **dict.fromkeys(("config", "config_values"), 1),
    **dict.fromkeys(("collapse", "patient", "sockets"), 1),
    **dict.fromkeys(("store", "github"), 2),
    # the conversation, and whatever else stands at the top of the package
    **dict.fromkeys(("mirror", "snapshots"), 3),
    "web": 4,
    **dict.fromkeys(("service", "assembly"), 5),
    **dict.fromkeys(("tap", "ctl"), 6),
}
APART = ({"store", "github"}, {"mirror", "snapshots"})
"""Areas of one layer that do not know each other; other areas of one layer may, one way."""


def modules_of(folder: str) -> dict[str, Path]:
    """Give the modules under a folder of the repository, by name."""
    found = {}
    for path in (ROOT / folder).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "node_modules" in parts or parts[-1].startswith("."):
            continue
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, module: str = "") -> Iterator[str]:
    """Give the absolute names of what a file imports, wherever in it the import stands."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, package)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def known(name: str, modules: dict[str, Path]) -> str | None:
    """Give the module that a name belongs to: itself, or the one that it was imported from."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def graph() -> dict[str, set[str]]:
    """Give what each of our modules imports of our modules."""
    modules = modules_of(PACKAGE)
    return {
        module: {
            target
            for name in imported(path, module)
            if (target := known(name, modules)) not in {None, module, PACKAGE}
        }
        for module, path in modules.items()
    }


def area(module: str) -> str:
    """Give the package or module at the top of ours that a module belongs to."""
    return module.split(".")[1] if "." in module else ""


def layer(module: str) -> int:
    """Give how high up a module stands."""
    return LAYERS.get(area(module), 3)


def test_imports_run_downward() -> None:
    """tap -> web, snapshots, mirror -> store, github -> policy."""
    wrong = []
    for module, targets in graph().items():
        for target in targets:
            apart = area(module) != area(target) and any(
                {area(module), area(target)} <= group for group in APART
            )
            if module != PACKAGE and (layer(target) > layer(module) or apart):
                wrong.append(f"{module} imports {target}")
    assert not wrong


def test_imports_have_no_cycles() -> None:
    """No module imports itself by way of others."""
    tuple(TopologicalSorter(graph()).static_order())


def test_policy_is_pure() -> None:
    """Decisions know the standard library, attrs and each other: no reactor, no sockets."""
    allowed = {*sys.stdlib_module_names, "attr", "attrs"}
    wrong = [
        f"{module} imports {name}"
        for module, path in modules_of(f"{PACKAGE}/policy").items()
        for name in imported(path, module)
        if name.split(".")[0] not in allowed and not f"{name}.".startswith(f"{PACKAGE}.policy.")
    ]
    assert not wrong


def test_only_the_top_wires() -> None:
    """Nothing else knows both the configuration and what is configured with it."""
    wiring = {
        module
        for module, targets in graph().items()
        if CONFIG & set(map(area, targets)) and ADAPTERS & {area(module), *map(area, targets)}
    }
    assert set(map(area, wiring)) <= {"tap", "ctl", "assembly"}


def test_nothing_imports_tap() -> None:
    """Only the plugin names it."""
    assert not [module for module, targets in graph().items() if f"{PACKAGE}.tap" in targets]
    plugin = (ROOT / "twisted" / "plugins" / "ghmirror_plugin.py").read_text()
    assert f"{PACKAGE}.tap" in plugin


def test_tests_need_only_what_is_here_or_installed() -> None:
    """No test and no benchmark imports from outside the repository what it doesn't require."""
    required = {
        re.split("[<=>]", line)[0]
        for folder in ("benchmarks", "tests/fuzz")
        for line in (ROOT / folder / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    places = [ROOT, *(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib"))]
    names = {
        name.split(".")[0]
        for folder in ("tests", "benchmarks")
        for module, path in modules_of(folder).items()
        for name in imported(path, module)
    }
    wrong = []
    for name in sorted(names - required - sys.stdlib_module_names):
        spec = importlib.util.find_spec(name)
        where = [] if spec is None else [*(spec.submodule_search_locations or ()), spec.origin]
        if not any(Path(at).is_relative_to(place) for at in where if at for place in places):
            wrong.append(name)
    assert not wrong


def test_nothing_points_out_of_the_repository() -> None:
    """No file mentions what lies beside the working copy, and no lock file a registry."""
    beside = os.path.join(os.pardir, "shared").encode()  # noqa: PTH118 - not in one piece here
    assert not [path for path in files() if beside in path.read_bytes()]
    assert '"resolved"' not in (ROOT / "tests" / "package-lock.json").read_text()


def files() -> list[Path]:
    """Give the files that are, or are about to be, under version control."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        paths = [ROOT / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    else:  # an unpacked archive
        paths = [
            path
            for path in ROOT.rglob("*")
            if not {".git", ".venv", "node_modules"} & set(path.relative_to(ROOT).parts)
        ]
    return [path for path in paths if path.is_file() and not path.is_symlink()]
