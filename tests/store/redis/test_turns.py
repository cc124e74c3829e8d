"""What is confirmed is written at the end of a turn of the reactor, and never out of order."""

from __future__ import annotations

from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from ghmirror_tw.policy.key import CacheKey
from ghmirror_tw.policy.records import Grant
from ghmirror_tw.store.interfaces import Patience
from ghmirror_tw.store.redis.servers import Single
from tests.home import reactor
from tests.redis_house import node_at, open_store, settled
from tests.redis_servers import start_redis
from tests.store.contract import ALICE, BOB, HELD, KEY, entry, grant

KEYS = [CacheKey(b"/%d" % number) for number in range(20)]


class Turns(TestCase):
    """One connection to one server."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.server = start_redis(self)
        self.node = node_at(self.server.address, pool_size=1)
        self.store = await open_store(self, Single(self.node))
        while self.under_way():  # its own figures
            await deferLater(reactor, 0.0)

    def under_way(self) -> int:
        """Return how many commands have been sent that have no reply yet."""
        return sum(len(connection._sent) for connection in self.node._pool.connections)

    async def granted(self, key: CacheKey, credential: str = ALICE) -> Grant | None:
        """Return what is in Redis, whatever the process itself knows."""
        known = await self.store.redis.look_up(key, credential, 60.0, current=True)
        return known.grant

    async def test_many_together(self) -> None:
        """Nothing is sent before the end of the turn, and all of it then."""
        for key in KEYS:
            self.store.freshen(key, ALICE, grant(2.0), entry(2.0))
        assert self.under_way() == 0
        assert len(self.store._sending) == len(KEYS)
        await deferLater(reactor, 0.0)
        assert self.under_way() == len(KEYS)
        await settled(self.store)
        for key in KEYS:
            assert await self.granted(key) == grant(2.0)

    async def test_a_question_of_the_same_key_comes_later(self) -> None:
        """Whoever asks; a question of another one need not wait for it, nor it for that."""
        for credential in (ALICE, BOB):
            self.store.freshen(KEY, ALICE, grant(2.0), entry(2.0))
            other = self.store.look_up(KEYS[0], ALICE, Patience(60.0))
            assert self.under_way() == 2
            same = self.store.look_up(KEY, credential, Patience(60.0))
            assert self.under_way() == 2 + 1 + 2
            known = [await other, await same]
            assert [len(each.entries) for each in known] == [0, 1]
            await settled(self.store)

    async def test_other_statements_come_later(self) -> None:
        """A refusal is sent at once, and so is what was confirmed before it."""
        self.store.remember(KEY, ALICE, HELD, grant(1.0), entry())
        await settled(self.store)
        self.store.freshen(KEY, ALICE, grant(2.0), entry(2.0))
        self.store.refuse(KEY, ALICE, 3.0)
        assert self.under_way() == 2
        await settled(self.store)
        assert await self.granted(KEY) is None

    async def test_what_cannot_be_written_is_owed_at_once(self) -> None:
        """Nobody waits for the end of a turn where nothing can be written."""
        self.server.kill()
        while self.store.available:
            await deferLater(reactor, 0.01)
        self.store.freshen(KEY, ALICE, grant(2.0), entry(2.0))
        assert len(self.store._owed) == 1
        assert not self.store._sending

    async def test_what_is_lost_at_the_end_is_owed(self) -> None:
        """Redis went away in that very turn."""
        for key in KEYS:
            self.store.freshen(key, ALICE, grant(2.0), entry(2.0))
        self.node._pool.connections[0].abort("this is a test")
        await settled(self.store)
        assert len(self.store._owed) == len(KEYS)
        while self.store._owed or self.store._sending or not self.store.available:
            await deferLater(reactor, 0.01)
        assert await self.granted(KEYS[-1]) == grant(2.0)

    async def test_closing_writes_it(self) -> None:
        """All that was confirmed is in Redis when the store has been closed."""
        self.store.freshen(KEY, ALICE, grant(2.0), entry(2.0))
        await self.store.close()
        later = await open_store(self, self.server.address)
        known = await later.look_up(KEY, ALICE, Patience(60.0))
        assert known.grant == grant(2.0)
