"""Requests and responses of the stand-in, and content with its renderings."""

from __future__ import annotations

import gzip
import json
import re
import urllib.parse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import Factory, define, frozen

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from tests.fakes.github.connection import Connection
    from tests.fakes.github.faults import Gate
    from tests.fakes.github.users import Credential

JSON = "application/json; charset=utf-8"


VARY = "Accept, Authorization, Cookie, X-GitHub-OTP,Accept-Encoding, Accept, X-Requested-With"


OLD_VERSION, NEW_VERSION = "2022-11-28", "2026-03-10"


VERSIONS = (OLD_VERSION, NEW_VERSION)


ANONYMOUS = "anonymous"


DOCS = "https://docs.github.com/rest"


MEDIA_TYPE = re.compile(
    r"application/vnd\.github\.(?:v3\.|v4\.)?(?:[a-z]+-preview\.?)?([a-z0-9.-]+)?"
)


Fields: TypeAlias = Sequence[tuple[bytes, bytes]]


@frozen
class Exchange:
    """A request as received, and the status of its response (0: there was none)."""

    method: bytes
    target: bytes
    fields: Fields
    body: bytes
    """Its first 64 KiB."""
    status: int
    at: float
    """When the request was complete, in seconds of the reactor's clock."""
    login: str | None = None

    def field(self, name: bytes) -> bytes | None:
        """Return the value of a field by its case-insensitive name; repeated lines are joined."""
        values = [value for key, value in self.fields if key.lower() == name.lower()]
        return b", ".join(values) if values else None


def _indented(value: Any, newline: str) -> str:
    """Render a value as GitHub does for people; an empty array or object has an empty line."""
    if not isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    inner = newline + "  "
    if isinstance(value, dict):
        opening, closing = "{}"
        items = [
            f"{json.dumps(name, ensure_ascii=False)}: {_indented(each, inner)}"
            for name, each in value.items()
        ]
    else:
        opening, closing = "[]"
        items = [_indented(each, inner) for each in value]
    if not items:
        return f"{opening}\n{newline}{closing}"
    return f"{opening}{inner}{f',{inner}'.join(items)}{newline}{closing}"


@define(eq=False)
class Rendering:
    """Content, with its entity-tags and codings, which are computed once."""

    content: bytes
    is_json: bool
    tags: dict[tuple[bytes, bytes | None, bytes | None, bytes | None], bytes] = Factory(dict)
    views: dict[tuple[bool, bool], bytes] = Factory(dict)

    def view(self, *, pretty: bool, zipped: bool) -> bytes:
        """Return the content as sent."""
        if not pretty and not zipped:
            return self.content
        view = self.views.get((pretty, zipped))
        if view is None:
            view = self.content
            if pretty:
                view = _indented(json.loads(view), "\n").encode() + b"\n"
            if zipped:
                view = gzip.compress(view, 6, mtime=0)
            self.views[pretty, zipped] = view
        return view


@define(eq=False)
class Response:
    status: int
    rendering: Rendering | None = None
    content_type: str | None = JSON
    tagged: bool = False
    tag: bytes | None = None
    """A tag that does not cover the content; None: the one that follows from it."""
    last_modified: str | None = None
    link: str | None = None
    fields: Fields = ()
    vary: str | None = VARY
    cache_control: str | None = None
    free: bool = False
    bare: bool = False
    """No X-RateLimit fields: a server before GitHub's application has responded."""
    exhausted: bool = False
    """X-RateLimit-Remaining is 0, independent of the quota."""
    stream_bytes: int | None = None


@define(eq=False)
class Request:
    """A received request that waits for its response."""

    connection: Connection
    method: bytes
    target: bytes
    path: str
    query: str
    fields: list[tuple[bytes, bytes]]
    named: dict[bytes, bytes]
    close: bool
    body: bytearray = Factory(bytearray)
    body_bytes: int = 0
    digest: Any = None
    at: float = 0.0
    credential: Credential | None = None
    refused: bool = False
    call: IDelayedCall | None = None
    barrier: Gate | None = None
    status: int = 0
    begun: bool = False

    @property
    def login(self) -> str | None:
        return self.credential.user.login if self.credential else None

    @property
    def requester(self) -> str:
        return self.credential.token if self.credential else ANONYMOUS

    @property
    def accept(self) -> str:
        return self.named.get(b"accept", b"").decode("latin-1")

    @property
    def version(self) -> str:
        version = self.named.get(b"x-github-api-version")
        return OLD_VERSION if version is None else version.decode("latin-1")

    @property
    def parameters(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self.query, keep_blank_values=True))

    @property
    def reads(self) -> bool:
        return self.method in {b"GET", b"HEAD"}

    @property
    def is_preflight(self) -> bool:
        """Sent by a browser before a request of a page of another origin."""
        return self.method == b"OPTIONS" and b"access-control-request-method" in self.named

    def json(self) -> Any:
        """Return the parsed body; an empty body is an empty object."""
        return json.loads(bytes(self.body)) if self.body else {}

    def is_for(self, path: str | None) -> bool:
        return path is None or path in {self.path, self.target.decode("latin-1")}


def encode(value: Any, content_type: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str) and "json" not in content_type:
        return value.encode()
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def message_response(status: int, message: str, **more: Any) -> Response:
    value = {"message": message, "documentation_url": DOCS, "status": str(status)}
    rendering = Rendering(encode(value | more, JSON), is_json=True)
    return Response(status, rendering)


def needs_login() -> Response:
    return message_response(401, "Requires authentication")


def not_found() -> Response:
    return message_response(404, "Not Found")
