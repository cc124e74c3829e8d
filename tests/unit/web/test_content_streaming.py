"""Content that is not stored is converted as a stream, as fast as the client reads."""

from __future__ import annotations

import gc
import gzip
import json
import os
import random
import socket
from importlib.util import find_spec
from typing import Any
from unittest import skipUnless

from twisted.internet.error import ConnectionDone
from twisted.trial.unittest import TestCase

from ghmirror_tw.web.content_streaming import ContentProducer
from tests.fakes.scripted_server import Server, raw_response
from tests.harness.home import Home, open_home, until
from tests.unit.web.test_misbehaving_clients import Wire, full, get

TRACES = find_spec("_tracemalloc") is not None
if TRACES:
    import tracemalloc

GZIP = b"Content-Encoding: gzip"
TEXT = b"Content-Type: text/plain"
JSON = b"Content-Type: application/json"
ETAG = b'ETag: "x"'
#: 40 MB of text, which is 40 kB as gzip.
LARGE = 40_000_000


class Scripted(TestCase):
    """A mirror in front of a server with scripted responses."""

    home: Home

    async def open(self, response: bytes, **options: Any) -> Home:
        """Start both."""
        self.server = Server(response)
        self.server.listen(self)
        self.home = await open_home(self, github={"api_url": self.server.url}, **options)
        return self.home

    async def broken(self, sent: bytes) -> Exception | None:
        """Send a request; return how its connection ended, if not in peace."""
        try:
            await self.home.raw(sent)
        except Exception as error:
            return error
        return None

    async def unread(self, more: bytes = b"") -> Wire:
        """Send a request and read nothing; return when the mirror waits for the client."""
        known = set(self.home.site.channels)
        wire = Wire(self.home.port, small=True)
        self.addCleanup(wire.socket.close)
        await wire.send(get(b"/x", more))

        def connected() -> bool:
            return bool(set(self.home.site.channels) - known)

        await until(connected)
        (channel,) = set(self.home.site.channels) - known
        # The system's own buffers would hold megabytes.
        channel.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        await full(channel)
        return wire


class Responses(Scripted):
    """One request each."""

    async def test_all_members_of_gzip_are_content(self) -> None:
        """Stored or not, and for any accepted coding."""
        packed = gzip.compress(b"first,") + gzip.compress(b"second") + bytes(9)
        for fields in ((GZIP, TEXT, ETAG), (GZIP, TEXT)):
            for stored in (1000, 1):
                home = await self.open(
                    raw_response(*fields, content=packed), cache={"max_stored_size": stored}
                )
                for coding in ({}, {"Accept-Encoding": "gzip"}):
                    got = await home.get("/x", token="alice-1", headers=coding)
                    assert got.plain == b"first,second", (fields, stored, coding)

    async def test_truncated_gzip_aborts_the_connection(self) -> None:
        """Though its length is right."""
        packed = gzip.compress(random.Random(1).randbytes(300_000))
        for broken in (packed[:-9], packed + packed[:12], packed[:-5000] + b"x" * 5000):
            await self.open(
                raw_response(GZIP, TEXT, content=broken), cache={"max_stored_size": 1000}
            )
            how = await self.broken(get(b"/x", b"Connection: close\r\n"))
            assert how is not None
            assert not isinstance(how, ConnectionDone)

    async def test_invalid_gzip_is_a_502(self) -> None:
        """While nothing has been sent, for any status."""
        for status in (200, 404):
            for size in (1000, 100):
                await self.open(
                    raw_response(GZIP, TEXT, content=b"no gzip" * 100 + b"\xff" * 4, status=status),
                    cache={"max_stored_size": size},
                )
                got = await self.home.get("/x", token="alice-1")
                assert (got.status, got.field("content-encoding")) == (502, None)
                assert got.outcome == "detail=broken-answer"

    async def test_limit_applies_to_unpacked_content(self) -> None:
        """Content that is small only as gzip is streamed, and not stored."""
        packed = gzip.compress(bytes(5000))
        for limit, outcome in ((5000, "; stored"), (4999, "")):
            home = await self.open(
                raw_response(GZIP, TEXT, ETAG, content=packed), cache={"max_stored_size": limit}
            )
            for coding in ({}, {"Accept-Encoding": "gzip"}):
                got = await home.get(
                    "/x", token="alice-1", headers={"Cache-Control": "no-cache", **coding}
                )
                assert got.plain == bytes(5000)
            assert got.outcome.removesuffix("; detail=changed").endswith("fwd-status=200" + outcome)

    async def test_large_content_in_every_variant(self) -> None:
        """Stored, whole or streamed; rewritten or not; gzip or not: it is the same content."""
        for limit in (8_000_000, 1000):
            server = Server(b"x")
            server.listen(self)
            items = [{"url": f"{server.url}/{n}", "text": "x" * 90} for n in range(5000)]
            for etag in ((ETAG,), ()):
                for packed in (True, False):
                    content = json.dumps(items).encode()
                    fields = (JSON, *etag, *((GZIP,) if packed else ()))
                    sent = gzip.compress(content) if packed else content
                    server.response = raw_response(*fields, content=sent)
                    home = await open_home(
                        self, github={"api_url": server.url}, cache={"max_stored_size": limit}
                    )
                    for coding in ({}, {"Accept-Encoding": "gzip"}) * 2:
                        got = await home.get("/x", token="alice-1", headers=coding)
                        urls = [item["url"] for item in got.json]
                        assert urls == [f"{home.url}/{n}" for n in range(5000)]
                        same = {"Host": server.url[7:], **coding}
                        got = await home.get("/x", token="alice-1", headers=same)
                        assert got.plain == content
                    await home.close()

    async def test_long_link(self) -> None:
        """A search with many terms repeats them in each link."""
        link = f'<{"x" * 60_000}?page=2>; rel="next"'
        home = await self.open(raw_response(JSON, b"Link: " + link.encode(), content=b"[]"))
        got = await home.raw(get(b"/search/issues?q=a", b"Connection: close\r\n"))
        assert got.startswith(b"HTTP/1.1 200 ")
        assert link.encode() in got

    async def test_205_has_a_length(self) -> None:
        """Of 0 (RFC 9110, section 15.3.6)."""
        for content in (b"", b"content"):
            await self.open(raw_response(content=content, status=205))
            got = await self.home.raw(
                b"PUT /notifications HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
                b"Connection: close\r\n\r\n"
            )
            head, _, rest = got.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 205 ")
            assert b"\r\ncontent-length: 0" in head.lower()
            assert b"transfer-encoding" not in head.lower()
            assert rest == b""


@skipUnless(TRACES, "PyPy does not trace allocations")
class InMemory(Scripted):
    """The memory of unread responses."""

    async def grown(self, count: int) -> int:
        """Send requests of so many clients that do not read; return the growth of memory."""
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before = tracemalloc.get_traced_memory()[0]
        for number in range(count):
            await self.unread(b"X-Number: %d\r\n" % number)
        return tracemalloc.get_traced_memory()[1] - before

    async def test_stream_is_unpacked_as_it_is_read(self) -> None:
        """40 kB of gzip with 40 MB of content."""
        packed = gzip.compress(bytes(LARGE))
        await self.open(raw_response(GZIP, JSON, ETAG, content=packed))
        assert await self.grown(8) < 16_000_000

    async def test_stored_content_is_unpacked_as_it_is_read(self) -> None:
        """One gzip variant is made for all clients."""
        items = b"[%s]" % b",".join([b'"%s/1234567890"' % b"http://api.test"] * 200_000)
        self.server = Server(b"x")
        self.server.listen(self)
        for content in (
            bytes(6_000_000),
            items.replace(b"http://api.test", self.server.url.encode()),
        ):
            self.server.response = raw_response(GZIP, JSON, ETAG, content=gzip.compress(content))
            self.home = await open_home(
                self, github={"api_url": self.server.url}, cache={"fresh_for": 600.0}
            )
            await self.home.get("/x", token="alice-1")
            assert await self.grown(12) < 12_000_000
            tracemalloc.stop()

    async def test_buffered_content_is_unpacked_as_it_is_read(self) -> None:
        """A 404 with megabytes of text."""
        packed = gzip.compress(bytes(6_000_000))
        await self.open(raw_response(GZIP, TEXT, content=packed, status=404))
        assert await self.grown(8) < 12_000_000

    async def test_disconnected_clients_leave_no_content(self) -> None:
        """No reference cycle holds it."""
        noise = bytes(LARGE // 4)
        for fields, limit in (((GZIP, TEXT), 1000), ((TEXT,), 1000), ((GZIP, TEXT, ETAG), LARGE)):
            content = gzip.compress(noise) if GZIP in fields else noise
            await self.open(
                raw_response(*fields, content=content), cache={"max_stored_size": limit}
            )
            gc.collect()
            gc.disable()
            self.addCleanup(gc.enable)
            for _ in range(3):
                wire = await self.unread()
                wire.socket.close()
                await until(lambda: not self.home.site.channels)
                await until(lambda: not self.home.parts.resource.in_flight)
            left = [each for each in gc.get_objects() if isinstance(each, ContentProducer)]
            assert not left
            assert self.held() == 0
            gc.enable()

    def held(self) -> int:
        """Return how many bytes budgets count."""
        return sum(budget.held for budget in self.home.parts.budgets)

    async def test_failed_responses_leave_no_content(self) -> None:
        """The frames of exceptions are dropped."""
        items = [{"url": f"http://127.0.0.1:1/{n}", "text": "x" * 9 * n} for n in range(1000)]
        large = gzip.compress(json.dumps(items).encode(), 1) + gzip.compress(os.urandom(300_000))
        for fields, content, status in (
            ((GZIP, TEXT), 10_000 * gzip.compress(b""), 502),
            ((GZIP, JSON, ETAG), large, 503),
        ):
            await self.open(raw_response(*fields, content=content))
            forms = self.home.parts.budgets.forms
            forms.wait_s = 0.01
            with forms.charge(forms.limit):
                gc.collect()
                gc.disable()
                self.addCleanup(gc.enable)
                for _ in range(2):
                    got = await self.home.get("/x", token="alice-1")
                    assert got.status == status
                await until(lambda: not self.home.parts.resource.in_flight)
            assert self.held() == 0
            gc.enable()
