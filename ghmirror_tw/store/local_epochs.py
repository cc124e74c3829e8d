"""Epochs of credentials in this process, and when it began them."""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import Final

from attrs import define, field

from ghmirror_tw.runtime.bounded_tables import store_recent
from ghmirror_tw.store.compact_records import epoch_of, short
from ghmirror_tw.store.lru_records import LruRecords
from ghmirror_tw.store.record_encoding import EPOCH

_MOST_BEGUN: Final = 1000


@define(eq=False)
class LocalEpochs:
    """Epochs among the *records* of a memory store."""

    records: LruRecords
    #: When this process began epochs, by credential, those begun last at the end.
    _begun: OrderedDict[str, float] = field(init=False, factory=OrderedDict)

    def get(self, credential: str) -> bytes | None:
        """Return the epoch of a credential, or None where there is none."""
        epoch = self.records.use(short(EPOCH, credential))
        return None if epoch is None else epoch_of(epoch)

    def begin(self, credential: str, epoch: bytes, since: float, now: float) -> bytes | None:
        """Begin *epoch* if there is none.

        Return the current epoch if this process began it at *since* or later, else None.
        """
        known = self.get(credential)
        if known is not None:
            return known if self._begun.get(credential, -inf) >= since else None
        store_recent(self._begun, credential, now, _MOST_BEGUN)
        self.records.put(short(EPOCH, credential), epoch)
        return epoch

    def set(self, credential: str, epoch: bytes | None) -> None:
        """Replace the epoch of a credential; None: it has none."""
        self._begun.pop(credential, None)
        if epoch is None:
            self.records.remove(short(EPOCH, credential))
        else:
            self.records.put(short(EPOCH, credential), epoch)
