"""The Dockerfile and its locks are right, as far as that shows without building an image.

`tests.deploy.test_image_runs` does the rest.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from ghmirror_tw.tap import Options
from tests.deploy.dockerfile import Context, Copy, Dockerfile
from tests.harness.running import ROOT, BlockingMirror

DOCKERFILE = Dockerfile.read(ROOT / "Dockerfile")
LOCKS = ("requirements.lock", "requirements-build.lock")

_LOCKED = re.compile(
    r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+).*\\\n(?P<hashes>(?:    .*\n)+)", re.MULTILINE
)


def locked(name: str) -> dict[str, Version]:
    """Return the versions that a lock file has."""
    found = _LOCKED.finditer((ROOT / name).read_text())
    return {each["name"]: Version(each["version"]) for each in found}


def setup() -> ConfigParser:
    """Return what setup.cfg says."""
    read = ConfigParser()
    read.read(ROOT / "setup.cfg")
    return read


def needed() -> Iterator[Requirement]:
    """Give all that is needed to run the mirror here: what setup.cfg says, and what that needs."""
    text = setup()["options"]["install_requires"]
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    waiting = [Requirement(line) for line in lines]
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


@pytest.mark.parametrize("name", LOCKS)
def test_locked_packages_have_hashes(name: str) -> None:
    """Each locked package has hashes, and the file names no registry."""
    text = (ROOT / name).read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    packages = [line for line in lines if not line.startswith(" ")]
    assert len(packages) == len(locked(name)) > 0
    for line in lines:
        assert re.fullmatch(r"(\S+==\S+.*|    --hash=sha256:[0-9a-f]{64})( \\)?", line), line
    assert "://" not in text


def test_build_tools_are_locked() -> None:
    """Build requirements are locked, in versions that pyproject.toml accepts."""
    assert {"pip", "setuptools", "cyclonedx-bom"} <= set(locked("requirements-build.lock"))
    (expected,) = re.findall(r'requires = \["(.*)"\]', (ROOT / "pyproject.toml").read_text())
    assert locked("requirements-build.lock")["setuptools"] in Requirement(expected).specifier


def test_base_image_has_an_exact_version() -> None:
    """The base has a complete version, which can be replaced, and no invented digest."""
    base = DOCKERFILE.arguments["BASE"]
    found = re.fullmatch(r"docker\.io/library/python:(\d+\.\d+\.\d+)-slim-[a-z]+", base)
    assert found is not None
    assert found[1] in SpecifierSet(setup()["options"]["python_requires"])
    assert [stage.base for stage in DOCKERFILE.stages] == [base, base]
    assert "sha256" not in (ROOT / "Dockerfile").read_text()


def test_make_image_builds_upon_a_digest(tmp_path: Path) -> None:
    """``make image`` looks up the digest of its base, and builds upon that."""
    docker, output = tmp_path / "docker", tmp_path / "said"
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
    for base, given in ((DOCKERFILE.arguments["BASE"], ()), (another, (f"BASE={another}",))):
        output.write_text("")
        command = ["make", "--silent", "image", "IMAGE=here/ghmirror", *given]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        assert output.read_text().splitlines() == [
            f"buildx imagetools inspect {base} --format {{{{.Manifest.Digest}}}}",
            f"build --build-arg BASE={base}@{digest} --tag here/ghmirror .",
        ]


def test_copied_files_exist() -> None:
    """Each file that COPY names is in the tree, and in Docker's context."""
    context, names = Context(ROOT), [stage.name for stage in DOCKERFILE.stages]
    for stage in DOCKERFILE.stages:
        for copy in map(Copy.of, stage.all_of("COPY")):
            if copy.stage:
                assert copy.stage in names
            else:
                for source in copy.sources:
                    assert context.files(source), source


def test_docker_context_has_only_the_mirror() -> None:
    """Tests, history and secrets are not in Docker's context; the whole mirror is."""
    context = Context(ROOT)
    for name in (
        ".git/config",
        "tests/harness/home.py",
        "conf/secret",
        ".venv/x",
        "ghmirror.ini",
        ".env",
    ):
        assert context.ignores(ROOT / name), name
    assert context.ignores(ROOT / "ghmirror_tw" / "web" / "__pycache__" / "x.pyc")
    assert context.ignores(ROOT / "twisted" / "plugins" / "dropin.cache")
    for path in (ROOT / "ghmirror_tw").rglob("*.py"):
        assert not context.ignores(path), path


def test_last_stage_installs_nothing() -> None:
    """Build tools are in the first stage only."""
    for step in DOCKERFILE.image.all_of("RUN"):
        assert not re.search(r"\b(apt|apt-get|pip|gcc|curl)\b", step.text)
    copies = [Copy.of(step) for step in DOCKERFILE.image.all_of("COPY")]
    assert [copy.sources for copy in copies if copy.stage] == [["/opt/ghmirror"]]


def test_image_runs_as_a_numeric_user() -> None:
    """Kubernetes recognises a numeric user as non-root; it is the same user there."""
    deployment = yaml.safe_load((ROOT / "conf" / "kubernetes" / "deployment.yaml").read_text())
    user = deployment["spec"]["template"]["spec"]["securityContext"]
    assert DOCKERFILE.image.last("USER").text == f"{user['runAsUser']}:{user['runAsGroup']}"


def test_twistd_is_process_1() -> None:
    """twistd is process 1 and receives the signals; arguments are its options."""
    image = DOCKERFILE.image
    assert image.last("ENTRYPOINT").exec_form == ["twistd", "--nodaemon", "--pidfile=", "ghmirror"]
    arguments = image.last("CMD").exec_form
    assert arguments is not None
    (copy,) = [each for each in map(Copy.of, image.all_of("COPY")) if not each.stage]
    assert copy.target == arguments[-1]
    options = Options()
    options.parseOptions(["--config", str(ROOT / copy.sources[0])])
    assert options.settings.server.listen == ("tcp:8080",)


def test_health_check_accepts_only_a_serving_mirror(tmp_path: Path) -> None:
    """The health check succeeds for a serving mirror, and for nothing else."""
    command = [sys.executable, *DOCKERFILE.image.health[1:]]
    assert DOCKERFILE.image.health[0] == "python"

    def check(url: str) -> bool:
        # A proxy in the environment is not asked.
        environment = {**os.environ, "HEALTH_URL": url, "http_proxy": "http://127.0.0.1:1"}
        ended = subprocess.run(
            command, env=environment, capture_output=True, cwd=tmp_path, check=False
        )
        return ended.returncode == 0

    with BlockingMirror({}) as mirror:
        url = mirror.url
        assert check(f"{url}/healthz")
        assert not check(f"{url}/http-502-since-github-is-away")
    assert not check(f"{url}/healthz")
    assert DOCKERFILE.image.environment["HEALTH_URL"] == "http://127.0.0.1:8080/healthz"
