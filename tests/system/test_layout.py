"""Imports run downward, and nothing depends on what is not in the repository."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from tests.harness.running import ROOT

PACKAGE = "ghmirror_tw"
ROOMS = (
    {"runtime"},
    {"http", "redis"},
    {"github", "config"},
    {"caching"},
    {"store"},
    {"redis_store", "upstream"},
    {"telemetry", "snapshots"},
    {"proxy"},
    {"web"},
    {"service"},
    {"wiring"},
    {"tap", "cli"},
)
"""The packages from the lowest layer up. A package imports from lower layers, and from itself."""

RANKS = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}
PURE = ("http", "github", "caching")
WIRING = {"tap", "cli", "wiring"}


def modules_of(folder: str) -> dict[str, Path]:
    """Return the modules under a folder of the repository, by name."""
    found = {}
    for path in (ROOT / folder).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "node_modules" in parts or parts[-1].startswith("."):
            continue
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, module: str = "") -> Iterator[str]:
    """Yield the absolute names of the imports in a file, at any depth."""
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
    """Return the module of a name: itself, or the one that it was imported from."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def graph() -> dict[str, set[str]]:
    """Return the modules of the package that each module of it imports."""
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
    """Return the package or module at the top of the package to which a module belongs."""
    return module.split(".")[1] if "." in module else ""


def test_every_package_has_a_rank() -> None:
    """Only the modules that the plugin runs are at the top level."""
    assert {area(module) for module in modules_of(PACKAGE)} - {""} == set(RANKS)


def test_imports_run_downward() -> None:
    """A package imports only from packages of a lower rank, and from itself."""
    wrong = [
        f"{module} imports {target}"
        for module, targets in graph().items()
        for target in targets
        if area(module) != area(target) and RANKS[area(target)] >= RANKS[area(module)]
    ]
    assert not wrong


def test_imports_have_no_cycles() -> None:
    """No module imports itself by way of others."""
    tuple(TopologicalSorter(graph()).static_order())


def test_pure_packages_import_no_twisted() -> None:
    """Pure packages import the standard library and attrs: no reactor, no sockets."""
    modules, imports = modules_of(PACKAGE), graph()
    reached, new = set[str](), {module for module in modules if area(module) in PURE}
    while new:
        reached |= new
        new = {target for module in new for target in imports[module]} - reached
    allowed = {*sys.stdlib_module_names, "attr", "attrs", PACKAGE}
    wrong = [
        f"{module} imports {name}"
        for module in reached
        for name in imported(modules[module], module)
        if name.split(".")[0] not in allowed
    ]
    assert not wrong


def test_only_wiring_imports_settings() -> None:
    """Only wiring imports the configuration, and passes values to the other packages."""
    knows = {area(module) for module, targets in graph().items() if "config" in map(area, targets)}
    assert knows - {"config"} <= WIRING


def test_module_names_are_used_once() -> None:
    """A module's name belongs to one module in the whole package."""
    names = Counter(module.rpartition(".")[2] for module in modules_of(PACKAGE))
    again = {name for name, count in names.items() if count > 1 and name not in RANKS}
    assert not again


def test_nothing_imports_tap() -> None:
    """No module imports tap; the plugin names it."""
    assert not [module for module, targets in graph().items() if f"{PACKAGE}.tap" in targets]
    plugin = (ROOT / "twisted" / "plugins" / "ghmirror_plugin.py").read_text()
    assert f"{PACKAGE}.tap" in plugin


def test_tests_import_only_declared_requirements() -> None:
    """No test and no benchmark imports from outside the repository what it doesn't require."""
    required = {
        re.split(r"[<=>[]", line)[0]
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


def test_no_file_names_paths_outside_the_repository() -> None:
    """No file names paths beside the working copy, and no lock file names a registry."""
    beside = os.path.join(os.pardir, "shared").encode()  # noqa: PTH118 - not in one piece here
    assert not [path for path in files() if beside in path.read_bytes()]
    assert '"resolved"' not in (ROOT / "tests" / "package-lock.json").read_text()


def files() -> list[Path]:
    """Return the files that are, or are about to be, under version control."""
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
