"""The rules of stale responses: which credential receives one, when, and until when."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from ghmirror_tw.caching.records import Grant
from ghmirror_tw.proxy.stored_responses import StoredResponses
from ghmirror_tw.runtime.bounded_tables import CredentialTable
from ghmirror_tw.store.memory_records_by_name import NamedRecords
from ghmirror_tw.wiring.settings_reload import SettingsReload
from tests.fakes.github import GitHub
from tests.harness.home import (
    Home,
    MovableReactor,
    Received,
    open_home,
    reactor,
    start,
    until,
)
from tests.harness.redis_stores import settled
from tests.harness.timers import LONG_S, Timers, with_timers
from tests.harness.two_replicas import TwoReplicas

NO_CACHE = {"Cache-Control": "no-cache"}
STALE = "fwd=stale; fwd-status=503; detail=server-error"
LATE = "fwd=stale; detail=timeout"


class Stale(TestCase):
    """One mirror; alice has a grant."""

    home: Home
    github: GitHub

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self, cache={"stale_limit": 100.0, "max_stored_size": 50_000})
        self.github = self.home.github
        self.github.put("/thing", {"a": 1})
        await self.home.get("/thing", token="alice-1")

    async def while_away(self, target: str = "/thing", **more: Any) -> Received:
        """Request as alice while GitHub responds with 503."""
        wrong = self.github.fault(target, "503")
        try:
            return await self.home.get(target, token="alice-1", **more)
        finally:
            wrong.end()

    async def test_stale_response_within_stale_limit(self) -> None:
        """So long after GitHub's last word, with its age, and no longer."""
        self.home.move_on(99.0)
        got = await self.while_away()
        assert (got.status, got.outcome) == (200, STALE)
        assert int(got.field("age") or -1) == 99
        self.home.move_on(2.0)
        assert (await self.while_away()).status == 503

    async def test_stale_response_has_the_fields_that_clients_rely_on(self) -> None:
        """Scopes, SSO and the interval of the grant, and the last known quota."""
        more = {"X-GitHub-SSO": "partial-results; organizations=1", "X-Poll-Interval": "60"}
        self.github.put("/thing", {"a": 1}, fields=more)
        last = await self.home.get("/thing", token="alice-1")
        search = await self.home.get("/search/issues?q=x", token="alice-1")
        got = await self.while_away()
        assert got.outcome == STALE
        for name in (
            *("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-used"),
            *("x-ratelimit-reset", "x-ratelimit-resource", "x-oauth-scopes", "x-github-sso"),
            "x-poll-interval",
        ):
            assert got.field(name) == last.field(name) is not None, name
        assert search.field("x-ratelimit-resource") == "search"
        assert (got.field("x-from-cache"), got.field("x-github-request-id")) == ("1", None)

    async def test_stale_response_saves_no_quota(self) -> None:
        """Neither alone nor together with another client: GitHub did not serve the request."""
        before = self.home.parts.metrics.saved_in_all
        wrong = self.github.fault("/thing", "503")
        barrier = self.github.hold("/thing")
        both = [start(self.home.get("/thing", token="alice-1")) for _ in "12"]
        await barrier.arrived(1)
        barrier.open()
        assert {(await each).outcome for each in both} == {STALE, f"{STALE}; collapsed"}
        wrong.end()
        assert self.home.parts.metrics.saved_in_all == before

    async def test_no_cache_receives_no_stale_response(self) -> None:
        """`no-cache` forbids it."""
        assert (await self.while_away(headers=NO_CACHE)).status == 503
        assert (await self.while_away(headers={"Pragma": "no-cache"})).status == 503

    async def test_preconditions_apply_to_stale_responses(self) -> None:
        """304 to a client that has the response; it is no less stale."""
        etag = (await self.while_away()).field("etag") or ""
        got = await self.while_away(headers={"If-None-Match": etag})
        assert (got.status, got.outcome, got.field("x-from-cache")) == (304, STALE, "1")

    async def test_no_stale_response_after_a_refusal(self) -> None:
        """By any refusing status, of any request, and though its content broke off."""
        refusing: list[tuple[str, dict[str, str], str]] = [
            ("GET", {}, ""),
            ("HEAD", {}, ""),
            ("GET", NO_CACHE, ""),
            ("GET", {"Cache-Control": "no-store"}, ""),
            ("GET", {}, "truncated"),
            ("GET", {}, "bad-gzip"),
        ]
        for status in (401, 403, 404, 410, 451):
            for method, headers, fault in refusing:
                case = (status, method, headers, fault)
                self.github.put("/thing", {"a": 1})
                assert (await self.home.get("/thing", token="alice-1")).status == 200, case
                assert (await self.while_away()).outcome == STALE, case
                self.github.put("/thing", {"message": "no " * 500}, status=status)
                wrong = self.github.fault("/thing", fault) if fault else None
                await self.home.send(method, "/thing", token="alice-1", headers=headers)
                if wrong is not None:
                    wrong.end()
                assert (await self.while_away()).status == 503, case

    async def test_no_stale_response_by_a_restored_grant(self) -> None:
        """A grant from a snapshot is none before GitHub has confirmed it."""
        records = NamedRecords(self.home.parts.memory.records)
        for name in records.names():
            record = records.peek(name)
            if isinstance(record, Grant):
                records.remove(name)
                assert records.admit(name, evolve(record, epoch=None))
        assert (await self.while_away()).status == 503
        assert (await self.home.get("/thing", token="alice-1")).outcome.endswith("revalidated")
        assert (await self.while_away()).outcome == STALE

    async def test_stale_response_teaches_no_login(self) -> None:
        """A stale response to `/user` does not show the login of today."""
        await self.home.get("/user", token="alice-1")
        self.home.parts.mirror.users.records = CredentialTable()
        assert (await self.while_away("/user")).status == 200
        mirror = self.home.parts.mirror
        name = mirror.credentials.names.name(b"token alice-1")
        assert mirror.users.login(name, mirror.now()) is None

    async def test_content_too_large_to_hold_is_sent_to_each_client(self) -> None:
        """Incoming content cannot be streamed to two clients of a flight."""
        self.github.put("/thing", {"text": "".join(map(str, range(60_000)))})
        barrier = self.github.hold("/thing")
        sent = [start(self.home.get("/thing", token="alice-1")) for _ in range(6)]
        await barrier.arrived(1)
        barrier.open()
        for each in sent:
            assert len((await each).plain) > 250_000

    async def test_removed_user_is_rejected_after_sighup(self) -> None:
        """From the moment when the list of users is reread; stale or not."""
        config = Path(self.mktemp())
        settings = SettingsReload(str(config), self.home.parts)
        for listed, status in (("alice bob", 200), ("bob", 403), ("ALICE", 200)):
            users = listed.replace(" ", "\n    ")
            config.write_text(  # noqa: ASYNC240 - it is a few bytes
                f"[server]\nallowed_users = {users}\n[github]\napi_url = {self.github.api_url}\n"
            )
            settings.reload()
            got = await self.home.get("/thing", token="alice-1")
            assert got.status == status, listed
            assert (await self.while_away()).status == status, listed


class Late(TestCase):
    """One mirror whose timers the test ends; alice has a grant."""

    home: Home
    timers: Timers

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self, server={"allowed_users": frozenset({"alice", "bob"})})
        self.timers = with_timers(self.home)
        self.github = self.home.github
        self.github.put("/thing", {"a": 1})
        await self.home.get("/thing", token="alice-1")

    async def test_stale_response_after_stale_after(self) -> None:
        """Its exchange continues; the next request for the same waits for its end."""
        barrier = self.github.hold("/thing")
        first = start(self.home.get("/thing", token="alice-1"))
        await barrier.arrived(1)
        self.timers.end_shortest()
        got = await first
        assert (got.json, got.outcome) == ({"a": 1}, LATE)
        self.github.put("/thing", {"a": 2})
        second = start(self.home.get("/thing", token="alice-1"))
        await until(lambda: self.home.parts.resource.in_flight == 1)
        other = start(self.home.get("/thing", token="bob-1"))
        await barrier.arrived(2)
        assert barrier.waiting == 2
        barrier.release(1)
        await barrier.arrived(2)
        self.github.put("/thing", {"a": 3})
        barrier.open()
        assert (await second).json == {"a": 3}
        assert (await other).json == {"a": 3}
        assert len(self.github.exchanges("/thing")) == 4

    async def test_detached_exchange_is_not_repeated(self) -> None:
        """Requests for the same receive a stale response in time, too."""
        barrier = self.github.hold("/thing")
        for _ in range(3):
            sent = start(self.home.get("/thing", token="alice-1"))
            await barrier.arrived(1)
            await until(lambda: self.home.parts.resource.in_flight == 1)
            await until(lambda: bool([call for call in self.timers.calls if call.active()]))
            self.timers.end_shortest()
            assert (await sent).outcome == LATE
        assert barrier.waiting == 1
        barrier.open()
        await until(lambda: not self.home.parts.mirror.flights.detached)
        assert len(self.github.exchanges("/thing")) == 2

    async def test_response_of_a_detached_exchange_is_stored(self) -> None:
        """No client waits for it any more."""
        barrier = self.github.hold("/thing")
        sent = start(self.home.get("/thing", token="alice-1"))
        await barrier.arrived(1)
        self.timers.end_shortest()
        assert (await sent).outcome == LATE
        self.github.put("/thing", {"a": 2})
        barrier.open()
        await until(lambda: not self.home.parts.mirror.flights.detached)
        assert (await self.home.get("/thing", token="alice-1")).outcome.endswith("revalidated")

    async def test_detached_exchange_ends_at_shutdown(self) -> None:
        """It holds no connection any longer."""
        barrier = self.github.hold("/thing")
        sent = start(self.home.get("/thing", token="alice-1"))
        await barrier.arrived(1)
        self.timers.end_shortest()
        assert (await sent).outcome == LATE
        await self.home.close()
        await until(lambda: barrier.waiting == 0)

    async def test_request_for_a_login_ends_at_shutdown(self) -> None:
        """It continues for later requests, and there are none."""
        self.home.move_on(301.0)
        barrier = self.github.hold("/user")
        sent = start(self.home.get("/thing", token="alice-1"))
        await barrier.arrived(1)
        self.timers.end_shortest()
        assert (await sent).status == 200
        assert barrier.waiting == 1
        await self.home.close()
        assert not len(self.home.parts.mirror.users.requests)
        await until(lambda: barrier.waiting == 0)

    async def test_without_a_usable_grant_the_client_waits(self) -> None:
        """It receives GitHub's response, and no early error."""
        self.home.parts.mirror.options.stale_limit = 0.0
        self.home.move_on(1.0)
        barrier = self.github.hold("/thing")
        sent = start(self.home.get("/thing", token="alice-1"))
        await barrier.arrived(1)
        before = len(self.timers.calls)
        self.timers.end_shortest()
        await until(lambda: len([c for c in self.timers.calls if c.active()]) < before)
        barrier.open()
        assert (await sent).outcome.endswith("revalidated")

    async def test_login_and_response_share_a_deadline(self) -> None:
        """The login uses up the time of both; then a stale response is sent at once."""
        self.home.move_on(301.0)
        user, what = self.github.hold("/user"), self.github.hold("/thing")
        sent = start(self.home.get("/thing", token="alice-1"))
        await user.arrived(1)
        assert what.waiting == 0
        self.home.move_on(5.0)
        self.timers.made.clear()
        self.timers.end_shortest()
        await what.arrived(1)
        assert (await sent).outcome == LATE
        # Nothing but the connections' own time was waited for after that.
        assert [made for made in self.timers.made if LONG_S <= made <= 5.0] == []
        # Both requests continue.
        await what.arrived(1)
        assert (user.waiting, what.waiting) == (1, 1)
        user.open()
        what.open()
        await until(lambda: not self.home.parts.mirror.flights.detached)

    async def test_client_that_leaves_during_the_stale_look_up_leaks_nothing(self) -> None:
        """Though GitHub's response is received at the same time."""
        mirror = self.home.parts.mirror
        mirror.options.max_stored_size = 1000
        self.github.put("/thing", {"a": Random(1).randbytes(100_000).hex()})
        looking: Deferred[None] = Deferred()
        looked: list[bool] = []

        async def look(*_: Any) -> None:
            looked.append(True)
            await looking

        self.patch(StoredResponses, "stale", look)
        barrier = self.github.hold("/thing")
        sent = start(self.home.get("/thing", token="alice-1"))
        await barrier.arrived(1)
        self.timers.end_shortest()
        await until(lambda: bool(looked))
        barrier.open()
        await until(lambda: not mirror.flights.detached)
        assert mirror.limiter.in_flight == 1
        sent.cancel()
        await self.assertFailure(sent, Exception)
        await until(lambda: mirror.limiter.in_flight == 0)

    async def test_wait_for_a_restore_extends_the_deadline(self) -> None:
        """A request that waited for the restore has the whole timeout for GitHub's response."""
        barrier = self.home.parts.barrier
        barrier.shut("owner")
        self.github.put("/new", {"b": 1})
        sent = start(self.home.get("/new", token="alice-1"))
        await until(lambda: barrier.waiting > 0)
        self.home.move_on(31.0)
        barrier.open("owner")
        assert (await sent).status == 200

    async def test_stored_login_is_used_at_once_while_offline(self) -> None:
        """The last yes holds at once."""
        wrong = self.github.fault(None, "refuse")
        for number in range(5):
            await self.home.get(f"/nowhere/{number}", token=("alice-1", "bob-1")[number % 2])
        assert self.home.parts.github_breaker.is_open
        wrong.end()
        self.home.move_on(301.0)
        barrier = self.github.hold("/user")
        got = await self.home.get("/thing", token="alice-1")
        assert (got.status, got.outcome) == (200, "hit; detail=offline")
        barrier.open()


class Fleet(TwoReplicas):
    """Two mirrors on one Redis."""

    async def test_replica_serves_stale_by_the_grant_of_another(self) -> None:
        """Though it never requested the response itself; other credentials receive none."""
        await self.one.get("/thing", token="alice-1")
        await settled(self.one.parts.store)
        self.github.fault("/thing", "503")
        got = await self.other.get("/thing", token="alice-1")
        assert (got.json, got.outcome) == ({"a": 1}, STALE)
        assert got.field("x-oauth-scopes") == "repo, user"
        assert (await self.other.get("/thing", token="bob-1")).status == 503

    async def test_refusal_through_one_replica_ends_stale_responses_of_all(self) -> None:
        """Not the one that was granted it before, either."""
        for end in (
            lambda: self.github.private("/thing", ()),
            lambda: self.github.revoke("alice-1"),
        ):
            self.github.private("/thing", None)
            self.github.token("alice-1", "alice")
            assert (await self.one.get("/thing", token="alice-1")).status == 200
            await settled(self.one.parts.store)
            end()
            assert (await self.other.get("/thing", token="alice-1")).status in {401, 404}
            await settled(self.other.parts.store)
            wrong = self.github.fault("/thing", "503")
            for home in (self.one, self.other):
                # A credential that is no longer accepted is checked first.
                assert (await home.get("/thing", token="alice-1")).status in {401, 503}
            wrong.end()

    async def test_age_is_never_negative(self) -> None:
        """Whichever of the clocks is ahead: by a stale and by a fresh response."""
        cache = {"backend": "redis", "fresh_for": 1000.0}
        for ahead_s in (120.0, -120.0):
            token = "alice-1" if ahead_s > 0 else "bob-1"
            clocks = MovableReactor(reactor), MovableReactor(reactor)
            clocks[0].move(ahead_s)
            one, other = [
                await open_home(self, self.github, clock, **{**self.options, "cache": cache})
                for clock in clocks
            ]
            for target in ("/thing", "/no"):
                await one.get(target, token=token)
            await settled(one.parts.store)
            wrong, seen = self.github.fault("/thing", "503"), []
            for back_s in (0.0, -60.0):
                for home in (one, other):
                    home.move_on(back_s)
                    for target in ("/thing", "/no"):
                        for fields in ({}, {"Cache-Control": "max-age=0"}):
                            got = await home.get(target, token=token, headers=fields)
                            age = got.field("age")
                            assert age is None or int(age) >= 0, (ahead_s, target, got)
                            seen.append((got.outcome.partition("detail=")[2], age))
            wrong.end()
            details = {detail for detail, age in seen if age is not None}
            assert details >= {"fresh", "server-error"}, seen

    async def test_collapsed_requests_share_a_stale_response(self) -> None:
        """Each client of the flight receives it in its own form."""
        await self.one.get("/thing", token="alice-1")
        # A flight is joined only after a look-up that is current.
        await settled(self.one.parts.store)
        await self.one.parts.store.history.looked_up(30.0)
        self.one.move_on(0.0)
        barrier = self.github.hold("/thing")
        self.github.fault("/thing", "503")
        sent = [start(self.one.get("/thing", token="alice-1")) for _ in range(3)]
        await barrier.arrived(1)
        while await self.one.metric("ghmirror_collapsed_total") < 2:
            pass  # until two have joined, each after a look-up in Redis
        barrier.open()
        got: list[Deferred[Received]] = sent
        assert {(await each).json["a"] for each in got} == {1}
        assert len(self.github.exchanges("/thing")) == 2
