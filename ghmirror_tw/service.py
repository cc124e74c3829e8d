"""The mirror as a service: it starts and stops all parts in order."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Any, Final

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, Logger

from ghmirror_tw.runtime.garbage_collection import prepare_for_service
from ghmirror_tw.web.client_connections import MirrorSite
from ghmirror_tw.web.health import Readiness
from ghmirror_tw.web.listeners import Listener
from ghmirror_tw.web.mirror_resource import MirrorResource

_log: Final = Logger(namespace="ghmirror")
#: The interval of checks whether uploads have ended at shutdown, in seconds.
_CHECK_S: Final = 0.1


class MirrorService(MultiService):
    """Starts and stops all parts, in an order that loses no request and no write.

    At shutdown it is unready, but serving, for *shutdown_delay_s*. Then no connections are
    accepted, and requests in flight may end within *shutdown_grace_s*. Then the *parts* are closed
    in their order.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - all parts meet here
        self,
        reactor: Any,
        resource: MirrorResource,
        site: MirrorSite,
        readiness: Readiness,
        parts: tuple[Any, ...],
        reread: Any,
        *,
        shutdown_delay_s: float,
        shutdown_grace_s: float,
        observer: ILogObserver,
        warnings: tuple[str, ...] = (),
        about: str = "",
    ) -> None:
        super().__init__()
        self.reactor = reactor
        self.resource = resource
        self.site = site
        self.readiness = readiness
        self.parts = parts
        self.reread = reread
        self.shutdown_delay_s = shutdown_delay_s
        self.shutdown_grace_s = shutdown_grace_s
        self.observer = observer
        self.warnings = warnings
        self.about = about
        self.listeners: list[Listener] = []

    def setServiceParent(self, parent: Any) -> None:
        """Set the observer that twistd logs to."""
        super().setServiceParent(parent)
        if hasattr(parent, "setComponent"):
            parent.setComponent(ILogObserver, self.observer)

    def privilegedStartService(self) -> None:
        """Listen before privileges are dropped, since low ports need them."""
        super().privilegedStartService()
        for listener in self.listeners:
            listener.listen()

    def startService(self) -> None:
        """Open all parts, listen, and log the URLs."""
        super().startService()
        for warning in self.warnings:
            _log.warn("{warning}", warning=warning)
        for part in self.parts:
            if hasattr(part, "open"):
                part.open()
        for listener in self.listeners:
            if listener.port is None:
                listener.listen()
        self.readiness.listening = True
        _log.info("Started: {about}{urls}", about=self.about, urls=self._urls())
        self._become_ready()
        # All objects that exist by now live on. The collector would traverse them again and again,
        # and with them the records of a store.
        prepare_for_service()
        self.reactor.callWhenRunning(self._handle_signals)

    def _urls(self) -> str:
        """Return the status page and a command to try, as far as there are TCP ports for them."""
        shown = ""
        for option, text in (("admin_listen", " status={}/"), ("listen", ' try="curl {}/zen"')):
            urls = [each.url for each in self.listeners if each.option == option and each.url]
            shown += "".join(text.format(url) for url in urls[:1])
        return shown

    def _become_ready(self) -> None:
        """Become ready once each part is settled, also one that cannot reach Redis."""
        waits = [part.settled() for part in self.parts if hasattr(part, "settled")]

        def ready(_: object) -> None:
            self.readiness.restored = True

        DeferredList(waits).addCallback(ready)

    def _handle_signals(self) -> None:
        """Handle SIGHUP and SIGTERM; Twisted would exit with an error after SIGTERM.

        A SIGHUP that the process received while it started is delivered now.
        """
        signal.signal(signal.SIGHUP, lambda *_: self.reactor.callFromThread(self.reread))
        signal.signal(signal.SIGTERM, lambda *_: self.reactor.callFromThread(self._terminate))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def _terminate(self) -> None:
        with suppress(ReactorNotRunning):  # another signal has stopped it
            self.reactor.stop()

    def stopService(self) -> Deferred[None]:
        """Stop in the order that the class describes."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.readiness.stopping = True
        if self.shutdown_delay_s:
            _log.info("Shutdown begun, still serving: delay={delay}s", delay=self.shutdown_delay_s)
            await deferLater(self.reactor, self.shutdown_delay_s)
        self.resource.closing = max(1, round(self.shutdown_grace_s))
        await DeferredList([maybeDeferred(listener.stop) for listener in self.listeners])
        self.site.drop_idle()
        await self._wait_until_idle()
        for part in self.parts:
            await maybeDeferred(part.close)
        await maybeDeferred(super().stopService)
        _log.info("Stopped")

    async def _all_idle(self) -> None:
        """Wait until no request is under way, and none is being received."""
        await self.resource.when_idle()
        while self.site.receiving:
            await deferLater(self.reactor, _CHECK_S)
            await self.resource.when_idle()

    async def _wait_until_idle(self) -> None:
        """Wait for requests in flight, for the grace period at most, and close all connections."""
        idle = Deferred.fromCoroutine(self._all_idle())
        try:
            await idle.addTimeout(self.shutdown_grace_s, self.reactor)
        except Exception:  # noqa: BLE001 - the grace period is over
            _log.warn("Requests aborted at shutdown: count={count}", count=self.resource.in_flight)
        for channel in list(self.site.channels):
            channel.loseConnection()
        # Written data is sent in the next iteration of the reactor.
        await deferLater(self.reactor, _CHECK_S)
