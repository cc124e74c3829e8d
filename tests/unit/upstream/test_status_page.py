"""The status page is read over real connections, with backoff, apart from requests to GitHub."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import provider

from ghmirror_tw.upstream import status_page
from ghmirror_tw.upstream.github_breaker import GitHubBreaker
from ghmirror_tw.upstream.status_page import StatusPage, UnreadableStatusError, parse_components
from tests.fakes.github import GitHub
from tests.harness.home import reactor, until

PAGE = "/api/v2/components.json"
INTERVAL_S = 30.0


def page_with(status: Any, **more: Any) -> dict[str, Any]:
    """Return a page as GitHub's is, shortened."""
    return {
        "page": {"name": "GitHub"},
        "components": [
            {"name": "Git Operations", "status": "major_outage"},
            {"name": "API Requests", "status": status, "group": False, **more},
        ],
    }


def test_status_of_the_api_component_is_parsed() -> None:
    """Other components are ignored."""
    for status in ("operational", "major_outage", "something new"):
        assert parse_components(json.dumps(page_with(status)).encode()) == status


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"{}",
        b'{"components": {}}',
        b'{"components": [1, [], {"name": "Pages", "status": "major_outage"}]}',
        json.dumps(page_with(7)).encode(),
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"components": ' + b"9" * 10_000 + b"}",
    ],
)
def test_other_content_is_unreadable(content: bytes) -> None:
    """No content raises another error."""
    with pytest.raises(UnreadableStatusError):
        parse_components(content)


class PausedReactor:
    """The reactor, but the test ends the pauses between readings."""

    def __init__(self) -> None:
        self.clock = Clock()

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any) -> Any:
        of = getattr(call, "__self__", None)
        where = self.clock if isinstance(of, StatusPage) else reactor
        return where.callLater(delay, call, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class Reading(TestCase):
    """A page on a real server, and its reader."""

    server: GitHub

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.server = GitHub()
        await self.server.listen()
        self.addCleanup(self.server.close)
        self.server.put(PAGE, page_with("operational"))
        self.changes: list[bool] = []
        self.breaker = GitHubBreaker(self.changes.append)
        self.paused = PausedReactor()
        self.random = 0.5
        self.logged: list[str] = []

        @provider(ILogObserver)
        def observe(event: Any) -> None:
            self.observe(event)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def observe(self, event: Any) -> None:
        if event.get("log_namespace") == "ghmirror.github":
            self.logged.append(event["log_format"].format(**event))

    def page(self) -> StatusPage:
        """Return the page, being read for the first time."""
        page = StatusPage(
            self.paused,
            self.server.api_url + PAGE,
            INTERVAL_S,
            self.breaker,
            None,
            lambda: self.random,
            timeout_s=60.0,
        )
        self.addCleanup(page.close)
        page.open()
        return page

    async def pause(self) -> float:
        """Return how long it is until the next reading, when this one is done."""
        await until(lambda: bool(self.paused.clock.getDelayedCalls()))
        (call,) = self.paused.clock.getDelayedCalls()
        return round(call.getTime() - self.paused.clock.seconds(), 3)

    async def again(self) -> float:
        """Read it again; return how long it is until the reading after."""
        self.paused.clock.advance(await self.pause())
        return await self.pause()

    async def test_page_is_read_at_an_interval(self) -> None:
        """Its status is passed to the breaker, and logged when it changes."""
        self.page()
        assert await self.pause() == INTERVAL_S
        self.server.put(PAGE, page_with("major_outage"))
        assert await self.again() == INTERVAL_S
        assert self.breaker.is_open
        await self.again()
        self.server.put(PAGE, page_with("operational"))
        await self.again()
        assert self.changes == [False, True]
        assert [line.rpartition("status=")[2] for line in self.logged] == [
            "operational",
            "major_outage",
            "operational",
        ]

    async def test_interval_has_jitter(self) -> None:
        """A tenth of the interval."""
        self.random = 0.0
        self.page()
        assert await self.pause() == 27.0
        self.random = 1.0
        assert await self.again() == 33.0

    async def test_page_is_validated_by_entity_tag(self) -> None:
        """A 304 confirms the status before; an unreadable page is requested whole."""
        self.server.put(PAGE, page_with("major_outage"))
        self.page()
        await self.again()
        assert [each.status for each in self.server.exchanges(PAGE)] == [200, 304]
        assert self.breaker.is_open
        self.server.put(PAGE, {"components": []})
        assert await self.again() == 2 * INTERVAL_S
        assert self.breaker.is_open
        self.server.put(PAGE, page_with("operational"))
        assert await self.again() == INTERVAL_S
        last = self.server.exchanges(PAGE)[-1]
        assert (last.status, last.field(b"if-none-match")) == (200, None)
        assert self.changes == [False, True]

    async def test_invalid_entity_tag_is_no_validator(self) -> None:
        """An asterisk would match every later page."""
        tags = ("*", "bare", '"a", "b"')
        self.server.put(PAGE, page_with("operational"), etag=False, fields={"ETag": tags[0]})
        self.page()
        for tag in tags:
            self.server.put(PAGE, page_with("operational"), etag=False, fields={"ETag": tag})
            assert await self.again() == INTERVAL_S
            assert await self.again() == INTERVAL_S
            assert self.server.exchanges(PAGE)[-1].field(b"if-none-match") is None

    async def test_page_gets_no_credential_and_no_cookie(self) -> None:
        """Requests for the page have no identity of a user."""
        self.server.put(PAGE, page_with("operational"), fields={"Set-Cookie": "a=b"})
        self.page()
        await self.again()
        for each in self.server.exchanges(PAGE):
            assert each.field(b"cookie") is None
            assert each.field(b"authorization") is None

    async def test_unreadable_page_is_no_evidence_against_github(self) -> None:
        """It is read with exponential backoff, and logged once."""
        kinds = ("500", "reset", "malformed", "truncated", "refuse", "bad-gzip", "timeout", "500")
        page = self.page()
        pauses = [await self.pause()]
        for kind in kinds:
            self.server.fault(PAGE, kind, times=1)
            page.timeout_s = 0.01 if kind == "timeout" else 60.0
            pauses.append(await self.again())
            # It may have been cancelled before it was received.
            self.server.clear_faults()
        assert pauses == [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0, 600.0, 600.0]
        assert not self.changes
        assert len(self.logged) == 2
        assert await self.again() == INTERVAL_S
        assert len(self.logged) == 3

    async def test_retry_after_is_obeyed(self) -> None:
        """If it is longer than the backoff."""
        self.server.put(PAGE, {}, status=429, fields={"Retry-After": "1000"})
        self.page()
        assert await self.pause() == 1000.0
        self.server.put(PAGE, {}, status=429, fields={"Retry-After": "1"})
        assert await self.again() == 120.0
        assert not self.changes

    async def test_redirect_is_not_followed(self) -> None:
        """It is an unreadable page."""
        self.server.put(PAGE, {}, status=302, fields={"Location": self.server.api_url + "/zen"})
        self.page()
        assert await self.pause() == 2 * INTERVAL_S
        assert not self.server.exchanges("/zen")

    async def test_oversized_page_is_unreadable(self) -> None:
        """Coded or not, of known length or not. Its connection is closed."""
        self.patch(status_page, "MAX_PAGE_BYTES", 100_000)
        more = {"more": "x" * 200_000}
        self.server.put(PAGE, page_with("major_outage", **more))
        self.page()
        await self.pause()
        for self.server.gzip in (False, True):
            for self.server.chunked in (False, True):
                await self.again()
        assert not self.changes
        await until(lambda: not self.server.connections)

    async def test_close_cancels_reading(self) -> None:
        """During a reading, or between two; nothing is logged afterwards."""
        barrier = self.server.hold(PAGE)
        page = self.page()
        await barrier.arrived()
        page.close()
        await until(lambda: not self.server.connections)
        assert not self.paused.clock.getDelayedCalls()
        assert not self.logged
        barrier.open()
        other = self.page()
        await self.pause()
        other.close()
        assert not self.paused.clock.getDelayedCalls()

    async def test_refused_connection_is_an_unreadable_page(self) -> None:
        """No server listens there."""
        await self.server.close()
        self.page()
        assert await self.pause() == 2 * INTERVAL_S
        assert not self.changes

    async def test_unexpected_error_does_not_end_the_loop(self) -> None:
        """It is logged, and the page is read again later."""

        def fail(available: bool) -> None:
            raise ZeroDivisionError

        self.breaker.on_change = fail
        self.server.put(PAGE, page_with("major_outage"))
        self.page()
        assert await self.pause() == 600.0
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1
        assert await self.again() == INTERVAL_S
