"""A small GitHub whose states are versions, each change of which is recorded at its instant."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from attrs import define, field, frozen

from tests.history.records import Exchange, History, State

Fields = dict[str, str]

#: What GitHub's `Vary` names; `Accept` and `Authorization` are part of the tag.
VARY: Final = "Accept, Authorization, Cookie, X-GitHub-OTP"
_QUOTA: Final = 1_000_000
_LONGEST_S: Final = 60.0
_MESSAGES: Final = {401: "Bad credentials", 403: "Must have admin rights to Repository."}
_PRIMARY: Final = "API rate limit exceeded for user ID 1."
_SECONDARY: Final = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
)


@define(eq=False)
class Fault:
    """What GitHub does with a part (*rate*) of the requests while the fault lasts.

    *kind*: a status (`503`), `hang`, `slow`, `reset`, `truncate`, `primary-limit` or
    `secondary-limit`.
    """

    kind: str
    rate: float = 1.0
    ended: asyncio.Event = field(factory=asyncio.Event)


@frozen
class Request:
    """A request that GitHub received."""

    method: str
    target: str
    fields: Fields
    content: bytes

    @property
    def credential(self) -> str:
        return self.fields.get("authorization", "").partition(" ")[2]

    @property
    def number(self) -> int:
        """The number of the client's request, which its `User-Agent` carries."""
        number = self.fields.get("user-agent", "").partition("/")[2].partition(" ")[0]
        return int(number) if number.isdigit() else 0


@define(eq=False)
class GitHub:
    """Listens on a port of its own. Every state and exchange is added to *history*."""

    history: History
    now: Callable[[], float]
    rng: random.Random
    #: Targets whose content names the user.
    own: frozenset[str] = frozenset()
    url: str = ""
    faults: list[Fault] = field(factory=list)
    #: The version of a target by its entity-tag.
    tags: dict[str, tuple[str, int]] = field(factory=dict)
    _versions: int = 0
    _reset_at: int = 0
    _server: Any = None
    _connections: set[asyncio.StreamWriter] = field(factory=set)

    # States.

    def change(self, target: str) -> int:
        """Set the content of a target; return its version."""
        self._versions += 1
        self.history.truth.set_version(target, self._versions, self.now())
        return self._versions

    def set_access(self, target: str, credential: str, status: int) -> None:
        """Grant access to a target (200), or refuse it with a status."""
        self.history.truth.set_access(target, credential, status, self.now())

    def add_credential(self, credential: str, login: str) -> None:
        """Issue a credential to a user."""
        self.history.truth.logins[credential] = login
        self.history.truth.set_valid(credential, True, self.now())

    def revoke(self, credential: str) -> None:
        """Revoke a credential."""
        self.history.truth.set_valid(credential, False, self.now())

    def content(self, target: str, version: int, credential: str) -> bytes:
        """Return the content of a version; large enough to be compressed."""
        viewer = self.history.truth.logins[credential] if target in self.own else None
        value = {
            "target": target,
            "version": version,
            "viewer": viewer,
            "url": self.url + target,
            "text": f"{target} {version} " * 60,
        }
        return json.dumps(value, separators=(",", ":")).encode()

    def _tag(self, request: Request, version: int, content: bytes) -> str:
        """Return the entity-tag by GitHub's rule, and note its version."""
        hashed = hashlib.sha256()
        for name in ("accept", "authorization"):
            if name in request.fields:
                hashed.update(request.fields[name].encode() + b":")
        hashed.update(content)
        self.tags[hashed.hexdigest()] = (request.target, version)
        return hashed.hexdigest()

    # Connections.

    async def open(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Stop to listen, and close all connections."""
        self._server.close()
        for writer in self._connections:
            writer.transport.abort()
        for fault in self.faults:
            fault.ended.set()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while (request := await _read(reader)) is not None:
                if not await self._respond(request, writer):
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._connections.discard(writer)
            writer.transport.abort()

    async def _respond(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Send a response; return whether the connection stays open."""
        received_at = self.now()
        fault = self._fault()
        kind = "" if fault is None else fault.kind
        if fault is not None and kind == "hang":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(fault.ended.wait(), _LONGEST_S)
            return False
        if kind == "reset":
            return False
        late = kind == "slow" and self.rng.random() < 0.5
        if late:
            await asyncio.sleep(self.rng.uniform(0.1, 1.0))
        status, version, fields, content = self._judge(request, kind)
        if kind == "slow" and not late:
            await asyncio.sleep(self.rng.uniform(0.1, 1.0))
        length = len(content)
        if status != 304:
            fields["Content-Length"] = str(length)
        if kind == "truncate" and length > 1 and request.method != "HEAD" and status == 200:
            content = content[: length // 2]
        whole = len(content) == length
        if request.method == "HEAD" or status == 304:
            content = b""
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        phrase = HTTPStatus(status).phrase
        writer.write(f"HTTP/1.1 {status} {phrase}\r\n{lines}\r\n".encode() + content)
        self.history.exchanges.append(
            Exchange(
                request=request.number,
                credential=request.credential,
                method=request.method,
                target=request.target,
                received_at=received_at,
                responded_at=self.now(),
                status=status,
                version=version,
                limited=kind.endswith("limit"),
            )
        )
        await writer.drain()
        return whole

    def _fault(self) -> Fault | None:
        for fault in self.faults:
            if self.rng.random() < fault.rate:
                return fault
        return None

    # Responses.

    def _judge(self, request: Request, kind: str) -> tuple[int, int | None, Fields, bytes]:
        """Return status, version, fields and content of the response, as the states are now."""
        fields = self._fields()
        if kind.isdigit():
            return int(kind), None, fields, _message(fields, "Server Error")
        if kind.endswith("limit"):
            return self._limited(kind, fields)
        truth, target, credential = self.history.truth, request.target, request.credential
        now = self.now()
        state: State = truth.state(credential, target, now)
        if state.version is None:
            text = _MESSAGES.get(state.status, "Not Found")
            return state.status, None, fields, _message(fields, text)
        version = state.version
        if request.method not in {"GET", "HEAD"}:
            version = self.change(target)
        content = self.content(target, version, credential)
        tag = self._tag(request, version, content)
        fields |= {
            "Content-Type": "application/json; charset=utf-8",
            "Cache-Control": "private, max-age=60, s-maxage=60",
            "Vary": VARY,
            "ETag": f'"{tag}"',
            "X-OAuth-Scopes": "repo",
            "X-GitHub-Media-Type": "github.v3; format=json",
        }
        if tag in request.fields.get("if-none-match", "") and request.method in {"GET", "HEAD"}:
            return 304, version, fields, b""
        return 200, version, fields, content

    def _fields(self) -> Fields:
        wall = int(time.time())
        if wall > self._reset_at:
            self._reset_at = wall + 3600
        return {
            "Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
            "Server": "github.com",
            "X-RateLimit-Limit": str(_QUOTA),
            "X-RateLimit-Remaining": str(_QUOTA - 1),
            "X-RateLimit-Used": "1",
            "X-RateLimit-Reset": str(self._reset_at),
            "X-RateLimit-Resource": "core",
        }

    def _limited(self, kind: str, fields: Fields) -> tuple[int, int | None, Fields, bytes]:
        if kind == "secondary-limit":
            fields["Retry-After"] = "1"
            return 403, None, fields, _message(fields, _SECONDARY)
        fields |= {
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Used": str(_QUOTA),
            "X-RateLimit-Reset": str(int(time.time()) + 2),
        }
        return 403, None, fields, _message(fields, _PRIMARY)


def _message(fields: Fields, text: str) -> bytes:
    fields["Content-Type"] = "application/json; charset=utf-8"
    return json.dumps({"message": text, "documentation_url": "https://docs.github.com"}).encode()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    """Return the next request of a connection; None at its end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = first.split(" ")
    pairs = (line.partition(":") for line in lines)
    fields = {name.lower(): value.strip() for name, _, value in pairs}
    content = b""
    if fields.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            content += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    elif "content-length" in fields:
        content = await reader.readexactly(int(fields["content-length"]))
    return Request(method, target, fields, content)
