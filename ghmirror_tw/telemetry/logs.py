"""Log observers: one line for each event as text or JSON, with all credentials removed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import IO, Any, Final

from attrs import frozen
from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    formatEvent,
)
from twisted.python.failure import Failure
from twisted.python.reflect import safe_str
from zope.interface import implementer

from ghmirror_tw.telemetry.repeated_messages import RepeatLimit
from ghmirror_tw.telemetry.secret_scrubbing import scrub

#: Keys of events whose values are always secret.
_SECRET_KEYS: Final = re.compile("authorization|token|secret|password", re.IGNORECASE)

#: The formats of messages that Twisted logs for each connection.
_NOISE: Final = frozenset(
    {
        "Starting factory {factory!r}",
        "Stopping factory {factory!r}",
        "Timing out client: {peer}",
        "Timing out client {client}",
        "Forcibly timing out client: {peer}",
        "Forcibly timing out client: {client}",
    }
)

#: Namespaces of twistd and of Twisted's ports; their messages up to level info are dropped.
_FOREIGN: Final = ("log_legacy", "twisted.scripts.", "twisted.application.", "twisted.internet.")

#: Keys of events that JSON lines have under other names, or that Twisted adds for its legacy log.
_NOT_STRUCTURED: Final = frozenset(
    {
        *("message", "time", "system", "format", "isError", "why", "failure", "printed"),
        *("logLevel", "eventSource", "eventType", "level", "namespace", "traceback"),
    }
)


def escape(text: str) -> str:
    """Return *text* as one line of printable ASCII; other characters are backslash-escaped."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(
            each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
        )
        text = text.encode("ascii", "backslashreplace").decode()
    return text


def _traceback(event: LogEvent) -> str | None:
    failure = event.get("log_failure")
    if not isinstance(failure, Failure):
        return None
    try:
        return scrub(failure.getTraceback())
    except Exception:  # noqa: BLE001 - a traceback that cannot be formatted must not raise
        return f"{failure.type} (no traceback)"


def _time(event: LogEvent) -> str:
    when = event.get("log_time", 0.0)
    return f"{_second(int(when))}.{int(when % 1 * 1000):03}Z"


@lru_cache(16)
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().removesuffix("+00:00")


def _level(event: LogEvent) -> str:
    level = event.get("log_level")
    return str(level.name) if level is not None else "info"


def _message(event: LogEvent) -> str:
    if event.get("log_format") == "{log_text}" and isinstance(text := event.get("log_text"), str):
        return scrub(text) if event.get("log_scrubbed") is None else text
    text = scrub(formatEvent(event))
    repeated = event.get("log_repeated")
    return text if repeated is None else f"{text} ({repeated} more in the last minute)"


def as_text(event: LogEvent) -> str:
    """Return an event as a line: time, level, namespace, message; a traceback is indented."""
    namespace = escape(str(event.get("log_namespace", "-")))
    message = escape(_message(event))
    lines = [f"{_time(event)} {_level(event)} {namespace} {message}"]
    traceback = _traceback(event)
    if traceback is not None:
        lines.extend("\t" + escape(line) for line in traceback.splitlines())
    return "\n".join(lines) + "\n"


def as_json(event: LogEvent) -> str:
    """Return an event as a line of JSON: time, level, namespace, message and its own keys.

    Values in ``log_scrubbed``, a dictionary, are JSON and without credentials already, and so is
    the text of such an event.
    """
    fields: dict[str, object] = {
        "time": _time(event),
        "level": _level(event),
        "namespace": str(event.get("log_namespace", "-")),
        "message": _message(event),
    }
    traceback = _traceback(event)
    if traceback is not None:
        fields["traceback"] = traceback
    if "log_repeated" in event:
        fields["repeated"] = event["log_repeated"]
    scrubbed = event.get("log_scrubbed")
    if scrubbed is not None:
        fields |= scrubbed
        return json.dumps(fields) + "\n"
    for key, value in event.items():
        if not key.startswith("log_") and key not in _NOT_STRUCTURED:
            fields[key] = _json_value(key, value)
    return json.dumps(fields) + "\n"


def _json_value(key: str, value: object) -> object:
    """Return *value* as a JSON value without credentials."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, list | tuple):
        return [_json_value(key, each) for each in value]
    text = value if isinstance(value, str) else safe_str(value)
    return "***" if _SECRET_KEYS.search(key) else scrub(text)


@implementer(ILogObserver)
@frozen
class LevelFilter:
    """Writes events of at least *level*, except the noise of Twisted."""

    write: Callable[[LogEvent], None]
    level: Any

    def __call__(self, event: LogEvent) -> None:
        """Write *event* unless it is filtered."""
        level = event.get("log_level", LogLevel.info)
        if level < self.level:
            return
        if self.level > LogLevel.debug and (
            event.get("log_format") in _NOISE
            or (level <= LogLevel.info and str(event.get("log_namespace")).startswith(_FOREIGN))
        ):
            return
        self.write(event)


def observer(
    stream: IO[str],
    format: str,  # noqa: A002 - the option's name
    level: str,
    call_later: Callable[[float, Callable[[], None]], object] | None = None,
) -> ILogObserver:
    """Return an observer that writes events from *level* on to *stream* as ``text`` or ``json``.

    Messages that Twisted logs for each connection, at its start and at its end are dropped, and
    repeated warnings are limited, except at level ``debug``. *call_later* calls a function after
    some seconds, and is called from any thread; without one, no warnings are limited.
    """
    written = FileLogObserver(stream, as_json if format == "json" else as_text)
    lowest = LogLevel.levelWithName(level)
    if call_later is not None and lowest > LogLevel.debug:
        return LevelFilter(RepeatLimit(written, call_later), lowest)
    return LevelFilter(written, lowest)
