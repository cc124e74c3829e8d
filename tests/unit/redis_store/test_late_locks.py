"""Locks while Redis is paused: it carries out commands that their callers no longer wait for."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from ghmirror_tw.redis.servers_interface import RedisUnavailableError
from ghmirror_tw.redis.unsharded_servers import SingleServer
from ghmirror_tw.store.fleet_lock import LEASE_S
from ghmirror_tw.store.store_interface import Deadline, LockOutcome
from tests.harness.home import reactor, until
from tests.harness.redis_servers import start_redis
from tests.harness.redis_stores import at_rest, node_at, open_store, settled
from tests.unit.store.store_contract import COLD, SOON

SHORT_S = 0.2


class Paused(TestCase):
    """Two replicas; the server is paused while one of them acquires a lock."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.server = start_redis(self)
        self.node = node_at(self.server.address)
        self.store = await open_store(self, SingleServer(self.node))
        self.other = await open_store(self, self.server.address)
        # A server that does not know a script carries out nothing at first.
        await self.store.redis.try_acquire(COLD, "first", LEASE_S, SOON)
        await self.store.redis.renew(COLD, "first", LEASE_S, SOON)
        await self.store.redis.release(COLD, "first", SOON)
        await at_rest(self.node)
        # It has the clock of this process; each beat measures that, and lasts for some time.
        self.store.redis.server_ahead_s = 0.0

    async def test_the_clock_of_the_server_is_read(self) -> None:
        """By each beat, which arrives later than it was sent."""
        self.store.redis.server_ahead_s = None
        self.store.history.look()
        await until(lambda: self.store.redis.server_ahead_s is not None)
        assert self.store.redis.server_ahead_s > -0.01

    async def test_a_lock_is_not_acquired_after_the_deadline(self) -> None:
        """The request has continued without it, and no other replica waits for it."""
        self.server.pause()
        outcome = await self.store.try_acquire(COLD, "late", Deadline(SHORT_S))
        assert outcome is LockOutcome.ACQUIRED
        self.store.release(COLD, "late")
        self.server.resume()
        await settled(self.store)
        await at_rest(self.node)
        outcome = await self.other.try_acquire(COLD, "other", Deadline(SOON))
        assert outcome is LockOutcome.ACQUIRED
        self.other.release(COLD, "other")

    async def test_a_lock_is_not_acquired_after_the_request_was_cancelled(self) -> None:
        """Redis carries out the command, and then the one that releases the lock."""
        self.server.pause()
        acquiring = self.store.try_acquire(COLD, "gone", Deadline(SOON))
        acquiring.addErrback(lambda _: None)
        acquiring.cancel()
        self.server.resume()
        await settled(self.store)
        await at_rest(self.node)
        assert not await self.store.redis.is_locked(COLD, SOON)

    async def test_a_lease_is_not_renewed_after_the_deadline(self) -> None:
        """A renewal acquires a lock that was evicted, but not one that was released since."""
        self.server.pause()
        renewed = self.store.redis.renew(COLD, "late", LEASE_S, SHORT_S)
        with self.assertRaises(RedisUnavailableError):
            await renewed
        self.server.resume()
        await at_rest(self.node)
        assert not await self.store.redis.is_locked(COLD, SOON)

    async def test_a_process_that_was_held_up_acquires_it(self) -> None:
        """Redis received the first command late, since it was sent late."""
        redis, now = self.store.redis, reactor.seconds()
        first = [now - 1000.0]
        redis.now = lambda: first.pop() if first else now
        outcome = await self.store.try_acquire(COLD, "held up", Deadline(SOON))
        assert (outcome, first) == (LockOutcome.ACQUIRED, [])
        assert await redis.is_locked(COLD, SOON)
        self.store.release(COLD, "held up")
        await settled(self.store)

    async def test_without_the_time_of_the_server_there_is_no_deadline(self) -> None:
        """Before the first beat of the history."""
        self.store.redis.server_ahead_s = None
        outcome = await self.store.try_acquire(COLD, "first", Deadline(SOON))
        assert outcome is LockOutcome.ACQUIRED
        assert await self.store.redis.is_locked(COLD, SOON)
        self.store.release(COLD, "first")
        await until(lambda: not self.store.writes.in_flight)
