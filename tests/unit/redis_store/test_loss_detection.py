"""The permissions of responses without GitHub's confirmation, after Redis has lost records."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

from attrs import define
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Known
from ghmirror_tw.redis import RedisNode
from ghmirror_tw.redis.sentinel_queries import PrimaryFinder
from ghmirror_tw.redis.sentinel_servers import Sentinels
from ghmirror_tw.redis.server_endpoint import Address, Credentials
from ghmirror_tw.redis.servers_interface import IServers
from ghmirror_tw.redis.unsharded_servers import SingleServer
from ghmirror_tw.redis_store import loss_detection as history_module
from ghmirror_tw.store import record_names
from ghmirror_tw.store import write_behind_queue as write_behind_module
from ghmirror_tw.store.failover import FailoverStore
from ghmirror_tw.store.store_interface import Deadline
from tests.harness.home import reactor, until
from tests.harness.redis_servers import RedisServer, start_redis
from tests.harness.redis_sets import SERVICE, open_sentinels
from tests.harness.redis_stores import node_at, open_store, settled
from tests.unit.store.store_contract import (
    ALICE,
    ANOTHER,
    BOB,
    EPOCH,
    HELD,
    KEY,
    SOON,
    entry,
    grant,
)


async def known(store: FailoverStore) -> Known:
    """Return the result of a look-up, as before a stale response."""
    return await store.look_up(KEY, ALICE, Deadline(SOON), current=True)


async def usable(store: FailoverStore) -> bool:
    """Return whether a stale response may be sent."""
    found = await known(store)
    return found.permits and found.current


async def granted(store: FailoverStore, at: float = 1.0, credential: str = ALICE) -> None:
    """Store a grant, as after a successful response of GitHub."""
    found = await store.look_up(KEY, credential, Deadline(SOON), current=True)
    epoch = found.epoch or store.begin_epoch(credential, EPOCH, 0.0)
    store.store_response(KEY, credential, HELD, grant(at, epoch=epoch), entry(at))
    await settled(store)


class Mirrors(TestCase):
    """Two mirrors on one server; alice has a grant."""

    timeout = 60
    node_timeout_s = SOON

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.server = start_redis(self)
        self.one = await self.mirror()
        self.other = await self.mirror()
        await granted(self.one)
        assert await usable(self.one)
        assert await usable(self.other)

    async def mirror(self) -> FailoverStore:
        made: list[FailoverStore] = []

        def changed(_: object) -> None:
            for store in made:
                store.note_change()

        def connected() -> None:
            for store in made:
                store.note_connection()

        node = node_at(
            self.server.address,
            changed=changed,
            connected=connected,
            timeout_s=self.node_timeout_s,
        )
        made.append(await open_store(self, SingleServer(node), timeout_s=self.node_timeout_s))
        return made[0]


class Histories(Mirrors):
    """A server that loses records."""

    async def test_an_earlier_copy_permits_nothing(self) -> None:
        """A refusal is missing in it, and the grant is there."""
        self.server.send("SAVE")
        self.other.deny(KEY, ALICE, 2.0)
        self.other.revoke(ALICE, ANOTHER)
        await settled(self.other)
        await self.other.close()
        self.server.kill()
        await until(lambda: not self.one.available)
        self.server.start()
        await until(lambda: self.one.available)
        found = await known(self.one)
        assert found.grant is not None
        assert not found.permits
        # The copy still names the other mirror, which is waited for.
        await until(lambda: self.one.history.is_settled)
        await granted(self.one, 3.0)
        assert await usable(self.one)

    async def test_a_later_mirror_finds_another_server(self) -> None:
        """By the run id: it has seen no beat before."""
        self.server.send("SAVE")
        for store in (self.one, self.other):
            await store.close()
        self.server.kill()
        self.server.start()
        assert not await usable(await self.mirror())

    async def test_a_rolling_update_preserves_permissions(self) -> None:
        """A mirror starts while another one runs."""
        assert await usable(await self.mirror())
        await self.one.close()
        assert await usable(self.other)
        assert await usable(await self.mirror())

    async def test_unwatched_time_ends_permissions(self) -> None:
        """No mirror was running."""
        (key,) = self.server.send("KEYS", "*:history")
        assert 20_000 < self.server.send("PTTL", key) <= 30_000
        for store in (self.one, self.other):
            await store.close()
        self.server.send("DEL", key)
        assert not await usable(await self.mirror())

    async def test_a_lower_number_of_beats_ends_permissions(self) -> None:
        """The content was replaced by an earlier copy while the server ran."""
        (key,) = self.server.send("KEYS", "*:history")
        before = self.one.redis.history
        self.server.send("HSET", key, "count", "0")
        self.one.history.look()
        await until(lambda: self.one.redis.history != before)
        assert not await usable(self.one)

    async def replica(self) -> RedisServer:
        """Return a replica that has received everything."""
        replica = start_redis(self)
        replica.send("REPLICAOF", *self.server.address)
        await until(lambda: b"master_link_status:up" in replica.send("INFO", "replication"))
        return replica

    async def follow(self, store: FailoverStore, primary: RedisServer) -> None:
        """Let a mirror use another primary, as after a failover."""
        node = node_at(primary.address)
        node.open()
        await node.settled()
        servers = store.redis.servers
        former, servers.primary = servers.primary, node
        self.addCleanup(former.close)
        store.history.note_interruption()

    async def test_a_write_to_the_former_primary_ends_permissions_on_the_new_one(self) -> None:
        """A mirror that finds the new primary late has written a refusal to the former one."""
        replica = await self.replica()
        replica.send("REPLICAOF", "NO", "ONE")
        await self.follow(self.one, replica)
        await self.one.history.looked_up(SOON)
        await granted(self.one, 2.0)
        assert not self.one.history.is_settled
        self.other.deny(KEY, ALICE, 3.0)
        await settled(self.other)
        await self.follow(self.other, replica)
        await until(lambda: self.one.history.is_settled and self.other.history.is_settled)
        assert not await usable(self.one)
        await granted(self.one, 4.0)
        assert await usable(self.one)

    async def test_a_primary_that_is_replaced_during_a_beat_ends_permissions(self) -> None:
        """The run id of the former primary is not that of the new one."""
        replica = await self.replica()
        self.other.revoke(ALICE, ANOTHER)
        await settled(self.other)
        await self.other.close()
        self.server.pause()
        self.one.history.note_connection()
        assert self.one.history.beating
        replica.send("REPLICAOF", "NO", "ONE")
        before = self.one.redis.history
        await self.follow(self.one, replica)
        self.server.resume()
        await self.one.history.looked_up(SOON)
        assert self.one.redis.history not in {None, before}

    async def test_garbage_begins_a_history(self) -> None:
        """With any value of the key."""
        (key,) = self.server.send("KEYS", "*:history")
        for garbage in (("SET", key, "x"), ("RPUSH", key, "x"), ("HSET", key, "count", "x")):
            self.server.send("DEL", key)
            self.server.send(*garbage)
            self.one.history.look()
            await until(lambda: self.server.send("TYPE", key) == b"hash")
            await self.one.history.looked_up(SOON)
            await granted(self.one, reactor.seconds())
            assert await usable(self.one)

    async def test_an_emptied_server_has_the_same_history(self) -> None:
        """All epochs are deleted with it."""
        before = self.one.redis.history
        for _ in range(3):
            self.other.history.look()
            await until(lambda: not self.other.history.beating)
        self.server.send("FLUSHALL")
        self.one.history.look()
        await until(lambda: bool(self.server.send("KEYS", "*:history")))
        assert not await usable(self.one)
        assert not await usable(self.other)
        await granted(self.one, 2.0)
        self.other.history.look()
        await until(lambda: bool(self.server.send("KEYS", "*:history")))
        assert await usable(self.one)
        assert await usable(self.other)
        assert self.one.redis.history == self.other.redis.history == before

    async def test_without_permission_for_info(self) -> None:
        """It is logged once, and the rest works."""
        self.server.send("ACL", "SETUSER", "default", "-info")
        store = await self.mirror()
        for _ in range(5):
            store.history.note_connection()
            await store.history.looked_up(SOON)
        assert store.available
        await granted(store, 4.0)
        assert await usable(store)

    async def test_an_evicted_epoch_or_refusal_permits_nothing(self) -> None:
        """A refusal has deleted the grant."""
        self.other.deny(KEY, ALICE, 2.0)
        await settled(self.other)
        self.server.send("DEL", b"ghmirror:" + record_names.refusal(KEY, ALICE))
        assert not await usable(self.one)
        await granted(self.one, 3.0)
        assert await usable(self.one)
        (epoch,) = self.server.send("KEYS", "*:e:*")
        self.server.send("DEL", epoch)
        assert not await usable(self.one)

    async def test_a_full_server_deletes_grants_and_epochs(self) -> None:
        """It cannot store the refusals and epochs that end them."""
        await granted(self.one, 5.0)
        self.server.send("CONFIG", "SET", "maxmemory", "1")
        self.other.revoke(ALICE, ANOTHER)
        await settled(self.other)
        assert not await usable(self.one)
        self.server.send("CONFIG", "SET", "maxmemory", "0")
        await until(lambda: not self.other.writes.queue)
        await granted(self.one, 6.0)
        await until(lambda: self.one.history.is_settled)
        assert await usable(self.one)
        self.server.send("CONFIG", "SET", "maxmemory", "1")
        self.other.deny(KEY, ALICE, 7.0)
        await settled(self.other)
        assert not await usable(self.one)


class Members(Mirrors):
    """The number of mirrors, by which a limit is divided while the server is away."""

    async def members(self, expected: int) -> None:
        """Return when both mirrors count *expected* members."""
        for store in (self.one, self.other):
            store.history.look()
        await until(lambda: self.one.history.members == self.other.history.members == expected)

    async def rows(self) -> int:
        """Return the number of members on the server."""
        (key,) = self.server.send("KEYS", "*:history")
        return sum(name.startswith(b"member ") for name in self.server.send("HKEYS", key))

    async def test_each_mirror_counts_once(self) -> None:
        """However many beats it sends."""
        await self.members(2)
        await self.members(2)
        assert await self.rows() == 2
        await self.mirror()
        await self.members(3)

    async def test_a_leaving_mirror_is_not_counted(self) -> None:
        """Nor is one without a recent beat; the recent number still counts."""
        await self.members(2)
        await self.other.close()
        assert await self.rows() == 1
        self.patch(history_module, "_COUNTED_S", 0.0)
        self.one.history.look()
        await until(lambda: self.one.history.members == 1)
        (key,) = self.server.send("KEYS", "*:history")
        self.server.send("HSET", key, "member gone", "1 0")
        looked_at = self.one.history.looked_at
        self.one.history.look()
        await until(lambda: self.one.history.looked_at > looked_at)
        assert self.one.history.members == 1
        assert await self.rows() == 1

    async def test_an_emptied_server_counts_too_few_at_first(self) -> None:
        """The number from before counts for a while."""
        await self.members(2)
        await self.other.close()
        self.server.send("FLUSHALL")
        looked_at = self.one.history.looked_at
        self.one.history.look()
        await until(lambda: self.one.history.looked_at > looked_at)
        assert await self.rows() == 1
        assert self.one.history.members == 2

    async def test_the_last_number_counts_while_the_server_is_away(self) -> None:
        """So does the time of its last response."""
        await self.members(2)
        self.server.kill()
        await until(lambda: not self.one.available)
        looked_at = self.one.history.looked_at
        self.one.history.look()
        await until(lambda: not self.one.history.beating)
        assert (self.one.history.members, self.one.history.looked_at) == (2, looked_at)

    async def test_an_error_is_no_response(self) -> None:
        """For example READONLY."""
        await self.members(2)
        self.server.send("CONFIG", "SET", "min-replicas-to-write", "3")
        looked_at = self.one.history.looked_at
        self.one.history.look()
        await until(lambda: not self.one.history.beating)
        assert (self.one.history.members, self.one.history.looked_at) == (2, looked_at)

    async def test_the_number_before_an_interruption_counts(self) -> None:
        """Until all members have returned."""
        self.patch(history_module, "_COUNTED_S", 0.0)
        await self.members(2)
        await self.other.close()
        self.one.history.note_interruption()
        looked_at = self.one.history.looked_at
        await until(lambda: self.one.history.looked_at > looked_at)
        assert not self.one.history.is_settled
        assert self.one.history.members == 2


class Interruptions(Mirrors):
    """A server that does not respond for a while, and has lost nothing."""

    node_timeout_s = 0.5

    async def test_refusals_of_another_mirror_are_waited_for(self) -> None:
        """After an interruption, until it has written them."""
        self.server.pause()
        self.other.revoke(ALICE, ANOTHER)
        await until(lambda: not (self.one.available or self.other.available))
        self.other.writes.queue.possible = lambda: False
        self.server.resume()
        await until(lambda: self.one.available and self.other.available)
        await until(lambda: self.other.history.is_known and self.one.history.is_known)
        for _ in range(3):
            assert not await usable(self.one)
        assert not self.one.history.is_settled
        self.other.writes.queue.possible = self.other.can_flush
        await until(lambda: self.one.history.is_settled)
        assert (await known(self.one)).epoch != EPOCH
        assert not await usable(self.one)

    async def test_an_epoch_that_is_written_late_permits_nothing(self) -> None:
        """The other mirror may have sent a write meanwhile, in either order."""
        self.server.pause()
        self.one.replace_epoch(ALICE, ANOTHER)
        self.other.mark_unstorable(KEY)
        await until(lambda: not (self.one.available or self.other.available))
        self.one.freshen(KEY, ALICE, grant(5.0, epoch=ANOTHER), entry(5.0))
        self.other.replace_epoch(ALICE, b"epoch 03")
        self.server.resume()
        await until(lambda: not (self.one.writes.queue or self.other.writes.queue))
        await until(lambda: self.one.history.is_settled and self.other.history.is_settled)
        for store in (self.one, self.other):
            found = await known(store)
            assert found.epoch not in {None, EPOCH, ANOTHER, b"epoch 03"}
            assert not await usable(store)

    async def test_a_missing_mirror_ends_all_permissions(self) -> None:
        """Its queued refusals are lost."""
        self.patch(history_module, "SETTLING_S", 0.5)
        self.server.pause()
        self.other.revoke(ALICE, ANOTHER)
        self.one.mark_unstorable(KEY)
        await until(lambda: not (self.one.available or self.other.available))
        before = self.one.redis.history
        self.other.history._closed = True  # as if it had been killed
        self.other.writes.queue.possible = lambda: False
        self.server.resume()
        await until(lambda: self.one.available)
        await until(lambda: self.one.history.is_settled)
        assert self.one.redis.history not in {None, before}
        assert not await usable(self.one)
        await granted(self.one, 4.0)
        assert await usable(self.one)

    async def test_an_epoch_dropped_by_a_full_queue_ends_all_permissions(self) -> None:
        """No replica can know of it when Redis is back."""
        self.patch(write_behind_module, "MAX_QUEUED", 1)
        self.server.pause()
        self.other.revoke(ALICE, ANOTHER)
        self.other.revoke(BOB, ANOTHER)
        self.one.mark_unstorable(KEY)
        await until(lambda: not (self.one.available or self.other.available))
        before = self.one.redis.history
        self.server.resume()
        await until(lambda: self.one.available and self.other.available)
        await until(lambda: self.one.redis.history not in {None, before})
        assert not await usable(self.one)

    async def test_a_refusal_dropped_by_a_full_queue_ends_permissions_of_its_token(self) -> None:
        """Those of other tokens outlast it: any client can cause many refusals."""
        self.patch(write_behind_module, "MAX_QUEUED", 2)
        await granted(self.other, 1.0, BOB)
        self.server.pause()
        self.other.deny(KEY, BOB, 2.0)
        for number in range(4):
            self.other.deny(CacheKey(b"/no/%d" % number), "c" * 32, 2.0, token=ALICE)
        self.one.mark_unstorable(KEY)
        await until(lambda: not (self.one.available or self.other.available))
        before = self.one.redis.history
        await until(lambda: len(self.other.writes.queue) == 4)
        self.server.resume()
        await until(lambda: self.one.available and self.other.available)
        await until(lambda: not self.other.writes.queue)
        await until(lambda: self.one.history.is_settled)
        await self.one.history.looked_up(SOON)
        found = await known(self.one)
        assert found.epoch not in {None, EPOCH}
        assert not await usable(self.one)
        of_bob = await self.one.look_up(KEY, BOB, Deadline(SOON), current=True)
        assert (of_bob.epoch, of_bob.refused_at) == (EPOCH, 2.0)
        assert self.one.redis.history == before

    async def test_permissions_outlast_an_interruption(self) -> None:
        """All mirrors have returned, and owe nothing."""
        self.server.pause()
        self.one.mark_unstorable(KEY)
        self.other.mark_unstorable(KEY)
        await until(lambda: not (self.one.available or self.other.available))
        self.server.resume()
        await until(lambda: self.one.available and self.one.history.is_settled)
        await self.one.history.looked_up(SOON)
        assert await usable(self.one)

    async def test_a_stopping_mirror_writes_its_refusals(self) -> None:
        """If Redis returns in time."""
        self.other.grace_s = 30.0
        self.server.pause()
        self.other.revoke(ALICE, ANOTHER)
        await until(lambda: not self.other.available)
        closing = self.other.close()
        assert not closing.called
        self.server.resume()
        await closing
        assert (await known(self.one)).epoch != EPOCH

    async def test_a_stopping_mirror_waits_for_its_grace_period_only(self) -> None:
        """Redis does not return."""
        self.other.grace_s = 0.01
        self.server.pause()
        self.other.revoke(ALICE, ANOTHER)
        await self.other.close()
        self.server.resume()


@define(eq=False)
class Replaceable:
    """The primary, which a test replaces by another one."""

    node: RedisNode

    def primaries(self) -> tuple[RedisNode, ...]:
        """Return the primary."""
        return (self.node,)


class ReplacedDuringABeat(TestCase):
    """A primary, and its replica, which is promoted while a beat is under way."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.former = start_redis(self)
        self.later = start_redis(self, replica_of=self.former.address)
        self.servers = Replaceable(await self.node(self.former))
        self.histories: list[bytes | None] = []
        self.history = history_module.History(
            reactor,
            cast("IServers", self.servers),
            b"one",
            owes=lambda: False,
            changed=self.histories.append,
            clock_read=lambda _: None,
        )
        self.addCleanup(self.history.close)
        self.history.look()
        await until(lambda: self.history.is_known)

    async def node(self, server: RedisServer) -> RedisNode:
        node = node_at(server.address)
        self.addCleanup(node.close)
        node.open()
        await node.settled()
        return node

    async def promoted(self) -> RedisNode:
        """Promote the replica, once it has the history."""
        (key,) = self.former.send("KEYS", "*history")
        await until(lambda: self.later.send("HLEN", key) > 0)
        self.later.send("REPLICAOF", "NO", "ONE")
        return await self.node(self.later)

    async def test_a_late_reply_of_the_former_primary_changes_nothing(self) -> None:
        """Its run id does not count for the later one, so that a new history begins."""
        later = await self.promoted()
        before = self.history.current
        self.former.pause()
        self.history.note_connection()
        self.servers.node = later
        self.history.note_interruption()
        assert self.histories[-1] is None
        self.former.resume()
        await until(lambda: self.history.is_known)
        assert self.history.current != before

    async def test_a_new_connection_permits_nothing_before_a_beat(self) -> None:
        """It may lead to another server."""
        self.former.pause()
        self.history.note_connection()
        assert not self.history.is_known
        self.former.resume()
        await until(lambda: self.history.is_known)
        assert len(self.histories) == 1


class Primaries(TestCase):
    """A primary under Sentinels, and its replica, which has not received everything."""

    timeout = 120

    async def test_a_failover_ends_permissions(self) -> None:
        """The replica had not received everything."""
        servers = await open_sentinels(self)
        made: list[FailoverStore] = []

        def changed(*_: Any) -> None:
            for store in made:
                store.note_change()

        sentinels = Sentinels(
            reactor=reactor,
            finder=PrimaryFinder(
                reactor=reactor,
                sentinels=[Address(*place) for place in servers.places],
                service=SERVICE,
                credentials=Credentials,
            ),
            make=lambda **more: _node(changed, **more),
            random=random.random,
            check_s=0.2,
            changed=changed,
        )
        servers_: IServers = sentinels
        store = await open_store(self, servers_)
        made.append(store)
        await granted(store)
        assert await usable(store)
        before = sentinels.primary
        (former,) = [each for each in servers.servers if Address(*each.address) == before]
        await deferToThread(former.kill)
        await until(lambda: sentinels.primary != before and store.available)
        await store.history.looked_up(SOON)
        assert not await usable(store)
        assert store.available
        await granted(store, 2.0)
        await until(lambda: store.history.is_settled)
        assert await usable(store)


def _node(also: Callable[..., None], **more: Any) -> Any:
    address = more.pop("address")
    notify = more.pop("changed")

    def fields(node: Any) -> None:
        notify(node)
        also()

    return node_at((address.host, address.port), changed=fields, **more)
