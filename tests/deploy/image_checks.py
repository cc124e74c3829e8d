"""The tests of the image on each interpreter; other test files name the Dockerfiles."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.containers import PATH, Container, get, mirror, wait_for
from tests.deploy.engine import Engine, EngineError
from tests.deploy.images import Images
from tests.harness.running import ROOT

COMPILERS = "cc gcc g++ c++ clang ld make"
SBOM = "/opt/ghmirror/sbom.cdx.json"

# Where every user may write in any container.
SHARED = ("/tmp", "/var/tmp", "/run/lock", "/proc", "/sys", "/dev", "/var/lock")


class ImageChecks:
    """Tests of an image; subclasses name its Dockerfile, lock and interpreter."""

    dockerfile: ClassVar[str]
    lock: ClassVar[str]
    interpreter: ClassVar[str]
    bundled: ClassVar[set[str]] = set()
    """Packages that the interpreter itself has."""

    @pytest.fixture(scope="class")
    @classmethod
    def image(cls, images: Images) -> str:
        """The image, built once in a run."""
        return images.mirror(cls.dockerfile)

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, engine: Engine, image: str) -> Iterator[Container]:
        """The image while it runs."""
        with mirror(engine, image) as container:
            yield container

    @pytest.fixture(scope="class")
    @classmethod
    def sbom(cls, engine: Engine, image: str) -> dict[str, Any]:
        """The SBOM of the image, read as the documentation describes it."""
        read: dict[str, Any] = json.loads(inside(engine, image, "cat", SBOM))
        return read

    def test_twistd_is_process_1_of_a_numeric_user(
        self, engine: Engine, running: Container
    ) -> None:
        """twistd is process 1 and receives signals; Kubernetes sees that its user is not root."""
        config = configuration(engine, running.inspect()["Image"])
        assert config["Entrypoint"] == ["twistd", "--nodaemon", "--pidfile=", "ghmirror"]
        deployment = yaml.safe_load((ROOT / "conf" / "kubernetes" / "deployment.yaml").read_text())
        user = deployment["spec"]["template"]["spec"]["securityContext"]
        assert config["User"] == f"{user['runAsUser']}:{user['runAsGroup']}"
        status = Path(f"/proc/{running.pid}/status").read_text()
        assert re.search(r"^NSpid:\t\d+\t1$", status, re.MULTILINE), status
        assert re.search(rf"^Uid:\t{user['runAsUser']}\t", status, re.MULTILINE), status
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE), status
        code = "import platform; print(platform.python_implementation())"
        assert running.run("python", "-c", code) == self.interpreter

    def test_requests_pass_through_it(self, running: Container) -> None:
        """Content of GitHub is served, then served again from the store; metrics count it."""
        for outcome in ("MISS", "HIT"):
            status, fields, _ = get(running.url(8080) + PATH)
            assert (status, fields["X-Cache"]) == (200, outcome)
        assert b"ghmirror_requests_total" in get(f"{running.url(8081)}/metrics")[2]

    def test_health_check_accepts_only_a_serving_mirror(
        self, engine: Engine, running: Container
    ) -> None:
        """The health check uses no proxy, and fails for an error and without a server."""
        health = configuration(engine, running.inspect()["Image"])["Healthcheck"]["Test"]
        assert health[0] == "CMD"

        def check(url: str) -> bool:
            options = (f"--env=HEALTH_URL={url}", "--env=http_proxy=http://127.0.0.1:1")
            try:
                running.run(*health[1:], options=options)
            except EngineError:
                return False
            return True

        assert check("http://127.0.0.1:8080/healthz")
        assert not check("http://127.0.0.1:8080/repos/there/is-none")
        assert not check("http://127.0.0.1:9/healthz")

    def test_nothing_compiles_and_one_directory_is_writable(
        self, engine: Engine, image: str
    ) -> None:
        """No compiler and no pip is in it; its user writes nowhere but for snapshots."""
        script = f"""
            for name in {COMPILERS}; do command -v $name || true; done
            ls /opt/ghmirror/bin/pip* 2>/dev/null || true
            test "$(find /opt/ghmirror -path '*twisted/plugins/dropin.cache')"
            find / -xdev '(' -uid 10001 -o -perm -o=w ')' -not -type l
        """
        found = inside(engine, image, "sh", "-ec", script, user="0").splitlines()
        assert [each for each in found if not each.startswith(SHARED)] == ["/var/lib/ghmirror"]

    def test_sbom_has_the_locked_packages(self, sbom: dict[str, Any]) -> None:
        """The SBOM has exactly the packages of the lock, with their versions, and the mirror."""
        listed = {canonicalize_name(each["name"]): each["version"] for each in sbom["components"]}
        lines = re.findall(r"^(\S.*?) \\$", (ROOT / self.lock).read_text(), re.MULTILINE)
        locked = [Requirement(line) for line in lines]
        on_all = {each.name: str(each.specifier)[2:] for each in locked if each.marker is None}
        assert on_all.items() <= listed.items()
        assert listed.keys() - {each.name for each in locked} - self.bundled == {"ghmirror"}
        for name, version in listed.items():
            versions = {str(each.specifier)[2:] for each in locked if each.name == name}
            assert name in {"ghmirror", *self.bundled} or version in versions, name

    def test_sbom_has_dependencies(self, sbom: dict[str, Any]) -> None:
        """Dependencies show the reason for each package."""
        needs = {each["ref"]: each.get("dependsOn", []) for each in sbom["dependencies"]}
        names = {each["bom-ref"]: each["name"] for each in sbom["components"]}
        (ours,) = [ref for ref, name in names.items() if name == "ghmirror"]
        assert {"treq", "txredisapi", "boto3"} <= {names[ref] for ref in needs[ours]}

    def test_signals(self, engine: Engine, running: Container) -> None:
        """SIGHUP reloads the configuration; ``docker stop`` ends it with status 0."""
        engine.docker("kill", "--signal=HUP", running.identifier)
        wait_for("reloaded", lambda: "Configuration reloaded" in running.logs()[0])
        assert get(running.url(8080) + PATH)[0] == 200
        engine.docker("stop", "--time=60", running.identifier)
        output, errors = running.logs()
        assert running.inspect()["State"]["ExitCode"] == 0, output
        assert "Stopped" in output
        assert not re.search(r"dropin\.cache|Traceback", output), output
        assert errors == ""


def inside(engine: Engine, image: str, program: str, *arguments: str, user: str = "10001") -> str:
    """Run a program in a new container of an image; return what it prints."""
    return engine.docker(
        *("run", "--rm", "--network=none", "--read-only", f"--user={user}"),
        *(f"--entrypoint={program}", image, *arguments),
    )


def configuration(engine: Engine, image: str) -> Any:
    """Return the configuration of an image."""
    (found,) = json.loads(engine.docker("image", "inspect", image))
    return found["Config"]
