"""The memory store follows the rules of `IStore`, and its bounds."""

from __future__ import annotations

import gc

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Known
from ghmirror_tw.store import local_token_epochs
from ghmirror_tw.store.compact_records import short
from ghmirror_tw.store.measured_store import measured
from ghmirror_tw.store.memory_records_by_name import NamedRecords
from ghmirror_tw.store.memory_store import UNSTORABLE_S, MemoryStore
from ghmirror_tw.store.record_kinds import ENTRY, GRANT, NEGATIVE, REFUSAL, REPRESENTATION
from ghmirror_tw.store.record_names import RecordName
from ghmirror_tw.store.store_interface import Deadline, IStore, LockOutcome
from tests.harness.home import reactor
from tests.unit.store.store_contract import (
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
    negative,
)

OTHER_KEY = CacheKey(b"/other")


class Memory(Rules, Contract):
    """The rules of `IStore`."""

    def setUp(self) -> None:
        self.store = self.other = MemoryStore(reactor, 1_000_000)


class Bounds(SynchronousTestCase):
    """One store, and a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = MemoryStore(self.clock, 1_000_000)

    def records(self) -> NamedRecords:
        return NamedRecords(self.store.records)

    def known(self, credential: str = ALICE, key: CacheKey = KEY) -> Known:
        found: Known = self.successResultOf(self.store.look_up(key, credential, Deadline()))
        return found

    def test_names_are_listed_by_last_use(self) -> None:
        """Restored records follow in their order, until they are used."""
        names = [RecordName(REPRESENTATION, key.name, HELD.digest) for key in (KEY, OTHER_KEY)]
        self.store.hold(KEY, HELD)
        self.store.hold(OTHER_KEY, HELD)
        assert self.records().names() == names[::-1]
        self.store.held(KEY, (HELD.digest,))
        assert self.records().names() == names
        copied = [RecordName(REFUSAL, KEY.name, ALICE), RecordName(REFUSAL, KEY.name, BOB)]
        for name in copied:
            assert self.records().admit(name, 1.0)
        assert self.records().names() == names + copied
        self.store.resize(self.store.records.size - 1)
        assert self.records().names() == names + copied[:1]
        self.known()
        assert self.records().names() == [copied[0], *names]

    def test_the_garbage_collector_ignores_records(self) -> None:
        """Of all kinds, and names: visiting many of them would stop the process."""
        self.store.store_response(KEY, ALICE, HELD, grant(1.0), entry())
        self.store.deny(OTHER_KEY, ALICE, 1.0)
        self.records().admit(RecordName(REFUSAL, KEY.name, BOB), 1.0)
        for _ in "12":  # the first time it sees through names and fields, then through the rest
            gc.collect()
        for records in (self.store.records.records, self.store.records.cold):
            assert records
            for name, kept in records.items():
                assert not gc.is_tracked(name)
                assert not gc.is_tracked(kept)

    def test_it_is_a_store(self) -> None:
        """It has all methods of `IStore`, and so has a measured one."""
        assert verifyObject(IStore, self.store)
        store = measured(self.store, "memory", lambda *_: None, self.clock.seconds)
        assert verifyObject(IStore, store)
        assert store.store_deadline().left_s > 1e9

    def fill(self, count: int) -> None:
        """Store responses of so many keys, and use that of /0 after each."""
        for number in range(count):
            key = CacheKey(b"/%d" % number)
            made = held(b"[%d]" % number)
            self.store.store_response(key, ALICE, made, grant(1.0, made), entry(of=made))
            self.known(key=CacheKey(b"/0"))

    def test_records_are_bounded_by_bytes(self) -> None:
        """The least recently used are evicted first, and counted."""
        store = self.store = MemoryStore(self.clock, 20_000)
        self.fill(20)
        assert store.records.size <= 20_000
        assert store.records.evictions > 0
        assert self.known(key=CacheKey(b"/0")).grant is not None
        assert self.known(key=CacheKey(b"/1")) == Known()
        assert store.records.grants < 20

    def test_a_smaller_store_evicts_in_batches(self) -> None:
        """Eviction does not hold up the reactor."""
        self.fill(400)
        self.store.resize(10_000)
        assert self.store.records.evictions == 500
        assert self.store.records.size > 10_000
        self.clock.advance(0)
        self.clock.advance(0)
        assert self.store.records.size <= 10_000
        assert self.clock.getDelayedCalls() == []

    def test_closing_ends_eviction(self) -> None:
        """No timer is left."""
        self.fill(400)
        self.store.resize(10_000)
        self.successResultOf(self.store.close())
        assert self.clock.getDelayedCalls() == []

    def test_an_evicted_epoch_permits_nothing(self) -> None:
        """Nor does one that is begun after it: no epoch is begun twice."""
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

    def test_a_grant_does_not_outlive_a_later_refusal(self) -> None:
        """Neither the stored grant, nor one that is stored late and is the one used last."""
        self.store = MemoryStore(self.clock, 6_000)
        self.store.freshen(KEY, ALICE, grant(0.5), entry())
        self.store.deny(KEY, ALICE, 2.0)
        self.store.freshen(KEY, ALICE, grant(1.0), entry())
        for number in range(40):
            self.store.freshen(CacheKey(b"/%d" % number), BOB, grant(1.0), entry())
            assert RecordName(GRANT, KEY.name, ALICE) not in self.records().names()
        self.store = MemoryStore(self.clock, 6_000)
        self.store.freshen(KEY, ALICE, grant(0.5), entry())
        self.store.deny(KEY, ALICE, 2.0)
        assert self.store.records.grants == 0

    def test_no_evicted_record_revives_a_negative_response(self) -> None:
        """A refusal or a grant may be evicted before it; one that is stored late counts as well."""
        refusal = RecordName(REFUSAL, KEY.name, ALICE)
        for late in (False, True):
            if late:
                self.store.deny(KEY, ALICE, 2.0)
            self.store.store_negative(KEY, ALICE, negative(1.0))
            if not late:
                assert self.known().negative == negative(1.0)
                self.store.deny(KEY, ALICE, 2.0)
            self.records().remove(refusal)
            assert self.known().negative is None
        for late in (False, True):
            if late:
                self.store.store_response(KEY, ALICE, HELD, grant(2.0), entry())
            self.store.store_negative(KEY, ALICE, negative(1.0))
            if not late:
                self.store.store_response(KEY, ALICE, HELD, grant(2.0), entry())
            self.records().remove(RecordName(GRANT, KEY.name, ALICE))
            assert self.known().negative is None

    def test_a_negative_response_is_evicted_before_the_recency_list(self) -> None:
        """Else a 404 would be repeated although another credential has received a 200 since."""
        self.store.store_negative(KEY, ALICE, negative(1.0))
        self.store.freshen(KEY, BOB, grant(2.0), entry(2.0))
        assert self.known().negative == negative(1.0)
        records = self.store.records
        while short(ENTRY, KEY.name) in records:
            self.store.resize(records.size - 1)
            self.clock.advance(1.0)
        assert short(NEGATIVE, KEY.name, ALICE) not in records

    def test_the_beginnings_of_epochs_are_bounded(self) -> None:
        """A request that found no epoch gets none without one."""
        self.patch(local_token_epochs, "_MOST_BEGUN", 1)
        for credential in (ALICE, BOB):
            assert self.store.begin_epoch(credential, EPOCH, 0.0) == EPOCH
        assert self.store.begin_epoch(BOB, ANOTHER, 0.0) == EPOCH
        assert self.store.begin_epoch(ALICE, ANOTHER, 0.0) is None

    def acquire(self, owner: str) -> LockOutcome:
        outcome: LockOutcome = self.successResultOf(self.store.try_acquire(COLD, owner, Deadline()))
        return outcome

    def test_a_released_lock_leaves_no_timer(self) -> None:
        """Its holder may acquire it again."""
        assert [self.acquire(owner) for owner in "aba"] == [
            LockOutcome.ACQUIRED,
            LockOutcome.HELD,
            LockOutcome.ACQUIRED,
        ]
        waiting = self.store.released(COLD, 10.0)
        self.store.release(COLD, "a")
        self.successResultOf(waiting)
        assert self.clock.getDelayedCalls() == []

    def test_a_notified_waiter_may_cancel_another(self) -> None:
        """The next one is not called then."""
        self.acquire("a")
        first, second = self.store.released(COLD, 10.0), self.store.released(COLD, 10.0)
        first.addCallback(lambda _: second.cancel())
        self.store.release(COLD, "a")
        self.failureResultOf(second, CancelledError)

    def test_a_key_is_unstorable_for_a_minute(self) -> None:
        """After that a lock can be acquired."""
        self.store.mark_unstorable(KEY)
        self.clock.advance(UNSTORABLE_S - 1)
        assert self.known().unstorable
        self.clock.advance(1)
        assert not self.known().unstorable
        assert self.acquire("b") is LockOutcome.ACQUIRED

    def test_unstorable_keys_are_bounded(self) -> None:
        """Ten thousand keys at most."""
        for number in range(10_001):
            self.store.mark_unstorable(CacheKey(b"/%d" % number))
        assert not self.known(key=CacheKey(b"/0")).unstorable
        assert self.known(key=CacheKey(b"/1")).unstorable
