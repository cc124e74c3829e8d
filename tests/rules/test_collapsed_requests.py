"""The rules of collapsed requests: joining of flights, ends by writes, the lock of the fleet."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from ghmirror_tw.caching.records import Known
from ghmirror_tw.proxy.collapsed_requests import JOIN_WINDOW_S
from ghmirror_tw.store.memory_records_by_name import NamedRecords
from ghmirror_tw.store.record_kinds import REPRESENTATION
from tests.fakes.github import Gate
from tests.harness.home import Home, Received, open_github, open_home, start, until
from tests.harness.redis_servers import start_redis
from tests.harness.redis_stores import settled

MUTATION = b'{"query":"mutation{x}"}'
QUERY = b'{"query":"query{x}"}'


class Requests(TestCase):
    """Nothing here waits for time: a wait that doesn't end is cut off by trial."""

    timeout = 30
    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self, cache={"collapse_wait": 10_000.0})
        # The clock is stopped, so that no request becomes older while others are sent.
        self.home.move_on(0.0)
        self.github = self.home.github
        self.github.put("/thing", {"a": 1})

    async def in_flight(self, count: int) -> None:
        """Wait until the mirror has so many requests."""
        await until(lambda: self.home.parts.resource.in_flight >= count)

    async def all_at_once(
        self, barrier: Gate, target: str, tokens: list[str], arriving: int
    ) -> list[Received]:
        """Send requests of all tokens; open the gate when so many have arrived at GitHub."""
        pending = [start(self.home.get(target, token=token)) for token in tokens]
        await self.in_flight(len(tokens))
        await barrier.arrived(arriving)
        # When these have responses, all other requests have arrived, too.
        for _ in range(2):
            await self.home.send("POST", "/graphql", token="carol-2", body=QUERY)
        assert barrier.waiting == arriving
        barrier.open()
        got: list[Received] = await gatherResults(pending)
        return got


class Together(Requests):
    """One credential, with equal and different requests."""

    async def test_flight_shares_any_status(self) -> None:
        """Concurrent requests of one credential are sent once; errors are shared, too."""
        self.github.put("/gone", {"a": 1}, status=410)
        self.github.fault("/broken", "500")
        for target, status in (
            ("/thing", 200),
            ("/nowhere", 404),
            ("/gone", 410),
            ("/broken", 500),
        ):
            barrier = self.github.hold(target)
            got = await self.all_at_once(barrier, target, ["alice-1"] * 3, arriving=1)
            assert [each.status for each in got] == [status] * 3
            assert len(self.github.exchanges(target)) == 1

    async def test_different_requests_do_not_share_a_flight(self) -> None:
        """Another credential's, another key's, or one that wants no guess is its own."""
        await self.home.get("/thing", token="alice-1")
        barrier = self.github.hold()
        pending = [
            start(self.home.get("/thing", token="alice-1")),
            start(self.home.get("/thing", token="bob-1")),
            start(self.home.get("/thing?a", token="alice-1")),
            start(self.home.get("/thing", token="alice-1", headers={"Accept": "a/b"})),
            start(self.home.get("/thing", token="alice-1", headers={"Pragma": "no-cache"})),
        ]
        await barrier.arrived(len(pending))
        barrier.open()
        for each in await gatherResults(pending):
            assert "collapsed" not in each.outcome

    async def test_response_too_large_to_hold_is_requested_by_each(self) -> None:
        """Incoming content is sent to one client; the others have their own responses."""
        self.home = await open_home(self, self.github, cache={"max_stored_size": 1000})
        self.home.move_on(0.0)
        content = bytes(range(256)) * 20
        self.github.put("/big", content, content_type="application/octet-stream")
        barrier = self.github.hold("/big")
        got = await self.all_at_once(barrier, "/big", ["alice-1"] * 3, arriving=1)
        assert [each.content for each in got] == [content] * 3
        assert len(self.github.exchanges("/big")) == 3

    async def test_broken_response_is_requested_again(self) -> None:
        """The first client receives the error; clients that joined do not."""
        # On a connection that was idle, it is sent once more at once.
        self.github.fault("/thing", "reset", times=2)
        barrier = self.github.hold("/thing")
        got = await self.all_at_once(barrier, "/thing", ["alice-1"] * 2, arriving=1)
        assert sorted(each.status for each in got) == [200, 502]

    async def test_repeatedly_broken_response_is_not_requested_by_each(self) -> None:
        """However many wait, and though there is nothing stale that they could have instead."""
        await self.home.get("/thing", token="alice-1")
        records = NamedRecords(self.home.parts.memory.records)
        for name in [each for each in records.names() if each.kind is REPRESENTATION]:
            records.remove(name)
        self.github.reset_counts()
        self.github.fault("/thing", "reset")
        barrier = self.github.hold("/thing")
        pending = [start(self.home.get("/thing", token="alice-1")) for _ in range(20)]
        await self.in_flight(20)
        barrier.open()
        got = await gatherResults(pending)
        assert {each.status for each in got} == {502}
        assert len(self.github.exchanges("/thing")) <= 4

    async def test_each_client_of_a_flight_receives_its_own_variant(self) -> None:
        """URLs, coding and preconditions are those of each client, of one response."""
        self.github.put("/thing", {"url": f"{self.github.api_url}/thing"})
        etag = (await self.home.get("/thing", token="alice-1")).field("etag") or ""
        self.github.reset_counts()
        barrier = self.github.hold("/thing")
        pending = [
            start(self.home.get(target, token="alice-1", headers=headers))
            for target, headers in (
                ("/thing", {}),
                ("/api/v3/thing", {"Accept-Encoding": "gzip"}),
                ("/thing", {"Host": "other.test"}),
                ("/thing", {"If-None-Match": etag}),
                ("/thing", {"If-None-Match": '"other"'}),
            )
        ]
        await self.in_flight(len(pending))
        barrier.open()
        got = await gatherResults(pending)
        assert [each.status for each in got] == [200, 200, 200, 304, 200]
        url = self.home.url
        bases = [each.json["url"] for each in got if each.status == 200]
        assert bases == [
            f"{base}/thing" for base in (url, f"{url}/api/v3", "http://other.test", url)
        ]
        assert [each.field("content-encoding") for each in got] == [None, "gzip", None, None, None]
        assert len(self.github.exchanges("/thing")) == 1

    async def test_a_write_begins_a_new_generation(self) -> None:
        """When it is sent and when it ends: later requests do not join earlier flights."""
        await self.home.get("/thing", token="alice-1")
        barrier, writing = self.github.hold("/thing"), self.github.hold("/graphql")
        pending = [start(self.home.get("/thing", token="alice-1"))]
        await barrier.arrived(1)
        write = start(self.home.send("POST", "/graphql", token="alice-1", body=MUTATION))
        await writing.arrived(1)
        pending.append(start(self.home.get("/thing", token="alice-1")))
        await barrier.arrived(2)
        writing.open()
        await write
        pending.append(start(self.home.get("/thing", token="alice-1")))
        await barrier.arrived(3)
        barrier.open()
        assert [each.json for each in await gatherResults(pending)] == [{"a": 1}] * 3

    async def test_safe_methods_begin_no_generation(self) -> None:
        """Neither does a write of another credential: concurrent requests join."""
        await self.home.get("/thing", token="alice-1")
        barrier = self.github.hold("/thing")
        pending = [start(self.home.get("/thing", token="alice-1"))]
        await barrier.arrived(1)
        await self.home.send("POST", "/graphql", token="alice-1", body=QUERY)
        await self.home.send("POST", "/graphql", token="bob-1", body=MUTATION)
        pending.append(start(self.home.get("/thing", token="alice-1")))
        await self.in_flight(2)
        barrier.open()
        outcomes = [each.outcome for each in await gatherResults(pending)]
        assert outcomes[1].endswith("; collapsed")

    async def test_older_response_does_not_replace_a_newer_one(self) -> None:
        """A request from before a write may end last; the response to the later one stays."""
        await self.home.get("/thing", token="alice-1")
        self.github.put("/thing", {"a": 2})
        barrier = self.github.hold("/thing", compute_first=True)
        early = start(self.home.get("/thing", token="alice-1"))
        await barrier.arrived(1)
        self.github.gates.remove(barrier)
        await self.home.send("PUT", "/thing", token="alice-1", body=b'{"a":3}')
        assert (await self.home.get("/thing", token="alice-1")).json == {"a": 3}
        barrier.open()
        assert (await early).json == {"a": 2}
        self.github.reset_counts()
        got = await self.home.get("/thing", token="alice-1")
        assert (got.json, self.github.total_paid) == ({"a": 3}, 0)
        assert got.outcome.endswith("detail=revalidated")

    async def test_older_response_is_never_fresh(self) -> None:
        """A response from before the end of a write is validated before it is used again."""
        home = self.home = await open_home(self, self.github, cache={"fresh_for": 60.0})
        for method, target, body in (
            ("PUT", "/thing", b'{"a":1}'),
            ("DELETE", "/nothing", None),
            ("POST", "/graphql", MUTATION),
        ):
            barrier, writing = self.github.hold("/thing"), self.github.hold(target)
            if target == "/thing":
                writing.open()
            no_cache = {"Cache-Control": "no-cache"}
            early = start(home.get("/thing", token="alice-1", headers=no_cache))
            await barrier.arrived(1)
            write = start(home.send(method, target, token="alice-1", body=body))
            await (barrier.arrived(2) if target == "/thing" else writing.arrived(1))
            barrier.release(1)
            assert (await early).status == 200
            barrier.open()
            writing.open()
            await write
            got = await home.get("/thing", token="alice-1")
            assert got.outcome.endswith("fwd-status=304; detail=revalidated"), method
            assert (await home.get("/thing", token="alice-1")).outcome == "hit; detail=fresh"

    async def test_client_that_leaves_counts_as_no_failure(self) -> None:
        """For any request: nothing is logged, and no failure of GitHub is counted."""
        for method, target in (("POST", "/graphql"), ("GET", "/rate_limit"), ("GET", "/thing")):
            barrier = self.github.hold(target)
            gone = start(self.home.send(method, target, token="alice-1"))
            gone.addErrback(lambda _: None)
            await barrier.arrived(1)
            gone.cancel()
            await until(lambda: not self.home.parts.resource.in_flight)
            barrier.open()
        assert self.flushLoggedErrors() == []
        shown = (await self.home.admin("/metrics")).content
        assert b'status="499"' in shown
        for wrong in (b'status="502"', b'status="broken-answer"'):
            assert wrong not in shown


class Claims(Requests):
    """Several credentials request a key of which nothing is stored."""

    async def test_first_request_of_a_key_holds_the_lock(self) -> None:
        """The others wait for its response, and cost nothing."""
        barrier = self.github.hold("/thing")
        tokens = ["alice-1", "bob-1", "carol-1"]
        await self.all_at_once(barrier, "/thing", tokens, arriving=1)
        assert [self.github.paid[user, "/thing"] for user in ("alice", "bob", "carol")] == [1, 0, 0]

    async def test_lock_is_released_when_nothing_could_be_stored(self) -> None:
        """After a refusal, a failure, an unstorable response, and when its client leaves."""
        self.github.put("/no-tag", {"a": 1}, etag=False)
        self.github.put("/private", {"a": 1}, private_to={"bob", "carol"})
        self.github.fault("/broken", "500", login="alice")
        self.github.put("/broken", {"a": 1})
        for target, status in (("/no-tag", 200), ("/private", 404), ("/broken", 500)):
            barrier = self.github.hold(target)
            tokens = ["alice-1", "bob-1", "carol-1"]
            got = await self.all_at_once(barrier, target, tokens, arriving=1)
            assert [each.status for each in got] == [status, 200, 200]
        barrier = self.github.hold("/thing")
        gone = start(self.home.get("/thing", token="alice-1"))
        gone.addErrback(lambda _: None)
        await barrier.arrived(1)
        waiting = start(self.home.get("/thing", token="bob-1"))
        await self.in_flight(2)
        gone.cancel()
        barrier.open()
        assert (await waiting).json == {"a": 1}

    async def test_waiting_for_the_lock_is_bounded(self) -> None:
        """Up to `collapse_wait`; then each request is sent."""
        self.home = await open_home(self, self.github, cache={"collapse_wait": 0.05})
        barrier = self.github.hold("/thing")
        got = await self.all_at_once(barrier, "/thing", ["alice-1", "bob-1"], arriving=2)
        assert [each.status for each in got] == [200, 200]

    async def test_unstorable_key_needs_no_lock_for_a_minute(self) -> None:
        """All requests are sent at once; a minute later, one is the first again."""
        self.github.put("/no-tag", {"a": 1}, etag=False)
        self.home.move_on(0.0)
        await self.home.get("/no-tag", token="alice-1")
        tokens = ["alice-1", "bob-1", "carol-1"]
        self.home.move_on(59.0)
        await self.all_at_once(self.github.hold("/no-tag"), "/no-tag", tokens, arriving=3)
        self.home.move_on(60.0)
        await self.all_at_once(self.github.hold("/no-tag"), "/no-tag", tokens, arriving=1)

    async def test_refusal_spares_the_lock_for_its_credential_only(self) -> None:
        """The refused credential's request is sent at once; of the others, one is the first."""
        self.github.put("/private", {"a": 1}, private_to={"bob", "carol"})
        await self.home.get("/private", token="alice-1")
        barrier = self.github.hold("/private")
        others: list[Deferred[Received]] = []
        others += [start(self.home.get("/private", token=t)) for t in ("bob-1", "carol-1")]
        await barrier.arrived(1)
        refused = start(self.home.get("/private", token="alice-1"))
        await barrier.arrived(2)
        await self.in_flight(3)
        assert barrier.waiting == 2
        barrier.open()
        assert (await refused).status == 404
        assert [each.status for each in await gatherResults(others)] == [200, 200]
        assert self.github.paid["bob", "/private"] + self.github.paid["carol", "/private"] == 1


class Joining(Requests):
    """The age of a flight that a request may join: one memory store, and a stopped clock."""

    async def test_recently_sent_flight_is_joined(self) -> None:
        """If it was sent a tenth of a second ago at most; later requests share the next flight."""
        self.home.move_on(0.0)
        barrier = self.github.hold("/thing")
        pending = [start(self.home.get("/thing", token="alice-1"))]
        await barrier.arrived(1)
        self.home.move_on(JOIN_WINDOW_S - 0.01)
        pending.append(start(self.home.get("/thing", token="alice-1")))
        await self.in_flight(2)
        self.home.move_on(0.1)
        self.github.put("/thing", {"a": 2})
        pending += [start(self.home.get("/thing", token="alice-1")) for _ in range(3)]
        await self.in_flight(5)
        for _ in range(2):
            await self.home.send("POST", "/graphql", token="carol-2", body=QUERY)
        assert barrier.waiting == 1
        barrier.release(1)
        first, second = [await each for each in pending[:2]]
        await barrier.arrived(1)
        barrier.open()
        third, *others = [await each for each in pending[2:]]
        collapsed = [
            each.outcome.endswith("; collapsed") for each in (first, second, third, *others)
        ]
        assert collapsed == [False, True, False, True, True]
        assert len(self.github.exchanges("/thing")) == 2

    async def test_flight_that_waits_for_a_slot_is_joined(self) -> None:
        """However long it has waited: GitHub's word will be of later."""
        self.home.move_on(0.0)
        self.github.put("/thing", {"a": 1})
        claim = self.github.hold("/thing")
        first = start(self.home.get("/thing", token="bob-1"))
        await claim.arrived(1)
        waiting = start(self.home.get("/thing", token="alice-1"))
        await self.in_flight(2)
        self.home.move_on(5.0)
        joining = start(self.home.get("/thing", token="alice-1"))
        await self.in_flight(3)
        claim.open()
        await first
        await waiting
        assert (await joining).outcome.endswith("; collapsed")
        assert len(self.github.exchanges("/thing")) == 2

    async def test_older_flight_is_not_joined_after_a_look_up_that_may_lag(self) -> None:
        """The request waits for the end of the flight; the next one is shared all the same."""
        store = self.home.parts.mirror.store
        look_up = store.look_up

        def lagging(*args: Any, **more: Any) -> Deferred[Known]:
            known: Deferred[Known] = look_up(*args, **more)
            return known.addCallback(lambda known: evolve(known, current=False))

        self.patch(type(store), "look_up", lambda _, *args, **more: lagging(*args, **more))
        barrier = self.github.hold("/thing")
        pending = [start(self.home.get("/thing", token="alice-1"))]
        await barrier.arrived(1)
        pending += [start(self.home.get("/thing", token="alice-1")) for _ in range(3)]
        await self.in_flight(4)
        for _ in range(2):
            await self.home.send("POST", "/graphql", token="carol-2", body=QUERY)
        assert barrier.waiting == 1
        barrier.release(1)
        await barrier.arrived(1)
        barrier.open()
        await gatherResults(pending)
        assert len(self.github.exchanges("/thing")) == 2

    async def test_client_that_leaves_while_it_waits_for_a_flight(self) -> None:
        """The others share the next flight."""
        self.home.move_on(0.0)
        barrier = self.github.hold("/thing")
        pending = [start(self.home.get("/thing", token="alice-1"))]
        await barrier.arrived(1)
        self.home.move_on(1.0)
        pending += [start(self.home.get("/thing", token="alice-1")) for _ in range(2)]
        await self.in_flight(3)
        pending[1].addErrback(lambda _: None)
        pending[1].cancel()
        await until(lambda: self.home.parts.resource.in_flight == 2)
        barrier.open()
        assert (await pending[0]).status == (await pending[2]).status == 200
        assert not len(self.home.parts.mirror.flights)


class JoiningInTheFleet(TestCase):
    """Two replicas on one Redis."""

    timeout = 60

    async def test_write_through_one_replica_ends_flights_of_the_other(self) -> None:
        """The request is sent at once, and the older response is not stored over its response."""
        host, port = start_redis(self).address
        options: dict[str, dict[str, Any]] = {
            "cache": {"backend": "redis"},
            "redis": {"url": f"redis://{host}:{port}", "timeout": 30.0},
        }
        one = await open_home(self, **options)
        github = one.github
        other = await open_home(self, github, **options)
        github.put("/thing", {"a": 1})
        await other.get("/thing", token="alice-1")
        github.put("/thing", {"a": 2})
        barrier = github.hold("/thing", compute_first=True)
        early = start(other.get("/thing", token="alice-1"))
        await barrier.arrived(1)
        github.gates.remove(barrier)
        await one.send("PUT", "/thing", token="alice-1", body=b'{"a":3}')
        assert (await other.get("/thing", token="alice-1")).json == {"a": 3}
        barrier.open()
        assert (await early).json == {"a": 2}
        await settled(one.parts.store, other.parts.store)
        github.fault("/thing", "503")
        for home in (one, other):
            got = await home.get("/thing", token="alice-1")
            assert (got.json, got.field("x-from-cache")) == ({"a": 3}, "1")


class Slots(TestCase):
    """Two replicas: the lock of the fleet and the slots of a credential."""

    timeout = 30

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.github = await open_github(self)
        host, port = start_redis(self).address
        self.one, self.other = [
            await open_home(
                self,
                self.github,
                cache={"backend": "redis", "collapse_wait": 10_000.0},
                redis={"url": f"redis://{host}:{port}", "timeout": 60.0},
                github={"max_in_flight_per_credential": 4},
            )
            for _ in range(2)
        ]
        for number in range(8):
            self.github.put(f"/slow/{number}", {"slow": number})
            self.github.put(f"/things/{number}", {"thing": number})
        for home in (self.one, self.other):
            for token in ("alice-1", "bob-1"):
                await home.get("/user", token=token)

    def waiting(self, home: Home, token: str) -> int:
        """Return how many requests of a token wait for a permit."""
        name = home.parts.mirror.credentials.names.name(f"token {token}".encode())
        queue = home.parts.limiter.queues.accepted.get(name)
        return 0 if queue is None else queue.length

    async def test_request_that_waits_for_a_slot_holds_no_lock(self) -> None:
        """While all slots of one client are in use, others request the same key at once."""
        gates = [self.github.hold(f"/slow/{number}") for number in range(4)]
        slow = [start(self.one.get(f"/slow/{number}", token="alice-1")) for number in range(4)]
        for barrier in gates:
            await barrier.arrived(1)
        sent = [start(self.one.get(f"/things/{number}", token="alice-1")) for number in range(8)]
        await until(lambda: self.waiting(self.one, "alice-1") == 8)
        for home, numbers in ((self.other, range(4)), (self.one, range(4, 8))):
            for number in numbers:
                got = await home.get(f"/things/{number}", token="bob-1")
                assert got.json == {"thing": number}
        assert not any(each.called for each in sent)
        for barrier in gates:
            barrier.open()
        assert [got.status for got in await gatherResults(slow)] == [200] * 4
        assert [got.json for got in await gatherResults(sent)] == [
            {"thing": number} for number in range(8)
        ]
        assert self.github.paid["alice", "/things/0"] == 0
        assert max(self.github.most_in_flight.values()) <= 4

    async def test_request_that_waits_for_a_lock_holds_no_slot(self) -> None:
        """All that one client wants is on its way to others: its slots are free for the rest."""
        gates = [self.github.hold(f"/things/{number}") for number in range(4)]
        first = [start(self.other.get(f"/things/{number}", token="bob-1")) for number in range(4)]
        for barrier in gates:
            await barrier.arrived(1)
        sent = [start(self.one.get(f"/things/{number}", token="alice-1")) for number in range(4)]
        polls = self.one.parts.store.locks.polls
        await until(lambda: polls.waiting == 4)
        slow = [start(self.one.get(f"/slow/{number}", token="alice-1")) for number in range(4)]
        assert [got.status for got in await gatherResults(slow)] == [200] * 4
        assert not any(each.called for each in sent)
        for barrier in gates:
            barrier.open()
        for got in await gatherResults([*first, *sent]):
            assert got.status == 200
        assert self.github.paid["alice", "/things/0"] == 0

    async def test_unused_slot_is_released(self) -> None:
        """A request that ends without having been sent, or whose client disconnects."""
        barrier = self.github.hold("/things/0")
        gone = start(self.one.get("/things/0", token="alice-1"))
        gone.addErrback(lambda _: None)
        await barrier.arrived(1)
        waiting = start(self.one.get("/things/0", token="bob-1"))
        waiting.addErrback(lambda _: None)
        await until(lambda: self.one.parts.resource.in_flight == 2)
        waiting.cancel()
        gone.cancel()
        await until(lambda: self.one.parts.limiter.in_flight == 0)
        barrier.open()
        self.github.fault("/things/1", "secondary-limit", times=1)
        assert (await self.one.get("/things/1", token="alice-1")).status == 403
        assert (await self.one.get("/things/2", token="alice-1")).status == 403
        assert self.one.parts.limiter.in_flight == 0
