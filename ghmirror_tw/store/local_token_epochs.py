"""Epochs of tokens in this process, with the times at which this process began them."""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import Final

from attrs import define, field

from ghmirror_tw.runtime.bounded_tables import store_recent
from ghmirror_tw.store.compact_records import epoch_of, short
from ghmirror_tw.store.lru_records import LruRecords
from ghmirror_tw.store.record_kinds import EPOCH

_MOST_BEGUN: Final = 1000


@define(eq=False)
class LocalEpochs:
    """Epochs among the *records* of a memory store."""

    records: LruRecords
    #: When this process began epochs, by token, those begun last at the end.
    _begun: OrderedDict[str, float] = field(init=False, factory=OrderedDict)

    def get(self, token: str) -> bytes | None:
        """Return the epoch of a token, or None where there is none."""
        epoch = self.records.use(short(EPOCH, token))
        return None if epoch is None else epoch_of(epoch)

    def begin(self, token: str, epoch: bytes, since: float, now: float) -> bytes | None:
        """Begin *epoch* if there is none.

        Return the current epoch if this process began it at *since* or later, else None.
        """
        known = self.get(token)
        if known is not None:
            return known if self._begun.get(token, -inf) >= since else None
        store_recent(self._begun, token, now, _MOST_BEGUN)
        self.records.put(short(EPOCH, token), epoch)
        return epoch

    def set(self, token: str, epoch: bytes | None) -> None:
        """Replace the epoch of a token; None: it has none."""
        self._begun.pop(token, None)
        if epoch is None:
            self.records.remove(short(EPOCH, token))
        else:
            self.records.put(short(EPOCH, token), epoch)
