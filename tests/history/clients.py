"""Clients that send one request after the other, and record when and what they received."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Callable
from typing import Any, Final

from attrs import define, field, frozen

from tests.history.records import Response

_MARKS: Final = re.compile(r"; hit(?:$|;).*?detail=(fresh|negative)")


@frozen
class Sent:
    """A request: its number among all, and its replica."""

    number: int
    replica: str
    method: str
    target: str
    credential: str


@define(eq=False)
class Client:
    """One client with a connection to each replica; *version_of* reads GitHub's entity-tags.

    It fails after *patience_s*.
    """

    now: Callable[[], float]
    version_of: Callable[[str, str], int]
    patience_s: float
    _open: dict[int, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(factory=dict)

    async def send(
        self,
        request: Sent,
        port: int,
        *,
        fields: dict[str, str] | None = None,
        content: bytes = b"",
    ) -> Response:
        """Send a request through a replica; return the result."""
        method, target, credential = request.method, request.target, request.credential
        lines = {
            "Host": f"127.0.0.1:{port}",
            "User-Agent": f"history/{request.number}",
            "Authorization": f"token {credential}",
            **(fields or {}),
        }
        if content:
            lines["Content-Length"] = str(len(content))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        sent = f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + content
        sent_at = self.now()
        received: dict[str, Any]
        try:
            status, got, body = await asyncio.wait_for(
                self._exchange(port, sent, method), self.patience_s
            )
            received = {"status": status, **self._meaning(target, status, got, body)}
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            received = {"status": None, "outcome": f"{type(error).__name__}: {error}"}
            self._drop(port)
        return Response(
            request.number,
            request.replica,
            credential,
            method,
            target,
            sent_at,
            self.now(),
            **received,
        )

    async def _exchange(
        self, port: int, sent: bytes, method: str
    ) -> tuple[int, dict[str, str], bytes]:
        kept = port in self._open
        try:
            return await self._exchange_once(port, sent, method)
        except (OSError, EOFError):
            # RFC 9112, section 9.3.1: a connection may close while it is idle
            self._drop(port)
            if not kept or method not in {"GET", "HEAD"}:
                raise
            return await self._exchange_once(port, sent, method)

    async def _exchange_once(
        self, port: int, sent: bytes, method: str
    ) -> tuple[int, dict[str, str], bytes]:
        if port in self._open and self._open[port][0].at_eof():
            self._drop(port)
        if port not in self._open:
            self._open[port] = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = self._open[port]
        writer.write(sent)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in head[1:-2])
        fields = {name.lower(): value.strip() for name, _, value in pairs}
        status, content = int(head[0].split()[1]), b""
        if method == "HEAD" or status in {204, 304}:
            pass
        elif fields.get("transfer-encoding") == "chunked":
            while size := int(await reader.readline(), 16):
                content += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        else:
            content = await reader.readexactly(int(fields.get("content-length", 0)))
        if fields.get("connection", "").lower() == "close":
            self._drop(port)
        if fields.get("content-encoding") == "gzip" and content:
            content = gzip.decompress(content)
        return status, fields, content

    def _meaning(
        self, target: str, status: int, fields: dict[str, str], content: bytes
    ) -> dict[str, Any]:
        """Return the values of a response, as arguments of `Response`."""
        about = fields.get("cache-status", "")
        marked = _MARKS.search(about)
        found: dict[str, Any] = {
            "outcome": about.removeprefix("ghmirror; "),
            "marked": "stale" if "x-from-cache" in fields else marked[1] if marked else "",
            "age": int(fields["age"]) if "age" in fields else None,
            "limited": status in {403, 429}
            and ("retry-after" in fields or fields.get("x-ratelimit-remaining") == "0"),
        }
        if status not in {200, 304}:
            return found
        tag = fields.get("etag")
        if tag is not None:
            found["tag"] = tag
            found["tagged"] = self.version_of(target, tag.removeprefix("W/").strip('"'))
        if content:
            value = json.loads(content)
            is_this = value.get("target") == target
            found["version"] = value["version"] if is_this else None
            found["viewer"] = value["viewer"]
        else:
            found["version"] = found.get("tagged") or None
        return found

    def _drop(self, port: int) -> None:
        if port in self._open:
            _, writer = self._open.pop(port)
            writer.transport.abort()

    def close(self) -> None:
        """Close all connections."""
        for port in list(self._open):
            self._drop(port)
