"""Running one coroutine in the reactor, to its end or to Ctrl-C."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

from ghmirror_tw.cli.exit_status import CommandError, Status
from ghmirror_tw.cli.output import Output
from ghmirror_tw.telemetry.logs import observer, scrub

T = TypeVar("T")

_SIGNALS: Final = {signal.SIGINT: Status.INTERRUPTED, signal.SIGTERM: 128 + signal.SIGTERM}
#: What is said about stores here becomes the command's error, and need not be said twice.
_TOLD: Final = "ghmirror.snapshots"


@implementer(ILogObserver)
class _Warnings:
    """Passes on what the parts at work log because nobody would know it otherwise."""

    def __init__(self, out: Output) -> None:
        self.out = out

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level", LogLevel.info)
        if event.get("log_namespace") != _TOLD or level < LogLevel.warn:
            return
        failure = event.get("log_failure")
        why = f": {failure.getErrorMessage()}" if isinstance(failure, Failure) else ""
        self.out.warn(scrub(formatEvent(event) + why))


def _say_nothing(_: str) -> None:
    pass


def run(
    work: Callable[[Any], Coroutine[Deferred[Any], Any, T]], out: Output, *, at_once: bool = False
) -> T:
    """Return what *work* returns, which is called with the reactor; for once in a process.

    Ctrl-C and SIGTERM cancel it: what it holds it lets go of, and then this raises. The second
    one ends the process at once. *at_once*: the first one does as good as that, and nothing is
    left behind, which need not be said.
    """
    from twisted.internet import reactor as installed  # noqa: PLC0415 - importing it installs it

    reactor: Any = installed
    log = observer(sys.stderr, "text", "info") if out.verbose else _Warnings(out)
    globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False, discardBuffer=True)
    say: Callable[[str], object] = _say_nothing if at_once else out.note
    ended: list[T | Failure] = []
    received: list[int] = []

    def begin() -> None:
        running = Deferred.fromCoroutine(work(reactor))

        def give_up(number: int, _frame: object) -> None:
            received.append(number)
            for each in _SIGNALS:
                signal.signal(each, signal.SIG_DFL)
            reactor.callFromThread(stop)

        def stop() -> None:
            out.progress.end()
            say("Stopping; once more to end at once, whatever is left behind")
            running.cancel()

        for each in _SIGNALS:
            signal.signal(each, give_up)
        running.addBoth(end)

    def end(result: T | Failure) -> None:
        ended.append(result)
        reactor.stop()

    reactor.callWhenRunning(begin)
    reactor.run(installSignalHandlers=False)
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    (result,) = ended
    if not isinstance(result, Failure):
        return result
    if received:
        raise CommandError("interrupted", "interrupted", _SIGNALS[signal.Signals(received[0])])
    result.raiseException()
    raise AssertionError("a failure raises")
