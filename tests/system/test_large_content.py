"""Uploads and downloads of 200 MB through a real mirror, in bounded memory."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import cooperate
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import HTTPConnectionPool, ProxyAgent, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from tests.harness.home import fetch, open_github, reactor
from tests.harness.running import Mirror, start_mirror

SIZE = 200 * 1024 * 1024
PIECE = bytes(range(256)) * 256
#: By how much the mirror's memory may grow at its peak.
GROWTH = 64 * 1024


def peak_kib(mirror: Mirror) -> int:
    """Return the most memory that a mirror has had, in KiB."""
    status = Path(f"/proc/{mirror.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1])


@implementer(IBodyProducer)
@define(eq=False)
class Much:
    """Sends 200 MB, as fast as the transport accepts them."""

    length: int = SIZE
    task: Any = None

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Send it."""
        count = SIZE // len(PIECE)
        self.task = cooperate(consumer.write(PIECE) for _ in range(count))
        done: Deferred[None] = self.task.whenDone()
        return done.addCallback(lambda _: None)

    def pauseProducing(self) -> None:
        """Wait."""
        self.task.pause()

    def resumeProducing(self) -> None:
        """Go on."""
        self.task.resume()

    def stopProducing(self) -> None:
        """Stop."""
        self.task.stop()


class Counting(Protocol):
    """Receives content and counts only its length."""

    def __init__(self) -> None:
        self.size = 0
        self.ended: Deferred[int] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.size += len(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ResponseDone):
            self.ended.callback(self.size)
        else:
            self.ended.errback(reason)


class Large(TestCase):
    """Neither direction is held in memory."""

    async def test_200_mb_are_streamed_both_ways(self) -> None:
        """200 MB arrive whole, and the mirror's memory grows by less than 64 MB."""
        github = await open_github(self)
        mirror = await start_mirror(self, {"github": {"api_url": github.api_url}})
        port = int(mirror.url.rpartition(":")[2])
        await fetch("GET", port, "/zen", token="alice-1")
        before = peak_kib(mirror)
        up = await fetch("POST", port, "/_sink", token="alice-1", body=Much())
        digest = hashlib.sha256()
        for _ in range(SIZE // len(PIECE)):
            digest.update(PIECE)
        assert up.json == {"bytes": SIZE, "sha256": digest.hexdigest()}
        agent = ProxyAgent(
            TCP4ClientEndpoint(reactor, "127.0.0.1", port),
            reactor,
            HTTPConnectionPool(reactor, persistent=False),
        )
        lines = Headers({"Host": ["mirror"], "User-Agent": ["tests"]})
        response = await agent.request(b"GET", b"/_stream/%d" % SIZE, lines, None)
        counting = Counting()
        response.deliverBody(counting)
        assert await counting.ended == SIZE
        assert peak_kib(mirror) - before < GROWTH
