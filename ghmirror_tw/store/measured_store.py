"""A decorator that measures the look-ups of a store, or of the records in Redis."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar, cast

from attrs import define
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ghmirror_tw.caching.records import Known
from ghmirror_tw.store.store_interface import LockOutcome

R = TypeVar("R")
S = TypeVar("S")


class LookupTimes(Protocol):
    """Takes one measurement; see `metrics.Metrics.store`."""

    def __call__(self, store: str, operation: str, result: str, seconds: float) -> None:
        """Take it."""


def measured(store: S, name: str, report: LookupTimes, now: Callable[[], float]) -> S:
    """Return *store* with its look-ups measured; all else is that of *store* itself.

    *name* is the store's in the metrics. Writes are not measured, since no request waits for them.
    """
    return cast("S", _MeasuredStore(store, name, report, now))


@define(eq=False, slots=False)
class _MeasuredStore:
    """Each result is ``hit``, ``miss`` or ``error``.

    It has no slots, so that a method of the store is found only once.
    """

    _store: Any
    _name: str
    _report: LookupTimes
    _now: Callable[[], float]

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        if callable(value):
            setattr(self, name, value)
        return value

    def look_up(self, *arguments: Any, **more: Any) -> Deferred[Known]:
        """Look up records; a hit where there is a grant or a representation."""
        began = self._now()
        return self._timed(self._store.look_up(*arguments, **more), "look_up", began, _is_known)

    def fetch(self, key: Any, digests: Any, *arguments: Any, **more: Any) -> Deferred[Any]:
        """Fetch representations; a hit where none is missing."""
        began, count = self._now(), len(set(digests))
        found = self._store.fetch(key, digests, *arguments, **more)
        return self._timed(found, "fetch", began, lambda found: len(found) == count)

    def limits(self, *arguments: Any) -> Deferred[Any]:
        """Look up limits; a hit where there is one."""
        began = self._now()
        return self._timed(self._store.limits(*arguments), "limits", began, bool)

    def try_acquire(self, *arguments: Any) -> Deferred[LockOutcome]:
        """Try to acquire a lock; a hit where records are known by now."""
        began = self._now()
        return self._timed(self._store.try_acquire(*arguments), "claim", began, _is_needless)

    def _timed(
        self,
        looking: Deferred[R] | Coroutine[Any, Any, R],
        operation: str,
        began: float,
        is_hit: Callable[[R], bool],
    ) -> Deferred[R]:
        found = looking if isinstance(looking, Deferred) else Deferred.fromCoroutine(looking)
        if (
            found.called and not found.paused and not isinstance(found.result, Failure)
        ):  # as memory's are: a callback would cost more
            kind = "hit" if is_hit(cast("R", found.result)) else "miss"
            self._report(self._name, operation, kind, self._now() - began)
            return found
        return found.addBoth(self._measure, operation, began, is_hit)

    def _measure(
        self, result: R | Failure, operation: str, began: float, is_hit: Callable[[R], bool]
    ) -> R | Failure:
        kind = "error" if isinstance(result, Failure) else "hit" if is_hit(result) else "miss"
        self._report(self._name, operation, kind, self._now() - began)
        return result


def _is_known(known: Known) -> bool:
    return known.grant is not None or bool(known.entries)


def _is_needless(outcome: LockOutcome) -> bool:
    return outcome is LockOutcome.KNOWN
