"""Numbers from outside may have any length: none is an error of the mirror's own."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.harness.home import open_home

#: `int` refuses more than 4,300 digits, and `float` overflows from 309 on.
LENGTHS = (20, 400, 5_000)
QUOTA = ("X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Limit", "X-RateLimit-Used")


class Numbers(TestCase):
    """Of GitHub's responses and of clients' requests."""

    async def test_the_fields_of_a_response(self) -> None:
        """The client gets the response of GitHub, with any numbers in its fields."""
        home = await open_home(self)
        home.github.sends_quota = False
        for digits in LENGTHS:
            number = "9" * digits
            for name in (*QUOTA, "Age", "Retry-After", "X-Poll-Interval", "Cache-Control"):
                path = f"/{name}/{digits}"
                value = f"max-age={number}" if name == "Cache-Control" else number
                fields = dict.fromkeys(QUOTA, "1") | {name: value}
                home.github.put(path, {"a": 1}, fields=fields)
                for _ in range(2):
                    got = await home.get(path, token="alice-1")
                    assert (got.status, got.json) == (200, {"a": 1}), (name, digits)
        assert (await home.admin("/metrics")).status == 200
        assert (await home.admin("/status.json")).status == 200
        assert self.flushLoggedErrors() == []

    async def test_the_fields_of_a_refusal(self) -> None:
        """Nor are limits known by them."""
        home = await open_home(self)
        home.github.sends_quota = False
        for digits in LENGTHS:
            for status in (403, 429, 503):
                fields = dict.fromkeys((*QUOTA, "Retry-After"), "9" * digits)
                home.github.user(f"{status}-{digits}", tokens=[f"{status}-{digits}"])
                path = f"/refused/{status}/{digits}"
                home.github.put(
                    path, {"message": "no"}, method="POST", status=status, fields=fields
                )
                got = await home.send("POST", path, token=f"{status}-{digits}")
                assert (got.status, got.json) == (status, {"message": "no"})
        assert self.flushLoggedErrors() == []

    async def test_the_length_of_a_request(self) -> None:
        """Content that is announced to be so long is too large, and no port is that high."""
        home = await open_home(self)
        for digits in LENGTHS:
            head = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: %s\r\n\r\n" % (b"9" * digits)
            received = await home.raw(head)
            assert received.startswith(b"HTTP/1.1 413 "), digits
            head = b"GET /x HTTP/1.1\r\nHost: x:%s\r\n" % (b"9" * digits)
            received = await home.raw(head + b"Connection: close\r\n\r\n")
            assert received.startswith(b"HTTP/1.1 400 "), digits
        assert self.flushLoggedErrors() == []

    async def test_the_query_of_a_request(self) -> None:
        """GitHub judges what a page is; the mirror only has to pass it on."""
        home = await open_home(self)
        home.github.put("/user/repos", [])
        for digits in LENGTHS:
            for name in ("page", "per_page", "since"):
                got = await home.get(f"/user/repos?{name}={'9' * digits}", token="alice-1")
                assert got.status == 200, (name, digits)
        assert self.flushLoggedErrors() == []
