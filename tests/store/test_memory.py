"""The memory store keeps the rules that every store must keep."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ghmirror_tw.policy.content import represent
from ghmirror_tw.policy.fields import Fields
from ghmirror_tw.policy.key import CacheKey
from ghmirror_tw.policy.records import Entry, Grant, Known, Representation
from ghmirror_tw.store.interfaces import Claim, IStore, Patience
from ghmirror_tw.store.measured import MeasuredStore
from ghmirror_tw.store.memory import UNSTORABLE_S, MemoryStore

KEY = CacheKey(b"/x")


def held(content: bytes = b"[1]") -> Representation:
    return represent(Fields(((b"content-type", b"application/json"),)), content, None, 10**7)[0]


def grant(asked_at: float, digest: str = "d") -> Grant:
    return Grant(digest, b'"t"', None, None, asked_at, asked_at)


def entry(digest: str = "d", at: float = 1.0) -> Entry:
    return Entry(digest, at, at, shareable=True, size=3)


class Memory(SynchronousTestCase):
    """One store, and a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore(self.clock, 1_000_000)

    def known(self, credential: str = "a", key: CacheKey = KEY) -> Known:
        found: Known = self.successResultOf(self.store.look_up(key, credential, Patience()))
        return found

    def test_it_is_a_store(self) -> None:
        """It does all that a store does, and so does a measured one."""
        assert verifyObject(IStore, self.store)
        measured = MeasuredStore(self.store, lambda *_: None, self.clock.seconds)
        assert verifyObject(IStore, measured)

    def test_what_is_remembered_is_known(self) -> None:
        """The grant to its credential alone, the representation to all."""
        made = held()
        self.store.remember(KEY, "a", made, grant(1.0, made.digest), entry(made.digest))
        assert self.known().grant == grant(1.0, made.digest)
        assert self.known("b").grant is None
        assert [each.digest for each in self.known("b").entries] == [made.digest]
        found = self.successResultOf(self.store.fetch(KEY, (made.digest, "other"), Patience()))
        assert found == {made.digest: made}

    def test_grants_only_over_older_ones(self) -> None:
        """What was asked later stays, whenever it comes."""
        for at in (2.0, 1.0, 2.0):
            self.store.freshen(KEY, "a", grant(at, str(at)), entry())
        kept = self.known().grant
        assert kept is not None
        assert kept.digest == "2.0"

    def test_refusals_outweigh_what_was_asked_before(self) -> None:
        """For a key or for all, up to the very moment; not what was asked since."""
        for refuse in (
            lambda at: self.store.refuse(KEY, "a", at),
            lambda at: self.store.revoke("a", at),
        ):
            last = self.known().grant
            start = 0.0 if last is None else last.asked_at
            self.store.freshen(KEY, "a", grant(start + 1), entry())
            refuse(start + 1)
            refuse(start)
            assert self.known().grant is None
            assert self.known().refused
            self.store.freshen(KEY, "a", grant(start + 0.5), entry())
            assert self.known().grant is None
            self.store.freshen(KEY, "a", grant(start + 2), entry())
            assert self.known().grant is not None

    def test_writes(self) -> None:
        """The latest is kept."""
        self.store.wrote("a", 2.0)
        self.store.wrote("a", 1.0)
        assert (self.known().written_at, self.known("b").written_at) == (2.0, 0.0)

    def test_bounded_by_bytes(self) -> None:
        """What was used least recently goes first, and the figures say so."""
        store = self.store = MemoryStore(self.clock, 20_000)
        for number in range(20):
            key = CacheKey(b"/%d" % number)
            made = held(b"[%d]" % number)
            store.remember(key, "a", made, grant(1.0, made.digest), entry(made.digest))
            self.known(key=CacheKey(b"/0"))
            assert store.size <= 20_000
        assert store.evictions > 0
        assert self.known(key=CacheKey(b"/0")).grant is not None
        assert self.known(key=CacheKey(b"/1")) == Known()
        assert store.grants < 20

    def test_a_refusal_is_not_evicted_before_what_it_outweighs(self) -> None:
        """A grant that was refused never comes back by forgetting."""
        store = self.store = MemoryStore(self.clock, 6_000)
        store.freshen(KEY, "a", grant(1.0), entry())
        store.revoke("a", 2.0)
        for number in range(40):
            assert self.known().grant is None
            store.freshen(CacheKey(b"/%d" % number), "b", grant(1.0), entry())
        assert self.known().grant is None

    def claim(self, owner: str) -> Claim:
        said: Claim = self.successResultOf(self.store.claim(KEY, owner, Patience()))
        return said

    def test_one_goes_first(self) -> None:
        """The others wait until it is released by who has it."""
        assert [self.claim(owner) for owner in "aba"] == [Claim.GO, Claim.WAIT, Claim.GO]
        waiting = self.store.wait(KEY, 10.0)
        self.store.release(KEY, "b")
        self.assertNoResult(waiting)
        self.store.release(KEY, "a")
        self.successResultOf(waiting)
        assert self.clock.getDelayedCalls() == []
        assert self.claim("b") is Claim.GO
        self.store.freshen(KEY, "a", grant(1.0), entry())
        assert self.claim("c") is Claim.KNOWN

    def test_waiting_ends(self) -> None:
        """By time, by going away, by closing; and at once where nobody is asked for."""
        self.successResultOf(self.store.wait(KEY, 10.0))
        self.claim("a")
        late, gone, closed = (self.store.wait(KEY, 10.0) for _ in "123")
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.clock.advance(10.0)
        self.successResultOf(late)
        self.successResultOf(closed)
        last = self.store.wait(KEY, 10.0)
        self.successResultOf(self.store.close())
        self.successResultOf(last)

    def test_a_waiter_may_take_another_along(self) -> None:
        """One that is called may cancel the next one meanwhile."""
        self.claim("a")
        first, second = self.store.wait(KEY, 10.0), self.store.wait(KEY, 10.0)
        first.addCallback(lambda _: second.cancel())
        self.store.release(KEY, "a")
        self.failureResultOf(second, CancelledError)

    def test_what_cannot_be_stored_holds_up_nobody(self) -> None:
        """For a minute; what can be stored after all ends it."""
        self.claim("a")
        waiting: Deferred[None] = self.store.wait(KEY, 10.0)
        self.store.unstorable(KEY)
        self.successResultOf(waiting)
        assert self.known().unstorable
        assert self.claim("b") is Claim.KNOWN
        self.clock.advance(UNSTORABLE_S)
        assert not self.known().unstorable
        assert self.claim("b") is Claim.GO

    def test_what_cannot_be_stored_is_bounded(self) -> None:
        """Ten thousand keys at most."""
        for number in range(10_001):
            self.store.unstorable(CacheKey(b"/%d" % number))
        assert not self.known(key=CacheKey(b"/0")).unstorable
        assert self.known(key=CacheKey(b"/1")).unstorable
