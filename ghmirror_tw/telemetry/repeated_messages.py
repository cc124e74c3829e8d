"""Limits repeated warnings in the log: the first of a minute are written, the rest is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, field
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer

#: The most warnings of one kind that are written in a period, and its length in seconds.
MOST: Final = 5
PERIOD_S: Final = 60.0


@define(eq=False)
class _Kind:
    """The warnings of one kind in a period: how many, and the latest that was not written."""

    count: int = 0
    latest: LogEvent | None = None


@implementer(ILogObserver)
@define(eq=False)
class RepeatLimit:
    """Passes events on to *write*; of warnings of one kind, `MOST` in each `PERIOD_S`.

    The kind of a warning is its format, which leaves out the values; that of an error is its text,
    since each fault of a configuration is an error. At the end of the period, the latest that was
    not written follows, with ``log_repeated``: how many were not. Events come from any thread, and
    so may the calls of *call_later*.
    """

    write: Callable[[LogEvent], None]
    call_later: Callable[[float, Callable[[], None]], object]
    _kinds: dict[tuple[object, object], _Kind] = field(init=False, factory=dict)

    def __call__(self, event: LogEvent) -> None:
        """Write or count *event*."""
        level = event.get("log_level", LogLevel.info)
        if level < LogLevel.warn:
            self.write(event)
            return
        kind_of = event.get("log_format")
        if level > LogLevel.warn or not kind_of or kind_of.startswith("{"):
            kind_of = formatEvent(event)
        name = event.get("log_namespace"), kind_of
        kind = self._kinds.get(name)
        if kind is None:
            kind = self._kinds[name] = _Kind()
            self.call_later(PERIOD_S, lambda: self._end(name))
        kind.count += 1
        if kind.count <= MOST:
            self.write(event)
        else:
            kind.latest = event

    def _end(self, name: tuple[object, object]) -> None:
        kind = self._kinds.pop(name)
        if kind.latest is not None:
            self.write({**kind.latest, "log_repeated": kind.count - MOST})
