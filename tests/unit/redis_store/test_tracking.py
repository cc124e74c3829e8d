"""What Redis has said lately, and is not asked for again until it says that it has changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.protocols.portforward import ProxyFactory, ProxyServer
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Known
from ghmirror_tw.github.rate_limits import Limit, LimitKind
from ghmirror_tw.redis import node as node_module
from ghmirror_tw.redis.address import Credentials
from ghmirror_tw.redis.node import Node
from ghmirror_tw.redis.servers_interface import RedisUnavailableError
from ghmirror_tw.redis.single_server import PrimaryAndReader, Single
from ghmirror_tw.redis.slots import slot_of_tag
from ghmirror_tw.redis.tracking import Tracked, Tracking
from ghmirror_tw.redis_store import redis_records
from ghmirror_tw.redis_store.failover import FailoverStore
from ghmirror_tw.redis_store.said import GOOD_S, OFTEN_S, Said
from ghmirror_tw.store import record_names
from ghmirror_tw.store.store_interface import Deadline
from tests.harness.home import Home, Stopped, open_home, reactor, until
from tests.harness.redis_house import PREFIX, SOON, at_rest, node_at, open_store, settled, written
from tests.harness.redis_servers import start_redis
from tests.harness.redis_sets import open_cluster
from tests.unit.redis.test_cluster import cluster_at
from tests.unit.store.contract import ALICE, ANOTHER, BOB, EPOCH, HELD, KEY, OTHER, entry, grant

GRANT = f"{PREFIX}:{record_names.grant(KEY, ALICE).decode()}"
LIST = f"{PREFIX}:{record_names.recency(KEY).decode()}"


def limit(scope: str, until: float) -> Limit:
    return Limit(LimitKind.SECONDARY, scope, until)


def said_to(store: FailoverStore) -> Known | None:
    """Return what Redis has said, as long as that holds."""
    said = store.redis._of(KEY, ALICE).said
    return said.known if said is not None and said.holds(store.redis.now()) else None


class Watching(SynchronousTestCase):
    """Questions, and the keys that they read."""

    def test_what_changes_holds_no_more(self) -> None:
        """Once one of its keys has changed; the others do."""
        tracking = Tracking()
        one, two, three = (tracking.begin(keys) for keys in ((b"a", b"b"), (b"b",), (b"c",)))
        assert [each.holds for each in (one, two, three)] == [True, True, True]
        tracking.changed([b"x", b"a"])
        assert [each.holds for each in (one, two, three)] == [False, True, True]
        tracking.changed([b"b", b"b"])
        assert [each.holds for each in (one, two, three)] == [False, False, True]
        tracking.changed([b"a", b"b"])
        assert three.holds

    def test_anything_may_have_changed(self) -> None:
        """Then nothing holds."""
        tracking = Tracking()
        all_of_them = [tracking.begin((b"%d" % number, b"all")) for number in range(3)]
        tracking.changed(None)
        assert not any(each.holds for each in all_of_them)
        tracking.changed(None)
        assert tracking.begin((b"1",)).holds

    def test_nothing_is_left(self) -> None:
        """Of what is watched no more, whichever way it ended."""
        tracking = Tracking()
        one, two = tracking.begin((b"a", b"b")), tracking.begin((b"a",))
        tracking.end(one)
        tracking.end(one)
        assert not one.holds
        assert tracking._by_key == {b"a": {two}}
        tracking.changed([b"a"])
        tracking.end(two)
        assert not tracking._by_key
        assert not tracking._watched
        tracking.end(Tracked(()))
        assert not tracking._watched

    def test_not_more_than_so_many(self) -> None:
        """Whoever asks may forget to end it; the oldest are let go of."""
        tracking = Tracking(most=3)
        several = [tracking.begin((b"a",)) for _ in range(5)]
        assert [each.holds for each in several] == [False, False, True, True, True]
        assert tracking._by_key == {b"a": set(several[2:])}

    def test_what_is_told_may_have_to_be_asked_for(self) -> None:
        """By all who tell of it; and it fails if one of them can't be asked."""
        tracked, asked = Tracked(()), []

        def source(timeout_s: float) -> Deferred[None]:
            assert timeout_s == 2.0
            asked.append(Deferred[None]())
            return asked[-1]

        tracked.sources += [source, source]
        heard: list[Any] = []
        tracked.heard(2.0).addCallback(heard.append)
        asked[0].callback(None)
        assert heard == []
        asked[1].callback(None)
        assert len(heard) == 1
        failing = tracked.heard(2.0)
        asked[3].errback(RedisUnavailableError("lost", ""))
        self.failureResultOf(failing, RedisUnavailableError)


class Having(SynchronousTestCase):
    """Whether Redis has what was confirmed, by what it said."""

    def said(self, **more: Any) -> Said:
        known = Known(grant=grant(100.0, **more), entries=(entry(100.0), entry(90.0, OTHER)))
        return Said(known, 100.0, Tracked(()))

    def test_only_times_differ(self) -> None:
        """By less than so much, or Redis has what is later than this."""
        later, much_later = grant(104.0), grant(105.0)
        assert self.said().has(later, entry(104.0, brought_at=100.0), 5.0)
        assert self.said().has(grant(96.0), entry(96.0, brought_at=100.0), 5.0)
        assert not self.said().has(much_later, entry(104.0, brought_at=100.0), 5.0)
        assert self.said().has(grant(50.0), entry(50.0, brought_at=100.0), 5.0)
        assert not self.said().has(later, entry(105.0, brought_at=100.0), 5.0)
        assert not self.said().has(later, entry(104.0, brought_at=100.0), 0.0)

    def test_something_else_differs(self) -> None:
        """Then it has to be written, whatever it is."""
        fitting = entry(104.0, brought_at=100.0)
        for other in (
            grant(104.0, OTHER),
            grant(104.0, shareable=True),
            grant(104.0, principal="alice"),
            grant(104.0, expires_at=1_000.0),
            evolve(grant(104.0), etag=b'"u"'),
            evolve(grant(104.0), link=b"<x>"),
            evolve(grant(104.0), last_modified=b"Thu, 26 Nov 2026 09:00:00 GMT"),
        ):
            assert not self.said().has(other, fitting, 5.0), other
        for changes in (
            {"link": b"<x>"},
            {"brought_at": 104.0},
            {"shareable": False},
        ):
            assert not self.said().has(grant(104.0), evolve(fitting, **changes), 5.0), changes
        assert self.said().has(grant(104.0), evolve(fitting, principal="alice"), 5.0)
        unlisted = Said(Known(grant=grant(100.0)), 100.0, Tracked(()))
        assert not unlisted.has(grant(104.0), fitting, 5.0)

    def test_it_ends(self) -> None:
        """Both ends of a grant's life are times; those may differ by as much."""
        said = self.said(expires_at=1_000.0)
        fitting = entry(104.0, brought_at=100.0)
        assert said.has(grant(104.0, expires_at=1_004.0), fitting, 5.0)
        assert not said.has(grant(104.0, expires_at=1_005.0), fitting, 5.0)
        said.tracked.holds = False
        assert not said.has(grant(104.0, expires_at=1_004.0), fitting, 5.0)


class OneServer(TestCase):
    """A store that asks, another one that writes, and the server between them."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.patch(node_module, "_MOMENT_S", 0.0)
        self.server = start_redis(self)
        self.redis = self.server.client()
        self.addCleanup(self.redis.close)
        self.writer = await self.open()
        self.store = await self.open()
        self.writer.store_response(KEY, ALICE, HELD, grant(1.0), entry())
        await settled(self.writer)
        await self.writer.look_up(KEY, BOB, Deadline(SOON))  # so that the server knows the script

    async def open(self, **more: Any) -> FailoverStore:
        store = await open_store(self, self.server.address, **more)
        await at_rest(store.redis.servers.node)  # what connections say at first is counted, too
        return store

    async def look_up(self, store: FailoverStore | None = None, **more: Any) -> Known:
        return await (store or self.store).look_up(KEY, ALICE, Deadline(SOON), **more)

    async def often(self, store: FailoverStore | None = None) -> Known:
        """Look up as often as it takes until that is not asked for any more."""
        await self.look_up(store)
        return await self.look_up(store)

    def is_said(self) -> bool:
        """Tell whether what was said last still holds."""
        return said_to(self.store) is not None

    def counted(self) -> dict[str, int]:
        """Return how often the server was asked for what since the last time."""
        ours = ("evalsha", "mget", "client|caching", "exists", "ping")
        calls = self.redis.calls()
        # the script that looks up asks for one thing whether it exists
        calls["exists"] = calls.get("exists", 0) - calls.get("evalsha", 0)
        return {name: calls[name] for name in ours if calls.get(name)}

    async def heard(self) -> None:
        """Return when the store has heard all that the server has told by now."""
        node = self.store.redis.servers.node
        for connection in node._pool.connections:
            await connection.ping()


class Saying(OneServer):
    """What is asked for again and again."""

    async def test_it_is_asked_for_twice(self) -> None:
        """The second time so that Redis tells when it changes; then only whether it has told."""
        self.counted()
        first = await self.look_up()
        assert self.counted() == {"evalsha": 1, "mget": 1}
        second = await self.look_up()
        assert self.counted() == {"evalsha": 1, "mget": 1, "client|caching": 1, "exists": 1}
        for _ in range(3):
            assert await self.look_up() == evolve(first, current=False)
        assert self.counted() == {"ping": 3}
        assert (first, first.grant, first.current) == (second, grant(1.0), True)

    async def test_it_is_asked_once_for_all(self) -> None:
        """Who asks in the same turn of the reactor, by whatever credential and of whatever key."""
        keys = [CacheKey(b"/%d" % number) for number in range(5)]
        for key in keys:
            for credential in (ALICE, BOB):
                self.writer.store_response(key, credential, HELD, grant(1.0), entry())
        await settled(self.writer)

        async def all_of_them() -> list[Known]:
            store_deadline = Deadline(SOON)
            return await gatherResults(
                [
                    self.store.look_up(key, each, store_deadline)
                    for key in keys
                    for each in (ALICE, BOB)
                ]
            )

        before = await all_of_them()
        await all_of_them()
        await all_of_them()
        self.counted()
        reads = self.redis.reads()
        assert await all_of_them() == [evolve(known, current=False) for known in before]
        assert self.redis.reads() - reads == 2  # that one, and this test's own
        assert self.counted() == {"ping": 1}

    async def test_what_was_heard_just_now(self) -> None:
        """Is taken for all that has been told, counted from when it was asked."""
        self.patch(node_module, "_MOMENT_S", 1.0)
        node = self.store.redis.servers.node
        node.reactor = clock = Stopped(reactor, reactor.seconds())
        await self.often()
        await self.look_up()
        self.counted()
        clock.at += 0.9
        await self.look_up()
        assert self.counted() == {}
        clock.at += 0.2
        self.server.pause()
        asked = self.store.look_up(KEY, ALICE, Deadline(SOON))
        clock.at += 0.6
        self.server.resume()
        await asked
        assert self.counted() == {"ping": 1}
        clock.at += 0.6
        await self.look_up()
        assert self.counted() == {"ping": 1}
        clock.at -= 3600.0  # set back
        await self.look_up()
        assert self.counted() == {"ping": 1}

    async def test_several_ask_for_it_anew(self) -> None:
        """What one of them was told is as good as another's, and one of them is watched."""
        await self.look_up()
        store_deadline = Deadline(SOON)
        await gatherResults([self.store.look_up(KEY, ALICE, store_deadline) for _ in range(3)])
        assert len(self.store.redis.tracking._watched) == 1
        assert self.is_said()

    async def test_one_gives_up(self) -> None:
        """The others hear of it all the same."""
        await self.often()
        one, two, three = (self.store.look_up(KEY, ALICE, Deadline(SOON)) for _ in range(3))
        two.cancel()
        two.addErrback(lambda _: None)
        assert (await one).grant == (await three).grant == grant(1.0)

    async def test_what_is_current_is_asked_for(self) -> None:
        """Each time, and nothing is tracked for that."""
        await self.often()
        self.counted()
        for _ in range(3):
            assert (await self.look_up(current=True)).current
        assert self.counted() == {"evalsha": 3, "mget": 3}

    async def test_what_is_asked_for_seldom_is_not_tracked(self) -> None:
        """Redis would tell of it in vain."""
        self.patch(redis_records, "OFTEN_S", 0.0)
        self.counted()
        for _ in range(3):
            assert (await self.look_up()).current
        assert self.counted() == {"evalsha": 3, "mget": 3}

    async def test_it_holds_for_so_long(self) -> None:
        """From when it was asked for; then it is asked for again, and tracked if it was used."""
        clock = Stopped(reactor, reactor.seconds())
        store = await self.open()
        store.redis.now = clock.seconds
        await self.look_up(store)
        self.server.pause()
        asked = store.look_up(KEY, ALICE, Deadline(SOON))
        clock.at += 1.0
        self.server.resume()
        await asked
        self.counted()
        for wait_s in (4.0, 4.9):
            clock.at += wait_s
            await self.look_up(store)
        assert self.counted() == {"ping": 2}
        clock.at += 0.2
        await self.look_up(store)
        assert self.counted() == {"evalsha": 1, "mget": 1, "client|caching": 1, "exists": 1}
        await self.look_up(store)
        assert self.counted() == {"ping": 1}
        clock.at -= 3600.0  # set back
        await self.look_up(store)
        assert self.counted()["evalsha"] == 1
        clock.at += OFTEN_S + GOOD_S  # not asked for any more
        await self.look_up(store)
        assert self.counted() == {"evalsha": 1, "mget": 1}

    async def test_only_what_counts_is_kept(self) -> None:
        """Not that there is nothing, nor a grant that is outweighed, or has to be confirmed."""
        nothing = await open_store(self, self.server.address)
        for _ in range(3):
            assert (await nothing.look_up(KEY, BOB, Deadline(SOON))).current
        self.writer.deny(KEY, ALICE, 1.0)
        await settled(self.writer)
        for _ in range(3):
            known = await self.look_up()
            assert (known.grant, known.refused_at, known.current) == (None, 1.0, True)
        assert self.store.redis.tracking._by_key == {}

    async def test_a_restored_grant_is_not_kept(self) -> None:
        """It has to be confirmed, and that is written."""
        name = record_names.grant(KEY, ALICE)
        sealed = self.store.redis.codec.grant(name, grant(1.0, epoch=None))
        self.redis.ask("SET", GRANT, sealed)
        for _ in range(3):
            known = await self.look_up()
            assert known.grant is not None
            assert (known.grant.epoch, known.current) == (None, True)

    async def test_failures_leave_nothing_behind(self) -> None:
        """Neither what was given up, nor what did not come."""
        await self.look_up()
        self.server.pause()
        asked = self.store.look_up(KEY, ALICE, Deadline(SOON))
        assert self.store.redis.tracking._by_key
        asked.cancel()
        asked.addErrback(lambda _: None)
        await asked
        assert self.store.redis.tracking._by_key == {}
        self.server.resume()

    async def test_what_is_not_tracked_does_not_hold(self) -> None:
        """By a connection of which nothing is told; then all is asked for as ever."""
        for connection in self.store.redis.servers.node._pool.connections:
            connection.tracks = False
        self.counted()
        for _ in range(3):
            assert (await self.look_up()).current
        assert self.counted() == {"evalsha": 3, "mget": 3}

    async def test_a_script_is_sent_again(self) -> None:
        """To a server that doesn't know it; what it reads is tracked by then."""
        await self.look_up()
        self.redis.ask("SCRIPT", "FLUSH")
        await self.look_up()
        assert self.is_said()
        self.redis.ask("DEL", GRANT)
        await self.heard()
        assert not self.is_said()


class Changing(OneServer):
    """What ends it, each time at once."""

    async def changes(self, change: Callable[[], object]) -> None:
        """See that a change is known as soon as it has been told."""
        await self.often()
        assert self.is_said()
        change()
        await settled(self.writer)
        await self.heard()
        assert not self.is_said()

    async def test_what_others_write(self) -> None:
        """Whatever it is that matters for who asks GitHub now, of the key or the credential."""
        writer = self.writer
        await self.changes(lambda: writer.freshen(KEY, ALICE, grant(2.0), entry(2.0)))
        assert (await self.look_up()).grant == grant(2.0)
        await self.changes(
            lambda: writer.store_response(KEY, BOB, OTHER, grant(3.0), entry(3.0, OTHER))
        )
        assert len((await self.look_up()).entries) == 2
        now = reactor.seconds()
        await self.changes(lambda: writer.set_limit(ALICE, limit("", now + 100)))
        assert [each.scope for each in (await self.look_up()).limits] == [""]
        await self.changes(lambda: writer.set_limit(ALICE, limit("core", now + 200)))
        assert len((await self.look_up()).limits) == 2
        await self.changes(lambda: writer.replace_epoch(ALICE, EPOCH))
        assert (await self.look_up()).epoch == EPOCH
        await self.changes(lambda: writer.revoke(ALICE, ANOTHER))
        assert (await self.look_up()).epoch == ANOTHER
        await self.changes(lambda: writer.deny(KEY, ALICE, 2.0))
        assert (await self.look_up()).grant is None

    async def test_what_is_asked_for_otherwise(self) -> None:
        """What matters only where GitHub is not asked is for who asks for what is current."""
        await self.often()
        self.writer.deny(KEY, ALICE, 0.5)
        await settled(self.writer)
        known = await self.look_up()
        assert (known.grant, known.current, known.refused_at) == (grant(1.0), False, 0.0)
        known = await self.look_up(current=True)
        assert (known.grant, known.refused_at) == (grant(1.0), 0.5)

    async def test_what_others_are_told(self) -> None:
        """What is another's alone ends nothing."""
        await self.often()
        now = reactor.seconds()
        self.writer.replace_epoch(BOB, EPOCH)
        self.writer.set_limit(ALICE, limit("search", now + 100))
        self.writer.revoke(BOB, ANOTHER)
        await settled(self.writer)
        await self.heard()
        assert self.is_said()

    async def test_what_is_gone(self) -> None:
        """Deleted, run out, or all of it."""
        await self.changes(lambda: self.redis.ask("DEL", LIST))
        await self.changes(lambda: self.redis.ask("FLUSHALL"))
        assert (await self.look_up()).grant is None
        self.writer.store_response(KEY, ALICE, HELD, grant(6.0), entry(6.0))
        await settled(self.writer)
        await self.often()
        self.redis.ask("PEXPIRE", GRANT, 1)
        await until(lambda: not self.is_said())

    async def test_what_this_one_states(self) -> None:
        """At once, before it is even written."""
        for state in (
            lambda: self.store.freshen(KEY, ALICE, grant(2.0), entry(2.0)),
            lambda: self.store.store_response(KEY, ALICE, HELD, grant(3.0), entry(3.0)),
            lambda: self.store.set_limit(ALICE, limit("core", reactor.seconds() + 100)),
            lambda: self.store.deny(KEY, ALICE, 1.0),
        ):
            await self.often()
            assert self.is_said()
            state()
            assert not self.is_said()
            await settled(self.store)

    async def test_a_connection_is_lost(self) -> None:
        """Nobody tells any more what was asked over it."""
        await self.often()
        for line in self.redis.ask("CLIENT", "LIST").decode().splitlines():
            if "resp=3" in line:
                self.redis.ask("CLIENT", "KILL", "ID", re.findall(r"id=(\d+)", line)[0])
        await until(lambda: not self.is_said())

    async def test_nobody_tells_in_time(self) -> None:
        """As when the question itself is not answered in time; and then it holds no more."""
        store = await self.open(timeout_s=0.05)
        await self.often(store)
        assert said_to(store) is not None
        self.server.pause()
        known = await store.look_up(KEY, ALICE, store.store_deadline())
        assert (known.current, known.grant) == (False, None)
        assert said_to(store) is None
        self.server.resume()

    async def test_the_connection_breaks_just_now(self) -> None:
        """Another one is asked, for all of it."""
        await self.often()
        asked = self.store.look_up(KEY, ALICE, Deadline(SOON))
        connections = self.store.redis.servers.node._pool.connections
        (over,) = [each for each in connections if each.outstanding_bytes]
        over.abort("the test does that")
        known = await asked
        assert (known.grant, known.current) == (grant(1.0), True)

    async def test_redis_is_away(self) -> None:
        """What it said is no more than what is known here, and not current."""
        await self.often()
        self.server.kill()
        await until(lambda: not self.store.redis.servers.reading)
        assert not self.is_said()
        known = await self.look_up()
        assert (known.current, known.grant) == (False, None)

    async def test_it_is_left_alone(self) -> None:
        """While Redis is not read, for whatever reason, it is not believed either."""
        await self.often()
        assert self.is_said()
        self.store.redis.servers.node._trials.reading.trip(reactor.seconds(), "")
        assert self.is_said()
        known = await self.look_up()
        assert (known.current, known.grant) == (False, None)

    async def test_between_the_replies(self) -> None:
        """What changes while the answer is on its way is not missed, wherever it comes in."""
        await self.look_up()
        saw: set[tuple[bool, bool]] = set()
        for number in range(200):
            before, after = grant(10.0 + number), grant(10.5 + number)
            self.writer.freshen(KEY, ALICE, before, entry(before.asked_at))
            await settled(self.writer)
            asked = self.store.look_up(KEY, ALICE, Deadline(SOON))
            self.writer.freshen(KEY, ALICE, after, entry(after.asked_at))
            known = await asked
            await settled(self.writer)
            await self.heard()
            said = said_to(self.store)
            assert said is None or said.grant == after
            assert known.grant in {before, after}
            saw.add((known.grant == after, said is None))
        assert (False, True) in saw


class Confirming(OneServer):
    """What was confirmed, and is known to be in Redis."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        await super().setUp()
        self.store = await self.open(again_s=8.0)

    async def in_redis(self) -> Known:
        return await (await self.open()).look_up(KEY, ALICE, Deadline(SOON))

    async def test_it_is_not_written_again(self) -> None:
        """Before so much time has passed; this process knows of it."""
        await self.often()
        self.counted()
        for at in (2.0, 3.0, 8.9):
            self.store.freshen(KEY, ALICE, grant(at), entry(at, brought_at=1.0))
            await settled(self.store)
        assert self.counted() == {}
        assert self.is_said()
        known = await self.look_up()
        assert known.grant == grant(8.9)
        assert known.entries == (entry(8.9, brought_at=1.0),)
        assert (await self.in_redis()).grant == grant(1.0)
        self.store.freshen(KEY, ALICE, grant(9.0), entry(9.0, brought_at=1.0))
        await settled(self.store)
        assert (await self.in_redis()).grant == grant(9.0)

    async def test_it_is_written_where_nothing_was_said(self) -> None:
        """As by who asks for it seldom, or after anything has changed."""
        await self.look_up()
        self.store.freshen(KEY, ALICE, grant(2.0), entry(2.0, brought_at=1.0))
        await settled(self.store)
        assert (await self.in_redis()).grant == grant(2.0)
        await self.look_up()
        assert self.is_said()
        self.redis.ask("DEL", GRANT)
        await self.heard()
        self.store.freshen(KEY, ALICE, grant(3.0), entry(3.0, brought_at=1.0))
        await settled(self.store)
        assert (await self.in_redis()).grant == grant(3.0)

    async def test_what_differs_is_written(self) -> None:
        """GitHub said something else than before."""
        await self.often()
        linked = evolve(grant(2.0), link=b"<x>")
        self.store.freshen(KEY, ALICE, linked, entry(2.0, brought_at=1.0))
        await settled(self.store)
        assert (await self.in_redis()).grant == linked

    async def test_a_list_is_everybodys(self) -> None:
        """Who confirms what another one just has writes a grant, and ends nothing for others."""
        other = await self.open(again_s=8.0)
        await self.often()
        known = await other.look_up(KEY, BOB, Deadline(SOON))
        assert known.entries == (entry(1.0),)
        for at, listed_at, holds in ((8.9, 1.0, True), (9.0, 9.0, False)):
            other.freshen(
                KEY, BOB, grant(at, principal="bob"), entry(at, brought_at=1.0, principal="bob")
            )
            await settled(other)
            await self.heard()
            assert self.is_said() is holds
            now = await (await self.open()).look_up(KEY, BOB, Deadline(SOON))
            assert now.grant == grant(at, principal="bob")
            assert [each.validated_at for each in now.entries] == [listed_at]

    async def test_a_list_that_says_something_else(self) -> None:
        """It is written: what is new, and what is there no more."""
        for change in ({"link": b"<x>"}, {"shareable": False}):
            await self.look_up()
            new = entry(2.0, brought_at=1.0, **change)
            self.store.freshen(KEY, ALICE, grant(2.0), new)
            await settled(self.store)
            assert (await self.in_redis()).entries == (new,)
        await self.look_up()
        self.redis.ask("DEL", LIST)
        await self.heard()
        self.store.freshen(KEY, ALICE, grant(3.0), evolve(new, validated_at=3.0))
        await settled(self.store)
        assert (await self.in_redis()).entries == (evolve(new, validated_at=3.0),)

    async def test_a_list_that_is_older(self) -> None:
        """A later 200 is noted beside a later confirmation, whatever the times are."""
        await self.look_up()
        later = entry(5.0, brought_at=1.0)
        self.writer.freshen(KEY, BOB, grant(5.0), later)
        await settled(self.writer)
        self.store.store_response(KEY, ALICE, HELD, grant(4.0), entry(4.0))
        await settled(self.store)
        assert (await self.in_redis()).entries == (evolve(later, brought_at=4.0),)

    async def test_a_refusal_between(self) -> None:
        """What is confirmed after a refusal is written, though a moment has not passed."""
        await self.often()
        self.store.deny(KEY, ALICE, 2.0)
        self.store.freshen(KEY, ALICE, grant(3.0), entry(3.0, brought_at=1.0))
        await written(self.store)
        known = await self.in_redis()
        assert (known.grant, known.refused_at) == (grant(3.0), 2.0)


class Reader(TestCase):
    """A reader endpoint, whose replica tells what it learns from the primary."""

    async def test_it_tells(self) -> None:
        """What was read there is as good as what it knows."""
        primary = start_redis(self, options=[("repl-diskless-sync-delay", "0")])
        replica = start_redis(self, replica_of=primary.address)
        replica.wait_for("MASTER <-> REPLICA sync: Finished with success")
        tracking = Tracking()
        one, other = (
            node_at(each.address, keys_changed=tracking.changed, primary=each is primary)
            for each in (primary, replica)
        )
        servers = PrimaryAndReader(one, other, reactor)
        writer = await open_store(self, primary.address)
        store = await open_store(self, servers, tracking=tracking)
        writer.store_response(KEY, ALICE, HELD, grant(1.0), entry())
        await settled(writer)
        while True:
            known = await store.look_up(KEY, ALICE, Deadline(SOON))
            if known.grant is not None and said_to(store) is not None:
                break
            await deferLater(reactor, 0.01)
        writer.freshen(KEY, ALICE, grant(2.0), entry(2.0))
        await until(lambda: said_to(store) is None)
        while said_to(store) is None:
            await store.look_up(KEY, ALICE, Deadline(SOON))
        assert said_to(store).grant == grant(2.0)  # type: ignore[union-attr]
        # whether it has told anything can't be asked of who is left alone: the primary is, at once
        other._trials.reading.trip(reactor.seconds(), "")
        assert (await store.look_up(KEY, ALICE, Deadline(SOON))).grant == grant(2.0)
        writer.freshen(KEY, ALICE, grant(3.0), entry(3.0))
        await settled(writer)
        other._trials.reading.trip(reactor.seconds(), "")
        assert (await store.look_up(KEY, ALICE, Deadline(SOON))).grant == grant(3.0)


class Shards(TestCase):
    """A Redis Cluster: a key and a credential are with different servers, and may move."""

    async def test_they_tell(self) -> None:
        """Whichever has it, also of what has moved away."""
        servers = await open_cluster(self, replicas=0)
        tracking = Tracking()
        writer = await open_store(self, cluster_at(self, servers.servers[0]))
        cluster = cluster_at(self, servers.servers[0], keys_changed=tracking.changed)
        store = await open_store(self, cluster, tracking=tracking)
        writer.store_response(KEY, ALICE, HELD, grant(1.0), entry())
        await settled(writer)
        store.redis.now = Stopped(reactor, reactor.seconds()).seconds

        def is_said() -> bool:
            return said_to(store) is not None

        async def often() -> None:
            while not is_said():
                await store.look_up(KEY, ALICE, Deadline(SOON))

        slots = [slot_of_tag(name) for name in (record_names.slot_of_key(KEY), ALICE.encode())]
        one, other = (servers.owner(slot) for slot in slots)
        assert one is not other
        await often()
        writer.freshen(KEY, ALICE, grant(2.0), entry(2.0))
        await until(lambda: not is_said())
        await often()
        writer.set_limit(ALICE, limit("", reactor.seconds() + 100))
        await until(lambda: not is_said())
        await often()
        await deferToThread(servers.migrate, slots[0], other)
        await until(lambda: not is_said())
        await often()
        writer.freshen(KEY, ALICE, grant(4.0), entry(4.0))
        await until(lambda: not is_said())
        assert (await store.look_up(KEY, ALICE, Deadline(SOON))).grant == grant(4.0)

    async def test_a_token_is_with_a_server_of_its_own(self) -> None:
        """Its limits are read beside all that is of the key and of the credential."""
        servers = await open_cluster(self, replicas=0)
        store = await open_store(self, cluster_at(self, servers.servers[0]))
        token = next(
            name
            for name in (f"{number:032x}" for number in range(100))
            if servers.owner(slot_of_tag(name.encode()))
            is not servers.owner(slot_of_tag(ALICE.encode()))
        )
        until_ = reactor.seconds() + 100
        reader = await open_store(self, cluster_at(self, servers.servers[0]))
        store.store_response(KEY, ALICE, HELD, grant(1.0), entry())
        store.set_limit(token, limit("core", until_))
        store.set_limit(ALICE, limit("", until_))
        store.replace_epoch(ALICE, EPOCH)
        await settled(store)
        known = await reader.look_up(KEY, ALICE, Deadline(SOON), token=token)
        assert [each.scope for each in known.limits] == ["core"]
        assert (known.grant, known.epoch) == (grant(1.0), EPOCH)
        known = await reader.look_up(KEY, ALICE, Deadline(SOON))
        assert [each.scope for each in known.limits] == [""]
        found = await reader.limits(token, ("", "core", "search"), Deadline(SOON))
        assert [each.scope for each in found] == ["core"]

    async def test_what_does_not_exist_moves(self) -> None:
        """Who had it has nothing to tell of; that it has moved is known by what is asked of it."""
        servers = await open_cluster(self, replicas=0)
        tracking = Tracking()
        cluster = cluster_at(self, servers.servers[0], keys_changed=tracking.changed)
        store = await open_store(self, cluster, tracking=tracking)
        store.store_response(KEY, ALICE, HELD, grant(1.0), entry())
        await settled(store)
        for _ in range(2):
            await store.look_up(KEY, ALICE, Deadline(SOON))
        assert said_to(store) is not None
        slot = slot_of_tag(ALICE.encode())
        target = next(each for each in servers.servers if each is not servers.owner(slot))
        await deferToThread(servers.migrate, slot, target)
        await store.look_up(KEY, ALICE, Deadline(SOON), current=True)
        assert said_to(store) is None
        for _ in range(2):
            await store.look_up(KEY, ALICE, Deadline(SOON))
        assert said_to(store) is not None
        cluster.shards.refresh()
        await until(lambda: not cluster.shards._news)
        await cluster.shards._ask_around()
        assert said_to(store) is not None


class WhoCanNot(TestCase):
    """Servers that track nothing for the mirror."""

    async def asked_each_time(self, where: tuple[str, int], **more: Any) -> Node:
        """See that a server is asked each time, and return how it is treated."""
        tracking = Tracking()
        node = node_at(where, keys_changed=tracking.changed, **more)
        store = await open_store(self, Single(node), tracking=tracking)
        store.store_response(KEY, ALICE, HELD, grant(1.0), entry())
        await settled(store)
        for _ in range(4):
            assert (await store.look_up(KEY, ALICE, Deadline(SOON))).current
        assert tracking._by_key == {}
        return node

    async def test_before_version_6(self) -> None:
        """There is no HELLO."""
        server = start_redis(self, options=[("rename-command", 'HELLO ""')])
        node = await self.asked_each_time(server.address)
        assert not any(connection.tracks for connection in node._pool.connections)

    async def test_a_user_who_may_not(self) -> None:
        """It may not be told of changes, or not say of what."""
        for forbidden in ("client|tracking", "client|caching"):
            server = start_redis(self, users=(f"mirror on >s ~* +@all -{forbidden}",))
            await self.asked_each_time(
                server.address, credentials=lambda: Credentials("mirror", "s")
            )

    async def test_what_closes_at_hello(self) -> None:
        """Something between that knows only some commands: it isn't told again for a while."""
        server = start_redis(self)
        between = Closing(server.address)
        port = reactor.listenTCP(0, between, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        node = await self.asked_each_time(("127.0.0.1", port.getHost().port))
        await until(lambda: len(node._pool.connections) == 2)
        assert between.closed == 1


class Closing(ProxyFactory):
    """Passes all on to a server, and closes a connection that says HELLO."""

    noisy = False

    def __init__(self, where: tuple[str, int]) -> None:
        super().__init__(*where)
        self.closed = 0

    def buildProtocol(self, addr: Any) -> ProxyServer:
        factory = self

        class Between(ProxyServer):
            def dataReceived(self, data: bytes) -> None:
                if b"HELLO" in data:
                    factory.closed += 1
                    self.transport.loseConnection()
                else:
                    super().dataReceived(data)

        between = Between()
        between.factory = self
        return between


class Mirrors(TestCase):
    """Whole mirrors before GitHub's stand-in, which share a server."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.server = start_redis(self)
        self.home = await self.another()
        self.github = self.home.github

    async def another(self, **cache: Any) -> Home:
        host, port = self.server.address
        github = (self.github,) if hasattr(self, "github") else ()
        redis = {"url": f"redis://{host}:{port}", "timeout": 30.0}
        return await open_home(self, *github, cache={"backend": "redis", **cache}, redis=redis)

    def asked(self) -> int:
        """Return how many scripts the server has run since the last time."""
        with self.server.client() as client:
            calls = client.calls()
        return calls.get("eval", 0) + calls.get("evalsha", 0)

    async def polled(self, home: Home, times: int, **more: Any) -> None:
        for _ in range(times):
            got = await home.get("/thing", token="alice-1", **more)
            assert (got.status, got.outcome.endswith("detail=revalidated")) == (200, True)
            await settled(home.house.store)

    async def test_what_is_polled_all_the_time(self) -> None:
        """It is validated with GitHub each time, and Redis has hardly anything to do with it."""
        self.github.put("/thing", {"a": 1})
        await self.home.get("/thing", token="alice-1")
        await settled(self.home.house.store)
        await self.polled(self.home, 3)
        self.github.reset_counts()
        self.asked()
        await self.polled(self.home, 20)
        assert (len(self.github.asked("/thing")), self.github.total_paid) == (20, 0)
        # what is told in the background, now and then, of its part in what GitHub allows
        assert self.asked() < 10

    async def test_a_change_is_paid_for_once(self) -> None:
        """Of mirrors that are polled one right after the other, only the first one pays."""
        self.github.put("/thing", {"a": 0})
        homes = [self.home, await self.another(), await self.another()]
        for number in range(1, 101):
            for home in homes * 2:
                await home.get("/thing", token="alice-1")
            self.github.put("/thing", {"a": number})
            self.github.reset_counts()
            for home in homes:
                got = await home.get("/thing", token="alice-1")
                assert got.json == {"a": number}
            assert self.github.total_paid == 1, number

    async def test_a_limit_is_heeded_at_once(self) -> None:
        """What one mirror was told to wait for, the next one does not ask GitHub for."""
        self.github.put("/thing", {"a": 0})
        there = await self.another()
        for home in (self.home, there) * 3:
            await home.get("/thing", token="alice-1")
        self.github.fault("/thing", "secondary-limit")
        here = await self.home.get("/thing", token="alice-1")
        self.github.reset_counts()
        elsewhere = await there.get("/thing", token="alice-1")
        assert here.outcome.endswith("detail=secondary-limit")
        assert elsewhere.outcome == "hit; detail=secondary-limit"
        assert self.github.asked() == []

    async def test_how_exactly_times_are_written(self) -> None:
        """To ten seconds, or a hundredth of what they matter for; each one if answers are fresh."""
        for cache, again_s in (
            ({}, 10.0),
            ({"stale_limit": 500.0}, 5.0),
            ({"fresh_for": 1.0}, 0.0),
        ):
            store = (await self.another(**cache)).house.redis
            assert store is not None
            assert store.redis.again_s == again_s

    async def test_a_write_ends_fresh_everywhere(self) -> None:
        """What Redis said before it is not what is asked then."""
        self.github.put("/thing", {"a": 0})
        here = await self.another(fresh_for=600.0)
        there = await self.another(fresh_for=600.0)
        for _ in range(4):
            await there.get("/thing", token="alice-1")
        got = await there.get("/thing", token="alice-1")
        assert got.outcome == "hit; detail=fresh"
        self.github.put("/thing", {"a": 1})
        assert (await here.ask("PATCH", "/thing", token="alice-1", body=b"{}")).status < 500
        await written(here.house.store)
        assert (await there.get("/thing", token="alice-1")).json == {"a": 1}
