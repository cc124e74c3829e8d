"""The Dockerfiles, their locks and their context; `image_checks` tests what is built."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from configparser import ConfigParser
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.deploy.engine import Engine
from tests.deploy.image_checks import SBOM
from tests.deploy.images import CPYTHON, PYPY, Images, base_of
from tests.harness.running import ROOT

LOCKS = ("requirements.lock", "requirements-build.lock", "conf/pypy/requirements.lock")

_LOCKED = re.compile(
    r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+).*\\\n(?P<hashes>(?:    .*\n)+)", re.MULTILINE
)


def locked(name: str) -> dict[str, Version]:
    """Return the versions that a lock file has."""
    found = _LOCKED.finditer((ROOT / name).read_text())
    return {each["name"]: Version(each["version"]) for each in found}


def setup() -> ConfigParser:
    """Return the content of setup.cfg."""
    read = ConfigParser()
    read.read(ROOT / "setup.cfg")
    return read


def required() -> list[Requirement]:
    """Return the requirements of setup.cfg."""
    text = setup()["options"]["install_requires"]
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [Requirement(line) for line in lines]


def needed() -> Iterator[Requirement]:
    """Yield the requirements of the mirror here: those in setup.cfg, and theirs."""
    waiting = required()
    seen = set()
    while waiting:
        requirement = waiting.pop()
        yield requirement
        for extra in ("", *requirement.extras):
            if (requirement.name, extra) in seen:
                continue
            seen.add((requirement.name, extra))
            known: dict[str, Any] = {**default_environment(), "extra": extra}
            for line in distribution(requirement.name).requires or ():
                inner = Requirement(line)
                if inner.marker is None or inner.marker.evaluate(known):
                    waiting.append(inner)


def test_lock_file_has_all_requirements() -> None:
    """Each required package is locked, in an accepted version."""
    versions = locked("requirements.lock")
    wrong = [
        str(each)
        for each in needed()
        if canonicalize_name(each.name) not in versions
        or versions[canonicalize_name(each.name)] not in each.specifier
    ]
    assert not wrong


def test_lock_file_for_pypy_has_all_requirements() -> None:
    """Each package that setup.cfg names is locked for PyPy, in each version that may be chosen."""
    text = (ROOT / "conf" / "pypy" / "requirements.lock").read_text()
    for requirement in required():
        found = [
            each for each in _LOCKED.finditer(text) if each["name"] == requirement.name.lower()
        ]
        assert found, requirement
        assert all(each["version"] in requirement.specifier for each in found), requirement


@pytest.mark.parametrize("name", LOCKS)
def test_locked_packages_have_hashes(name: str) -> None:
    """Each locked package has hashes, and the file names no registry."""
    text = (ROOT / name).read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    packages = [line for line in lines if not line.startswith(" ")]
    assert len(packages) == len(list(_LOCKED.finditer(text))) > 0
    for line in lines:
        assert re.fullmatch(r"(\S+==\S+.*|    --hash=sha256:[0-9a-f]{64})( \\)?", line), line
    assert "://" not in text


def test_build_tools_are_locked() -> None:
    """Build requirements are locked, in versions that pyproject.toml accepts."""
    assert {"pip", "setuptools", "cyclonedx-bom"} <= set(locked("requirements-build.lock"))
    (expected,) = re.findall(r'requires = \["(.*)"\]', (ROOT / "pyproject.toml").read_text())
    assert locked("requirements-build.lock")["setuptools"] in Requirement(expected).specifier


def test_base_images_have_exact_versions() -> None:
    """Both stages have one base with a complete version, which can be replaced, and no digest."""
    accepted = SpecifierSet(setup()["options"]["python_requires"])
    for dockerfile, name in ((CPYTHON, r"python:(\d+\.\d+)\.\d+"), (PYPY, r"pypy:(3\.\d+)-[\d.]+")):
        found = re.fullmatch(rf"docker\.io/library/{name}-slim-[a-z]+", base_of(dockerfile))
        assert found is not None
        assert found[1] in accepted
        text = (ROOT / dockerfile).read_text()
        assert re.findall(r"^FROM (.*)$", text, re.MULTILINE) == ["${BASE} AS build", "${BASE}"]
        assert "sha256" not in text


@pytest.mark.parametrize(("target", "dockerfile"), [("image", CPYTHON), ("image-pypy", PYPY)])
def test_make_image_builds_upon_a_digest(target: str, dockerfile: str, tmp_path: Path) -> None:
    """``make image`` looks up the digest of its base, and builds upon that."""
    docker, output = tmp_path / "docker", tmp_path / "output"
    digest = f"sha256:{'0123456789abcdef' * 4}"
    docker.write_text(
        f'#!/bin/sh\necho "$*" >> {output}\nif [ "$1" = buildx ]; then echo {digest}; fi\n'
    )
    docker.chmod(0o755)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    another = "docker.io/library/python:3.12.1-slim-trixie"
    for base, given in ((base_of(dockerfile), ()), (another, (f"BASE={another}",))):
        output.write_text("")
        command = ["make", "--silent", target, "IMAGE=here/ghmirror", *given]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        assert output.read_text().splitlines() == [
            f"buildx imagetools inspect {base} --format {{{{.Manifest.Digest}}}}",
            f"build --file {dockerfile} --build-arg BASE={base}@{digest} --tag here/ghmirror .",
        ]


def test_context_has_only_what_is_installed(engine: Engine, images: Images) -> None:
    """Tests, history and secrets are not in the context of a build; the whole mirror is."""
    text = f"FROM {images.base()}\nCOPY . /context\n"
    engine.docker("build", "--quiet", "--tag=context", "--file=-", ".", text=text)
    script = "cd /context && find . -type f"
    found = engine.docker("run", "--rm", "--network=none", "context", "sh", "-c", script)
    names = {name.removeprefix("./") for name in found.splitlines()}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "ghmirror_tw").rglob("*.py")}
    assert modules <= names
    assert {name for name in names if not name.startswith(("ghmirror_tw/", "twisted/"))} == {
        *("requirements.lock", "requirements-build.lock", "conf/pypy/requirements.lock"),
        *("setup.cfg", "pyproject.toml", "README.rst", "LICENSE", "conf/ghmirror.ini"),
    }
    assert not {name for name in names if name.endswith((".pyc", "dropin.cache"))}


@pytest.mark.parametrize("dockerfile", [CPYTHON, PYPY])
def test_last_stage_installs_nothing(dockerfile: str) -> None:
    """Build tools are in the first stage only."""
    stage = (ROOT / dockerfile).read_text().rpartition("\nFROM ")[2]
    assert not re.search(r"\b(apt|apt-get|pip|gcc|curl)\b", stage)
    assert re.findall(r"^COPY --from=build (.*)$", stage, re.MULTILINE) == [
        "/opt/ghmirror /opt/ghmirror"
    ]


def test_documented_path_of_the_sbom() -> None:
    """The page about deployment names the path of the SBOM in the image."""
    assert f"``{SBOM}``" in (ROOT / "docs" / "deployment.rst").read_text()
