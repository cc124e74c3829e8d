"""The status page is read over real connections, politely, and never taken for GitHub itself."""

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


def saying(said: Any, **more: Any) -> dict[str, Any]:
    """Return a page as GitHub's is, shortened."""
    return {
        "page": {"name": "GitHub"},
        "components": [
            {"name": "Git Operations", "status": "major_outage"},
            {"name": "API Requests", "status": said, "group": False, **more},
        ],
    }


def test_it_speaks_of_one_component() -> None:
    """What else is out is nothing to us."""
    for said in ("operational", "major_outage", "something new"):
        assert parse_components(json.dumps(saying(said)).encode()) == said


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
        json.dumps(saying(7)).encode(),
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"components": ' + b"9" * 10_000 + b"}",
    ],
)
def test_anything_else_says_nothing(content: bytes) -> None:
    """Whatever it is, it is unreadable, and crashes nothing."""
    with pytest.raises(UnreadableStatusError):
        parse_components(content)


class Standing:
    """The reactor, but for the pauses between readings: those are the test's to end."""

    def __init__(self) -> None:
        self.clock = Clock()

    def callLater(self, delay: float, call: Callable[..., Any], *args: Any) -> Any:
        of = getattr(call, "__self__", None)
        where = self.clock if isinstance(of, StatusPage) else reactor
        return where.callLater(delay, call, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class Reading(TestCase):
    """A page on a real server, and who reads it."""

    server: GitHub

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.server = GitHub()
        await self.server.listen()
        self.addCleanup(self.server.close)
        self.server.put(PAGE, saying("operational"))
        self.told: list[bool] = []
        self.github_breaker = GitHubBreaker(self.told.append)
        self.standing = Standing()
        self.chance = 0.5
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
            self.standing,
            self.server.api_url + PAGE,
            INTERVAL_S,
            self.github_breaker,
            None,
            lambda: self.chance,
            timeout_s=60.0,
        )
        self.addCleanup(page.close)
        page.open()
        return page

    async def pause(self) -> float:
        """Return how long it is until the next reading, when this one is done."""
        await until(lambda: bool(self.standing.clock.getDelayedCalls()))
        (call,) = self.standing.clock.getDelayedCalls()
        return round(call.getTime() - self.standing.clock.seconds(), 3)

    async def again(self) -> float:
        """Read it again; return how long it is until the reading after."""
        self.standing.clock.advance(await self.pause())
        return await self.pause()

    async def test_it_is_read_again_and_again(self) -> None:
        """And what it says is told, and logged where it changes."""
        self.page()
        assert await self.pause() == INTERVAL_S
        self.server.put(PAGE, saying("major_outage"))
        assert await self.again() == INTERVAL_S
        assert self.github_breaker.is_open
        await self.again()
        self.server.put(PAGE, saying("operational"))
        await self.again()
        assert self.told == [False, True]
        assert [line.rpartition("status=")[2] for line in self.logged] == [
            "operational",
            "major_outage",
            "operational",
        ]

    async def test_replicas_read_at_times_of_their_own(self) -> None:
        """A tenth sooner or later."""
        self.chance = 0.0
        self.page()
        assert await self.pause() == 27.0
        self.chance = 1.0
        assert await self.again() == 33.0

    async def test_what_has_not_changed_is_not_sent_again(self) -> None:
        """A 304 says what was said before; after something unreadable, it is asked for whole."""
        self.server.put(PAGE, saying("major_outage"))
        self.page()
        await self.again()
        assert [each.status for each in self.server.asked(PAGE)] == [200, 304]
        assert self.github_breaker.is_open
        self.server.put(PAGE, {"components": []})
        assert await self.again() == 2 * INTERVAL_S
        assert self.github_breaker.is_open
        self.server.put(PAGE, saying("operational"))
        assert await self.again() == INTERVAL_S
        last = self.server.asked(PAGE)[-1]
        assert (last.status, last.field(b"if-none-match")) == (200, None)
        assert self.told == [False, True]

    async def test_what_is_no_entity_tag_is_no_validator(self) -> None:
        """An asterisk would match every page to come."""
        tags = ("*", "bare", '"a", "b"')
        self.server.put(PAGE, saying("operational"), etag=False, fields={"ETag": tags[0]})
        self.page()
        for tag in tags:
            self.server.put(PAGE, saying("operational"), etag=False, fields={"ETag": tag})
            assert await self.again() == INTERVAL_S
            assert await self.again() == INTERVAL_S
            assert self.server.asked(PAGE)[-1].field(b"if-none-match") is None

    async def test_no_credential_goes_there_and_no_cookie_is_kept(self) -> None:
        """It is nobody's business who reads."""
        self.server.put(PAGE, saying("operational"), fields={"Set-Cookie": "a=b"})
        self.page()
        await self.again()
        for each in self.server.asked(PAGE):
            assert each.field(b"cookie") is None
            assert each.field(b"authorization") is None

    async def test_its_failures_are_not_github_s(self) -> None:
        """However it fails, GitHub is not offline; it is asked less and less, and logged once."""
        kinds = ("500", "reset", "malformed", "truncated", "refuse", "bad-gzip", "timeout", "500")
        page = self.page()
        pauses = [await self.pause()]
        for kind in kinds:
            self.server.fault(PAGE, kind, times=1)
            page.timeout_s = 0.01 if kind == "timeout" else 60.0
            pauses.append(await self.again())
            # It may have been given up before it came.
            self.server.clear_faults()
        assert pauses == [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0, 600.0, 600.0]
        assert not self.told
        assert len(self.logged) == 2
        assert await self.again() == INTERVAL_S
        assert len(self.logged) == 3

    async def test_it_says_when_to_come_again(self) -> None:
        """`Retry-After` is heeded, if it asks for more patience than we have anyway."""
        self.server.put(PAGE, {}, status=429, fields={"Retry-After": "1000"})
        self.page()
        assert await self.pause() == 1000.0
        self.server.put(PAGE, {}, status=429, fields={"Retry-After": "1"})
        assert await self.again() == 120.0
        assert not self.told

    async def test_a_redirect_is_not_followed(self) -> None:
        """Nothing leads us anywhere else."""
        self.server.put(PAGE, {}, status=302, fields={"Location": self.server.api_url + "/zen"})
        self.page()
        assert await self.pause() == 2 * INTERVAL_S
        assert not self.server.asked("/zen")

    async def test_a_page_is_not_larger_than_it_may_be(self) -> None:
        """However it comes: coded or not, its length known or not. Nothing of it is kept."""
        self.patch(status_page, "MAX_PAGE_BYTES", 100_000)
        more = {"more": "x" * 200_000}
        self.server.put(PAGE, saying("major_outage", **more))
        self.page()
        await self.pause()
        for self.server.gzip in (False, True):
            for self.server.chunked in (False, True):
                await self.again()
        assert not self.told
        await until(lambda: not self.server._connections)

    async def test_closing_ends_it_at_once(self) -> None:
        """In the middle of a reading, or between two; nothing is told or logged any more."""
        barrier = self.server.hold(PAGE)
        page = self.page()
        await barrier.arrived()
        page.close()
        await until(lambda: not self.server._connections)
        assert not self.standing.clock.getDelayedCalls()
        assert not self.logged
        barrier.open()
        other = self.page()
        await self.pause()
        other.close()
        assert not self.standing.clock.getDelayedCalls()

    async def test_who_cannot_be_reached_is_unreadable(self) -> None:
        """Nobody listens there."""
        await self.server.close()
        self.page()
        assert await self.pause() == 2 * INTERVAL_S
        assert not self.told

    async def test_a_fault_of_ours_does_not_end_it(self) -> None:
        """It is logged, and the page is read again later."""

        def fail(available: bool) -> None:
            raise ZeroDivisionError

        self.github_breaker.on_change = fail
        self.server.put(PAGE, saying("major_outage"))
        self.page()
        assert await self.pause() == 600.0
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1
        assert await self.again() == INTERVAL_S
