"""The rules of GitHub's limits: which requests are not sent meanwhile, and which is the probe."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request
from ghmirror_tw.store.store_interface import LockName
from ghmirror_tw.upstream import limit_probes
from ghmirror_tw.upstream.rate_limiter import RateLimiter
from ghmirror_tw.upstream.request_to_send import OutgoingRequest, Requester
from ghmirror_tw.upstream.upstream_interface import UpstreamError
from tests.fakes.github import GitHub
from tests.harness.home import Home, Received, open_home, start, until
from tests.harness.redis_stores import settled
from tests.harness.two_replicas import TwoReplicas

NO_CACHE = {"Cache-Control": "no-cache"}
SEARCH = "/search/issues"


class Limits(TestCase):
    """One mirror; alice has grants for some things."""

    home: Home
    github: GitHub
    paths = tuple(f"/thing/{number}" for number in range(5))

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self)
        self.github = self.home.github
        self.github.put_search(SEARCH, [{"a": 1}])
        for path in self.paths:
            self.github.put(path, {"a": path})
            await self.home.get(path, token="alice-1")
        self.github.reset_counts()

    async def limited(self, kind: str, target: str = "/other", **more: Any) -> Received:
        """Send requests of alice up to a limit."""
        self.github.put("/other", {"a": 1})
        self.github.fault(target, f"{kind}-limit", times=1)
        got = await self.home.send(more.pop("method", "GET"), target, token="alice-1", **more)
        assert got.status in {403, 429}
        self.github.log.clear()
        return got

    def lasts(self) -> int:
        """Return how long the one limit in force still lasts, in seconds."""
        mirror = self.home.parts.mirror
        ((_, limit),) = mirror.sender.limits.in_force(mirror.now())
        return ceil(limit.until - mirror.now())

    async def test_scope_of_a_limit(self) -> None:
        """One bucket of one credential; the credential, where GitHub names no resource."""
        for kind, sends_quota, search in (
            ("primary", True, "fwd"),
            ("secondary", True, "fwd"),
            ("secondary", False, "hit"),
        ):
            self.github.sends_quota = sends_quota
            await self.limited(kind)
            self.github.sends_quota = True
            got = await self.home.get(self.paths[0], token="alice-1")
            assert got.outcome == f"hit; detail={kind}-limit"
            got = await self.home.send("PATCH", self.paths[0], token="alice-1", body=b"{}")
            assert (got.status, got.outcome) == (403, f"detail={kind}-limit")
            assert not self.github.log
            assert (await self.home.get(SEARCH, token="alice-1")).outcome[:3] == search
            for token in ("alice-2", "bob-1", None):
                assert (await self.home.get(self.paths[0], token=token)).status == 200
            self.home.move_on(3601.0)
            assert (await self.home.get(self.paths[1], token="alice-1")).status == 200

    async def test_search_has_a_bucket_of_its_own(self) -> None:
        """Its limit applies to nothing else."""
        await self.limited("primary", SEARCH)
        assert (await self.home.get(SEARCH, token="alice-1")).status == 403
        assert len(self.github.log) == 0
        got = await self.home.get(self.paths[0], token="alice-1")
        assert got.outcome.endswith("detail=revalidated")

    async def test_rate_limit_endpoint_is_never_limited(self) -> None:
        """`/rate_limit` counts against no limit."""
        await self.limited("primary")
        assert (await self.home.get("/rate_limit", token="alice-1")).status == 200
        assert (await self.home.get(self.paths[0], token="alice-1")).outcome.startswith("hit")

    async def test_limited_response_is_repeated(self) -> None:
        """GitHub's content and fields, with the time that is left now."""
        first = await self.limited("primary")
        again = await self.home.get("/other", token="alice-1")
        assert (again.status, again.json) == (first.status, first.json)
        for name in (
            *("x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-resource"),
            *("x-oauth-scopes", "x-github-media-type"),
        ):
            assert again.field(name) == first.field(name) != None  # noqa: E711
        assert first.field("x-github-request-id")
        assert again.field("x-github-request-id") is None
        unpacked = await self.home.get(
            "/other", token="alice-1", headers={"Accept-Encoding": "gzip"}
        )
        assert unpacked.json == first.json

    async def test_limit_met_by_head_has_content_for_get(self) -> None:
        """The response to HEAD had no content."""
        await self.limited("secondary", method="HEAD")
        got = await self.home.get("/other", token="alice-1")
        assert got.status == 403
        assert "secondary rate limit" in got.json["message"]

    async def test_empty_quota_is_no_limit(self) -> None:
        """304s may still be free: only a 403 or 429 is a limit."""
        self.github.free_when_exhausted = True
        self.github.put("/new", {"a": 1})
        self.github.set_quota("alice", remaining=1)
        got = await self.home.get("/new", token="alice-1")
        assert (got.status, got.field("x-ratelimit-remaining")) == (200, "0")
        for path in self.paths:
            got = await self.home.get(path, token="alice-1")
            assert got.outcome.endswith("detail=revalidated")
            assert got.field("x-ratelimit-remaining") == "0"

    async def test_one_request_probes_an_ended_limit(self) -> None:
        """The others are sent after its response."""
        await self.limited("primary")
        self.home.move_on(3601.0)
        barrier = self.github.hold()
        trial = start(self.home.get(self.paths[0], token="alice-1"))
        await barrier.arrived(1)
        for path in self.paths[1:]:
            got = await self.home.get(path, token="alice-1")
            assert got.outcome == "hit; detail=primary-limit"
        got = await self.home.get("/other", token="alice-1")
        assert (got.status, got.field("retry-after")) == (403, None)
        assert barrier.waiting == 1
        barrier.open()
        assert (await trial).outcome.endswith("detail=revalidated")
        for path in self.paths:
            got = await self.home.get(path, token="alice-1")
            assert got.outcome.endswith("detail=revalidated")

    async def test_cancelled_probe_is_replaced(self) -> None:
        """At any time; so is one without a response of GitHub."""
        for kind in ("primary", "secondary"):
            await self.limited(kind)
            self.home.move_on(3601.0)
            barrier = self.github.hold(self.paths[0])
            trial = start(self.home.get(self.paths[0], token="alice-1"))
            await barrier.arrived(1)
            trial.cancel()
            await self.assertFailure(trial, Exception)
            await until(lambda: self.home.parts.resource.in_flight == 0)
            barrier.open()
            wrong = self.github.fault(self.paths[1], "503")
            got = await self.home.get(self.paths[1], token="alice-1")
            assert got.outcome.startswith("fwd=stale; fwd-status=503"), got.outcome
            wrong.end()
            got = await self.home.get(self.paths[2], token="alice-1")
            assert got.outcome.endswith("detail=revalidated")

    async def test_probe_cancelled_during_its_content_is_replaced(self) -> None:
        """While the content of a refusal is incoming, for one."""
        await self.limited("primary")
        self.home.move_on(3601.0)
        self.github.put("/no", {"message": "no " * 5000}, status=403)
        wrong = self.github.fault("/no", "idle-in-content")
        trial = start(self.home.get("/no", token="alice-1"))
        await until(lambda: wrong.seen == 1)
        trial.cancel()
        await self.assertFailure(trial, Exception)
        await until(lambda: self.home.parts.resource.in_flight == 0)
        got = await self.home.get(self.paths[2], token="alice-1")
        assert got.outcome.endswith("detail=revalidated")

    async def test_proof_of_a_list_is_no_probe(self) -> None:
        """A list that needs a proof is served after a limit, at no cost."""
        self.github.put_list("/issues", [{"n": n} for n in range(30)])
        await self.home.get("/issues", token="alice-1")
        assert (await self.home.get("/issues", token="alice-1")).outcome.endswith("revalidated")
        await self.limited("primary")
        self.home.move_on(3601.0)
        self.github.reset_counts()
        got = await self.home.get("/issues", token="alice-1")
        assert got.outcome.endswith("detail=revalidated")
        assert self.github.total_paid == 0

    async def test_secondary_limits_without_a_hint_double(self) -> None:
        """From a minute on, until the next successful response."""
        self.github.secondary_retry_after_s = None
        for expected in (60, 120, 240, 60):
            await self.limited("secondary")
            got = await self.home.get("/other", token="alice-1")
            assert (got.status, got.field("retry-after")) == (403, None)
            assert self.lasts() == expected
            self.home.move_on(expected + 1.0)
            if expected == 240:
                assert (await self.home.get(self.paths[0], token="alice-1")).status == 200

    async def test_concurrent_limited_responses_are_one_strike(self) -> None:
        """However many there are, the limit lasts a minute."""
        self.github.secondary_retry_after_s = None
        barrier = self.github.hold()
        sent = [
            start(self.home.get(path, token="alice-1", headers=NO_CACHE)) for path in self.paths
        ]
        await barrier.arrived(len(self.paths))
        self.github.fault(None, "secondary-limit", times=len(self.paths))
        barrier.open()
        assert {(await each).status for each in sent} == {403}
        assert self.lasts() in {60, 61}
        self.home.move_on(62.0)
        await self.limited("secondary")
        assert self.lasts() == 120

    async def test_response_to_an_earlier_request_ends_no_limit(self) -> None:
        """It shows nothing of a limit that was met since."""
        barrier = self.github.hold(self.paths[0])
        early = start(self.home.get(self.paths[0], token="alice-1"))
        await barrier.arrived(1)
        first = await self.limited("secondary")
        barrier.open()
        assert (await early).outcome.endswith("detail=revalidated")
        self.github.log.clear()
        got = await self.home.get(self.paths[1], token="alice-1")
        assert got.outcome == "hit; detail=secondary-limit"
        again = await self.home.get("/other", token="alice-1")
        assert again.json == first.json
        assert not self.github.log


class Offline(TestCase):
    """One mirror; alice has a grant."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self)
        self.github = self.home.github
        self.github.put("/thing", {"a": 1})
        await self.home.get("/thing", token="alice-1")

    async def fails(self) -> None:
        """Request five targets of three kinds; only the first has no stale response."""
        for target in ("/thing", "/user", "/orgs/o", "/user", "/thing"):
            await self.home.get(target, token="alice-1")

    async def test_five_failures_open_the_circuit(self) -> None:
        """Then granted GETs have stale responses, and others are sent; a success closes it."""
        wrong = self.github.fault(None, "503")
        await self.fails()
        got = await self.home.get("/thing", token="alice-1")
        assert (got.json, got.outcome) == ({"a": 1}, "hit; detail=offline")
        assert wrong.seen == 5
        assert await self.home.metric("ghmirror_github_available") == 0.0
        sent = [
            await self.home.get("/thing", token="alice-1", headers=NO_CACHE),
            await self.home.get("/thing", token="bob-1"),
            await self.home.get("/new", token="alice-1"),
            await self.home.send("PATCH", "/thing", token="bob-1", body=b"{}"),
        ]
        assert [each.status for each in sent] == [503, 503, 503, 503]
        assert wrong.seen == 9
        wrong.end()
        assert (await self.home.get("/thing", token="alice-1")).outcome == "hit; detail=offline"
        assert (await self.home.get("/thing", token="bob-1")).status == 200
        got = await self.home.get("/thing", token="alice-1")
        assert got.outcome.endswith("detail=revalidated")
        assert await self.home.metric("ghmirror_github_available") == 1.0

    async def test_maintenance_page_ends_no_outage(self) -> None:
        """It is a balancer's 200, and not GitHub's."""
        wrong = self.github.fault(None, "503")
        await self.fails()
        assert self.home.parts.github_breaker.is_open
        wrong.end()
        self.github.put("/page", b"<html>Back soon</html>", content_type="text/html")
        assert (await self.home.get("/page", token="bob-1")).status == 200
        assert self.home.parts.github_breaker.is_open
        assert (await self.home.get("/thing", token="bob-1")).status == 200
        assert not self.home.parts.github_breaker.is_open

    async def test_one_broken_endpoint_is_no_outage(self) -> None:
        """Many requests for one target, by many credentials, do not affect other targets."""
        self.github.put("/steady", {"b": 1})
        await self.home.get("/steady", token="bob-1")
        self.github.fault("/thing", "503")
        for token in ("alice-1", "bob-1", "carol-1") * 3:
            await self.home.get("/thing", token=token)
        got = await self.home.get("/steady", token="bob-1")
        assert got.outcome.endswith("detail=revalidated")
        assert not self.home.parts.github_breaker.is_open

    async def test_response_over_a_limit_of_the_mirror_is_no_failure(self) -> None:
        """It is no failure of GitHub; the response names the limit."""
        self.github.fault(None, "huge-field", size_bytes=300_000)
        for number in range(6):
            for token in ("alice-1", "bob-1"):
                got = await self.home.get(f"/repos/o/{number}", token=token)
                assert (got.status, got.outcome) == (502, "detail=broken-answer")
                assert "larger than this mirror accepts" in got.json["message"]
        assert not self.home.parts.github_breaker.failures

    async def test_timeout_with_little_time_left_is_no_failure(self) -> None:
        """A request that times out soon after a long wait is no failure of GitHub."""
        mirror = self.home.parts.mirror
        self.github.fault(None, "timeout")
        for number in range(6):
            request = Request(b"GET", b"/repos/o/%d" % number, Fields(((b"user-agent", b"t"),)))
            requester = Requester(f"{number}", f"{number}")
            left = mirror.sender.send(OutgoingRequest(request, requester, mirror.now() + 0.01))
            await self.assertFailure(Deferred.fromCoroutine(left), UpstreamError)
        assert not self.home.parts.github_breaker.failures

    async def test_clients_that_leave_are_no_failures(self) -> None:
        """Whenever they go: while GitHub's name is looked up, for one."""
        named = self.github.api_url.replace("127.0.0.1", "localhost")
        home = await open_home(self, self.github, github={"api_url": named})
        for number in range(6):
            sent = start(home.get(f"/new/{number}", token="alice-1"))
            await until(lambda: home.parts.client.open_exchanges > 0)
            sent.cancel()
            await self.assertFailure(sent, Exception)
            await until(lambda: home.parts.resource.in_flight == 0)
        assert not home.parts.github_breaker.failures
        assert not home.parts.github_breaker.is_open

    async def test_probe_closes_the_circuit(self) -> None:
        """Though each request has a stored response: now and then one is sent as a probe."""
        wrong = self.github.fault(None, "503")
        await self.fails()
        wrong.end()
        self.home.move_on(6.0)
        assert (await self.home.get("/thing", token="alice-1")).outcome == "hit; detail=offline"
        await until(lambda: not self.home.parts.github_breaker.is_open)
        got = await self.home.get("/thing", token="alice-1")
        assert got.outcome.endswith("detail=revalidated")


class Page(TestCase):
    """One mirror, and a status page."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.page = GitHub()
        await self.page.listen()
        self.addCleanup(self.page.close)
        self.set_status_page("operational")
        status = {"status_url": f"{self.page.api_url}/status", "status_interval": 0.01}
        self.home = await open_home(self, github=status)
        self.home.github.put("/thing", {"a": 1})
        await self.home.get("/thing", token="alice-1")

    def set_status_page(self, status: str) -> None:
        """Set the state of the API on the status page."""
        self.page.put("/status", {"components": [{"name": "API Requests", "status": status}]})

    async def read_again(self) -> None:
        """Wait until the page has been read as it is now."""
        before = len(self.page.log)
        await until(lambda: len(self.page.log) >= before + 2)

    async def test_major_outage_on_the_status_page_opens_the_circuit(self) -> None:
        """Makes GitHub offline, until the page or GitHub itself has another state."""
        self.set_status_page("major_outage")
        await until(lambda: self.home.parts.github_breaker.is_open)
        assert (await self.home.get("/thing", token="alice-1")).outcome == "hit; detail=offline"
        self.set_status_page("partial_outage")
        await until(lambda: not self.home.parts.github_breaker.is_open)
        self.set_status_page("major_outage")
        await until(lambda: self.home.parts.github_breaker.is_open)
        assert (await self.home.get("/thing", token="bob-1")).status == 200
        await self.read_again()
        got = await self.home.get("/thing", token="alice-1")
        assert got.outcome.endswith("detail=revalidated")

    async def test_partial_outage_needs_a_failure(self) -> None:
        """Makes GitHub offline with the first failure after it; a good response ends that."""
        self.set_status_page("partial_outage")
        await self.read_again()
        wrong = self.home.github.fault(None, "502")
        got = await self.home.get("/thing", token="alice-1")
        assert got.outcome == "fwd=stale; fwd-status=502; detail=server-error"
        assert (await self.home.get("/thing", token="alice-1")).outcome == "hit; detail=offline"
        wrong.end()
        assert (await self.home.get("/thing", token="bob-1")).status == 200
        got = await self.home.get("/thing", token="alice-1")
        assert got.outcome.endswith("detail=revalidated")

    async def test_unreadable_status_page_changes_nothing(self) -> None:
        """No page, no connection, half a page, garbage: requests are sent as before."""
        parts = self.home.parts
        assert parts.status_page is not None
        garbage: tuple[object, ...] = (b"<html>", {"components": "none"}, [], b"\xff")
        for content in garbage:
            self.page.put("/status", content)
            await self.read_again()
            parts.status_page.failures = 0
            got = await self.home.get("/thing", token="alice-1")
            assert got.outcome.endswith("detail=revalidated")
        for kind in ("500", "reset", "truncated", "malformed"):
            wrong = self.page.fault("/status", kind)
            await until(lambda: wrong.seen >= 2)  # noqa: B023 - it is waited for at once
            wrong.end()
            parts.status_page.failures = 0
            got = await self.home.get("/thing", token="alice-1")
            assert got.outcome.endswith("detail=revalidated")


class Fleet(TwoReplicas):
    """Two mirrors on one Redis; alice has a grant at one of them."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        await super().setUp()
        self.github.put("/more", {"a": 2})
        self.github.put_search(SEARCH, [{"a": 1}])
        await self.one.get("/thing", token="alice-1")
        await settled(self.one.parts.store)

    async def test_limit_applies_to_all_replicas(self) -> None:
        """For that credential and bucket; to reads, writes, and new requests."""
        for kind, sends_quota, search in (("primary", True, "fwd"), ("secondary", False, "hit")):
            self.github.sends_quota = sends_quota
            self.github.fault("/more", f"{kind}-limit", times=1)
            first = await self.one.get("/more", token="alice-1", headers=NO_CACHE)
            assert first.status == 403
            self.github.sends_quota = True
            await settled(self.one.parts.store)
            self.github.log.clear()
            # It is forwarded, since this replica has not been informed.
            for method, body in (("PATCH", b"{}"), ("GET", None)):
                got = await self.other.send(method, "/more", token="alice-1", body=body)
                assert (got.status, got.outcome) == (403, f"detail={kind}-limit")
                assert got.json == first.json
                for name in ("limit", "remaining", "reset", "used", "resource"):
                    assert got.field(f"x-ratelimit-{name}") == first.field(f"x-ratelimit-{name}")
                waits = got.field("retry-after")
                # The two clocks are not stopped at quite the same moment.
                assert waits is None if kind == "primary" else 0 < int(waits or 0) <= 61
            got = await self.other.get("/thing", token="alice-1")
            assert (got.json, got.outcome) == ({"a": 1}, f"hit; detail={kind}-limit")
            assert not self.github.log
            assert (await self.other.get("/more", token="bob-1")).status == 200
            assert (await self.other.get(SEARCH, token="alice-1")).outcome[:3] == search
            for home in (self.one, self.other):
                home.move_on(3601.0)
            for home in (self.one, self.other):
                got = await home.get("/thing", token="alice-1")
                assert got.outcome.endswith("detail=revalidated")

    async def test_one_request_of_the_fleet_probes(self) -> None:
        """After the end of a limit; no other is sent until its response."""
        self.patch(limit_probes, "_WAIT_S", 0.05)
        for kind in ("primary", "secondary"):
            await self.limited(kind)
            barrier = self.github.hold("/thing")
            trial = start(self.one.get("/thing", token="alice-1"))
            await barrier.arrived(1)
            got = await self.other.get("/thing", token="alice-1")
            assert got.outcome == f"hit; detail={kind}-limit"
            got = await self.other.send("PATCH", "/more", token="alice-1", body=b"{}")
            waits = None if kind == "primary" else "1"
            assert (got.status, got.field("retry-after")) == (403, waits)
            self.other.move_on(1.1)
            got = await self.other.get("/thing", token="alice-1")
            assert got.outcome == f"hit; detail={kind}-limit"
            assert barrier.waiting == 1
            barrier.open()
            assert (await trial).outcome.endswith("detail=revalidated")
            await settled(self.one.parts.store)
            polls = self.other.parts.redis.locks.polls  # type: ignore[union-attr]
            await until(lambda: not polls)  # noqa: B023 - it is waited for at once
            self.other.move_on(1.1)
            got = await self.other.get("/thing", token="alice-1")
            assert got.outcome.endswith("detail=revalidated")

    async def limited(self, kind: str = "secondary") -> None:
        """Send requests of alice up to a limit, and advance to its end."""
        self.github.fault("/more", f"{kind}-limit", times=1)
        await self.one.get("/more", token="alice-1", headers=NO_CACHE)
        await settled(self.one.parts.store)
        got = await self.other.get("/more", token="alice-1", headers=NO_CACHE)
        assert got.outcome == f"detail={kind}-limit"
        for home in (self.one, self.other):
            home.move_on(3601.0)

    async def test_all_replicas_proceed_after_a_passed_probe(self) -> None:
        """Waiting requests at once, and later ones."""
        self.patch(limit_probes, "_WAIT_S", 30.0)
        for kind in ("primary", "secondary"):
            await self.limited(kind)
            barrier = self.github.hold("/thing")
            sent = [start(self.one.get("/thing", token="alice-1"))]
            await barrier.arrived(1)
            sent += [start(self.other.get("/thing", token="alice-1"))]
            polls = self.other.parts.redis.locks.polls  # type: ignore[union-attr]
            await until(lambda: bool(polls))  # noqa: B023 - it is waited for at once
            barrier.open()
            for each in sent:
                assert (await each).outcome.endswith("detail=revalidated")
            assert not self.other.parts.mirror.sender.limits.any_known

    async def test_next_probe_learns_of_a_new_limit(self) -> None:
        """A delayed request is not sent into a limit that another has met meanwhile."""
        await self.limited()
        self.github.fault(None, "secondary-limit")
        barrier = self.github.hold("/thing")
        trial = start(self.one.get("/thing", token="alice-1", headers=NO_CACHE))
        await barrier.arrived(1)
        turn: Deferred[None] = Deferred()
        enter = self.other.parts.mirror.limiter.acquire
        waiting: list[bool] = []

        async def late(*given: Any, **more: Any) -> Any:
            permit = await enter(*given, **more)
            waiting.append(True)
            await turn
            return permit

        self.patch(
            RateLimiter,
            "acquire",
            lambda _, *given, **more: Deferred.fromCoroutine(late(*given, **more)),
        )
        other = start(self.other.get("/more", token="alice-1"))
        await until(lambda: bool(waiting))
        barrier.open()
        assert (await trial).status == 403
        await settled(self.one.parts.store)
        self.github.log.clear()
        turn.callback(None)
        assert (await other).outcome == "detail=secondary-limit"
        assert not self.github.log

    async def test_slow_probe_is_replaced(self) -> None:
        """Another one is sent meanwhile."""
        self.patch(limit_probes, "_LONGEST_S", 12_345.0)
        self.patch(limit_probes, "_WAIT_S", 30.0)
        await self.limited()
        barrier = self.github.hold("/thing")
        trial = start(self.one.get("/thing", token="alice-1"))
        await barrier.arrived(1)
        store, waiting = self.other.parts.store, []
        released: Callable[..., Deferred[None]] = type(store).released

        def waits(this: Any, lock: LockName, timeout_s: float) -> Deferred[None]:
            waiting.append(lock)
            return released(this, lock, timeout_s)

        self.patch(type(store), "released", waits)
        other = start(self.other.get("/thing", token="alice-1"))
        await until(lambda: bool(waiting))
        (longest,) = (
            each
            for each in reactor.getDelayedCalls()
            if each.getTime() - reactor.seconds() > 12_000
        )
        longest.reset(0)
        # The probe of the other replica is too slow; a second later another one may be sent.
        assert (await other).outcome == "hit; detail=secondary-limit"
        self.other.move_on(1.1)
        other = start(self.other.get("/thing", token="alice-1"))
        await barrier.arrived(2)
        barrier.open()
        for each in (trial, other):
            assert (await each).outcome.endswith("detail=revalidated")
