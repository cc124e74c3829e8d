"""Confirmations that would change only times in Redis are written once in an interval."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ghmirror_tw.caching.records import Known
from ghmirror_tw.redis.servers_interface import RedisUnavailableError
from ghmirror_tw.redis_store.needless_renewals import is_listed, is_recent
from ghmirror_tw.store import record_names
from ghmirror_tw.store.failover import FailoverStore
from ghmirror_tw.store.store_interface import Deadline
from tests.harness.home import Home, open_home
from tests.harness.redis_servers import start_redis
from tests.harness.redis_stores import PREFIX, SOON, open_store, settled, written
from tests.unit.store.store_contract import ALICE, BOB, HELD, KEY, OTHER, entry, grant

GRANT = f"{PREFIX}:{record_names.grant(KEY, ALICE).decode()}"
LIST = f"{PREFIX}:{record_names.recency_list(KEY).decode()}"


class Comparison(SynchronousTestCase):
    """A confirmation beside the records of a look-up."""

    def known(self, **more: Any) -> Known:
        return Known(grant=grant(100.0, **more), entries=(entry(100.0), entry(90.0, OTHER)))

    def test_only_times_differ(self) -> None:
        """The stored records are recent within the interval, or if they are later."""
        known, later = self.known(), grant(104.0)
        assert is_recent(known, later, entry(104.0, received_at=100.0), 5.0)
        assert is_recent(known, grant(96.0), entry(96.0, received_at=100.0), 5.0)
        assert not is_recent(known, grant(105.0), entry(104.0, received_at=100.0), 5.0)
        assert is_recent(known, grant(50.0), entry(50.0, received_at=100.0), 5.0)
        assert not is_recent(known, later, entry(105.0, received_at=100.0), 5.0)
        assert not is_recent(known, later, entry(104.0, received_at=100.0), 0.0)

    def test_another_attribute_differs(self) -> None:
        """Any attribute but times has to be written."""
        known = self.known()
        fitting = entry(104.0, received_at=100.0)
        for other in (
            grant(104.0, OTHER),
            grant(104.0, shareable=True),
            grant(104.0, principal="alice"),
            grant(104.0, expires_at=1_000.0),
            evolve(grant(104.0), etag=b'"u"'),
            evolve(grant(104.0), link=b"<x>"),
            evolve(grant(104.0), last_modified=b"Thu, 26 Nov 2026 09:00:00 GMT"),
        ):
            assert not is_recent(known, other, fitting, 5.0), other
        for changes in (
            {"link": b"<x>"},
            {"received_at": 104.0},
            {"shareable": False},
        ):
            changed = evolve(fitting, **changes)
            assert not is_recent(known, grant(104.0), changed, 5.0), changes
            assert not is_listed(known, changed)
        for_alice = evolve(fitting, principal="alice")
        assert is_recent(known, grant(104.0), for_alice, 5.0)
        assert is_listed(known, for_alice)
        unlisted = Known(grant=grant(100.0))
        assert not is_recent(unlisted, grant(104.0), fitting, 5.0)
        assert not is_listed(unlisted, fitting)

    def test_the_end_of_a_grant_is_a_time(self) -> None:
        """Two expiry times may differ by less than the interval."""
        known = self.known(expires_at=1_000.0)
        fitting = entry(104.0, received_at=100.0)
        assert is_recent(known, grant(104.0, expires_at=1_004.0), fitting, 5.0)
        assert not is_recent(known, grant(104.0, expires_at=1_005.0), fitting, 5.0)


class Confirmations(TestCase):
    """A store that confirms, another store that writes, and one server."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.server = start_redis(self)
        self.redis = self.server.client()
        self.addCleanup(self.redis.close)
        self.writer = await self.open()
        self.store = await self.open(renewal_interval_s=8.0)
        self.writer.store_response(KEY, ALICE, HELD, grant(1.0), entry())
        await settled(self.writer)
        await self.writer.look_up(KEY, BOB, Deadline(SOON))  # so that the server has the script

    async def open(self, **more: Any) -> FailoverStore:
        return await open_store(self, self.server.address, **more)

    async def look_up(self, store: FailoverStore | None = None) -> Known:
        return await (store or self.store).look_up(KEY, ALICE, Deadline(SOON))

    async def in_redis(self) -> Known:
        return await self.look_up(await self.open())

    async def confirm(self, at: float, received_at: float = 1.0) -> None:
        self.store.freshen(KEY, ALICE, grant(at), entry(at, received_at=received_at))
        await settled(self.store)

    async def test_a_renewal_is_written_after_the_interval(self) -> None:
        """This process sees its own confirmations; Redis receives the first one after 8 s."""
        for at in (2.0, 3.0, 8.9):
            await self.look_up()
            await self.confirm(at)
            assert (await self.in_redis()).grant == grant(1.0)
        known = await self.look_up()
        assert known.grant == grant(8.9)
        assert known.entries == (entry(8.9, received_at=1.0),)
        await self.confirm(9.0)
        assert (await self.in_redis()).grant == grant(9.0)

    async def test_without_a_look_up_it_is_written(self) -> None:
        """So it is after an earlier confirmation, until the next look-up."""
        await self.confirm(2.0)
        assert (await self.in_redis()).grant == grant(2.0)
        await self.look_up()
        await self.confirm(10.0)
        await self.confirm(11.0)
        assert (await self.in_redis()).grant == grant(11.0)

    async def test_a_lost_grant_is_written(self) -> None:
        """The look-up shows that Redis does not have it."""
        self.redis.send("DEL", GRANT)
        await self.look_up()
        await self.confirm(3.0)
        assert (await self.in_redis()).grant == grant(3.0)

    async def test_a_failed_look_up_leaves_nothing_to_rely_on(self) -> None:
        """The confirmation after it is written, or queued."""
        await self.look_up()
        with pytest.raises(RedisUnavailableError):
            await self.store.redis.look_up(KEY, ALICE, 0.0, current=False)
        await self.confirm(2.0)
        assert (await self.in_redis()).grant == grant(2.0)

    async def test_another_link_is_written(self) -> None:
        """GitHub has sent another ``Link``."""
        await self.look_up()
        linked = evolve(grant(2.0), link=b"<x>")
        self.store.freshen(KEY, ALICE, linked, entry(2.0, received_at=1.0))
        await settled(self.store)
        assert (await self.in_redis()).grant == linked

    async def test_a_recency_list_belongs_to_all_credentials(self) -> None:
        """After another credential's confirmation, only the grant is written."""
        for at, listed_at in ((8.9, 1.0), (9.0, 9.0)):
            await self.store.look_up(KEY, BOB, Deadline(SOON))
            self.store.freshen(
                KEY, BOB, grant(at, principal="bob"), entry(at, received_at=1.0, principal="bob")
            )
            await settled(self.store)
            now = await (await self.open()).look_up(KEY, BOB, Deadline(SOON))
            assert [each.validated_at for each in now.entries] == [listed_at]

    async def test_another_entry_is_written(self) -> None:
        """So is one that Redis has lost."""
        for change in ({"link": b"<x>"}, {"shareable": False}):
            await self.look_up()
            new = entry(2.0, received_at=1.0, **change)
            self.store.freshen(KEY, ALICE, grant(2.0), new)
            await settled(self.store)
            assert (await self.in_redis()).entries == (new,)
        self.redis.send("DEL", LIST)
        await self.look_up()
        self.store.freshen(KEY, ALICE, grant(3.0), evolve(new, validated_at=3.0))
        await settled(self.store)
        assert (await self.in_redis()).entries == (evolve(new, validated_at=3.0),)

    async def test_a_later_200_is_noted_beside_a_later_confirmation(self) -> None:
        """With any times."""
        await self.look_up()
        later = entry(5.0, received_at=1.0)
        self.writer.freshen(KEY, BOB, grant(5.0), later)
        await settled(self.writer)
        self.store.store_response(KEY, ALICE, HELD, grant(4.0), entry(4.0))
        await settled(self.store)
        assert (await self.in_redis()).entries == (evolve(later, received_at=4.0),)

    async def test_a_confirmation_after_a_refusal_is_written(self) -> None:
        """The refusal has deleted the grant of the look-up."""
        await self.look_up()
        self.store.deny(KEY, ALICE, 2.0)
        await self.confirm(3.0)
        await written(self.store)
        known = await self.in_redis()
        assert (known.grant, known.refused_at) == (grant(3.0), 2.0)


class Mirrors(TestCase):
    """Whole mirrors with the GitHub stand-in, on one Redis server."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.server = start_redis(self)
        self.home = await self.another()
        self.github = self.home.github

    async def another(self, **cache: Any) -> Home:
        host, port = self.server.address
        github = (self.github,) if hasattr(self, "github") else ()
        redis = {"url": f"redis://{host}:{port}", "timeout": 30.0}
        return await open_home(self, *github, cache={"backend": "redis", **cache}, redis=redis)

    async def test_a_change_is_paid_for_once(self) -> None:
        """Of mirrors that request it one right after the other, only the first one pays."""
        self.github.put("/thing", {"a": 0})
        homes = [self.home, await self.another(), await self.another()]
        for number in range(1, 51):
            for home in homes * 2:
                await home.get("/thing", token="alice-1")
            self.github.put("/thing", {"a": number})
            self.github.reset_counts()
            for home in homes:
                got = await home.get("/thing", token="alice-1")
                assert got.json == {"a": number}
            assert self.github.total_paid == 1, number

    async def test_a_limit_is_respected_by_the_next_mirror(self) -> None:
        """It sends GitHub nothing."""
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
        assert self.github.exchanges() == []

    async def test_the_interval(self) -> None:
        """It is 10 s, or a hundredth of ``stale_limit``; none where responses are fresh."""
        for cache, interval_s in (
            ({}, 10.0),
            ({"stale_limit": 500.0}, 5.0),
            ({"fresh_for": 1.0}, 0.0),
        ):
            store = (await self.another(**cache)).parts.redis
            assert store is not None
            assert store.redis.renewal_interval_s == interval_s

    async def test_a_write_ends_freshness_in_all_mirrors(self) -> None:
        """A fresh response needs a look-up, which shows the write."""
        self.github.put("/thing", {"a": 0})
        here = await self.another(fresh_for=600.0)
        there = await self.another(fresh_for=600.0)
        for _ in range(4):
            await there.get("/thing", token="alice-1")
        got = await there.get("/thing", token="alice-1")
        assert got.outcome == "hit; detail=fresh"
        self.github.put("/thing", {"a": 1})
        assert (await here.send("PATCH", "/thing", token="alice-1", body=b"{}")).status < 500
        await written(here.parts.store)
        assert (await there.get("/thing", token="alice-1")).json == {"a": 1}
