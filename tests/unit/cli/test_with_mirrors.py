"""Commands of an operator and mirrors work together, with each kind of Redis."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from attrs import define
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.harness.home import fetch, open_github, until
from tests.harness.redis_servers import start_redis
from tests.harness.redis_sets import SERVICE, ClusterSet, SentinelSet
from tests.harness.running import Mirror, start_mirror
from tests.unit.cli.command_process import Ended, Operator
from tests.unit.cli.snapshot_files import SECRET, packed, put, some


class WithAMirror(TestCase):
    """A real twistd, and the real command, on one Redis."""

    async def test_restored_responses_are_not_paid_again(self) -> None:
        """Saved by hand, lost, and restored by hand: another mirror pays nothing for it."""
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        github = await open_github(self)
        github.put("/thing", {"a": 1})
        redis = start_redis(self)
        operator = Operator(Path(made.name)).configure(
            {
                "github": {"api_url": github.api_url, "status_url": ""},
                "cache": {"backend": "redis", "credential_secret": SECRET},
                "redis": {"url": f"redis://127.0.0.1:{redis.port}"},
                "snapshot": {"target": (Path(made.name) / "kept").as_uri(), "restore": "no"},
            }
        )

        async def run(*arguments: str) -> Ended:
            ended: Ended = await deferToThread(operator.run, "snapshot", *arguments, "--json")
            assert ended.status == 0, ended.out
            assert "alice-1" not in ended.out + ended.err
            return ended

        async def outcome(mirror: Mirror) -> str:
            port = int(mirror.url.rpartition(":")[2])
            # it looks at its start whether its store is filled
            await until(lambda: bool(redis.send("EXISTS", "ghmirror:probe:filled")))
            return (await fetch("GET", port, "/thing", token="alice-1")).outcome

        first = await start_mirror(self, operator.sections)
        assert (await outcome(first)).endswith("stored")
        saved = (await run("save")).json
        assert saved["records"] > 0
        await first.stop()
        redis.send("FLUSHALL")
        restored = (await run("restore", saved["name"])).json
        assert restored["restored"] == saved["records"]
        paid = github.total_paid
        second = await start_mirror(self, operator.sections)
        assert (await outcome(second)).endswith("detail=revalidated")
        assert github.total_paid == paid


@define
class Fleet:
    """Servers of a store, and how they are configured."""

    servers: ClusterSet | SentinelSet

    @property
    def options(self) -> dict[str, object]:
        if isinstance(self.servers, ClusterSet):
            host, port = self.servers.servers[0].address
            return {"url": f"redis://{host}:{port}", "cluster": True}
        places = [f"{host}:{port}" for host, port in self.servers.places]
        return {"url": f"redis://{SERVICE}", "sentinels": places}


@pytest.mark.parametrize("kind", [ClusterSet, SentinelSet])
def test_many_servers(operator: Operator, kept: Path, kind: type[ClusterSet | SentinelSet]) -> None:
    """Restored and saved with any distribution of records; an unavailable one is one line."""
    pairs = some(50)
    put(kept, packed(pairs))
    with kind() as servers:
        operator.configure({"cache": {"backend": "redis"}, "redis": Fleet(servers).options})
        text = operator.run("snapshot", "restore", "--json").json
        assert (text["records"], text["restored"]) == (153, 153)
        text = operator.run("snapshot", "save", "--json").json
        assert text["records"] == 153
    for command in ("save", "restore"):
        ended = operator.run("snapshot", command, "--quiet")
        assert (ended.status, ended.out) == (3, "")
        line, _hint = ended.err.splitlines()
        assert line.startswith("error: Redis")
