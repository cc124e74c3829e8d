"""Mirrors of two servers on one Redis: no record of one server is ever found by the other's."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.fakes.github import GitHub
from tests.harness.home import open_home
from tests.harness.redis_servers import start_redis
from tests.harness.redis_stores import settled


class Origins(TestCase):
    """The same path at an internal server and at another one, without a credential and with one."""

    async def test_no_record_is_shared(self) -> None:
        """Neither content, nor a grant, nor a refusal of the credential."""
        redis = start_redis(self)
        homes = []
        for number in (1, 2):
            github = GitHub()
            github.user("alice", tokens=["alice-1"])
            await github.listen()
            self.addCleanup(github.close)
            github.put("/thing", {"server": number})
            homes.append(
                await open_home(
                    self,
                    github,
                    cache={"backend": "redis"},
                    redis={"url": f"redis://127.0.0.1:{redis.port}"},
                )
            )
        for token in (None, "alice-1"):
            for number, home in enumerate(homes, start=1):
                got = await home.get("/thing", token=token)
                assert got.json == {"server": number}
                paid = token is None
                assert got.outcome.endswith("stored" if paid else "shared")
                await settled(home.parts.store)
        first, second = homes
        first.github.put("/thing", {"message": "Bad credentials"}, status=401)
        assert (await first.get("/thing", token="alice-1")).status == 401
        await settled(first.parts.store)
        assert (await second.get("/thing", token="alice-1")).outcome.endswith("revalidated")
