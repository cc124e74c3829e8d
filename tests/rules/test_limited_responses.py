"""The meaning of a 403 or 429, the scope of a limit, and the responses meanwhile."""

from __future__ import annotations

import base64
from typing import Any

from twisted.trial.unittest import TestCase

from tests.fakes.github import GitHub
from tests.harness.home import Home, Received, open_home
from tests.harness.redis_servers import start_redis
from tests.harness.redis_stores import settled
from tests.harness.two_replicas import TwoReplicas

NO_CACHE = {"Cache-Control": "no-cache"}
REFUSAL = {"message": "Resource not accessible by integration", "status": "403"}
SAML = {"message": "Resource protected by organization SAML enforcement.", "status": "403"}
EMPTY = {"X-RateLimit-Remaining": "0"}


class Limited(TestCase):
    """One mirror; alice has a grant for two things."""

    home: Home
    github: GitHub

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self)
        self.github = self.home.github
        for path in ("/thing", "/other"):
            self.github.put(path, {"a": path})
            await self.home.get(path, token="alice-1")
        self.github.reset_counts()

    async def get(self, target: str, **more: Any) -> Received:
        return await self.home.get(target, token="alice-1", **more)

    async def test_a_refusal_with_an_empty_quota_is_a_refusal(self) -> None:
        """It is forwarded unchanged, and ends the grant; for other requests the limit counts."""
        for refusal in (REFUSAL, SAML):
            self.github.put("/thing", refusal, status=403)
            self.github.set_quota("alice", remaining=1)
            got = await self.get("/thing", headers=NO_CACHE)
            assert (got.status, got.json) == (403, refusal)
            assert got.field("x-ratelimit-remaining") == "0"
            self.github.log.clear()
            # What is limited is still served where GitHub granted it, and not where it refused.
            got = await self.get("/other")
            assert got.outcome == "hit; detail=primary-limit"
            got = await self.get("/thing")
            assert (got.status, got.outcome) == (403, "detail=primary-limit")
            assert got.json["message"] == "API rate limit exceeded"
            assert not self.github.log
            self.home.move_on(3601.0)
            self.github.put("/thing", {"a": 1})
            self.github.set_quota("alice", remaining=100)
            assert (await self.get("/thing")).status == 200

    async def limited(self) -> list[str]:
        """Return the series of the metric that shows limits in force."""
        shown = (await self.home.admin("/metrics")).content.decode()
        return [line for line in shown.splitlines() if line.startswith("ghmirror_limited{")]

    async def test_limits_in_force_are_a_metric(self) -> None:
        """By user, resource and kind, until they end."""
        assert (await self.get("/user", headers=NO_CACHE)).status == 200
        self.github.set_quota("alice", remaining=0)
        self.github.put("/thing", {"a": 2})
        assert (await self.get("/thing")).outcome.endswith("detail=primary-limit")
        assert await self.limited() == [
            'ghmirror_limited{kind="primary",resource="core",user="alice"} 1.0'
        ]
        self.home.move_on(3601.0)
        self.github.set_quota("alice", remaining=100)
        assert (await self.get("/thing")).status == 200
        assert not await self.limited()

    async def test_limits_without_fields_are_limits(self) -> None:
        """By their message: the grant stays, and is served stale."""
        for sends_quota in (True, False):
            for kind, reason in (("unmetered", "primary-limit"), ("login", "secondary-limit")):
                self.github.sends_quota = sends_quota
                self.github.fault("/thing", f"{kind}-limit", times=1)
                got = await self.get("/thing")
                assert got.outcome == f"fwd=stale; fwd-status=403; detail={reason}"
                self.github.log.clear()
                assert (await self.get("/other")).outcome == f"hit; detail={reason}"
                assert not self.github.log
                self.home.move_on(61.0)
                assert (await self.get("/thing")).outcome.endswith("detail=revalidated")

    async def test_content_creation_is_limited_alone(self) -> None:
        """Clients may still read, delete, and query."""
        self.github.fault(None, "creation-limit")
        assert (await self.post("/other")).status == 403
        self.github.log.clear()
        for method in ("POST", "PUT", "PATCH"):
            got = await self.home.send(method, "/other", token="alice-1", body=b"{}")
            assert (got.status, got.outcome) == (403, "detail=secondary-limit")
            assert "content creation" in got.json["message"]
        mutation = b'{"query":"mutation {x}"}'
        assert (await self.post("/graphql", mutation)).outcome == "detail=secondary-limit"
        assert not self.github.log
        self.github.clear_faults()
        assert (await self.get("/thing")).outcome.endswith("detail=revalidated")
        assert (await self.post("/graphql", b'{"query":"{viewer{login}}"}')).status == 200
        await self.home.send("DELETE", "/other", token="alice-1")
        assert len(self.github.log) == 3
        self.home.move_on(61.0)
        assert (await self.post("/thing")).outcome == "fwd=method"

    async def post(self, target: str, body: bytes = b"{}") -> Received:
        return await self.home.send("POST", target, token="alice-1", body=body)

    async def test_secondary_limit_of_searches(self) -> None:
        """It applies to searches."""
        self.github.put_search("/search/issues", [])
        self.github.fault("/search/issues", "secondary-limit", times=1)
        assert (await self.get("/search/issues?q=a")).status == 403
        self.github.log.clear()
        got = await self.get("/search/issues?q=b")
        assert (got.status, got.outcome) == (403, "detail=secondary-limit")
        assert not self.github.log
        assert (await self.get("/thing")).outcome.endswith("detail=revalidated")

    async def test_primary_limit_has_no_retry_after(self) -> None:
        """Nor has GitHub's; the documentation is that of its kind."""
        for kind, url in (("primary", "for-the-rest-api"), ("secondary", "secondary-rate-limits")):
            self.github.fault("/new", f"{kind}-limit", times=1)
            first = await self.get("/new")
            again = await self.get("/new")
            assert again.json == first.json
            assert again.json["documentation_url"].endswith(url)
            assert (again.field("retry-after") is None) is (kind == "primary")
            self.home.move_on(3601.0)
            assert (await self.get("/thing")).outcome.endswith("detail=revalidated")

    async def test_token_is_limited_in_each_scheme(self) -> None:
        """Grants are still those of each scheme."""
        basic = base64.b64encode(b"x:alice-1").decode()
        ways = ("token alice-1", "Bearer alice-1", f"Basic {basic}")
        for way in ways:
            got = await self.home.get("/thing", headers={"Authorization": way})
            assert got.status == 200
        self.github.fault("/other", "primary-limit", times=1)
        got = await self.home.get("/other", headers={"Authorization": ways[1], **NO_CACHE})
        assert got.status == 403
        self.github.log.clear()
        for way in ways:
            got = await self.home.get("/thing", headers={"Authorization": way})
            assert got.outcome == "hit; detail=primary-limit"
        assert not self.github.log
        assert (await self.home.get("/thing", token="alice-2")).status == 200


class Replicas(TwoReplicas):
    """Two mirrors on one Redis."""

    async def test_limit_applies_to_a_replica_behind_a_lagging_reader(self) -> None:
        """Its reader, another server, has received nothing yet."""
        host, port = start_redis(self).address
        redis = {**self.options["redis"], "reader_url": f"redis://{host}:{port}"}
        reading = await open_home(self, self.github, **{**self.options, "redis": redis})
        for kind, token in (("primary", "alice-1"), ("secondary", "bob-1")):
            self.github.sends_quota = kind == "primary"
            await self.one.get("/thing", token=token)
            self.github.fault("/thing", f"{kind}-limit", times=1)
            await self.one.get("/thing", token=token, headers={"Cache-Control": "no-cache"})
            await settled(self.one.parts.store)
            self.github.log.clear()
            got = await reading.get("/other", token=token)
            assert (got.status, got.outcome) == (403, f"detail={kind}-limit")
            assert not self.github.log

    async def test_limit_of_another_replica_looks_the_same(self) -> None:
        """Message, fields and documentation are GitHub's, in each scheme."""
        self.github.fault("/thing", "primary-limit", times=1)
        bearer = {"Authorization": "Bearer alice-1"}
        first = await self.one.get("/thing", headers=bearer)
        await settled(self.one.parts.store)
        self.github.log.clear()
        for more in ({"token": "alice-1"}, {"headers": bearer}):
            again = await self.other.get("/thing", **more)
            assert (again.status, again.json) == (403, first.json)
            for name in ("limit", "remaining", "reset", "used", "resource"):
                assert again.field(f"x-ratelimit-{name}") == first.field(f"x-ratelimit-{name}")
            assert again.field("retry-after") is None
        assert not self.github.log

    async def test_block_of_content_creation_applies_to_all_replicas(self) -> None:
        """Content is created through none of them."""
        self.github.fault(None, "creation-limit")
        await self.one.send("POST", "/thing", token="alice-1", body=b"{}")
        await settled(self.one.parts.store)
        self.github.log.clear()
        got = await self.other.send("POST", "/thing", token="alice-1", body=b"{}")
        assert (got.status, got.outcome) == (403, "detail=secondary-limit")
        assert not self.github.log
        assert (await self.other.get("/thing", token="alice-1")).status == 200
