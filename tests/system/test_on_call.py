"""Broken mirrors, diagnosed with what the runbook names: log, status document and metrics."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

import pytest
from twisted.trial.unittest import TestCase

from ghmirror_tw.cli.status_tables import status_view
from tests.fakes.github import GitHub
from tests.fakes.s3 import ENVIRONMENT, Fault, open_bucket
from tests.harness.home import fetch, open_github
from tests.harness.redis_servers import start_redis
from tests.harness.runbook import RUNBOOK, sections_for
from tests.harness.running import Mirror, start_mirror

PATHS = ("/repos/o/a", "/repos/o/b", "/repos/o/c")


def found(mirror: Mirror, alert: str, named: str) -> list[str]:
    """Return the lines of the log that the search of the runbook for *alert* finds.

    *named* is a part of the search, such as a word of its pattern.
    """
    section = re.split(rf"^{alert}\n-+\n", RUNBOOK, flags=re.MULTILINE)[1]
    section = re.split(r"^Ghmirror\w+\n-+\n", section, flags=re.MULTILINE)[0]
    searches = re.findall(r"grep (?:-E )?(?:-A 30 )?('[^']*'|[^ ]+) LOG", " ".join(section.split()))
    (pattern,) = [each.strip("'") for each in searches if named in each]
    return [line for line in mirror.log_text.splitlines() if re.search(pattern, line)]


@pytest.mark.usefixtures("s3_server")
class OnCall(TestCase):
    """Each cause is named by the first places to look at."""

    timeout = 120

    async def github(self) -> GitHub:
        """Start a stand-in for GitHub with a few repositories."""
        github = await open_github(self)
        for path in PATHS:
            github.put(path, {"at": path})
        return github

    async def load(
        self, mirror: Mirror, paths: Sequence[str] = PATHS, tokens: Sequence[str] = ("alice-1",)
    ) -> list[int]:
        """Send requests; return the statuses."""
        port = int(mirror.url.rpartition(":")[2])
        return [
            (await fetch("GET", port, path, token=token)).status
            for token in tokens
            for path in paths
        ]

    async def status(self, mirror: Mirror) -> Any:
        """Return the status document."""
        port = int(mirror.admin_url.rpartition(":")[2])
        return (await fetch("GET", port, "/status.json")).json

    async def sections(self, mirror: Mirror) -> set[str]:
        """Return the sections of the runbook to which the first lines of `top` lead."""
        rows = status_view(await self.status(mirror)).state.rows
        return sections_for("\n".join(" ".join(row) for row in rows))

    async def metric(self, mirror: Mirror, series: str) -> str:
        """Return the value of a series, as it is exposed."""
        port = int(mirror.admin_url.rpartition(":")[2])
        content = (await fetch("GET", port, "/metrics")).content.decode()
        (value,) = re.findall(rf"^{re.escape(series)} (\S+)$", content, re.MULTILINE)
        return str(value)

    async def test_redis_is_unavailable(self) -> None:
        """One line has the address, the reason and what replaces it; no request fails."""
        github, redis = await self.github(), start_redis(self)
        sections = {
            "github": {"api_url": github.api_url},
            "cache": {"backend": "redis"},
            "redis": {"url": f"redis://127.0.0.1:{redis.port}"},
        }
        mirror = await start_mirror(self, sections)
        await mirror.logged("Redis available")
        assert await self.load(mirror) == [200] * 3
        redis.kill()
        await mirror.logged("Redis unreachable")
        for _ in range(3):
            assert await self.load(mirror) == [200] * 3
        shown = await self.status(mirror)
        store = shown["store"]
        assert (shown["state"], store["available"]) == ("degraded", False)
        assert store["breaker"]["reading"] is False
        assert store["breaker"]["address"] == f"127.0.0.1:{redis.port}"
        assert "onnection" in store["breaker"]["reason"]
        assert store["breaker"]["since"] > shown["started_at"]
        assert await self.sections(mirror) == {"GhmirrorRedisAway"}
        assert await self.metric(mirror, "ghmirror_store_available") == "0.0"
        (line,) = found(mirror, "GhmirrorRedisAway", "unreachable")
        assert f"memory store in use: address=127.0.0.1:{redis.port} reason=" in line

    async def test_fields_that_the_runbook_names_exist(self) -> None:
        """Each is in the status document of a mirror with Redis and snapshots."""
        folder = tempfile.mkdtemp(prefix="ghmirror-")
        self.addCleanup(shutil.rmtree, folder)
        sections = {
            "cache": {"backend": "redis"},
            "redis": {"url": f"redis://127.0.0.1:{start_redis(self).port}"},
            "snapshot": {"target": f"file://{folder}"},
        }
        shown = await self.status(await start_mirror(self, sections))
        named = set(re.findall(r"``([a-z]+(?:\.[a-z_]+)+)``", RUNBOOK))
        named = {each for each in named if each.partition(".")[0] in shown}
        assert {"store.breaker.reading", "snapshots.save.error", "paths.paid"} <= named
        for each in named:
            value = shown
            for part in each.split("."):
                if value is not None:  # the status page is not configured
                    value = value[part]

    async def test_github_responds_503(self) -> None:
        """The circuit opens once; stale responses name GitHub's status and ID of the request."""
        github = await self.github()
        mirror = await start_mirror(self, {"github": {"api_url": github.api_url}})
        tokens = ("alice-1", "bob-1")
        await self.load(mirror, tokens=tokens)
        for path in PATHS:
            github.fault(path, 503)
        assert await self.load(mirror, tokens=tokens) == [200] * 6
        assert await self.load(mirror, tokens=tokens) == [200] * 6
        assert await self.load(mirror, ["/repos/o/new"]) == [404]
        status = await self.status(mirror)
        shown = status["github"]
        assert status["state"] == ("ready" if shown["available"] else "degraded")
        assert shown["available"] or await self.sections(mirror) == {"GhmirrorGitHubAway"}
        assert shown["failures"] == 0 or shown["available"] is False
        (opened,) = [
            line for line in found(mirror, "GhmirrorGitHubAway", "circuit") if " open" in line
        ]
        assert "GitHub unavailable, circuit open: serving stale responses; reason=503" in opened
        requests = found(mirror, "GhmirrorGitHubAway", "offline")
        failed = [line for line in requests if "server-error" in line]
        assert re.search(
            r" 200 stale .*upstream_status=503 upstream_ms=.*request_id=\S+", failed[0]
        )
        assert any("detail=offline" in line for line in requests)

    async def test_a_restart_while_github_is_unavailable(self) -> None:
        """Stale responses outlast it with Redis; a snapshot of a memory store is not enough."""
        folder = tempfile.mkdtemp(prefix="ghmirror-")
        self.addCleanup(shutil.rmtree, folder)
        redis = {"url": f"redis://127.0.0.1:{start_redis(self).port}"}
        snapshot = {"target": f"file://{folder}"}
        in_redis: Any = {"cache": {"backend": "redis"}, "redis": redis}
        for store, statuses in (
            (in_redis, [200] * 3),
            ({"snapshot": snapshot}, [503] * 3),
        ):
            github = await self.github()
            sections = {"github": {"api_url": github.api_url}, **store}
            mirror = await start_mirror(self, sections)
            for _ in range(2):
                assert await self.load(mirror) == [200] * 3
            github.fault(None, 503)
            assert await self.load(mirror) == [200] * 3
            await mirror.stop()
            mirror = await start_mirror(self, sections)
            assert await self.load(mirror) == statuses

    async def test_the_secret_has_changed(self) -> None:
        """Records and snapshots of the former secret are named, and counted."""
        github, redis = await self.github(), start_redis(self)
        folder = tempfile.mkdtemp(prefix="ghmirror-")
        self.addCleanup(shutil.rmtree, folder)
        sections = {
            "github": {"api_url": github.api_url},
            "redis": {"url": f"redis://127.0.0.1:{redis.port}"},
            "snapshot": {"target": f"file://{folder}", "interval": "1s"},
        }
        cache = {"backend": "redis", "credential_secret": "x" * 40}
        mirror = await start_mirror(self, {**sections, "cache": cache})
        await self.load(mirror)
        await mirror.logged("Saved: kind=snapshot records=")
        await mirror.stop()
        cache = {**cache, "credential_secret": "y" * 40}
        mirror = await start_mirror(self, {**sections, "cache": cache})
        await mirror.logged("Snapshots of another mirror are not used")
        await mirror.logged("Records of other mirrors in the store are not used")
        assert len(found(mirror, "GhmirrorSavesLess", "another")) == 2
        snapshots = (await self.status(mirror))["snapshots"]
        assert snapshots["foreign"] > 0
        assert snapshots["foreign_option"] == "credential_secret"
        assert await self.sections(mirror) == {"GhmirrorSavesLess"}
        (line,) = [each for each in mirror.log_text.splitlines() if "Snapshots of another" in each]
        assert "its records are sealed with another" in line
        assert await self.load(mirror) == [200] * 3
        assert (await self.status(mirror))["requests"]["outcomes"] == {"miss": 3}

    async def test_the_bucket_is_denied(self) -> None:
        """The document and the log have the target, the operation and the cause."""
        github, bucket = await self.github(), await open_bucket(self)
        snapshot = {
            "target": f"s3://{bucket.name}/ghmirror",
            "s3_endpoint_url": bucket.url,
            "s3_region": "us-east-1",
            "interval": "1s",
        }
        sections = {"github": {"api_url": github.api_url}, "snapshot": snapshot}
        saving = await start_mirror(self, sections, environment=ENVIRONMENT)
        assert await self.load(saving) == [200] * 3
        await saving.logged("Saved: kind=snapshot")
        assert (await self.status(saving))["snapshots"]["save"]["error"] is None
        bucket.way.fault(lambda _: True, Fault(403, "AccessDenied"))
        await saving.logged("Save failed")
        restoring = await start_mirror(self, sections, environment=ENVIRONMENT)
        await restoring.logged("Restore failed")
        assert await self.load(restoring) == [200] * 3
        for mirror, operation in ((saving, "save"), (restoring, "restore")):
            shown = (await self.status(mirror))["snapshots"][operation]
            assert shown["failures"] > 0
            assert "access is denied" in shown["error"]
            assert (await self.status(mirror))["snapshots"]["restoring"] == (mirror is restoring)
            assert await self.sections(mirror) == {"GhmirrorSnapshotFails"}
            assert f"s3://{bucket.name}/ghmirror: " in shown["error"]
            lines = found(mirror, "GhmirrorSnapshotFails", "failed")
            assert lines
            assert all("access is denied" in line for line in lines)

    async def test_the_quota_of_one_user_is_used_up(self) -> None:
        """The user, the resource and the reset are named; other users notice nothing."""
        github = await self.github()
        sections = {"github": {"api_url": github.api_url}, "log": {"format": "json"}}
        mirror = await start_mirror(self, sections)
        await self.load(mirror, ["/user", *PATHS], ("alice-1", "bob-1"))
        github.set_quota("alice", remaining=0)
        github.put("/repos/o/new", {"a": 1})
        github.put("/repos/o/a", {"at": "changed"})
        assert await self.load(mirror, ["/repos/o/a", "/repos/o/new"]) == [200, 403]
        assert await self.load(mirror, ["/repos/o/a", "/repos/o/new"], ["bob-1"]) == [200, 200]
        shown = await self.status(mirror)
        (limit,) = shown["stops"]
        assert (limit["user"], limit["kind"], limit["resource"]) == ("alice", "primary", "core")
        assert 0 <= limit["until"] - github.quota("alice").reset < 2
        labels = '{kind="primary",resource="core",user="alice"}'
        assert await self.metric(mirror, f"ghmirror_limited{labels}") == "1.0"
        assert shown["paths"]["paid"][0]["operation"] == "GET /repos/*/*"
        assert "GhmirrorQuotaUsedUp" in await self.sections(mirror)
        lines = [json.loads(each) for each in mirror.log_text.splitlines() if each[:1] == "{"]
        (limited,) = [each for each in lines if "Rate limited by GitHub" in each["message"]]
        assert (limited["user"], limited["resource"]) == ("alice", "core")
        details = {
            (each["path"], each["status"], each["detail"])
            for each in lines
            if each.get("user") == "alice" and each.get("detail")
        }
        limited_requests = {("/repos/o/a", 200), ("/repos/o/new", 403)}
        assert details == {(*each, "primary-limit") for each in limited_requests}
