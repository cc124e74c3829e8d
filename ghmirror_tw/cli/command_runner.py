"""Runs the coroutine of a command in the reactor, and converts exceptions to errors of commands."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from attrs import define
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

from ghmirror_tw.cli.command_errors import CommandError, Status
from ghmirror_tw.cli.output import Output
from ghmirror_tw.config.option import ConfigError
from ghmirror_tw.redis import RedisUnavailableError
from ghmirror_tw.snapshots.lease import LeaseLostError
from ghmirror_tw.snapshots.snapshot_errors import (
    DamagedError,
    EmptySnapshotError,
    NewerVersionError,
    NoRecordsError,
    NoSuchSnapshotError,
    NotASnapshotError,
    OtherSecretError,
    OtherServerError,
    RecordTooLargeError,
    SnapshotError,
    StoreEmptiedError,
    TargetError,
    TruncatedError,
)
from ghmirror_tw.telemetry.logs import observer
from ghmirror_tw.telemetry.secret_scrubbing import scrub

T = TypeVar("T")

_SIGNALS: Final = {signal.SIGINT: Status.INTERRUPTED, signal.SIGTERM: 128 + signal.SIGTERM}
#: Only warnings of snapshots are shown; those of stores become the error of the command.
_WARNING_NAMESPACE: Final = "ghmirror.snapshots"


SNAPSHOT_CODES: Final = {
    EmptySnapshotError: "empty",
    NotASnapshotError: "not-a-snapshot",
    NewerVersionError: "newer-version",
    TruncatedError: "truncated",
    DamagedError: "damaged",
    RecordTooLargeError: "record-too-large",
    NoRecordsError: "no-records",
    OtherSecretError: "other-secret",
    OtherServerError: "other-server",
}


def snapshot_error_code(error: SnapshotError) -> str:
    """Return the code of a fault of a snapshot."""
    return SNAPSHOT_CODES.get(type(error), "damaged")


#: The code and the status of exceptions; the first matching class counts.
ERRORS: Final[tuple[tuple[type[Exception], str, Status], ...]] = (
    (ConfigError, "configuration", Status.USAGE),
    (NoSuchSnapshotError, "no-such-snapshot", Status.FAULT),
    (TargetError, "target", Status.UNREACHABLE),
    (RedisUnavailableError, "store", Status.UNREACHABLE),
    (LeaseLostError, "lease", Status.FAULT),
    (StoreEmptiedError, "emptied", Status.FAULT),
)


def command_error(error: Exception) -> CommandError:
    """Return the error of a command; an unknown exception is an internal error."""
    if isinstance(error, CommandError):
        return error
    if isinstance(error, SnapshotError):
        return CommandError(snapshot_error_code(error), f"the snapshot cannot be used: {error}")
    for kind, code, status in ERRORS:
        if isinstance(error, kind):
            text = error.why if isinstance(error, RedisUnavailableError) else str(error)
            return CommandError(code, text, status, getattr(error, "faults", ()))
    text = scrub(f"{type(error).__name__}: {error}")
    return CommandError("internal", f"internal error: {text}")


@implementer(ILogObserver)
class WarningObserver:
    """A log observer that writes warnings of snapshots to the output."""

    def __init__(self, out: Output) -> None:
        self.out = out

    def __call__(self, event: LogEvent) -> None:
        """Write *event* if it is a warning of snapshots."""
        level = event.get("log_level", LogLevel.info)
        if event.get("log_namespace") != _WARNING_NAMESPACE or level < LogLevel.warn:
            return
        failure = event.get("log_failure")
        why = f": {failure.getErrorMessage()}" if isinstance(failure, Failure) else ""
        self.out.warn(scrub(formatEvent(event) + why))


@contextmanager
def command_errors(out: Output) -> Iterator[None]:
    """Convert any exception to a `CommandError`; an internal one has its traceback if verbose."""
    try:
        yield
    except Exception as error:
        converted = command_error(error)
        if converted.code == "internal" and out.verbose:
            out.note(scrub(Failure(error).getTraceback()))
        raise converted from error


def run_in_reactor(
    work: Callable[[Any], Coroutine[Deferred[Any], Any, T]], out: Output, *, announce: bool = True
) -> T:
    """Return the result of *work*, which is called with the reactor; once in a process.

    The first Ctrl-C or SIGTERM cancels it, so that it releases its resources; then this raises
    `CommandError`. The second one ends the process. *announce*: write a message at the first one.
    """
    from twisted.internet import reactor as installed  # noqa: PLC0415 - importing it installs it

    reactor: Any = installed
    log = observer(sys.stderr, "text", "info") if out.verbose else WarningObserver(out)
    globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False, discardBuffer=True)
    ended: list[T | Failure] = []

    def end(result: T | Failure) -> None:
        ended.append(result)
        reactor.stop()

    def begin() -> None:
        running = Deferred.fromCoroutine(work(reactor))
        interrupts.install(running)
        running.addBoth(end)

    interrupts = _Interrupts(reactor, out, announce)
    reactor.callWhenRunning(begin)
    reactor.run(installSignalHandlers=False)
    interrupts.uninstall()
    (result,) = ended
    if not isinstance(result, Failure):
        return result
    if interrupts.received is not None:
        raise CommandError("interrupted", "interrupted", _SIGNALS[interrupts.received])
    result.raiseException()
    raise AssertionError("a failure raises")


@define(eq=False)
class _Interrupts:
    """Cancels a Deferred at the first Ctrl-C or SIGTERM; later ones end the process."""

    reactor: Any
    out: Output
    announce: bool
    received: signal.Signals | None = None

    def install(self, running: Deferred[Any]) -> None:
        """Handle signals by cancelling *running*."""

        def on_signal(number: int, _frame: object) -> None:
            self.received = signal.Signals(number)
            self.uninstall()
            self.reactor.callFromThread(self._cancel, running)

        for each in _SIGNALS:
            signal.signal(each, on_signal)

    def uninstall(self) -> None:
        """Restore the default handlers, which end the process."""
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    def _cancel(self, running: Deferred[Any]) -> None:
        self.out.progress.end()
        if self.announce:
            self.out.note("Stopping; a second Ctrl-C ends the command without cleaning up")
        running.cancel()
