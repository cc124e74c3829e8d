"""Compose starts three mirrors, Redis, HAProxy and Prometheus with a real engine.

Grafana is not in Debian, so it is not started.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from attrs import frozen

from tests.deploy.containers import PATH, Container, get, github, wait_for
from tests.deploy.engine import Engine
from tests.deploy.images import CPYTHON, STARTED, Images
from tests.harness.running import ROOT

CONF = ROOT / "conf"
PROJECT = "ghmirror-test"


@frozen
class Composed:
    """The services, started from a file."""

    engine: Engine
    file: Path

    def compose(self, *arguments: str) -> str:
        """Run Compose; return what it prints."""
        options = ("--project-name", PROJECT, "--project-directory", str(CONF))
        return self.engine.run("docker-compose", *options, "--file", str(self.file), *arguments)

    def containers(self, service: str) -> list[Container]:
        """Return the containers of a service."""
        identifiers = self.compose("ps", "--quiet", service).split()
        return [Container(self.engine, each) for each in identifiers]

    def url(self, service: str, port: int) -> str:
        """Return the URL of a service's published port."""
        (container,) = self.containers(service)
        return container.url(port)

    def has_seen_requests(self) -> bool:
        """Whether each mirror has served a request."""
        return all(PATH in each.logs()[0] for each in self.containers("mirror"))

    def mirrors_up(self) -> float:
        """Return how many mirrors Prometheus scrapes successfully."""
        _, _, content = get(f"{self.url('prometheus', 9090)}/api/v1/query?query=sum(up)")
        found = json.loads(content)["data"]["result"]
        return float(found[0]["value"][1]) if found else 0.0


@pytest.fixture(scope="module")
def composed(
    engine: Engine, images: Images, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Composed]:
    """All services but Grafana, on free ports, with a secret and GitHub's stand-in."""
    folder = tmp_path_factory.mktemp("compose")
    read = yaml.safe_load((CONF / "compose.yaml").read_text())
    # Older versions of Compose name projects by an option alone.
    del read["name"], read["services"]["grafana"]
    services = read["services"]
    images.mirror(CPYTHON)
    images.services({name: services[_service(name)]["image"] for name in STARTED})
    secret = folder / "credential-secret"
    secret.write_text("0123456789abcdef" * 4)
    read["secrets"]["credential-secret"]["file"] = str(secret)
    _prometheus_in_a_hurry(services["prometheus"], folder)
    for service, port in (("proxy", 8080), ("prometheus", 9090)):
        services[service]["ports"] = [f"127.0.0.1::{port}"]
    with github(engine) as url:
        services["mirror"]["environment"] = {
            "GHMIRROR_GITHUB_API_URL": url,
            "GHMIRROR_GITHUB_STATUS_URL": "",
        }
        file = folder / "compose.yaml"
        file.write_text(yaml.safe_dump({"version": "3.9", **read}))
        started = Composed(engine, file)
        try:
            started.compose("up", "--no-build", "--detach")
            yield started
        finally:
            started.compose("down", "--volumes", "--timeout", "0")


def _service(image: str) -> str:
    return "proxy" if image == "haproxy" else image


def _prometheus_in_a_hurry(service: dict[str, list[str]], folder: Path) -> None:
    """Configure Prometheus to scrape each second, not four times a minute."""
    file = folder / "prometheus.yaml"
    file.write_text((CONF / "compose" / "prometheus.yaml").read_text().replace("15s", "1s"))
    for path in (folder, file):
        path.chmod(0o755)
    service["volumes"] = [
        each.replace("./compose/prometheus.yaml", str(file)) for each in service["volumes"]
    ]


def test_mirrors_behind_the_balancer_share_their_store(composed: Composed) -> None:
    """Each of three mirrors serves requests, and only the first is paid for."""
    url = composed.url("proxy", 8080) + PATH
    assert len(composed.containers("mirror")) == 3
    wait_for("HAProxy has found mirrors", lambda: get(url)[0] == 200)
    outcomes = set()

    def all_have_served() -> bool:
        status, fields, _ = get(url)
        outcomes.add((status, fields["X-Cache"]))
        return composed.has_seen_requests()

    wait_for("each mirror has served", all_have_served)
    assert outcomes == {(200, "HIT")}


def test_prometheus_scrapes_each_mirror(composed: Composed) -> None:
    """Prometheus finds all three mirrors by the name of their service."""
    wait_for("three are up", lambda: composed.mirrors_up() == 3.0)


def test_killed_mirror_is_replaced_without_a_failed_request(composed: Composed) -> None:
    """Requests succeed while a mirror is killed and started again."""
    url = composed.url("proxy", 8080) + PATH
    killed = composed.containers("mirror")[0]
    os.kill(killed.pid, signal.SIGKILL)

    def is_back() -> bool:
        assert get(url)[0] == 200
        state = killed.inspect()
        return bool(state["RestartCount"] == 1 and state["State"]["Health"]["Status"] == "healthy")

    wait_for("the mirror is healthy again", is_back)


def test_mirrors_end_in_their_grace_period(composed: Composed) -> None:
    """All mirrors end with status 0 when Compose stops them."""
    containers = composed.containers("mirror")
    wait_for("all are healthy", lambda: all(each.health == "healthy" for each in containers))
    composed.compose("stop", "mirror")
    assert [each.inspect()["State"]["ExitCode"] for each in containers] == [0, 0, 0]
