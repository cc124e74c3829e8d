"""Refusals, when Redis or a replica of it lacks records."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.github.reported_limit import EVERYTHING, Limit, LimitKind
from ghmirror_tw.redis.unsharded_servers import PrimaryAndReader, SingleServer
from ghmirror_tw.store import record_names
from ghmirror_tw.store import write_behind_queue as write_behind_module
from ghmirror_tw.store.failover import FailoverStore
from ghmirror_tw.store.record_kinds import GRANT
from ghmirror_tw.store.store_interface import Deadline
from tests.harness.home import reactor, until
from tests.harness.redis_servers import start_redis
from tests.harness.redis_stores import node_at, open_store, settled, written
from tests.unit.store.store_contract import (
    ALICE,
    ANOTHER,
    BOB,
    HELD,
    KEY,
    SOON,
    entry,
    grant,
    negative,
)


class Lost(TestCase):
    """Two mirrors with different knowledge, and a server that loses records."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.server = start_redis(self)
        self.store = await self.replica()
        self.other = await self.replica()
        for store in (self.store, self.other):
            await until(lambda each=store: each.available)  # type: ignore[misc]
        self.store.store_response(KEY, ALICE, HELD, grant(1.0), entry())
        await settled(self.store)

    async def replica(self) -> FailoverStore:
        made: list[FailoverStore] = []

        def changed(_: Any) -> None:
            for store in made:
                store.note_change()

        store = await open_store(self, SingleServer(node_at(self.server.address, changed=changed)))
        made.append(store)
        store.note_change()
        return store

    async def known(self, store: FailoverStore) -> Any:
        return await store.look_up(KEY, ALICE, Deadline(SOON), current=True)

    async def paid(self) -> None:
        await written(self.other)

    async def test_a_lost_grant_permits_nothing(self) -> None:
        """A refusal of another mirror may be lost with it."""
        self.other.deny(KEY, ALICE, 2.0)
        await settled(self.other)
        assert (await self.known(self.store)).grant is None
        self.server.send("DEL", *self.server.send("KEYS", "*:[grlx]*"))
        known = await self.known(self.store)
        assert known.current
        assert known.grant == grant(1.0, epoch=None)
        self.store.freshen(KEY, ALICE, grant(3.0), entry(3.0))
        assert (await self.known(self.store)).grant == grant(3.0)
        await settled(self.store)
        assert (await self.known(self.store)).grant == grant(3.0)

    async def test_a_restored_grant_permits_nothing(self) -> None:
        """There may have been refusals since the snapshot."""
        self.store.freshen(KEY, ALICE, grant(2.0), entry(2.0))
        await settled(self.store)
        (name,) = self.server.send("KEYS", "*:g:*")
        codec = self.store.redis.codec
        blob = codec.seal(GRANT, name.removeprefix(b"ghmirror:"), grant(1.0, epoch=None))
        self.server.send("SET", name, blob)
        assert (await self.known(self.store)).grant == grant(2.0, epoch=None)

    async def test_a_look_up_in_a_server_without_writes_is_not_current(self) -> None:
        """Refusals of other mirrors cannot be written there."""
        assert (await self.known(self.store)).current
        self.server.send("CONFIG", "SET", "maxmemory", "1")
        while self.store.available:
            self.store.mark_unstorable(KEY)
            await settled(self.store)
        assert self.store.redis.servers.reading
        known = await self.known(self.store)
        assert known.grant == grant(1.0)
        assert not known.current

    async def test_an_epoch_that_was_read_is_known_while_redis_is_away(self) -> None:
        """The memory store has it, though another mirror has begun it."""
        self.other.replace_epoch(ALICE, ANOTHER)
        await settled(self.other)
        assert (await self.known(self.store)).epoch == ANOTHER
        self.server.kill()
        await until(lambda: not self.store.available)
        known = await self.known(self.store)
        assert (known.grant, known.epoch, known.current) == (grant(1.0), ANOTHER, False)

    async def test_refusals_stay_in_a_full_queue(self) -> None:
        """However many grants are queued."""
        self.patch(write_behind_module, "MAX_QUEUED", 3)
        self.server.kill()
        await until(lambda: not self.other.available)
        self.other.deny(KEY, ALICE, 2.0)
        for number in range(10):
            self.other.freshen(KEY, f"{number:032x}", grant(1.0), entry())
        self.server.start()
        await until(lambda: self.store.available)
        await self.paid()
        assert (await self.known(self.store)).refused_at == 2.0

    async def test_first_refusals_evict_no_end_of_a_negative_response(self) -> None:
        """It ends what GitHub has sent, and no client can cause many of them."""
        self.patch(write_behind_module, "MAX_QUEUED", 3)
        self.other.store_negative(KEY, BOB, negative(1.0))
        await settled(self.other)
        self.server.kill()
        await until(lambda: not self.other.available)
        self.other.deny(KEY, BOB, 2.0)
        for number in range(10):
            self.other.deny(CacheKey(b"/no/%d" % number), BOB, 2.0)
        self.server.start()
        await until(lambda: self.store.available)
        await self.paid()
        found = await self.store.look_up(KEY, BOB, Deadline(SOON), current=True)
        assert found.refused_at == 2.0

    async def negatives(self) -> list[Any]:
        """Return the negative response that each store knows of."""
        return [(await self.known(store)).negative for store in (self.store, self.other)]

    async def test_a_lost_refusal_revives_no_negative_response(self) -> None:
        """Neither in Redis nor in the memory of a mirror; nor one that is stored late."""
        refusal = f"ghmirror:{record_names.refusal(KEY, ALICE).decode()}"
        self.other.store_negative(KEY, ALICE, negative(2.0))
        await settled(self.other)
        assert await self.negatives() == [negative(2.0)] * 2
        self.store.deny(KEY, ALICE, 3.0)
        await settled(self.store)
        assert self.server.send("DEL", refusal) == 1
        assert (await self.known(self.other)).negative is None
        self.store.deny(KEY, ALICE, 3.0)
        await settled(self.store)
        self.other.store_negative(KEY, ALICE, negative(2.5))
        await settled(self.other)
        assert self.server.send("DEL", refusal) == 1
        assert (await self.known(self.other)).negative is None

    async def test_a_lost_grant_revives_no_negative_response(self) -> None:
        """GitHub has sent a 200 since."""
        self.other.store_negative(KEY, ALICE, negative(2.0))
        await settled(self.other)
        self.store.store_response(KEY, ALICE, HELD, grant(3.0), entry(3.0))
        await settled(self.store)
        self.server.send("DEL", *self.server.send("KEYS", "*}:[grl]*"))
        assert (await self.known(self.other)).negative is None


class Lagging(TestCase):
    """A reader that lags behind the primary: it has received nothing yet."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.primary, self.reader = start_redis(self), start_redis(self)
        self.store = await open_store(self, self.primary.address)

    async def lagging(self) -> FailoverStore:
        """Return a store that reads from the reader, with an empty memory."""
        primary = node_at(self.primary.address)
        reader = node_at(self.reader.address, primary=False)
        return await open_store(self, PrimaryAndReader(primary, reader, reactor), local_size=0)

    async def test_content_missing_on_the_reader_is_fetched_from_the_primary(self) -> None:
        """Otherwise it would be paid again."""
        store, lagging = self.store, await self.lagging()
        store.store_response(KEY, ALICE, HELD, grant(1.0), entry())
        await settled(store)
        found = await lagging.fetch(KEY, (HELD.digest, "0" * 64), Deadline(SOON))
        assert found == {HELD.digest: HELD}

    async def test_limits_and_epochs_are_read_from_the_primary(self) -> None:
        """Other replicas would go on sending requests into a limit."""
        until_ = reactor.seconds() + 1000.0
        limit = Limit(LimitKind.SECONDARY, EVERYTHING, until_)
        self.store.set_limit(ALICE, limit)
        self.store.replace_epoch(ALICE, ANOTHER)
        await settled(self.store)
        lagging = await self.lagging()
        known = await lagging.look_up(KEY, ALICE, Deadline(SOON))
        assert [each.kind for each in known.limits] == [LimitKind.SECONDARY]
        assert (known.epoch, known.current) == (ANOTHER, False)
        (found,) = await lagging.limits(ALICE, (EVERYTHING,), Deadline(SOON))
        assert until_ - 100.0 < found.until <= until_
