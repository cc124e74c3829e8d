"""Requests byte for byte as the sources of clients make them, and their parsed responses."""

from __future__ import annotations

import gzip
import json
from typing import Any

from attrs import frozen
from twisted.trial.unittest import TestCase

from tests.fakes.github import GitHub
from tests.harness.home import Home, open_github, open_home

GO = "Accept-Encoding: gzip\r\n"
#: What go-github adds to each request, and clients that use it.
GO_GITHUB = (
    "User-Agent: go-github/v66.0.0\r\n"
    "Accept: application/vnd.github.v3+json\r\n"
    "Authorization: Bearer alice-1\r\n"
    "X-Github-Api-Version: 2022-11-28\r\n"
)
VERSION = "3.17.0"


@frozen
class RawResponse:
    """A parsed response; names of fields are in lower case."""

    status: int
    fields: dict[str, str]
    content: bytes

    @property
    def plain(self) -> bytes:
        """The content without its coding."""
        packed = self.fields.get("content-encoding") == "gzip"
        return gzip.decompress(self.content) if packed else self.content

    @property
    def json(self) -> Any:
        """The content, parsed."""
        return json.loads(self.plain)

    @property
    def etag(self) -> str:
        """The entity-tag, which must be there."""
        return self.fields["etag"]

    @property
    def next(self) -> str:
        """The URL of `rel="next"`, or nothing."""
        links = [each.partition("; ") for each in self.fields.get("link", "").split(", ")]
        return "".join(url.strip("<>") for url, _, rel in links if rel == 'rel="next"')


def whole(content: bytes) -> bytes:
    """Return the content of a chunked message."""
    pieces = []
    while content:
        size, _, content = content.partition(b"\r\n")
        pieces.append(content[: int(size, 16)])
        content = content[int(size, 16) + 2 :]
    return b"".join(pieces)


class RawRequests(TestCase):
    """A mirror with a version of GitHub Enterprise Server, before a stand-in."""

    github: GitHub
    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.github = await open_github(self)
        self.github.put("/orgs/octo", {"id": 7, "login": "octo", "url": "x"})
        self.home = await open_home(self, self.github, server={"enterprise_version": VERSION})

    async def seen(
        self, start: str, fields: str, content: str = "", *, host: str = "mirror.test"
    ) -> RawResponse:
        """Send a request on a connection of its own, and return the response."""
        length = f"Content-Length: {len(content)}\r\n" if content else ""
        sent = f"{start} HTTP/1.1\r\nHost: {host}\r\n{fields}{length}Connection: close\r\n\r\n"
        got = await self.home.raw((sent + content).encode())
        head, _, rest = got.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        pairs = (line.partition(": ") for line in lines)
        named = {name.lower(): value for name, _, value in pairs}
        if named.get("transfer-encoding") == "chunked":
            rest = whole(rest)
        return RawResponse(int(status.split(" ")[1]), named, rest)
