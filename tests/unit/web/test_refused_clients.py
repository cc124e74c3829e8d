"""A client without access gets GitHub's refusal, and no information about what is stored."""

from __future__ import annotations

import re
from typing import Any

from twisted.trial.unittest import TestCase

from tests.harness.home import Home, open_home

#: The parts that differ between any two responses: its time, and GitHub's number for it.
_OWN = re.compile(rb"(?im)^(date|x-github-request-id|x-ratelimit-reset): .*\r\n")


class Refused(TestCase):
    """Two mirrors, each with a GitHub of its own; only one has something stored for alice."""

    async def open(self, **options: Any) -> Home:
        """Start one of them."""
        home = await open_home(self, **options)
        home.github.private("/repos/o/secret", ["alice"])
        home.github.put("/repos/o/secret", {"text": "x" * 3000})
        home.github.put_list("/repos/o/secret/issues", [{"n": n} for n in range(90)])
        home.github.put("/repos/o/secret/empty", [])
        return home

    async def exchange(self, home: Home, method: bytes, target: bytes, more: bytes) -> bytes:
        """Send a request as bob; return the response without its individual parts."""
        got = await home.raw(
            b"%s %s HTTP/1.1\r\nHost: mirror\r\nUser-Agent: t\r\n" % (method, target)
            + b"Authorization: token bob-1\r\nConnection: close\r\n"
            + more
            + b"\r\n"
        )
        text = _OWN.sub(b"", got)
        # each is a mirror of another GitHub here
        return text.replace(home.parts.resource.pseudonym, b"ghmirror-of-it")

    async def compare(self, **options: Any) -> None:
        """Check that bob receives the same of both, for any request and its repetition."""
        full, empty = await self.open(**options), await self.open(**options)
        targets = (
            b"/repos/o/secret",
            b"/repos/o/secret/issues?page=2",
            b"/repos/o/secret/issues",
            b"/repos/o/secret/empty",
            b"/api/v3/repos/o/secret",
            b"/repos/o/secret/issues?per_page=1",
        )
        for target in targets:
            for _ in range(2):
                got = await full.get(target.decode(), token="alice-1")
                assert got.status == 200
        etag = full.github.tag({"text": "x" * 3000}, authorization=b"token alice-1")
        for target in targets:
            for method in (b"GET", b"HEAD", b"GET"):
                for more in (
                    b"",
                    b"Accept-Encoding: gzip\r\n",
                    b"If-None-Match: %s\r\n" % etag,
                    b"If-None-Match: *\r\n",
                    b"Cache-Control: no-cache\r\n",
                    b"Range: bytes=0-9\r\n",
                ):
                    responses = [
                        await self.exchange(home, method, target, more) for home in (full, empty)
                    ]
                    assert responses[0] == responses[1], (method, target, more)
                    assert b" 404 " in responses[0].split(b"\r\n")[0]
        for home in (full, empty):
            await home.github.go_away()
        gone = [await self.exchange(home, b"GET", targets[0], b"") for home in (full, empty)]
        assert gone[0] == gone[1]
        assert gone[0].startswith(b"HTTP/1.1 502 ")

    async def test_refusal_is_the_same_with_and_without_stored_content(self) -> None:
        """Byte for byte, for any method, coding, precondition and page, and without GitHub."""
        await self.compare()

    async def test_refusal_is_the_same_without_sharing(self) -> None:
        """With `share = no`."""
        await self.compare(cache={"share": False})

    async def test_refusal_is_the_same_with_allowed_users(self) -> None:
        """A user without access to the mirror learns only that."""
        allowed = {"server": {"allowed_users": frozenset({"alice"})}}
        full, empty = await self.open(**allowed), await self.open(**allowed)
        await full.get("/repos/o/secret", token="alice-1")
        responses = [
            await self.exchange(home, b"GET", b"/repos/o/secret", b"") for home in (full, empty)
        ]
        assert responses[0] == responses[1]
        assert responses[0].startswith(b"HTTP/1.1 403 ")
