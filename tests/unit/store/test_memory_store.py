"""The memory store keeps the rules that every store must keep, and its bounds."""

from __future__ import annotations

import gc

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Known
from ghmirror_tw.store import memory_store as memory_module
from ghmirror_tw.store.measured_store import measured
from ghmirror_tw.store.memory_store import UNSTORABLE_S, MemoryStore
from ghmirror_tw.store.record_kinds import GRANT, REFUSAL, REPRESENTATION
from ghmirror_tw.store.record_names import RecordName
from ghmirror_tw.store.store_interface import Deadline, IStore, LockOutcome
from tests.harness.home import reactor
from tests.unit.store.contract import (
    ALICE,
    ANOTHER,
    BOB,
    COLD,
    EPOCH,
    HELD,
    KEY,
    Contract,
    Rules,
    entry,
    grant,
    held,
)

OTHER_KEY = CacheKey(b"/other")


class Memory(Rules, Contract):
    """What every store does."""

    def setUp(self) -> None:
        self.store = self.other = MemoryStore(reactor, 1_000_000)


class Bounds(SynchronousTestCase):
    """One store, and a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore(self.clock, 1_000_000)

    def known(self, credential: str = ALICE, key: CacheKey = KEY) -> Known:
        found: Known = self.successResultOf(self.store.look_up(key, credential, Deadline()))
        return found

    def test_what_was_used_last_is_named_first(self) -> None:
        """And what came from a copy last of all, the first of it first, until it is used."""
        names = [RecordName(REPRESENTATION, key.name, HELD.digest) for key in (KEY, OTHER_KEY)]
        self.store.hold(KEY, HELD)
        self.store.hold(OTHER_KEY, HELD)
        assert self.store.names() == names[::-1]
        self.store.held(KEY, (HELD.digest,))
        assert self.store.names() == names
        copied = [RecordName(REFUSAL, KEY.name, ALICE), RecordName(REFUSAL, KEY.name, BOB)]
        for name in copied:
            assert self.store.admit(name, 1.0)
        assert self.store.names() == names + copied
        self.store.resize(self.store.records.size - 1)
        assert self.store.names() == names + copied[:1]
        self.known()
        assert self.store.names() == [copied[0], *names]

    def test_the_garbage_collector_leaves_records_alone(self) -> None:
        """Of all kinds, and names: with many of them it would hold up everything for long."""
        self.store.store_response(KEY, ALICE, HELD, grant(1.0), entry())
        self.store.deny(OTHER_KEY, ALICE, 1.0)
        self.store.admit(RecordName(REFUSAL, KEY.name, BOB), 1.0)
        for _ in "12":  # the first time it sees through names and fields, then through the rest
            gc.collect()
        for records in (self.store.records._records, self.store.records._cold):
            assert records
            for name, kept in records.items():
                assert not gc.is_tracked(name)
                assert not gc.is_tracked(kept)

    def test_it_is_a_store(self) -> None:
        """It does all that a store does, and so does a measured one."""
        assert verifyObject(IStore, self.store)
        store = measured(self.store, "memory", lambda *_: None, self.clock.seconds)
        assert verifyObject(IStore, store)
        assert store.store_deadline().left_s > 1e9

    def fill(self, count: int) -> None:
        """Remember something under so many keys, /0 used again after each."""
        for number in range(count):
            key = CacheKey(b"/%d" % number)
            made = held(b"[%d]" % number)
            self.store.store_response(key, ALICE, made, grant(1.0, made), entry(of=made))
            self.known(key=CacheKey(b"/0"))

    def test_bounded_by_bytes(self) -> None:
        """What was used least recently goes first, and the figures say so."""
        store = self.store = MemoryStore(self.clock, 20_000)
        self.fill(20)
        assert store.records.size <= 20_000
        assert store.records.evictions > 0
        assert self.known(key=CacheKey(b"/0")).grant is not None
        assert self.known(key=CacheKey(b"/1")) == Known()
        assert store.records.grants < 20

    def test_made_smaller(self) -> None:
        """It lets go of what is too much bit by bit, so that it holds up nobody."""
        self.fill(400)
        self.store.resize(10_000)
        assert self.store.records.evictions == 500
        assert self.store.records.size > 10_000
        self.clock.advance(0)
        self.clock.advance(0)
        assert self.store.records.size <= 10_000
        assert self.clock.getDelayedCalls() == []

    def test_closed_while_it_is_made_smaller(self) -> None:
        """It leaves nothing to be done."""
        self.fill(400)
        self.store.resize(10_000)
        self.successResultOf(self.store.close())
        assert self.clock.getDelayedCalls() == []

    def test_an_evicted_epoch_permits_nothing(self) -> None:
        """Nor does one that is begun after it: an epoch never comes again."""
        store = self.store = MemoryStore(self.clock, 6_000)
        store.freshen(KEY, ALICE, grant(1.0), entry())
        store.begin_epoch(ALICE, EPOCH, 0.0)
        store.freshen(KEY, BOB, grant(1.0), entry())
        for number in range(40):
            store.freshen(CacheKey(b"/%d" % number), BOB, grant(1.0), entry())
        assert store.epoch(ALICE) is None
        assert store.begin_epoch(ALICE, ANOTHER, 0.0) == ANOTHER
        store.freshen(KEY, ALICE, grant(1.0), entry())
        assert not self.known().permits

    def test_what_was_asked_before_a_refusal_does_not_outlive_it(self) -> None:
        """Neither the grant that was there, nor one that comes late and is the last one used."""
        self.store = MemoryStore(self.clock, 6_000)
        self.store.freshen(KEY, ALICE, grant(0.5), entry())
        self.store.deny(KEY, ALICE, 2.0)
        self.store.freshen(KEY, ALICE, grant(1.0), entry())
        for number in range(40):
            self.store.freshen(CacheKey(b"/%d" % number), BOB, grant(1.0), entry())
            assert RecordName(GRANT, KEY.name, ALICE) not in self.store.names()
        self.store = MemoryStore(self.clock, 6_000)
        self.store.freshen(KEY, ALICE, grant(0.5), entry())
        self.store.deny(KEY, ALICE, 2.0)
        assert self.store.records.grants == 0

    def test_only_so_many_beginnings_are_remembered(self) -> None:
        """Of the others, a request that found no epoch gets none."""
        self.patch(memory_module, "_MOST_BEGUN", 1)
        for credential in (ALICE, BOB):
            assert self.store.begin_epoch(credential, EPOCH, 0.0) == EPOCH
        assert self.store.begin_epoch(BOB, ANOTHER, 0.0) == EPOCH
        assert self.store.begin_epoch(ALICE, ANOTHER, 0.0) is None

    def claim(self, owner: str) -> LockOutcome:
        said: LockOutcome = self.successResultOf(self.store.try_acquire(COLD, owner, Deadline()))
        return said

    def test_claims_leave_nothing_behind(self) -> None:
        """Who has one may ask again; once it is released, no timer runs."""
        assert [self.claim(owner) for owner in "aba"] == [
            LockOutcome.ACQUIRED,
            LockOutcome.HELD,
            LockOutcome.ACQUIRED,
        ]
        waiting = self.store.released(COLD, 10.0)
        self.store.release(COLD, "a")
        self.successResultOf(waiting)
        assert self.clock.getDelayedCalls() == []

    def test_a_waiter_may_take_another_along(self) -> None:
        """One that is called may cancel the next one meanwhile."""
        self.claim("a")
        first, second = self.store.released(COLD, 10.0), self.store.released(COLD, 10.0)
        first.addCallback(lambda _: second.cancel())
        self.store.release(COLD, "a")
        self.failureResultOf(second, CancelledError)

    def test_what_cannot_be_stored_is_forgotten_after_a_minute(self) -> None:
        """Then somebody goes first again."""
        self.store.mark_unstorable(KEY)
        self.clock.advance(UNSTORABLE_S - 1)
        assert self.known().unstorable
        self.clock.advance(1)
        assert not self.known().unstorable
        assert self.claim("b") is LockOutcome.ACQUIRED

    def test_what_cannot_be_stored_is_bounded(self) -> None:
        """Ten thousand keys at most."""
        for number in range(10_001):
            self.store.mark_unstorable(CacheKey(b"/%d" % number))
        assert not self.known(key=CacheKey(b"/0")).unstorable
        assert self.known(key=CacheKey(b"/1")).unstorable
