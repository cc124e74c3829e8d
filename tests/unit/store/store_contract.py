"""The rules of `IStore` as tests; the test case of each store adds its own stores."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import (
    RECENCY_LENGTH,
    Entry,
    Grant,
    Known,
    NegativeResponse,
    Representation,
)
from ghmirror_tw.caching.representation_from_response import representation_of
from ghmirror_tw.github.reported_limit import CONTENT_CREATION, EVERYTHING, Limit, LimitKind
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.store.store_interface import Deadline, LockName, LockOutcome
from tests.harness.home import reactor

KEY = CacheKey(b"/x")
COLD = LockName(KEY)
SOON: float = 1_000.0
ALICE, BOB = "a" * 32, "b" * 32


def held(content: bytes = b"[1]") -> Representation:
    return representation_of(
        Fields(((b"content-type", b"application/json"),)), content, None, 10**7
    )[0]


HELD = held()
OTHER = held(b"[2]")


EPOCH = b"epoch 01"
ANOTHER = b"epoch 02"


def grant(requested_at: float, of: Representation = HELD, **more: Any) -> Grant:
    values = {"epoch": EPOCH, **more}
    return Grant(of.digest, b'"t"', None, None, requested_at, requested_at, **values)


def entry(at: float = 1.0, of: Representation = HELD, **more: Any) -> Entry:
    values = {"received_at": at, "validated_at": at, "shareable": True, "size": of.size, **more}
    return Entry(of.digest, **values)


def negative(requested_at: float) -> NegativeResponse:
    fields, found = Fields(((b"location", b"/y"),)), (("ab" * 32, 1.5),)
    return NegativeResponse(requested_at, 9.0, EPOCH, 301, fields, b"{}", b"", found)


class Contract(TestCase):
    """Tests against two stores that share records; for memory they are one."""

    store: Any
    other: Any

    async def known(self, credential: str = ALICE, key: CacheKey = KEY, store: Any = None) -> Known:
        """Look up current records."""
        source = store or self.store
        found: Known = await source.look_up(key, credential, Deadline(SOON), current=True)
        return found

    async def settled(self) -> None:
        """Return when all writes are visible in both stores."""

    async def fetched(self, *digests: str, store: Any = None) -> dict[str, Representation]:
        source = store or self.other
        found: dict[str, Representation] = await source.fetch(KEY, digests, Deadline(SOON))
        return found


def _store_one(store: Any, key: CacheKey, kind: int, at: float) -> None:
    """Store a grant (0), a refusal (1) or a negative response (2) of that time."""
    if kind == 0:
        store.freshen(key, ALICE, grant(at), entry())
    elif kind == 1:
        store.deny(key, ALICE, at)
    else:
        store.store_negative(key, ALICE, negative(at))


class Rules:
    """The rules of `IStore`, mixed into a `Contract`."""

    async def test_stored_records_are_known(self: Any) -> None:
        """The grant to its credential alone, the representation to all."""
        self.store.store_response(KEY, ALICE, HELD, grant(1.0), entry())
        await self.settled()
        assert (await self.known(store=self.other)).grant == grant(1.0)
        known = await self.known(BOB, store=self.other)
        assert known == Known(entries=(entry(),))
        assert await self.fetched(HELD.digest, OTHER.digest) == {HELD.digest: HELD}

    async def test_own_writes_are_visible_at_once(self: Any) -> None:
        """No look-up has to wait for them."""
        self.store.store_response(KEY, ALICE, HELD, grant(1.0), entry())
        assert (await self.known()).grant == grant(1.0)
        self.store.deny(KEY, ALICE, 2.0)
        assert (await self.known()).grant is None
        self.store.freshen(KEY, ALICE, grant(3.0), entry(3.0))
        assert (await self.known()).grant == grant(3.0)
        self.store.begin_epoch(ALICE, EPOCH, 0.0)
        assert (await self.known()).permits
        self.store.revoke(ALICE, ANOTHER)
        assert (await self.known()).epoch == ANOTHER
        assert not (await self.known()).permits

    async def test_grants_replace_older_ones_only(self: Any) -> None:
        """The later request counts, in any order and by any replica."""
        for at in (2.0, 1.0, 2.0):
            store = self.store if at == 2.0 else self.other
            store.freshen(KEY, ALICE, grant(at), entry())
            await self.settled()
        assert (await self.known()).grant == grant(2.0)
        assert (await self.known(store=self.other)).grant == grant(2.0)

    async def test_a_refusal_outweighs_earlier_requests(self: Any) -> None:
        """Also a request of the same moment, but no later one."""
        self.store.freshen(KEY, ALICE, grant(1.0), entry())
        await self.settled()
        self.other.deny(KEY, ALICE, 1.0)
        self.other.deny(KEY, ALICE, 0.5)
        await self.settled()
        known = await self.known()
        assert known.grant is None
        assert known.refused
        self.store.freshen(KEY, ALICE, grant(0.5), entry())
        await self.settled()
        assert (await self.known(store=self.other)).grant is None
        assert (await self.known(BOB)).refused_at == 0.0
        self.store.freshen(KEY, ALICE, grant(2.0), entry())
        await self.settled()
        assert (await self.known(store=self.other)).grant == grant(2.0)

    async def test_each_store_weighs_records_as_known_does(self: Any) -> None:
        """`Known.effective` is the rule. Memory and the scripts in Redis decide on storing alike.

        A grant, a refusal and a negative response have the same, earlier or later times, and are
        stored in each order by either replica.
        """
        times = (None, 1.0, 2.0)
        cases = [
            (CacheKey(f"/{number}".encode()), at, order)
            for number, (at, order) in enumerate(
                product(product(times, repeat=3), permutations(range(3)))
            )
        ]
        for step in range(3):
            for number, (key, at, order) in enumerate(cases):
                store = self.store if (number + step) % 2 else self.other
                moment = at[order[step]]
                if moment is not None:
                    _store_one(store, key, order[step], moment)
            await self.settled()
        for key, (granted, refused, missed), order in cases:
            expected = Known(
                grant=None if granted is None else grant(granted),
                refused_at=refused or 0.0,
                negative=None if missed is None else negative(missed),
            ).effective(3.0)
            for store in (self.store, self.other):
                known = await self.known(key=key, store=store)
                found = known.grant, known.refused_at, known.negative
                wanted = expected.grant, expected.refused_at, expected.negative
                assert found == wanted, (granted, refused, missed, order)

    async def test_expired_grants_are_not_known(self: Any) -> None:
        """They were made to a token that has ended."""
        now = reactor.seconds()
        self.store.freshen(KEY, ALICE, grant(now - 2, expires_at=now - 1), entry())
        await self.settled()
        assert (await self.known(store=self.other)).grant is None

    async def test_the_later_negative_response_is_known(self: Any) -> None:
        """To its credential alone, in any order of storing, until a later response."""
        for at in (2.0, 1.0):
            self.store.store_negative(KEY, ALICE, negative(at))
            await self.settled()
        assert (await self.known()).negative == negative(2.0)
        assert (await self.known(store=self.other)).negative == negative(2.0)
        assert (await self.known(BOB, store=self.other)).negative is None
        self.other.deny(KEY, ALICE, 2.0)
        await self.settled()
        assert (await self.known()).negative == negative(2.0)
        self.other.deny(KEY, ALICE, 2.5)
        await self.settled()
        assert (await self.known()).negative is None
        assert (await self.known(store=self.other)).negative is None
        self.other.store_negative(KEY, ALICE, negative(3.0))
        await self.settled()
        assert (await self.known()).negative == negative(3.0)
        self.other.freshen(KEY, ALICE, grant(4.0), entry())
        await self.settled()
        assert (await self.known()).negative is None

    async def test_an_epoch_is_begun_once(self: Any) -> None:
        """Also by two replicas at a time; requests that found none share it where it was begun."""
        now = reactor.seconds()
        assert self.store.begin_epoch(ALICE, EPOCH, now) == EPOCH
        assert self.store.begin_epoch(ALICE, ANOTHER, now) == EPOCH
        assert self.store.begin_epoch(ALICE, ANOTHER, now + 3600.0) is None
        await self.settled()
        self.other.begin_epoch(ALICE, ANOTHER, now)
        await self.settled()
        for store in (self.store, self.other):
            assert (await self.known(store=store)).epoch == EPOCH
            assert (await self.known(BOB, store=store)).epoch is None

    async def test_a_write_replaces_the_epoch(self: Any) -> None:
        """There is one after it in any case: other replicas see that there was a write."""
        for epoch in (EPOCH, ANOTHER):
            self.store.replace_epoch(ALICE, epoch)
            await self.settled()
            assert (await self.known(store=self.other)).epoch == epoch
        assert self.other.begin_epoch(ALICE, EPOCH, 0.0) is None

    async def test_a_revoked_credential_has_another_epoch_or_none(self: Any) -> None:
        """For a credential that was never granted anything, nothing is stored."""
        self.store.revoke(BOB, EPOCH)
        self.store.begin_epoch(ALICE, EPOCH, 0.0)
        await self.settled()
        self.other.revoke(ALICE, ANOTHER)
        await self.settled()
        for store in (self.store, self.other):
            assert (await self.known(BOB, store=store)).epoch is None
            assert (await self.known(ALICE, store=store)).epoch == ANOTHER

    async def limits(self: Any, *scopes: str, store: Any = None) -> tuple[Limit, ...]:
        found: tuple[Limit, ...]
        found = await (store or self.other).limits(ALICE, scopes, Deadline(SOON))
        return found

    async def test_limits_are_stored_with_the_response_of_github(self: Any) -> None:
        """Each by its scope, to the token that has met it; a look-up brings those that matter."""
        until = reactor.seconds() + 100.0
        lines = ((b"x-ratelimit-limit", b"60"), (b"retry-after", b"100"))
        made = [
            Limit(LimitKind.PRIMARY, "core", until, 429, lines, b"{}"),
            Limit(LimitKind.SECONDARY, CONTENT_CREATION, until, hinted=False),
            Limit(LimitKind.SECONDARY, EVERYTHING, until),
        ]
        for each in made:
            self.store.set_limit(ALICE, each)
        await self.settled()
        scopes = ("core", CONTENT_CREATION, EVERYTHING, "search")
        assert [evolve(each, until=until) for each in await self.limits(*scopes)] == made
        assert all(until - 1 < each.until <= until for each in await self.limits(*scopes))
        known = await self.known(BOB, store=self.other)
        assert known.limits == ()
        known = await self.other.look_up(KEY, BOB, Deadline(SOON), token=ALICE)
        assert {each.scope for each in known.limits} == {"core", EVERYTHING}
        assert (await self.known(store=self.store)).limits

    async def test_the_limit_that_ends_last_is_stored(self: Any) -> None:
        """Whichever replica has met it; one that has ended is not known."""
        now = reactor.seconds()
        for store, lasts in ((self.store, 100.0), (self.other, 50.0), (self.store, 70.0)):
            store.set_limit(ALICE, Limit(LimitKind.PRIMARY, "core", now + lasts))
            await self.settled()
        for store in (self.store, self.other):
            (kept,) = await self.limits("core", store=store)
            assert now + 99 < kept.until <= now + 100
        self.other.set_limit(ALICE, Limit(LimitKind.PRIMARY, "search", now - 1.0))
        await self.settled()
        assert await self.limits("search") == ()

    async def test_the_recency_list_is_bounded(self: Any) -> None:
        """It has the eight last validated, whichever replica stores them and when."""
        made = [held(b"[%d]" % number) for number in range(RECENCY_LENGTH + 3)]
        for number, each in [*enumerate(made)][::-1]:
            store = (self.store, self.other)[number % 2]
            store.store_response(KEY, ALICE, each, grant(1.0 + number, each), entry(number, each))
            await self.settled()
        kept = [each.digest for each in made[:2:-1]]
        for store in (self.store, self.other):
            assert [e.digest for e in (await self.known(BOB, store=store)).entries] == kept

    async def test_the_later_validation_and_the_later_200_are_stored(self: Any) -> None:
        """Also where different replicas store them, in any order."""
        one = entry(received_at=5.0, validated_at=6.0, link=b"<one>")
        two = entry(received_at=1.0, validated_at=9.0, link=b"<two>")
        for first, second in ((one, two), (two, one)):
            key = CacheKey(first.link or b"")
            self.store.freshen(key, ALICE, grant(1.0), first)
            await self.settled()
            self.other.freshen(key, BOB, grant(1.0), second)
            await self.settled()
            for store in (self.store, self.other):
                (kept,) = (await self.known(key=key, store=store)).entries
                assert (kept.received_at, kept.validated_at, kept.link) == (5.0, 9.0, b"<two>")

    async def acquire(self: Any, owner: str, store: Any = None) -> LockOutcome:
        outcome: LockOutcome = await (store or self.store).try_acquire(COLD, owner, Deadline(SOON))
        return outcome

    async def test_one_owner_holds_a_lock(self: Any) -> None:
        """In the whole fleet; others wait until the holder releases it."""
        assert await self.acquire("a") is LockOutcome.ACQUIRED
        assert await self.acquire("b") is LockOutcome.HELD
        assert await self.acquire("c", self.other) is LockOutcome.HELD
        waiting = [self.store.released(COLD, SOON), self.other.released(COLD, SOON)]
        self.store.release(COLD, "b")
        self.other.release(COLD, "c")
        assert not [each for each in waiting if each.called]
        self.store.release(COLD, "a")
        for each in waiting:
            await each
        assert await self.acquire("c", self.other) is LockOutcome.ACQUIRED
        self.other.freshen(KEY, ALICE, grant(1.0), entry())
        self.other.release(COLD, "c")
        await self.settled()
        assert await self.acquire("a") is LockOutcome.KNOWN
        assert await self.acquire("c", self.other) is LockOutcome.KNOWN

    async def test_a_waiter_sees_the_writes_of_the_holder(self: Any) -> None:
        """A lock is released no sooner than the writes under it are visible."""
        for number in range(20):
            key = CacheKey(b"/%d" % number)
            subject = LockName(key)
            assert (
                await self.store.try_acquire(subject, "a", Deadline(SOON)) is LockOutcome.ACQUIRED
            )
            assert await self.other.try_acquire(subject, "b", Deadline(SOON)) is LockOutcome.HELD
            waiting = self.other.released(subject, SOON)
            self.store.store_response(key, ALICE, HELD, grant(1.0), entry())
            self.store.release(subject, "a")
            await waiting
            assert (await self.known(BOB, key, self.other)).entries == (entry(),)

    async def test_each_credential_has_a_lock_of_its_own(self: Any) -> None:
        """For a key with records, of which the credential has no grant."""
        self.store.freshen(KEY, BOB, grant(1.0), entry())
        await self.settled()
        own, others = LockName(KEY, ALICE), LockName(KEY, "c" * 32)
        assert await self.store.try_acquire(own, "a", Deadline(SOON)) is LockOutcome.ACQUIRED
        assert await self.other.try_acquire(own, "b", Deadline(SOON)) is LockOutcome.HELD
        assert await self.other.try_acquire(others, "c", Deadline(SOON)) is LockOutcome.ACQUIRED
        waiting = self.other.released(own, SOON)
        self.store.freshen(KEY, ALICE, grant(2.0), entry())
        self.store.release(own, "a")
        await waiting
        assert await self.other.try_acquire(own, "b", Deadline(SOON)) is LockOutcome.KNOWN
        self.other.release(others, "c")

    async def test_waiting_for_a_lock_ends(self: Any) -> None:
        """By a timeout, a cancellation or closing; at once where the lock is free."""
        await self.store.released(COLD, SOON)
        await self.acquire("a")
        await self.acquire("b", self.other)
        gone, late, closed = (self.other.released(COLD, at) for at in (SOON, 0.01, SOON))
        gone.cancel()
        try:
            await gone
        except CancelledError:
            await late
        assert late.called
        await self.other.close()
        await closed

    async def test_no_request_waits_for_an_unstorable_key(self: Any) -> None:
        """Waiters are notified, and no lock is needed until a response is stored after all."""
        await self.acquire("a")
        await self.acquire("b", self.other)
        waiting: Deferred[None] = self.other.released(COLD, SOON)
        self.store.mark_unstorable(KEY)
        self.store.release(COLD, "a")
        await waiting
        for store in (self.store, self.other):
            assert (await self.known(store=store)).unstorable
            assert await self.acquire("c", store) is LockOutcome.KNOWN
        self.store.store_response(KEY, ALICE, HELD, grant(1.0), entry())
        await self.settled()
        assert not (await self.known(store=self.store)).unstorable
