"""At the limits of budgets, requests wait or are refused, and connections are closed."""

from __future__ import annotations

import gzip
import json
import random
from typing import Any

from twisted.internet.task import Clock

from ghmirror_tw.upstream.byte_budget import SMALL_BYTES
from ghmirror_tw.web.client_connections import LEAST_PACE, UNREAD_EACH_BYTES
from tests.fakes.scripted_server import raw_response
from tests.harness.home import Received, start, until
from tests.unit.web.test_content_streaming import ETAG, GZIP, JSON, TEXT, Scripted
from tests.unit.web.test_misbehaving_clients import Wire, get

#: More than small content, with and without gzip.
LARGE = random.Random(1).randbytes(2_000_000)
MANY = b"".join(b"x%d: %b\r\n" % (number, b"y" * 100) for number in range(90))


class Content(Scripted):
    """Stored, received and rewritten content."""

    async def test_stored_content_without_room_is_a_503(self) -> None:
        """Small content does not wait for it."""
        await self.open(raw_response(GZIP, TEXT, ETAG, content=gzip.compress(LARGE)))
        await self.home.get("/x", token="alice-1")
        self.server.response = raw_response(
            JSON, ETAG, content=json.dumps(["y" * 100_000]).encode()
        )
        await self.home.get("/y", token="alice-1")
        large = self.home.parts.budgets.large
        large.wait_s = 0.01
        with large.charge(large.limit):
            small = await self.home.get("/y", token="alice-1")
            assert small.status == 200
            refused = await self.home.get("/x", token="alice-1")
        assert (refused.status, refused.field("retry-after")) == (503, "5")
        assert refused.outcome == "detail=overloaded"
        assert "[memory] max_content_size = " in refused.json["message"]
        metric = 'ghmirror_content_refusals_total{use="large"}'
        assert await self.home.metric(metric) == 1
        self.server.response = raw_response(GZIP, TEXT, ETAG, content=gzip.compress(LARGE))
        got = await self.home.get("/x", token="alice-1")
        assert got.content == LARGE

    async def test_graphql_requests_without_content_hold_no_room_of_responses(self) -> None:
        """Any client can announce content and send none of it, also with a made-up credential."""
        await self.open(raw_response(JSON, ETAG, content=json.dumps(["y" * 100_000]).encode()))
        await self.home.get("/y", token="alice-1")
        budgets = self.home.parts.budgets
        budgets.small.wait_s = 0.01
        wires = [Wire(self.home.port) for _ in range(20)]
        for wire in wires:
            head = b"POST /graphql HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YTpi\r\n"
            await wire.send(head + b"Content-Length: 1000000\r\n\r\n{")
        await until(lambda: budgets.queries.is_full(SMALL_BYTES))
        got = await self.home.get("/y", token="alice-1")
        assert got.status == 200
        for wire in wires:
            wire.socket.close()
        await until(lambda: not budgets.queries.held)

    async def test_small_variants_do_not_wait_for_large_ones(self) -> None:
        """They have room of their own beyond the limit."""
        content = json.dumps([{"url": f"http://127.0.0.1:1/{'y' * 100_000}"}]).encode()
        await self.open(raw_response(JSON, ETAG, content=content))
        budgets = self.home.parts.budgets
        budgets.forms.wait_s = 0.01
        with budgets.forms.charge(budgets.forms.limit):
            got = await self.home.get("/x", token="alice-1")
            assert got.content == content
            with budgets.forms.charge(budgets.small.limit):
                other = {"Host": "other"}
                got = await self.home.get("/x", token="alice-1", headers=other)
                assert got.status == 503

    async def test_waiting_request_proceeds_when_bytes_are_released(self) -> None:
        """In the order of the queue."""
        await self.open(raw_response(GZIP, TEXT, ETAG, content=gzip.compress(LARGE)))
        large = self.home.parts.budgets.large
        held = large.charge(large.limit)
        waits = start(self.home.get("/x", token="alice-1"))
        await until(lambda: bool(large.waits))
        held.release()
        got = await waits
        assert got.content == LARGE
        assert got.outcome.endswith("stored")

    async def test_received_content_without_room_is_streamed(self) -> None:
        """It is whole, and not stored."""
        for fields, sent in (((GZIP, TEXT, ETAG), gzip.compress(LARGE)), ((TEXT, ETAG), LARGE)):
            await self.open(raw_response(*fields, content=sent))
            budgets = self.home.parts.budgets
            budgets.large.wait_s = 0.01
            with budgets.large.charge(budgets.large.limit):
                got = await self.home.get("/x", token="alice-1")
            assert got.content == LARGE
            assert "stored" not in got.outcome
            assert all(budget.held == 0 for budget in budgets)

    async def test_content_of_unknown_length_counts_as_small_first(self) -> None:
        """Until more is received."""
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(LARGE), LARGE) for _ in range(2))
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + TEXT + b"\r\n" + ETAG
        await self.open(head + b"\r\n\r\n" + chunks + b"0\r\n\r\n")
        budgets = self.home.parts.budgets
        assert SMALL_BYTES < 2 * len(LARGE) < 8 << 20
        got = await self.home.get("/x", token="alice-1")
        assert got.content == 2 * LARGE
        assert got.outcome.endswith("stored")
        assert all(budget.held == 0 for budget in budgets)

    async def test_graphql_without_a_credential_is_not_read(self) -> None:
        """GitHub accepts none; with a credential, it is read only where there is room."""
        await self.open(b"")
        budgets = self.home.parts.budgets
        head = b"POST /graphql HTTP/1.1\r\nHost: x\r\nUser-Agent: t\r\nContent-Length: 900000\r\n"
        known = 0
        for credential, left in ((b"", SMALL_BYTES), (b"Authorization: token a\r\n", 100)):
            with budgets.small.charge(budgets.small.limit - left):
                wire = Wire(self.home.port)
                await wire.send(head + credential + b"\r\n" + bytes(70_000))
                known += 1
                await until(lambda: len(self.server.connections) == known)  # noqa: B023
                wire.socket.close()
                await until(lambda: not self.home.parts.resource.in_flight)


class Connections(Scripted):
    """Memory that connections hold."""

    async def test_oldest_incomplete_heads_are_closed(self) -> None:
        """Other connections are not affected."""
        await self.open(raw_response(TEXT, content=b"ok"))
        heads = self.home.site.budgets.heads
        begun = b"GET /x HTTP/1.1\r\nConnection: close\r\nHost: x\r\n" + MANY
        wires = []
        for number in range(4):
            wires.append(wire := Wire(self.home.port))
            self.addCleanup(wire.socket.close)
            await wire.send(begun)
            await until(lambda: len(self.home.site.incomplete_heads) == number + 1)  # noqa: B023
        heads.limit = heads.held - 1
        await wires[-1].send(b"More: x")
        await until(lambda: len(self.home.site.channels) == 3)
        assert heads.refusals == 1
        with self.assertRaises((ConnectionError, EOFError, AssertionError)):
            assert wires[0].socket.recv(1)
        heads.limit *= 2
        await wires[-1].send(b"\r\n\r\n")
        await until(lambda: len(self.home.site.channels) == 2)
        assert wires[-1].socket.recv(12) == b"HTTP/1.1 200"
        assert len(self.home.site.incomplete_heads) == 2

    async def test_large_head_without_room_is_a_503(self) -> None:
        """Other requests are not affected; the bytes are released with the request."""
        await self.open(raw_response(TEXT, content=b"ok"))
        heads = self.home.site.budgets.heads
        assert (await self._with_many()).startswith(b"HTTP/1.1 200 ")
        assert heads.held == 0
        heads.limit = 0
        refused = await self._with_many()
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"fields of requests under way" in refused
        got: Received = await self.home.get("/x", token="alice-1")
        assert got.content == b"ok"
        await until(lambda: not heads.held)

    async def _with_many(self) -> bytes:
        return await self.home.raw(get(b"/x", b"Connection: close\r\n" + MANY))

    async def test_unread_connections_are_closed_at_twice_the_limit(self) -> None:
        """The one that has read nothing for longest."""
        await self.open(raw_response(TEXT, content=bytes(30_000_000)))
        unread = self.home.site.budgets.unread
        unread.limit = UNREAD_EACH_BYTES
        for number in range(2):
            await self.unread(b"X-Number: %d\r\n" % number)
        channels: list[Any] = list(self.home.site.channels)
        await until(lambda: unread.held == 2 * UNREAD_EACH_BYTES)
        await self.unread(b"X-Number: 3\r\n")
        await until(lambda: len(self.home.site.channels) == 2)
        assert not set(channels) <= set(self.home.site.channels)
        assert unread.refusals == 1
        await until(lambda: unread.held == 2 * UNREAD_EACH_BYTES)

    async def test_stalled_clients_are_closed_while_others_wait(self) -> None:
        """Only those that hold content."""
        await self.open(raw_response(GZIP, TEXT, ETAG, content=gzip.compress(LARGE * 3)))
        site, large = self.home.site, self.home.parts.budgets.large
        await self.home.get("/x", token="alice-1")
        await self.unread()
        (channel,) = [each for each in site.channels if each.unread]
        large.limit = large.held + 1
        waits = start(self.home.get("/x", token="bob-1"))
        await until(lambda: bool(large.waits))
        site.make_room()
        assert channel in site.channels
        channel.unread_since -= 10
        assert (await waits).status == 200
        assert channel not in site.channels

    async def test_slow_clients_are_closed_while_others_wait(self) -> None:
        """A client that reads a little again and again cannot hold a budget for long."""
        items = [{"url": "%s/y", "text": LARGE[:1_200_000].hex()}]
        await self.open(raw_response(TEXT))
        content = json.dumps(items).replace("%s", self.server.url).encode()
        self.server.response = raw_response(JSON, ETAG, content=content)
        site, forms = self.home.site, self.home.parts.budgets.forms
        site.reactor = Clock()  # a client that has just read something is never stalled
        wire = await self.unread()
        (channel,) = site.channels
        request: Any = channel.requests[0]
        assert forms.held
        forms.limit = forms.held
        waits = start(self.home.get("/x", token="alice-1", headers={"Host": "other"}))
        await until(lambda: bool(forms.waits))
        # A fast client does not lose its room.
        request.content_held_since -= 6
        request.sentLength, sent = 6 * LEAST_PACE + 1000000, request.sentLength
        site.make_room()
        assert channel in site.channels
        # A slow one has read something just now, but too little since its response began.
        request.sentLength = sent
        assert (await waits).status == 200
        assert channel not in site.channels
        wire.socket.close()
