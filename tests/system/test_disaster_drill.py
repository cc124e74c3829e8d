"""The drill that docs/disaster.rst describes: all is lost but the bucket, and nothing is paid."""

from __future__ import annotations

import re
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.fakes.s3 import ENVIRONMENT, Bucket, open_bucket
from tests.harness.home import Received, fetch, open_github, reactor
from tests.harness.redis_servers import RedisServer, start_redis
from tests.harness.running import ROOT, STOPPED, Mirror, start_mirror
from tests.unit.cli.command_process import Ended, Operator

PAGE = (ROOT / "docs" / "disaster.rst").read_text()
PATHS = tuple(f"/repos/o/r{number}" for number in range(20))
LIST = "/repos/o/r0/issues?per_page=100"
EMPTY = "/repos/o/r1/issues"
TARGETS = (*PATHS, LIST, EMPTY)
TOKENS = ("alice-1", "bob-1")
REPLICAS = 3
RESTORED = 'ghmirror_snapshot_records{operation="restore"}'

#: How often is looked for what is waited for, in seconds; the mirrors need the time, too.
_LOOK_S = 0.02


@pytest.mark.usefixtures("s3_server")
class Drill(TestCase):
    """Real mirrors, a real Redis, S3 on a real socket, and the command for operators."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.github = await open_github(self)
        for path in PATHS:
            self.github.put(path, {"path": path})
        self.github.put_list(LIST.partition("?")[0], [{"number": n} for n in range(70)])
        self.github.put_list(EMPTY, [])
        self.bucket: Bucket = await open_bucket(self)
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        secret = Path(made.name) / "credential-secret"
        secret.write_text("what only we know, in 32 characters and more\n")
        self.operator = Operator(Path(made.name), more=dict(ENVIRONMENT)).configure(
            {
                "github": {"api_url": self.github.api_url, "status_url": ""},
                "cache": {"backend": "redis", "credential_secret_path": secret},
                "redis": {"timeout": "2s"},
                "snapshot": {
                    "target": f"s3://{self.bucket.name}/ghmirror",
                    "interval": "1h",
                    "s3_endpoint_url": self.bucket.url,
                    "s3_region": "us-east-1",
                },
            }
        )

    def new_redis(self) -> RedisServer:
        """Start a Redis with nothing in it, and have the configuration name it."""
        redis = start_redis(self)
        self.operator.configure({"redis": {"url": f"redis://127.0.0.1:{redis.port}/0"}})
        return redis

    async def new_replicas(self) -> list[Mirror]:
        """Start mirrors that share what the configuration names."""
        more = dict(ENVIRONMENT)
        started = [
            Deferred.fromCoroutine(start_mirror(self, self.operator.sections, environment=more))
            for _ in range(REPLICAS)
        ]
        return list(await gatherResults(started, consumeErrors=True))

    async def command(self, *arguments: str) -> Ended:
        """Execute a command of the page for operators."""
        words = " ".join(each for each in arguments if each != "--json")
        assert f"ghmirror {words} --config" in PAGE
        ended: Ended = await deferToThread(self.operator.run, *arguments)
        assert ended.status == 0, ended.out + ended.err
        return ended

    async def send(self, mirror: Mirror, target: str, token: str) -> Received:
        port = int(mirror.url.rpartition(":")[2])
        got = await fetch("GET", port, target, token=token)
        assert got.status == 200, got.content
        return got

    async def poll(self, mirrors: list[Mirror], tokens: tuple[str, ...] = TOKENS) -> list[Received]:
        """Request each target from each mirror with each token, all at once."""
        sent = [
            Deferred.fromCoroutine(self.send(mirror, target, token))
            for mirror in mirrors
            for target in TARGETS
            for token in tokens
        ]
        return list(await gatherResults(sent, consumeErrors=True))

    async def metric(self, mirror: Mirror, line: str) -> float:
        port = int(mirror.admin_url.rpartition(":")[2])
        shown = (await fetch("GET", port, "/metrics")).content.decode()
        found = re.search(rf"^{re.escape(line)} (\S+)$", shown, re.MULTILINE)
        return float(found[1]) if found else 0.0

    async def ready(self, mirrors: list[Mirror]) -> None:
        """Return when each mirror is ready."""
        for mirror in mirrors:
            port = int(mirror.admin_url.rpartition(":")[2])
            while (await fetch("GET", port, "/readyz")).status != 200:
                await deferLater(reactor, _LOOK_S)

    async def lose_all(self) -> dict[str, Any]:
        """Fill a fleet, save it, and remove it; return the saved records."""
        redis = self.new_redis()
        mirrors = await self.new_replicas()
        await self.ready(mirrors)
        await self.poll(mirrors)
        assert 0 < self.github.total_paid <= len(TARGETS) * len(TOKENS)
        written = len(TARGETS) * len(TOKENS) - len(TOKENS)  # a token without access needs no grant
        while len(redis.send("KEYS", "ghmirror:*:g:*")) < written:
            await deferLater(reactor, _LOOK_S)
        saved: dict[str, Any] = (await self.command("snapshot", "save", "--json")).json
        for mirror in mirrors:
            mirror.signal(signal.SIGKILL)
            await mirror.ended()
        redis.kill()
        redis.remove()
        self.github.reset_counts()
        return saved

    async def test_replicas_restore_without_an_operator(self) -> None:
        """Requests from the first moment, by old and new tokens, are free of charge."""
        saved = await self.lose_all()
        assert (await self.command("snapshot", "verify", "--newest", "--json")).json["whole"]
        self.new_redis()
        await self.command("check-config")
        mirrors = await self.new_replicas()
        responses = await self.poll(mirrors, (*TOKENS, "alice-2"))
        assert self.github.total_paid == 0
        assert {got.field("x-cache") for got in responses} == {"HIT"}
        await self.ready(mirrors)
        # One does it; what has been confirmed meanwhile is newer, and stays.
        shown = [await self.metric(each, RESTORED) for each in mirrors]
        (records,) = filter(None, shown)
        assert 0 < records <= saved["records"]
        output = "".join(each.log_text for each in mirrors)
        found = re.findall(r"Restored: name=(\S+) records=(\d+) of=(\d+)", output)
        assert found == [(saved["name"], f"{records:.0f}", str(saved["records"]))]
        for mirror in mirrors:
            assert await mirror.stop() == STOPPED

    async def test_operator_restores_before_start(self) -> None:
        """Only changes after the snapshot are charged, once."""
        saved = await self.lose_all()
        redis = self.new_redis()
        listed = (await self.command("snapshot", "list", "--json")).json
        assert [each["name"] for each in listed["snapshots"]] == [saved["name"]]
        restored = (await self.command("snapshot", "restore", "--json")).json
        # what Redis sent twice during the copy is already stored
        assert 0 < restored["restored"] <= restored["records"] == saved["records"]
        assert redis.send("EXISTS", "ghmirror:probe:filled") == 1
        mirrors = await self.new_replicas()
        await self.ready(mirrors)
        await self.poll(mirrors)
        assert self.github.total_paid == 0
        self.github.put(PATHS[0], {"path": "changed since"})
        for mirror in mirrors:
            for token in TOKENS:
                await self.send(mirror, PATHS[0], token)
        assert self.github.total_paid == 1
