"""The Compose file is one, what it mounts is there, and three mirrors behind its proxy are one."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import yaml
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from ghmirror_tw.config.settings import Settings
from ghmirror_tw.config.settings_loader import load
from ghmirror_tw.config.value_kinds import duration
from tests.fakes.github import GitHub
from tests.harness.home import Received, fetch, open_github, start, until
from tests.harness.redis_servers import READY, Client, free_port, start_redis
from tests.harness.running import ROOT, STOPPED, Mirror, start_mirror

CONF = ROOT / "conf"
COMPOSE = CONF / "compose.yaml"
PROXY = CONF / "compose" / "haproxy.cfg"
PROMETHEUS = CONF / "compose" / "prometheus.yaml"
CREDENTIAL_SECRET = "./compose/credential-secret"


def compose() -> dict[str, Any]:
    """Return the Compose file."""
    read: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return read


def settings(folder: Path) -> Settings:
    """Return what the mirrors understand of their file, with the secret in a folder."""
    (folder / "credential-secret").write_text("what only we know, in 32 characters and more")
    text = (CONF / "compose" / "ghmirror.ini").read_text()
    path = folder / "ghmirror.ini"
    path.write_text(text.replace("/run/secrets", str(folder)))
    return load(path, {})


def test_compose_file_is_valid() -> None:
    """The file is valid by the specification's own schema."""
    vendored = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(compose(), json.loads(vendored.read_text()))


def test_mounted_files_exist() -> None:
    """Each mounted file is in the tree; the secret is created, and never committed."""
    read = compose()
    mounted = [
        volume.split(":")
        for service in read["services"].values()
        for volume in service.get("volumes", ())
    ]
    sources = [source for source, *_ in mounted if source.startswith(".")]
    assert len(sources) > 5
    for source in sources:
        assert (CONF / source).exists(), source
    assert {source for source, *_ in mounted if source[0] != "."} <= set(read["volumes"])
    assert read["secrets"] == {"credential-secret": {"file": CREDENTIAL_SECRET}}
    ignored = subprocess.run(
        ["git", "check-ignore", "--quiet", "--no-index", str(CONF / CREDENTIAL_SECRET)],
        cwd=ROOT,
        check=False,
    )
    assert ignored.returncode == 0
    assert "> conf/compose/credential-secret" in COMPOSE.read_text()


def test_haproxy_accepts_its_configuration() -> None:
    """HAProxy reports neither errors nor warnings."""
    output = subprocess.run(
        ["haproxy", "-c", "-f", str(PROXY)], capture_output=True, text=True, check=False
    )
    assert (output.returncode, "WARNING" in output.stderr) == (0, False), output.stderr


def test_images_have_fixed_versions() -> None:
    """No image is "latest"."""
    for name, service in compose()["services"].items():
        if "build" not in service:
            assert re.fullmatch(
                r"docker\.io/\w+/\w+:v?\d+\.\d+(\.\d+)?(-alpine)?", service["image"]
            )
        else:
            assert name == "mirror"


def test_mirrors_are_configured(tmp_path: Path) -> None:
    """Three mirrors have a valid file, and a grace period before they are killed."""
    mirror, loaded = compose()["services"]["mirror"], settings(tmp_path)
    assert mirror["deploy"]["replicas"] == 3
    assert mirror["read_only"] is True
    assert loaded.warnings == ()
    assert urlsplit(loaded.redis.url).hostname in compose()["services"]
    grace = duration("0s").parse(mirror["stop_grace_period"])
    assert grace > loaded.server.shutdown_delay + loaded.server.shutdown_grace
    (volume,) = re.findall(r"^VOLUME (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert loaded.snapshot.target == f"file://{volume}"
    assert f"snapshots:{volume}" in mirror["volumes"]


def test_only_mirrors_share_the_network_of_redis() -> None:
    """Redis has no password, so its internal network has only the mirrors."""
    read = compose()
    inside = {name for name, each in read["services"].items() if "store" in each["networks"]}
    assert inside == {"mirror", "redis"}
    assert read["networks"]["store"] == {"internal": True}
    assert "ports" not in read["services"]["redis"]


def test_redis_accepts_its_arguments(tmp_path: Path) -> None:
    """A real server starts with them: it saves nothing, and evicts keys with a TTL."""
    port = free_port()
    command = [*compose()["services"]["redis"]["command"], "--port", str(port)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert any(READY in line for line in process.stdout), "it has ended"
            with Client.to(("127.0.0.1", port)) as client:
                for name, value in (
                    ("save", b""),
                    ("appendonly", b"no"),
                    ("maxmemory", b"536870912"),
                    ("maxmemory-policy", b"volatile-lru"),
                ):
                    assert client.send("CONFIG", "GET", name) == [name.encode(), value]
        finally:
            process.kill()


def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    """promtool reports no error, the rules are mounted, and the admin port is scraped."""
    text = PROMETHEUS.read_text()
    beside = tmp_path / "prometheus.yml"
    beside.write_text(text)
    (tmp_path / "rules.yaml").write_text((CONF / "prometheus" / "rules.yaml").read_text())
    output = subprocess.run(
        ["promtool", "check", "config", str(beside)], capture_output=True, text=True, check=False
    )
    assert output.returncode == 0, output.stdout + output.stderr
    assert "rules found" in output.stdout
    (job,) = yaml.safe_load(text)["scrape_configs"]
    assert job["job_name"] == "ghmirror"
    (found,) = job["dns_sd_configs"]
    assert settings(tmp_path).server.admin_listen == (f"tcp:{found['port']}",)
    assert found["names"] == ["mirror"]


def test_grafana_finds_its_dashboard() -> None:
    """The dashboard is mounted where Grafana looks, with the provisioned data source."""
    volumes = dict(volume.split(":")[:2] for volume in compose()["services"]["grafana"]["volumes"])
    provisioning = CONF / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "ghmirror.yaml").read_text())[
        "providers"
    ]
    target = Path(volumes["./grafana/dashboard.json"])
    assert str(target.parent) == provider["options"]["path"]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"


class Behind(TestCase):
    """A real HAProxy with its file, but for where the mirrors are."""

    def start_proxy(self, mirrors: list[Mirror]) -> tuple[int, subprocess.Popen[bytes]]:
        """Start it before mirrors; return its port and its process."""
        port = free_port()
        folder = Path(tempfile.mkdtemp(prefix="haproxy-"))
        text, template = PROXY.read_text(), "    server-template mirror 1-20 mirror:8080\n"
        assert template in text
        servers = [
            f"    server mirror-{n} {mirror.url.partition('//')[2]}\n"
            for n, mirror in enumerate(mirrors)
        ]
        text = text.replace(template, "".join(servers))
        text = text.replace("bind :8080", f"bind 127.0.0.1:{port}")
        # Sooner, so that the mirrors need not wait as long for it to see that they go.
        text = text.replace("inter 1s", "inter 100ms")
        path = folder / "haproxy.cfg"
        path.write_text(text)
        process = subprocess.Popen(["haproxy", "-db", "-f", str(path)], stderr=subprocess.DEVNULL)

        def stop() -> None:
            process.kill()
            process.wait()
            path.unlink()
            folder.rmdir()

        self.addCleanup(stop)
        return port, process

    async def test_three_mirrors_share_their_records(self) -> None:
        """All three receive requests, and content that one has paid for is free at the others."""
        github = await open_github(self)
        github.put("/thing", {"a": 1})
        redis = start_redis(self)
        sections = {
            "github": {"api_url": github.api_url},
            "cache": {"backend": "redis"},
            "redis": {"url": f"redis://127.0.0.1:{redis.port}"},
            "server": {"shutdown_delay": "3s"},
        }
        mirrors = [await start_mirror(self, sections) for _ in range(3)]
        port, proxy = self.start_proxy(mirrors)
        while not await responds(port):
            assert proxy.poll() is None, "it has ended"
        while not all("GET /thing" in mirror.log_text for mirror in mirrors):
            assert (await fetch("GET", port, "/thing", token="alice-1")).status == 200
        assert github.paid["alice", "/thing"] == 1
        end = Deferred.fromCoroutine(mirrors[0].stop())
        while not end.called:
            assert (await fetch("GET", port, "/thing", token="alice-1")).status == 200
        assert await end == STOPPED

    async def test_get_of_a_killed_mirror_is_sent_to_another(self) -> None:
        """No GET fails when one of two mirrors is killed while each processes one."""
        github, responses = await self.responses_of_a_kill("GET")
        assert [each.status for each in responses] == [200, 200]
        assert github.total_paid == 2

    async def test_post_of_a_killed_mirror_is_not_repeated(self) -> None:
        """GitHub may have processed it, so its client decides about a retry."""
        github, responses = await self.responses_of_a_kill("POST")
        assert sorted(each.status for each in responses) == [201, 502]
        assert github.total_paid == 1

    async def responses_of_a_kill(self, method: str) -> tuple[GitHub, list[Received]]:
        """Send a request to each of two mirrors, kill one, and return all responses."""
        github = await open_github(self)
        for n in range(2):
            github.put(f"/thing/{n}", {"a": n})
        mirrors = [
            await start_mirror(self, {"github": {"api_url": github.api_url}}) for _ in range(2)
        ]
        port, proxy = self.start_proxy(mirrors)
        while not await responds(port):
            assert proxy.poll() is None, "it has ended"
        while not all("GET /warm" in mirror.log_text for mirror in mirrors):
            await fetch("GET", port, "/warm", token="alice-1")
        github.reset_counts()
        gate = github.hold()
        body = None if method == "GET" else b"{}"
        requests = [
            start(fetch(method, port, f"/thing/{n}", token="alice-1", body=body)) for n in range(2)
        ]
        await gate.arrived(2)
        await mirrors[0].kill()
        await until(lambda: any(each.called for each in requests) or gate.waiting == 2)
        gate.open()
        return github, [await each for each in requests]


async def responds(port: int) -> bool:
    """Return whether the proxy has found a mirror."""
    try:
        return (await fetch("GET", port, "/zen")).status == 200
    except Exception:
        return False
