"""A stand-in for api.github.com: a real HTTP server with GitHub's rules, which counts its pay.

In a test, on the running reactor::

    github = GitHub()
    github.user("alice", tokens=["tok"])
    github.put("/repos/o/r/issues/1", {"number": 1})
    await github.listen()
    ...
    await github.close()

As a program of its own: ``python -m tests.fakes.github --port 0 --resources 1000 --users 10``
prints its URL, and takes the same calls as JSON under ``/_control/`` (see `GitHub._control`).
"""

from __future__ import annotations

import argparse
import base64
import binascii
import gzip
import hashlib
import json
import re
import sys
import urllib.parse
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias, cast

from attrs import Factory, define, field, fields, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IPullProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Factory as ProtocolFactory
from twisted.internet.protocol import Protocol as TwistedProtocol
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.python.failure import Failure

JSON = "application/json; charset=utf-8"
VARY = "Accept, Authorization, Cookie, X-GitHub-OTP,Accept-Encoding, Accept, X-Requested-With"
OLD_VERSION, NEW_VERSION = "2022-11-28", "2026-03-10"
VERSIONS = (OLD_VERSION, NEW_VERSION)
ANONYMOUS = "anonymous"
DOCS = "https://docs.github.com/rest"
BLOCK = bytes(range(256)) * 256
"""What ``/_stream/N`` repeats until it has sent N bytes."""

_MAX_HEAD_BYTES = 1 << 20
_MAX_BUFFERED_BYTES = 1 << 20
_KEPT_BODY_BYTES = 1 << 20
_LOGGED_BODY_BYTES = 1 << 16
_PRETTY = (b"curl", b"Wget", b"Safari", b"Firefox")
_MEMBER = re.compile(rb'(?:W/)?"([^"]*)"')
_MEDIA = re.compile(r"application/vnd\.github\.(?:v3\.|v4\.)?(?:[a-z]+-preview\.?)?([a-z0-9.-]+)?")
_BUCKETS = (
    (re.compile(r"/search/code$"), "code_search"),
    (re.compile(r"/search/"), "search"),
    (re.compile(r"/graphql$"), "graphql"),
    (re.compile(r"/app-manifests/[^/]+/conversions$"), "integration_manifest"),
    (re.compile(r"/repos/[^/]+/[^/]+/code-scanning/sarifs$"), "code_scanning_upload"),
    (re.compile(r"/.+/actions/runners/registration-token$"), "actions_runner_registration"),
    (re.compile(r"/scim/"), "scim"),
    (re.compile(r"/repos/[^/]+/[^/]+/dependency-graph/snapshots$"), "dependency_snapshots"),
    (re.compile(r"/(?:orgs|enterprises)/[^/]+/audit-log$"), "audit_log"),
)
_LIMITS = {
    "core": 5000,
    "search": 30,
    "code_search": 10,
    "graphql": 5000,
    "integration_manifest": 5000,
    "code_scanning_upload": 1000,
    "actions_runner_registration": 10000,
    "scim": 15000,
    "dependency_snapshots": 100,
    "audit_log": 1750,
}
_MINUTELY = frozenset({"search", "code_search", "dependency_snapshots"})
_ROLES = ("pull", "triage", "push", "maintain", "admin")
_STATIC = (
    b"Access-Control-Allow-Origin: *\r\n"
    b"Access-Control-Expose-Headers: ETag, Link, Location, Retry-After, X-GitHub-OTP, "
    b"X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Used, X-RateLimit-Resource, "
    b"X-RateLimit-Reset, X-OAuth-Scopes, X-Accepted-OAuth-Scopes, X-Poll-Interval, "
    b"X-GitHub-Media-Type, X-GitHub-SSO, X-GitHub-Request-Id, Deprecation, Sunset, Warning\r\n"
    b"Strict-Transport-Security: max-age=31536000; includeSubdomains; preload\r\n"
    b"X-Frame-Options: deny\r\n"
    b"X-Content-Type-Options: nosniff\r\n"
    b"X-XSS-Protection: 0\r\n"
    b"Referrer-Policy: origin-when-cross-origin, strict-origin-when-cross-origin\r\n"
    b"Content-Security-Policy: default-src 'none'\r\n"
)
_PREFLIGHT = (
    (b"Access-Control-Allow-Origin", b"*"),
    (
        b"Access-Control-Expose-Headers",
        re.search(rb"Expose-Headers: (.*)", _STATIC)[1].rstrip(),  # type: ignore[index]
    ),
    (
        b"Access-Control-Allow-Headers",
        (
            b"Authorization, Content-Type, If-Match, If-Modified-Since, If-None-Match, "
            b"If-Unmodified-Since, Accept-Encoding, X-GitHub-OTP, X-Requested-With, User-Agent, "
            b"GraphQL-Features, X-Github-Next-Global-ID, X-GitHub-Api-Version, X-Fetch-Nonce, "
            b"Copilot-Integration-Id, DD-CLIENT-TOKEN, X-Client-Application"
        ),
    ),
    (b"Access-Control-Allow-Methods", b"GET, POST, PATCH, PUT, DELETE"),
    (b"Access-Control-Max-Age", b"86400"),
)
_NO_USER_AGENT = (
    b"Request forbidden by administrative rules. Please make sure your request has a User-Agent "
    b"header (https://docs.github.com/en/rest/overview/resources-in-the-rest-api"
    b"#user-agent-required). Check https://developer.github.com for other possible causes.\n"
)
_SECONDARY = {
    "secondary": "You have exceeded a secondary rate limit. Please wait a few minutes before you "
    "try again. If you reach out to GitHub Support for help, please include the request ID.",
    "abuse": "You have triggered an abuse detection mechanism. Please wait a few minutes before "
    "you try again.",
    "creation": "You have exceeded a secondary rate limit and have been temporarily blocked from "
    "content creation. Please retry your request again later. If you reach out to GitHub Support "
    "for help, please include the request ID.",
    "login": "Maximum number of login attempts exceeded. Please try again later.",
    "none": "Forbidden",
}
_DOCS_OF_LIMITS = {
    "primary": "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api",
    "secondary": "https://docs.github.com/free-pro-team@latest/rest/overview/"
    "rate-limits-for-the-rest-api#about-secondary-rate-limits",
    "abuse": "https://docs.github.com/rest/overview/resources-in-the-rest-api#abuse-rate-limits",
}
_DOCS_OF_LIMITS["creation"] = _DOCS_OF_LIMITS["secondary"]

Fields: TypeAlias = Sequence[tuple[bytes, bytes]]
Logins: TypeAlias = Iterable[str] | None

CONTENT_FAULTS = frozenset(
    {"reset-in-content", "truncated", "bad-gzip", "idle-in-content", "no-etag"}
)
"""Faults of the content; preconditions are ignored, so that there is some."""
FAULTS = CONTENT_FAULTS | {
    *("500", "502", "503", "504", "timeout", "refuse", "reset", "malformed", "slow"),
    *("no-store", "huge-field", "primary-limit", "secondary-limit", "abuse-limit"),
    *("creation-limit", "login-limit", "unmetered-limit"),
}


@frozen
class Exchange:
    """A request as it came, and the status of the answer (0: none was given)."""

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
        """Give the value of a field, whatever the case of its name; repeated ones are joined."""
        values = [value for key, value in self.fields if key.lower() == name.lower()]
        return b", ".join(values) if values else None


@define(eq=False)
class User:
    """Who a credential belongs to."""

    login: str
    id: int
    scopes: str | None = "repo, user"
    limit: int = 5000

    @property
    def is_bot(self) -> bool:
        """An installation of an app, whose tokens are ``ghs_…``."""
        return self.login.endswith("[bot]")


@define(eq=False)
class _Credential:
    token: str
    user: User
    expires: str | None = None


@define(eq=False)
class Quota:
    """One bucket of one user or address."""

    resource: str
    limit: int
    used: int = 0
    reset: int = 0

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    def roll(self, now: float) -> None:
        """Begin a new window when the old one has ended."""
        if now >= self.reset:
            self.used = 0
            self.reset = int(now) + (60 if self.resource in _MINUTELY else 3600)


@define(eq=False)
class _Points:
    """Points spent in the last minute, in slots of a tenth of a second."""

    slots: deque[tuple[float, int]] = Factory(deque)
    total: int = 0

    def spend(self, now: float, points: int) -> int:
        slots = self.slots
        while slots and slots[0][0] <= now - 60:
            self.total -= slots.popleft()[1]
        if slots and now - slots[-1][0] < 0.1:
            start, before = slots[-1]
            slots[-1] = (start, before + points)
        else:
            slots.append((now, points))
        self.total += points
        return self.total


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
class _Rendering:
    """Content as GitHub made it, with what follows from it, computed once."""

    content: bytes
    is_json: bool
    tags: dict[tuple[bytes, bytes | None, bytes | None, bytes | None], bytes] = Factory(dict)
    views: dict[tuple[bool, bool], bytes] = Factory(dict)

    def view(self, *, pretty: bool, zipped: bool) -> bytes:
        """Give the content as sent."""
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
class _Answer:
    status: int
    rendering: _Rendering | None = None
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
    """No X-RateLimit fields: it comes from before GitHub's application."""
    exhausted: bool = False
    """X-RateLimit-Remaining says 0, whatever the quota is."""
    stream_bytes: int | None = None


@define(eq=False)
class _Question:
    """A request that has come and waits for its answer."""

    connection: _Connection
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
    credential: _Credential | None = None
    refused: bool = False
    call: IDelayedCall | None = None
    barrier: Gate | None = None
    status: int = 0
    begun: bool = False

    @property
    def login(self) -> str | None:
        return self.credential.user.login if self.credential else None

    @property
    def who(self) -> str:
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
        """Give the body's value; nothing is an empty object."""
        return json.loads(bytes(self.body)) if self.body else {}

    def is_for(self, path: str | None) -> bool:
        return path is None or path in {self.path, self.target.decode("latin-1")}


@define(eq=False)
class Fault:
    """Something that goes wrong, `times` times or until `end` is called."""

    path: str | None
    kind: str
    times: int | None
    delay_s: float
    size_bytes: int
    login: str | None
    _faults: list[Fault]
    seen: int = 0

    def end(self) -> None:
        """Let nothing go wrong any more."""
        if self in self._faults:
            self._faults.remove(self)


@define(eq=False)
class Gate:
    """Requests that wait until it opens."""

    path: str | None
    answer_first: bool
    _github: GitHub
    _waiting: list[tuple[_Question, Callable[[], None]]] = Factory(list)
    _watchers: list[tuple[int, Deferred[None]]] = Factory(list)

    @property
    def waiting(self) -> int:
        """How many requests wait now."""
        return len(self._waiting)

    def arrived(self, n: int = 1) -> Deferred[None]:
        """Fire when `n` requests are waiting."""
        done: Deferred[None] = Deferred()
        self._watchers.append((n, done))
        self._look()
        return done

    def release(self, n: int = 1) -> None:
        """Let the first `n` requests go on, and keep the others and the later ones."""
        for _ in range(min(n, len(self._waiting))):
            question, go_on = self._waiting.pop(0)
            question.barrier = None
            go_on()

    def open(self) -> None:
        """Let all go on, and hold no others."""
        if self in self._github._gates:
            self._github._gates.remove(self)
        self.release(len(self._waiting))

    def _wait(self, question: _Question, go_on: Callable[[], None]) -> None:
        question.barrier = self
        self._waiting.append((question, go_on))
        self._look()

    def _leave(self, question: _Question) -> None:
        self._waiting = [waiting for waiting in self._waiting if waiting[0] is not question]

    def _look(self) -> None:
        watchers, self._watchers = self._watchers, []
        for n, done in watchers:
            if done.called:
                continue
            if len(self._waiting) >= n:
                done.callback(None)
            else:
                self._watchers.append((n, done))


class _Resource(Protocol):
    """Something that has a path."""

    @property
    def private_to(self) -> frozenset[str] | None: ...

    def read(self, github: GitHub, question: _Question) -> _Answer: ...

    def write(self, github: GitHub, question: _Question) -> _Answer: ...


def _encode(value: Any, content_type: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str) and "json" not in content_type:
        return value.encode()
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _lower(logins: Logins) -> frozenset[str] | None:
    return None if logins is None else frozenset(login.lower() for login in logins)


def _pairs(extra: Mapping[str, str] | None) -> Fields:
    return [(k.encode("latin-1"), v.encode("latin-1")) for k, v in (extra or {}).items()]


def _message(status: int, message: str, **more: Any) -> _Answer:
    value = {"message": message, "documentation_url": DOCS, "status": str(status)}
    rendering = _Rendering(_encode(value | more, JSON), is_json=True)
    return _Answer(status, rendering)


def _needs_login() -> _Answer:
    return _message(401, "Requires authentication")


def _not_found() -> _Answer:
    return _message(404, "Not Found")


@define(eq=False)
class _Thing:
    """A single resource."""

    path: str
    content: Any
    content_type: str = JSON
    private_to: frozenset[str] | None = None
    last_modified: str | None = None
    etag: bool | str = True
    fields: Fields = ()
    vary: str | None = VARY
    cache_control: str | None = None
    variants: Mapping[str, Any] = Factory(dict)
    versions: Mapping[str, Any] = Factory(dict)
    status: int = 200
    rendered: dict[str, _Rendering] = Factory(dict)

    def read(self, github: GitHub, question: _Question) -> _Answer:
        content, content_type, name = self.content, self.content_type, ""
        if self.variants:
            media = _MEDIA.search(question.accept)
            name = (media and media[1]) or ""
            if name in self.variants:
                content = self.variants[name]
                if isinstance(content, bytes | str):
                    content_type = f"application/vnd.github.{name}; charset=utf-8"
        if question.version in self.versions and name not in self.variants:
            name = question.version
            content = self.versions[name]
        if callable(content):
            rendering = github._render(content(question.login, question.accept), content_type)
        else:
            found = self.rendered.get(name)
            if found is None:
                found = github._rendering(_encode(content, content_type), content_type)
                self.rendered[name] = found
            rendering = found
        return _Answer(
            self.status,
            rendering,
            content_type,
            tagged=bool(self.etag),
            tag=self.etag.encode() if isinstance(self.etag, str) else None,
            last_modified=self.last_modified,
            fields=self.fields,
            vary=self.vary,
            cache_control=self.cache_control,
        )

    def write(self, github: GitHub, question: _Question) -> _Answer:
        if question.method == b"DELETE":
            github.delete(self.path)
            return _Answer(204, None, None)
        if question.method == b"POST":
            return _Answer(201, github._render(question.json(), JSON), tagged=True)
        if question.method == b"PATCH" and isinstance(self.content, dict):
            self.content = self.content | question.json()
        elif question.method == b"PUT":
            self.content = question.json()
        self.rendered.clear()
        return self.read(github, question)


@define(eq=False)
class _List:
    """A paginated list."""

    path: str
    items: Any
    private_to: frozenset[str] | None = None
    links: bool = True
    cursor: bool = False
    wrap: str | None = None
    extra: Mapping[str, Any] = Factory(dict)
    link_path: str | None = None
    fields: Fields = ()
    vary: str | None = VARY
    last_modified: str | None = None
    takes_page: bool = True
    pages: dict[tuple[int, int], _Rendering] = Factory(dict)

    def read(self, github: GitHub, question: _Question) -> _Answer:
        items = self.items
        per_user = callable(items)
        if per_user:
            items = items(question.login)
        parameters = question.parameters if question.query else {}
        if not self.takes_page and "page" in parameters:
            return _message(400, "Pagination using the `page` parameter is not supported.")
        per_page = _number(parameters.get("per_page"), 30)
        per_page = min(per_page or 30, 100)
        if self.cursor:
            start, end, link = self._by_cursor(github, question, parameters, len(items), per_page)
        else:
            start, end, link = self._by_number(github, question, parameters, len(items), per_page)
        rendering = None if per_user else self.pages.get((start, end))
        if rendering is None:
            page = items[start:end]
            value = page
            if self.wrap is not None:
                value = {"total_count": len(items), **self.extra, self.wrap: page}
            rendering = github._render(value, JSON)
            if not per_user:
                self.pages[start, end] = rendering
        return _Answer(
            200,
            rendering,
            tagged=True,
            link=link if self.links else None,
            fields=self.fields,
            vary=self.vary,
            last_modified=self.last_modified,
        )

    def _by_number(
        self,
        github: GitHub,
        question: _Question,
        parameters: dict[str, str],
        total: int,
        per_page: int,
    ) -> tuple[int, int, str | None]:
        page = _number(parameters.get("page"), 1) or 1
        last = max(1, -(-total // per_page))
        pages = {}
        if page > 1:
            pages["prev"] = min(page - 1, last)
        if page < last:
            pages["next"] = page + 1
        if page != last:
            pages["last"] = last
        if page > 1:
            pages["first"] = 1
        start = (page - 1) * per_page
        links = {rel: {"page": str(number)} for rel, number in pages.items()}
        return start, start + per_page, self._link(github, question, links)

    def _by_cursor(
        self,
        github: GitHub,
        question: _Question,
        parameters: dict[str, str],
        total: int,
        per_page: int,
    ) -> tuple[int, int, str | None]:
        start = 0
        if "after" in parameters:
            start = _position(parameters["after"]) + 1
        elif "before" in parameters:
            start = max(0, _position(parameters["before"]) - per_page)
        end = min(start + per_page, total)
        links = {}
        if end < total:
            links["next"] = {"after": _cursor(end - 1)}
        if start > 0:
            links["prev"] = {"before": _cursor(start)}
        return start, max(start, end), self._link(github, question, links)

    def _link(
        self, github: GitHub, question: _Question, links: dict[str, dict[str, str]]
    ) -> str | None:
        if not links:
            return None
        parts = []
        kept = urllib.parse.parse_qsl(question.query, keep_blank_values=True)
        url = github.api_url + (self.link_path or question.path)
        for rel, changed in links.items():
            drop = {"after", "before"} if self.cursor else set()
            query = [(k, changed.pop(k, v)) for k, v in kept if k not in drop]
            query += changed.items()
            parts.append(f'<{url}?{urllib.parse.urlencode(query)}>; rel="{rel}"')
        return ", ".join(parts)

    def write(self, github: GitHub, question: _Question) -> _Answer:
        if question.method != b"POST" or callable(self.items):
            return _not_found()
        item = question.json()
        if isinstance(item, dict):
            item = {"id": len(self.items) + 1} | item
        self.items = [*self.items, item]
        self.pages.clear()
        where = f"{github.api_url}{question.path}/{len(self.items)}".encode()
        return _Answer(201, github._render(item, JSON), tagged=True, fields=[(b"Location", where)])


def _is_under(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix + "/")


def _number(text: str | None, default: int) -> int:
    try:
        return max(0, int(text or default))
    except ValueError:
        return default


def _cursor(position: int) -> str:
    return base64.urlsafe_b64encode(b"cursor:%d" % position).decode()


def _position(cursor: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(cursor).removeprefix(b"cursor:"))
    except (ValueError, binascii.Error):
        return -1


@define(eq=False)
class _Redirect:
    location: str
    status: int
    private_to: frozenset[str] | None = None

    def read(self, github: GitHub, question: _Question) -> _Answer:
        location = self.location
        if location.startswith("/"):
            location = github.api_url + location
        answer = _Answer(self.status, None, "text/html;charset=utf-8")
        answer.fields = [(b"Location", location.encode("latin-1"))]
        return answer

    write = read


@define(eq=False)
class _YesNo:
    yes: set[str]
    private_to: frozenset[str] | None = None

    def read(self, github: GitHub, question: _Question) -> _Answer:
        if "*" in self.yes or (question.login or "").lower() in self.yes:
            return _Answer(204, None, None)
        return _not_found()

    def write(self, github: GitHub, question: _Question) -> _Answer:
        login = (question.login or "").lower()
        if question.method == b"PUT":
            self.yes.add(login)
        elif question.method == b"DELETE":
            self.yes -= {login, "*"}
        return _Answer(204, None, None)


@define(eq=False)
class _Statistics:
    thing: _Thing
    computing: int
    private_to: frozenset[str] | None = None

    def read(self, github: GitHub, question: _Question) -> _Answer:
        if self.computing > 0:
            self.computing -= 1
            return _Answer(202, github._render({}, JSON))
        return self.thing.read(github, question)

    def write(self, github: GitHub, question: _Question) -> _Answer:
        return _not_found()


@define(eq=False)
class GitHub:
    """GitHub's API, on a socket of its own.

    What can be given to the constructor is a switch: it can be set at any time, and under
    ``/_control/switches``.
    """

    tag_rule: Literal["observed", "other"] = "observed"
    """``observed``: the tag can be computed from content and credential; ``other``: it cannot."""
    honours_lists: bool = True
    """Whether an If-None-Match of several members can match."""
    honours_conditions: bool = True
    """Whether anything answers 304."""
    tag_in_304: bool | str = True
    """Whether a 304 has a tag; as text: its hex, in place of the one that was asked for."""
    status_field: bool = False
    """Whether each answer has a ``Status`` field, as those of Enterprise servers have."""
    content_type_in_304: bool = False
    gzip: bool = True
    """Whether textual content is compressed for those who accept it; its tag is weak then."""
    chunked: bool = False
    """Whether content is sent in chunks instead of with a Content-Length."""
    delay_s: float = 0.0
    """How long each request waits before it is looked at."""
    limit_status: int = 403
    """The status when the primary limit is reached: 403 or 429."""
    free_when_exhausted: bool = False
    """Whether what costs nothing is answered beyond the primary limit."""
    anonymous_limit: int = 60
    resets_at: int | None = None
    """When all quotas are full again, in seconds of the clock; None: each by its own window."""
    secondary_limit_in_flight: int | None = None
    """Requests of one credential at once; beyond, the secondary limit answers."""
    secondary_points_per_minute: int | None = None
    secondary_graphql_points_per_minute: int | None = None
    secondary_status: int = 403
    secondary_retry_after_s: int | None = 60
    secondary_message: Literal["secondary", "abuse", "none"] = "secondary"
    tells_quota: bool = True
    """Whether answers have the fields of the quota, as limited ones do not always."""
    deprecation: Literal["asked", "always", "never"] = "asked"
    """Which answers in the old version say that it ends: where it was asked for by name, or all."""

    api_url: str = field(default="", init=False)
    users: dict[str, User] = field(factory=dict, init=False)
    paid: Counter[tuple[str, str]] = field(factory=Counter, init=False)
    """(login or ``anonymous``, target): requests that were charged."""
    free: Counter[tuple[str, str]] = field(factory=Counter, init=False)
    """(login or ``anonymous``, target): requests that were answered without a charge."""
    limited: Counter[str] = field(factory=Counter, init=False)
    """login or ``anonymous``: answers that a primary or secondary limit gave."""
    in_flight: Counter[str] = field(factory=Counter, init=False)
    most_in_flight: Counter[str] = field(factory=Counter, init=False)
    """token or ``anonymous``: the most requests that were in flight at once."""
    most_points_in_minute: Counter[tuple[str, str]] = field(factory=Counter, init=False)
    """(token or ``anonymous``, ``rest`` or ``graphql``): points of the worst minute."""
    mutations: list[tuple[str, str]] = field(factory=list, init=False)
    """(login, query) of GraphQL mutations."""
    graphql: Callable[[str, str, Any], Any] | None = field(default=None, init=False)
    """(login, query, variables) -> data of an answer, or None: the built-in one."""
    log: deque[Exchange] = field(factory=lambda: deque(maxlen=100_000), init=False)
    """Exchanges in the order in which they ended."""
    checks: list[bytes | None] = field(factory=list, init=False)
    """The credentials that mirrors have checked; those that are accepted are not logged."""
    connections_made: int = field(default=0, init=False)

    _credentials: dict[str, _Credential] = field(factory=dict, init=False)
    _known: dict[bytes, _Credential | None] = field(factory=dict, init=False)
    _resources: dict[str, _Resource] = field(factory=dict, init=False)
    _written: dict[tuple[bytes, str], _Thing] = field(factory=dict, init=False)
    _renames: dict[str, str] = field(factory=dict, init=False)
    _aliases: dict[str, str] = field(factory=dict, init=False)
    _private: dict[str, frozenset[str]] = field(factory=dict, init=False)
    _repositories: dict[str, tuple[dict[str, str], bool]] = field(factory=dict, init=False)
    _quotas: dict[tuple[str, str], Quota] = field(factory=dict, init=False)
    _points: dict[tuple[str, str], _Points] = field(factory=dict, init=False)
    _buckets: dict[str, str] = field(factory=dict, init=False)
    _varies: dict[str, tuple[bool, bool, bool]] = field(factory=dict, init=False)
    _interned: dict[tuple[bytes, bool], _Rendering] = field(factory=dict, init=False)
    _faults: list[Fault] = field(factory=list, init=False)
    _gates: list[Gate] = field(factory=list, init=False)
    _connections: set[_Connection] = field(factory=set, init=False)
    _emptied: list[Deferred[None]] = field(factory=list, init=False)
    _port: IListeningPort | None = field(default=None, init=False)
    _where: tuple[int, str] = field(default=(0, "127.0.0.1"), init=False)
    _tls: Any = field(default=None, init=False)
    _clock: IReactorTime = field(default=cast("IReactorTime", None), init=False)
    _asked: int = field(default=0, init=False)
    _date: tuple[int, bytes] = field(default=(0, b""), init=False)
    _salt: bytes = field(default=b"what nobody can guess", init=False)

    def __attrs_post_init__(self) -> None:
        self.put("/", lambda _login, _accept: self._root())
        self.put("/user", lambda login, _accept: self._user(self.users[login or ""]))
        self.put("/zen", "Keep it logically awesome.", content_type="text/plain;charset=utf-8")
        self.put("/meta", self._meta())
        self.put_list("/user/repos", self._repositories_of)

    # -- serving

    async def listen(
        self, port: int = 0, *, interface: str = "127.0.0.1", context_factory: Any = None
    ) -> str:
        """Serve on a port (0: a free one), with TLS if a context factory is given; give the URL."""
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        world = cast("Any", reactor)
        self._clock = world
        self._tls = context_factory
        factory = _Connections(self)
        if context_factory is None:
            listening = world.listenTCP(port, factory, backlog=1024, interface=interface)
        else:
            listening = world.listenSSL(
                port, factory, context_factory, backlog=1024, interface=interface
            )
        self._port = listening
        number = listening.getHost().port
        self._where = (number, interface)
        self.api_url = f"http{'' if context_factory is None else 's'}://{interface}:{number}"
        return self.api_url

    async def close(self) -> None:
        """Stop, break what is open, and return when all of it is gone; may be called twice."""
        if self._port is not None:
            port, self._port = self._port, None
            await cast("Deferred[None]", port.stopListening())
        for barrier in list(self._gates):
            self._gates.remove(barrier)
        for connection in list(self._connections):
            connection.abort()
        if self._connections:
            gone: Deferred[None] = Deferred()
            self._emptied.append(gone)
            await gone

    async def go_away(self) -> None:
        """Refuse connections, and break those that are open."""
        await self.close()

    async def come_back(self) -> None:
        """Listen again where it did before."""
        port, interface = self._where
        await self.listen(port, interface=interface, context_factory=self._tls)

    # -- who asks

    def user(
        self,
        login: str,
        tokens: Iterable[str] = (),
        *,
        scopes: str | None = "repo, user",
        limit: int = 5000,
    ) -> User:
        """Make a user, or an installation when the login ends in ``[bot]``."""
        user = self.users.get(login)
        if user is None:
            user = self.users[login] = User(login, len(self.users) + 1)
            self.put(f"/users/{login}", lambda _login, _accept: self._user(user))
        user.scopes, user.limit = scopes, limit
        for (who, resource), quota in self._quotas.items():
            if who == login and resource == "core":
                quota.limit = limit
        for token in tokens:
            self.token(token, login)
        return user

    def token(self, token: str, login: str, *, expires: str | None = None) -> None:
        """Give a user one more token."""
        user = self.users.get(login) or self.user(login)
        self._credentials[token] = _Credential(token, user, expires)
        self._known.clear()

    def revoke(self, token: str) -> None:
        """Answer 401 to a token from now on."""
        self._credentials.pop(token, None)
        self._known.clear()

    def quota(self, login: str, resource: str = "core") -> Quota:
        """Give the bucket of a user, or of an address."""
        quota = self._quotas.get((login, resource))
        if quota is None:
            limit = _LIMITS[resource]
            if login not in self.users:
                limit = self.anonymous_limit if resource in {"core", "graphql"} else limit
            elif resource == "core":
                limit = self.users[login].limit
            quota = self._quotas[login, resource] = Quota(resource, limit)
        quota.roll(self._now())
        if self.resets_at is not None:
            quota.reset = self.resets_at
        return quota

    def set_quota(
        self,
        login: str,
        *,
        remaining: int,
        resource: str = "core",
        reset_in_s: float | None = None,
    ) -> None:
        """Say what is left of a bucket, and when it fills again."""
        quota = self.quota(login, resource)
        quota.used = quota.limit - remaining
        if reset_in_s is not None:
            quota.reset = int(self._now() + reset_in_s)

    # -- what there is

    def put(
        self,
        path: str,
        content: Any,
        *,
        private_to: Logins = None,
        content_type: str = JSON,
        last_modified: str | None = None,
        etag: bool | str = True,
        variants: Mapping[str, Any] | None = None,
        versions: Mapping[str, Any] | None = None,
        fields: Mapping[str, str] | None = None,
        vary: str | None = VARY,
        cache_control: str | None = None,
        method: str | None = None,
        status: int = 200,
    ) -> None:
        """Put or replace a resource; a path with a query answers that query only.

        Content is bytes, a JSON value, text where the content type is not JSON's, or a callable
        (login or None, Accept) that gives one. `variants` are contents by media type (``raw``,
        ``diff``, ``star+json`` as ``star``), `versions` by API version. With a `method` other than
        GET it is the answer to that method, with `status`. `etag` as text is the hex of a tag
        that stays as it is, whatever the content.
        """
        thing = _Thing(
            path,
            content,
            content_type,
            _lower(private_to),
            last_modified,
            etag,
            _pairs(fields),
            vary,
            cache_control,
            variants or {},
            versions or {},
            status,
        )
        if method is None or method == "GET":
            self._resources[path] = thing
        else:
            self._written[method.encode(), path] = thing

    def put_list(
        self,
        path: str,
        items: Any,
        *,
        private_to: Logins = None,
        links: bool = True,
        cursor: bool = False,
        wrap: str | None = None,
        link_path: str | None = None,
        fields: Mapping[str, str] | None = None,
        vary: str | None = VARY,
        last_modified: str | None = None,
        takes_page: bool = True,
    ) -> None:
        """Put or replace a paginated list; items are a list or a callable (login or None) -> list.

        `wrap` names the member of an object with ``total_count`` that holds the items;
        `link_path` is what Link points to instead of the path asked for. With `cursor`, Link names
        pages by ``after`` and ``before``. Without `takes_page` a request with ``page`` gets a 400,
        as Dependabot's lists do. A longer list in its place leaves full pages as they are.
        """
        self._resources[path] = _List(
            path,
            items,
            _lower(private_to),
            links,
            cursor,
            wrap,
            {},
            link_path,
            _pairs(fields),
            vary,
            last_modified,
            takes_page,
        )

    def put_search(self, path: str, items: Any, *, private_to: Logins = None) -> None:
        """Put the result of a search: an object with ``total_count`` and paginated ``items``."""
        extra = {"incomplete_results": False}
        self._resources[path] = _List(path, items, _lower(private_to), wrap="items", extra=extra)

    def delete(self, path: str) -> None:
        """Answer 404 from now on."""
        self._resources.pop(path, None)

    def private(self, prefix: str, logins: Logins) -> None:
        """Hide everything at and under a path from all but these logins (None: from nobody)."""
        shown = _lower(logins)
        if shown is None:
            self._private.pop(prefix, None)
        else:
            self._private[prefix] = shown

    def repository(
        self, name: str, permissions: Mapping[str, str] | None = None, *, private: bool = False
    ) -> None:
        """Make ``/repos/OWNER/NAME`` with the asker's permissions.

        `permissions` are roles by login: pull, triage, push, maintain or admin.
        """
        roles = {login.lower(): role for login, role in (permissions or {}).items()}
        self._repositories[name] = (roles, private)
        self.put(
            f"/repos/{name}",
            lambda login, _accept: self._repository(name, login),
            private_to=roles if private else None,
        )

    def rename(self, old: str, new: str) -> None:
        """Redirect `old` and all under it to `new`, where everything that was there now answers."""
        self._renames[old] = new
        self._aliases[new] = old

    def alias(self, path: str, same_as: str) -> None:
        """Answer under `path` what there is under `same_as`, too."""
        self._aliases[path] = same_as

    def redirect(
        self, path: str, location: str, status: int = 302, *, private_to: Logins = None
    ) -> None:
        """Redirect a path, such as a download, to a URL; a path is made absolute on `api_url`."""
        self._resources[path] = _Redirect(location, status, _lower(private_to))

    def yes_no(self, path: str, logins: Logins = None) -> None:
        """Answer 204 to these logins (None: to everybody), 404 to others, never with a tag."""
        shown = _lower(logins)
        self._resources[path] = _YesNo({"*"} if shown is None else set(shown))

    def statistics(self, path: str, content: Any, computing: int = 1) -> None:
        """Answer 202 to the first `computing` questions, the content to later ones."""
        self._resources[path] = _Statistics(_Thing(path, content), computing)

    # -- what goes wrong or takes its time

    def fault(
        self,
        path: str | None,
        kind: str | int,
        times: int | None = None,
        *,
        delay_s: float = 1.0,
        size_bytes: int = 300_000,
        login: str | None = None,
    ) -> Fault:
        """Let requests to a path (None: all) by a login (None: all) go wrong as `FAULTS` says.

        500, 502, 503, 504: that status. ``timeout``: no answer ever. ``refuse``: closed without an
        answer. ``reset``: reset without an answer. ``reset-in-content``, ``truncated`` (closed),
        ``idle-in-content``: half of the content. ``malformed``: no HTTP. ``bad-gzip``: content that
        does not decompress. ``slow``: `delay_s` later. ``no-etag``, ``no-store``: what they say.
        ``huge-field``: a field of `size_bytes`. ``primary-limit``, ``secondary-limit``,
        ``abuse-limit``: limited, whatever was counted. ``creation-limit``: so, what creates content
        (other requests are answered). ``login-limit``: too many attempts to log in, without a hint.
        ``unmetered-limit``: the words of a primary limit, with plenty left. For refused connections
        see `go_away`.
        """
        name = str(kind).replace(" ", "-")
        if name not in FAULTS:
            raise ValueError(f"no such fault: {kind!r}; there are {sorted(FAULTS)}")
        fault = Fault(path, name, times, delay_s, size_bytes, login, self._faults)
        self._faults.append(fault)
        return fault

    def clear_faults(self) -> None:
        """Let nothing go wrong any more."""
        self._faults.clear()

    def hold(self, path: str | None = None, *, answer_first: bool = False) -> Gate:
        """Let requests to a path (None: all) wait until the gate opens.

        They are answered as things are then, or, with `answer_first`, as they were on arrival.
        """
        barrier = Gate(path, answer_first, self)
        self._gates.append(barrier)
        return barrier

    # -- what was asked

    @property
    def total_paid(self) -> int:
        return self.paid.total()

    @property
    def total_free(self) -> int:
        return self.free.total()

    def reset_counts(self) -> None:
        """Forget what was counted and logged; quotas stay as they are."""
        for counter in (self.paid, self.free, self.limited, self.most_in_flight):
            cast("Counter[Any]", counter).clear()
        self.most_points_in_minute.clear()
        self._points.clear()
        self.log.clear()
        self.mutations.clear()
        self.checks.clear()
        self.connections_made = 0

    def exchanges(self, path: str | None = None) -> list[Exchange]:
        """Give the logged exchanges of a path without or with its query (None: all)."""
        if path is None:
            return list(self.log)
        wanted = path.encode("latin-1")
        return [e for e in self.log if wanted in {e.target, e.target.partition(b"?")[0]}]

    def tag(
        self,
        content: Any,
        *,
        accept: bytes | None = None,
        authorization: bytes | None = None,
        cookie: bytes | None = None,
    ) -> bytes:
        """Compute the strong entity-tag by the observed rule, for a response with GitHub's Vary."""
        digest = hashlib.sha256()
        for value in (accept, authorization, cookie):
            if value is not None:
                digest.update(value + b":")
        digest.update(_encode(content, JSON))
        return b'"%b"' % digest.hexdigest().encode()

    # -- the way of a request

    def _now(self) -> float:
        if cast("IReactorTime | None", self._clock) is None:
            return datetime.now(UTC).timestamp()
        return self._clock.seconds()

    def _begin(self, question: _Question) -> None:
        if question.path.startswith("/_control/"):
            self._send(question, self._controlled(question), None)
            return
        question.at = now = self._clock.seconds()
        question.begun = True
        authorization = question.named.get(b"authorization")
        if authorization is not None:
            question.credential = self._credential(authorization)
            question.refused = question.credential is None
        if question.path == "/rate_limit" and question.named.get(b"user-agent") == b"ghmirror":
            # The mirror's own check of a credential: one that is accepted is logged apart.
            self.checks.append(authorization)
            gated = any(each.path == "/rate_limit" for each in self._gates)
            if not question.refused and not gated:
                question.begun = False
                self._send(question, self._answer(question), None)
                return
        who = question.who
        in_flight = self.in_flight[who] = self.in_flight[who] + 1
        self.most_in_flight[who] = max(self.most_in_flight[who], in_flight)
        kind = "graphql" if question.path == "/graphql" else "rest"
        points = self._points.get((who, kind))
        if points is None:
            points = self._points[who, kind] = _Points()
        spent = points.spend(now, 1 if question.reads or kind == "graphql" else 5)
        most = self.most_points_in_minute
        most[who, kind] = max(most[who, kind], spent)
        if self.delay_s:
            question.call = self._clock.callLater(self.delay_s, self._arrive, question)
        else:
            self._arrive(question)

    def _arrive(self, question: _Question) -> None:
        question.call = None
        for barrier in self._gates:
            if question.is_for(barrier.path):
                if barrier.answer_first:
                    answer = self._decide(question, None)
                    barrier._wait(question, partial(self._send, question, answer, None))
                else:
                    barrier._wait(question, partial(self._respond, question))
                return
        self._respond(question)

    def _respond(self, question: _Question) -> None:
        question.call = None
        fault = self._fault(question) if self._faults else None
        if fault is None:
            self._send(question, self._decide(question, None), None)
        elif fault.kind == "timeout":
            pass
        elif fault.kind == "refuse":
            question.connection.lose()
        elif fault.kind == "reset":
            question.connection.abort()
        elif fault.kind == "malformed":
            question.connection.write(b"HTP/one.one banana split\r\n\r\n")
            question.connection.lose()
        elif fault.kind == "slow":
            question.call = self._clock.callLater(
                fault.delay_s, lambda: self._send(question, self._decide(question, None), None)
            )
        else:
            self._send(question, self._decide(question, fault), fault)

    def _fault(self, question: _Question) -> Fault | None:
        for fault in self._faults:
            if question.is_for(fault.path) and fault.login in {None, question.login}:
                fault.seen += 1
                if fault.times is not None and fault.seen >= fault.times:
                    self._faults.remove(fault)
                return fault
        return None

    def _decide(self, question: _Question, fault: Fault | None) -> _Answer:
        if fault is not None and fault.kind.isdigit():
            answer = _message(int(fault.kind), "Server Error")
            answer.bare = answer.free = True
            return answer
        if question.is_preflight:
            return _Answer(
                204,
                None,
                None,
                fields=_PREFLIGHT,
                vary=None,
                cache_control="",
                free=True,
                bare=True,
            )
        if b"user-agent" not in question.named:
            rendering = _Rendering(_NO_USER_AGENT, is_json=False)
            return _Answer(403, rendering, "text/html; charset=utf-8", bare=True, free=True)
        quota = self._quota_of(question)
        login = question.login or ANONYMOUS
        limited = self._limited(question, quota, fault)
        if limited is not None and not limited.exhausted:
            self.limited[login] += 1
            return limited
        if limited is not None and not (
            self.free_when_exhausted and question.reads and fault is None
        ):
            self.limited[login] += 1
            return limited
        answer = self._answer(question)
        kind = fault.kind if fault is not None else ""
        if kind == "no-etag":
            answer.tagged, answer.last_modified = False, None
        elif kind == "no-store":
            answer.cache_control = "no-store"
        if kind not in CONTENT_FAULTS:
            answer = self._unless_unchanged(question, answer)
        target = question.target.decode("latin-1")
        free = answer.free or (answer.status == 304 and question.credential is not None)
        if free:
            self.free[login, target] += 1
            return answer
        if limited is not None:
            self.limited[login] += 1
            return limited
        quota.used += 1
        self.paid[login, target] += 1
        return answer

    def _quota_of(self, question: _Question) -> Quota:
        bucket = self._buckets.get(question.path)
        if bucket is None:
            bucket = next((name for shape, name in _BUCKETS if shape.match(question.path)), "core")
            if len(self._buckets) > 100_000:
                self._buckets.clear()
            self._buckets[question.path] = bucket
        return self.quota(question.login or question.connection.address, bucket)

    def _limited(self, question: _Question, quota: Quota, fault: Fault | None) -> _Answer | None:
        who = question.who
        kind = "graphql" if question.path == "/graphql" else "rest"
        budget = self.secondary_points_per_minute
        if kind == "graphql":
            budget = self.secondary_graphql_points_per_minute
        points = self._points.get((who, kind))
        most = self.secondary_limit_in_flight
        fault_kind = fault.kind if fault is not None else ""
        if (
            fault_kind in {"secondary-limit", "abuse-limit", "login-limit"}
            or (fault_kind == "creation-limit" and question.method in {b"POST", b"PUT", b"PATCH"})
            or (most is not None and self.in_flight[who] > most)
            or (budget is not None and points is not None and points.total > budget)
        ):
            text = fault_kind.partition("-")[0]
            text = text if text in {"abuse", "creation", "login"} else self.secondary_message
            url = _DOCS_OF_LIMITS.get(text, DOCS)
            answer = _message(self.secondary_status, _SECONDARY[text], documentation_url=url)
            if self.secondary_retry_after_s is not None and text != "login":
                answer.fields = [(b"Retry-After", b"%d" % self.secondary_retry_after_s)]
            return answer
        is_free = question.path == "/rate_limit"
        if fault_kind == "unmetered-limit":
            answer = self._exhausted(question)
            answer.exhausted = False
            return answer
        if fault_kind == "primary-limit" or (quota.used >= quota.limit and not is_free):
            return self._exhausted(question)
        return None

    def _exhausted(self, question: _Question) -> _Answer:
        if question.credential is None:
            text = (
                f"API rate limit exceeded for {question.connection.address}. (But here's the good "
                "news: Authenticated requests get a higher rate limit. Check out the documentation "
                "for more details.)"
            )
        else:
            user = question.credential.user
            kind = "installation" if user.is_bot else "user"
            at = datetime.fromtimestamp(self._now(), UTC)
            text = (
                f"API rate limit exceeded for {kind} ID {user.id}. If you reach out to GitHub "
                f"Support for help, please include the timestamp {at:%Y-%m-%d %H:%M:%S} UTC."
            )
        url = _DOCS_OF_LIMITS["primary"]
        answer = _message(self.limit_status, text, documentation_url=url)
        answer.exhausted = True
        return answer

    def _credential(self, authorization: bytes) -> _Credential | None:
        try:
            return self._known[authorization]
        except KeyError:
            pass
        scheme, _, value = authorization.partition(b" ")
        value = value.strip()
        candidates = [value]
        if scheme.lower() == b"basic":
            try:
                name, _, password = base64.b64decode(value, validate=True).partition(b":")
                candidates = [password, name]
            except binascii.Error:
                candidates = []
        elif scheme.lower() not in {b"token", b"bearer"}:
            candidates = []
        found = None
        for candidate in candidates:
            found = found or self._credentials.get(candidate.decode("latin-1"))
        if len(self._known) > 100_000:
            self._known.clear()
        self._known[authorization] = found
        return found

    def _answer(self, question: _Question) -> _Answer:
        if question.refused:
            return _message(401, "Bad credentials")
        if question.version not in VERSIONS:
            return _message(
                400,
                f"{json.dumps(question.version)} is not a supported API version. "
                f"Supported versions: {', '.join(VERSIONS)}.",
            )
        try:
            return self._route(question)
        except json.JSONDecodeError:
            return _message(400, "Problems parsing JSON")

    def _route(self, question: _Question) -> _Answer:
        path = question.path
        if path.startswith("/_"):
            return self._stream_or_sink(question)
        if path in {"/graphql", "/api/graphql"}:
            return self._graphql(question)
        if path == "/rate_limit":
            return self._rate_limit(question)
        login = (question.login or "").lower()
        same = self._same_as(path)
        for prefix, shown in self._private.items():
            if login not in shown and (_is_under(path, prefix) or _is_under(same, prefix)):
                return _not_found()
        if self._renames:
            renamed = self._renamed(question, login)
            if renamed is not None:
                return renamed
        resource = self._find(question)
        if resource is None or (
            resource.private_to is not None and login not in resource.private_to
        ):
            return _not_found()
        if question.reads:
            if path == "/user" or path.startswith("/user/"):
                if question.credential is None:
                    return _needs_login()
                if path == "/user" and question.credential.user.is_bot:
                    return _message(403, "Resource not accessible by integration")
            return resource.read(self, question)
        if question.credential is None:
            return _needs_login()
        if question.method not in {b"POST", b"PUT", b"PATCH", b"DELETE"}:
            return _message(405, "Method not allowed")
        return resource.write(self, question)

    def _find(self, question: _Question) -> _Resource | None:
        path = question.path
        if not question.reads and self._written:
            written = self._written.get((question.method, path))
            if written is not None:
                return _Canned(written)
        found = None
        if question.query:
            found = self._resources.get(f"{path}?{question.query}")
        found = found or self._resources.get(path)
        if found is None and "%" in path:
            found = self._resources.get(urllib.parse.unquote(path))
        return found or self._resources.get(self._same_as(path))

    def _same_as(self, path: str) -> str:
        for prefix, old in self._aliases.items():
            if _is_under(path, prefix):
                return old + path.removeprefix(prefix)
        return path

    def _renamed(self, question: _Question, login: str) -> _Answer | None:
        for old, new in self._renames.items():
            if _is_under(question.path, old):
                there = self._resources.get(old)
                if there and there.private_to is not None and login not in there.private_to:
                    return _not_found()
                rest = question.target.decode("latin-1").removeprefix(old)
                location = f"{self.api_url}{new}{rest}"
                status = 301 if question.reads else 307
                text = "Moved Permanently" if question.reads else "Temporary Redirect"
                answer = _message(status, text, url=location)
                answer.fields = [(b"Location", location.encode("latin-1"))]
                return answer
        return None

    def _unless_unchanged(self, question: _Question, answer: _Answer) -> _Answer:
        """Judge the preconditions of RFC 9110, 13.2.2, for reading."""
        if answer.status != 200 or not question.reads or not self.honours_conditions:
            return answer
        condition = question.named.get(b"if-none-match")
        if condition is not None:
            if not answer.tagged or answer.rendering is None:
                return answer
            if condition.strip() == b"*":
                unchanged = True
            else:
                members = _MEMBER.findall(condition)
                if len(members) > 1 and not self.honours_lists:
                    return answer
                unchanged = self._tag(question, answer) in members
        else:
            since = question.named.get(b"if-modified-since")
            unchanged = _not_modified(answer.last_modified, since)
        if unchanged:
            answer.status = 304
        return answer

    def _tag(self, question: _Question, answer: _Answer) -> bytes:
        if answer.tag is not None:
            return answer.tag
        vary = answer.vary
        counts = self._varies.get(vary or "*")
        if counts is None:
            names = {name.strip().lower() for name in (vary or "*").split(",")}
            every = "*" in names
            counts = (
                every or "accept" in names,
                every or "authorization" in names,
                every or "cookie" in names,
            )
            self._varies[vary or "*"] = counts
        named = question.named
        salt = self._salt if self.tag_rule == "other" else b""
        key = (
            salt,
            named.get(b"accept") if counts[0] else None,
            named.get(b"authorization") if counts[1] else None,
            named.get(b"cookie") if counts[2] else None,
        )
        rendering = answer.rendering
        assert rendering is not None
        tag = rendering.tags.get(key)
        if tag is None:
            digest = hashlib.sha256(salt)
            for value in key[1:]:
                if value is not None:
                    digest.update(value + b":")
            digest.update(rendering.content)
            tag = digest.hexdigest().encode()
            if len(rendering.tags) > 10_000:
                rendering.tags.clear()
            rendering.tags[key] = tag
        return tag

    def _render(self, value: Any, content_type: str) -> _Rendering:
        """Render what is made anew for each question, without computing what is known."""
        content = _encode(value, content_type)
        key = (content, "json" in content_type)
        rendering = self._interned.get(key)
        if rendering is None:
            if len(self._interned) > 2_000:
                self._interned.clear()
            rendering = self._interned[key] = self._rendering(content, content_type)
        return rendering

    def _rendering(self, content: bytes, content_type: str) -> _Rendering:
        return _Rendering(content, "json" in content_type)

    # -- the way of an answer

    def _send(self, question: _Question, answer: _Answer, fault: Fault | None) -> None:
        question.call = None
        connection = question.connection
        kind = fault.kind if fault is not None else ""
        question.status = answer.status
        content, coding, ranges = self._content(question, answer)
        status = answer.status
        if kind == "bad-gzip":
            content, coding = b"\x1f\x8b\x08\x00" + b"this is no gzip" * 8, b"gzip"
        head = [self._status_line(status), self._common(question, answer)]
        put = head.append
        has_content = status >= 200 and status not in {204, 304}
        if answer.content_type and (has_content or (status == 304 and self.content_type_in_304)):
            put(b"Content-Type: %b\r\n" % answer.content_type.encode("latin-1"))
        chunked = False
        if has_content:
            size = answer.stream_bytes if answer.stream_bytes is not None else len(content)
            chunked = self.chunked and answer.stream_bytes is None and not kind
            if chunked:
                put(b"Transfer-Encoding: chunked\r\n")
            else:
                put(b"Content-Length: %d\r\n" % size)
            if coding:
                put(b"Content-Encoding: %b\r\n" % coding)
        for name, value in ranges:
            put(b"%b: %b\r\n" % (name, value))
        if answer.tagged and answer.rendering is not None and (status != 304 or self.tag_in_304):
            weak = b"W/" if coding else b""
            tag = self._tag(question, answer)
            if status == 304 and isinstance(self.tag_in_304, str):
                tag = self.tag_in_304.encode()
            put(b'ETag: %b"%b"\r\n' % (weak, tag))
        if answer.last_modified:
            put(b"Last-Modified: %b\r\n" % answer.last_modified.encode("latin-1"))
        if answer.link and status != 304:
            put(b"Link: %b\r\n" % answer.link.encode("latin-1"))
        for name, value in answer.fields:
            put(b"%b: %b\r\n" % (name, value))
        if kind == "huge-field" and fault is not None:
            put(b"X-Huge: %b\r\n" % (b"x" * fault.size_bytes))
        close = question.close
        if close:
            put(b"Connection: close\r\n")
        put(b"\r\n")
        if question.method == b"HEAD" or not has_content:
            content = b""
        elif answer.stream_bytes is not None:
            connection.write(b"".join(head))
            connection.stream(question, answer.stream_bytes)
            return
        elif chunked:
            content = (b"%x\r\n%b\r\n" % (len(content), content) if content else b"") + b"0\r\n\r\n"
        breaks_off = kind in {"reset-in-content", "truncated"}
        # HEAD has its answer in full when the fields have come.
        if breaks_off or (kind == "idle-in-content" and question.method != b"HEAD"):
            connection.write(b"".join(head) + content[: len(content) // 2])
            if kind == "truncated":
                connection.lose()
            elif kind == "reset-in-content":
                # a reset at once would overtake what was written
                question.call = self._clock.callLater(0.02, connection.abort)
            return
        put(content)
        connection.write(b"".join(head))
        connection.finished(question)

    def _content(
        self, question: _Question, answer: _Answer
    ) -> tuple[bytes, bytes, list[tuple[bytes, bytes]]]:
        """Give content as sent, its coding, and the fields of a range."""
        rendering = answer.rendering
        if rendering is None:
            return b"", b"", []
        named = question.named
        if not rendering.is_json and answer.status == 200 and answer.tagged:
            wanted = named.get(b"range")
            if wanted is not None and question.method == b"GET":
                condition = named.get(b"if-range")
                if condition in {None, b'"%b"' % self._tag(question, answer)}:
                    return self._part(question, answer, rendering.content, wanted)
        pretty = rendering.is_json and any(
            name in named.get(b"user-agent", b"") for name in _PRETTY
        )
        is_text = rendering.is_json or "text/" in (answer.content_type or "")
        zipped = (
            self.gzip
            and bool(rendering.content)
            and (is_text or "vnd.github" in (answer.content_type or ""))
            and _accepts_gzip(named.get(b"accept-encoding"))
        )
        if answer.status == 304:
            return b"", b"gzip" if zipped else b"", []
        content = rendering.view(pretty=pretty, zipped=zipped)
        accepts = [] if is_text else [(b"Accept-Ranges", b"bytes")]
        return content, b"gzip" if zipped else b"", accepts

    def _part(
        self, question: _Question, answer: _Answer, content: bytes, wanted: bytes
    ) -> tuple[bytes, bytes, list[tuple[bytes, bytes]]]:
        shape = re.fullmatch(rb"bytes=(\d*)-(\d*)", wanted.strip())
        size = len(content)
        if shape is None or not (shape[1] or shape[2]):
            return content, b"", []
        if shape[1]:
            start, end = int(shape[1]), int(shape[2]) if shape[2] else size - 1
        else:
            start, end = max(0, size - int(shape[2])), size - 1
        end = min(end, size - 1)
        if start > end:
            answer.status = question.status = 416
            return b"", b"", [(b"Content-Range", b"bytes */%d" % size)]
        answer.status = question.status = 206
        return (
            content[start : end + 1],
            b"",
            [(b"Content-Range", b"bytes %d-%d/%d" % (start, end, size))],
        )

    def _status_line(self, status: int) -> bytes:
        line = _STATUS_LINES.get(status)
        return line if line is not None else b"HTTP/1.1 %d Unknown\r\n" % status

    def _common(self, question: _Question, answer: _Answer) -> bytes:
        """Give the fields that come with everything."""
        now = int(self._clock.seconds())
        if self._date[0] != now:
            self._date = (now, formatdate(now, usegmt=True).encode())
        self._asked += 1
        number = self._asked
        lines = [
            b"Server: github.com\r\nDate: %b\r\nX-GitHub-Request-Id: %04X:%06X:%X:%X\r\n"
            % (self._date[1], number & 0xFFFF, number * 7919 & 0xFFFFFF, number, now)
        ]
        put = lines.append
        if self.status_field:
            put(b"Status: %b" % self._status_line(answer.status).removeprefix(b"HTTP/1.1 "))
        credential = question.credential
        cache_control = answer.cache_control
        if cache_control is None:
            cache_control = "%s, max-age=60, s-maxage=60" % ("private" if credential else "public")
        if cache_control:
            put(b"Cache-Control: %b\r\n" % cache_control.encode("latin-1"))
        if answer.vary:
            put(b"Vary: %b\r\n" % answer.vary.encode("latin-1"))
        if answer.bare:
            return b"".join(lines)
        if credential is not None:
            user = credential.user
            if user.scopes is not None and not user.is_bot:
                put(b"X-OAuth-Scopes: %b\r\n" % user.scopes.encode())
                put(b"X-Accepted-OAuth-Scopes: repo\r\n")
            elif user.is_bot:
                put(b"X-Accepted-GitHub-Permissions: metadata=read\r\n")
            if credential.expires is not None:
                put(b"github-authentication-token-expiration: %b\r\n" % credential.expires.encode())
        media = question.named.get(b"accept", b"")
        put(b"X-GitHub-Media-Type: %b\r\n" % _media_type(media))
        version = question.version
        if version in VERSIONS:
            put(b"x-github-api-version-selected: %b\r\n" % version.encode())
        names_version = b"x-github-api-version" in question.named
        if version == OLD_VERSION and (
            self.deprecation == "always" or (names_version and self.deprecation == "asked")
        ):
            put(b"Deprecation: Tue, 10 Mar 2026 00:00:00 GMT\r\n")
            put(b"Sunset: Fri, 10 Mar 2028 00:00:00 GMT\r\n")
            if answer.status != 304:
                put(b"Link: <https://docs.github.com/rest/about-the-rest-api/api-versions>; ")
                put(b'rel="deprecation"; type="text/html"\r\n')
        if self.tells_quota and not question.path.startswith("/_control/"):
            quota = self._quota_of(question)
            put(
                b"X-RateLimit-Limit: %d\r\nX-RateLimit-Remaining: %d\r\nX-RateLimit-Reset: %d\r\n"
                b"X-RateLimit-Used: %d\r\nX-RateLimit-Resource: %b\r\n"
                % (
                    quota.limit,
                    0 if answer.exhausted else quota.remaining,
                    quota.reset,
                    quota.limit if answer.exhausted else quota.used,
                    quota.resource.encode(),
                )
            )
        put(_STATIC)
        return b"".join(lines)

    def _end(self, question: _Question) -> None:
        """Forget a question that was answered, or that nobody waits for any more."""
        if question.call is not None:
            if question.call.active():
                question.call.cancel()
            question.call = None
        if question.barrier is not None:
            question.barrier._leave(question)
            question.barrier = None
        if not question.begun:
            return
        question.begun = False
        self.in_flight[question.who] -= 1
        self.log.append(
            Exchange(
                question.method,
                question.target,
                question.fields,
                bytes(question.body[:_LOGGED_BODY_BYTES]) if question.body else b"",
                question.status,
                question.at,
                question.login,
            )
        )

    # -- what there always is

    def _root(self) -> Any:
        url = self.api_url
        return {
            "current_user_url": f"{url}/user",
            "emails_url": f"{url}/user/emails",
            "rate_limit_url": f"{url}/rate_limit",
            "repository_url": f"{url}/repos/{{owner}}/{{repo}}",
            "current_user_repositories_url": f"{url}/user/repos{{?type,page,per_page,sort}}",
            "user_url": f"{url}/users/{{user}}",
            "issue_search_url": f"{url}/search/issues?q={{query}}{{&page,per_page,sort,order}}",
        }

    def _meta(self) -> Any:
        return {
            "verifiable_password_authentication": False,
            "ssh_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0"],
            "hooks": ["192.30.252.0/22", "185.199.108.0/22"],
            "api": ["192.30.252.0/22", "185.199.108.0/22"],
        }

    def _user(self, user: User) -> Any:
        url = f"{self.api_url}/users/{user.login}"
        return {
            "login": user.login,
            "id": user.id,
            "node_id": base64.b64encode(b"04:User%d" % user.id).decode(),
            "url": url,
            "html_url": f"https://github.com/{user.login}",
            "repos_url": f"{url}/repos",
            "type": "Bot" if user.is_bot else "User",
            "name": user.login.title(),
        }

    def _repository(self, name: str, login: str | None) -> Any:
        roles, private = self._repositories[name]
        url = f"{self.api_url}/repos/{name}"
        owner, _, short = name.partition("/")
        number = list(self._repositories).index(name) + 1
        value = {
            "id": number,
            "name": short,
            "full_name": name,
            "private": private,
            "owner": {"login": owner, "url": f"{self.api_url}/users/{owner}"},
            "html_url": f"https://github.com/{name}",
            "description": f"About {self.api_url}",
            "url": url,
            "issues_url": f"{url}/issues{{/number}}",
            "default_branch": "main",
        }
        if login is not None:
            role = roles.get(login.lower(), "pull")
            rank = _ROLES.index(role)
            value["permissions"] = {r: _ROLES.index(r) <= rank for r in reversed(_ROLES)}
        return value

    def _repositories_of(self, login: str | None) -> Any:
        known = (login or "").lower()
        return [
            self._repository(name, login)
            for name, (roles, _) in self._repositories.items()
            if known in roles
        ]

    def _rate_limit(self, question: _Question) -> _Answer:
        owner = question.login or question.connection.address
        resources = {}
        for resource in _LIMITS:
            quota = self.quota(owner, resource)
            resources[resource] = {
                "limit": quota.limit,
                "used": quota.used,
                "remaining": quota.remaining,
                "reset": quota.reset,
            }
        value = {"resources": resources, "rate": resources["core"]}
        rendering = _Rendering(_encode(value, JSON), is_json=True)
        return _Answer(200, rendering, cache_control="no-cache", free=True)

    def _graphql(self, question: _Question) -> _Answer:
        if question.method != b"POST":
            return _not_found()
        if question.credential is None:
            return _message(401, "This endpoint requires you to be authenticated.")
        document = question.json()
        login = question.credential.user.login
        query = str(document.get("query", ""))
        if re.match(r"\s*mutation\b", query):
            self.mutations.append((login, query))
        result = None
        if self.graphql is not None:
            result = self.graphql(login, query, document.get("variables"))
        if result is None:
            result = {}
            if re.search(r"\bviewer\b", query):
                result["viewer"] = {"login": login}
            if re.search(r"\brateLimit\b", query):
                quota = self._quota_of(question)
                result["rateLimit"] = {"limit": quota.limit, "remaining": quota.remaining - 1}
        rendering = _Rendering(_encode({"data": result}, JSON), is_json=True)
        return _Answer(200, rendering, cache_control="")

    def _stream_or_sink(self, question: _Question) -> _Answer:
        stream = re.fullmatch(r"/_stream/(\d+)", question.path)
        if stream and question.reads:
            answer = _Answer(200, None, "application/octet-stream")
            answer.stream_bytes = int(stream[1])
            return answer
        if question.path == "/_sink" and question.digest is not None:
            value = {"bytes": question.body_bytes, "sha256": question.digest.hexdigest()}
            return _Answer(200, _Rendering(_encode(value, JSON), is_json=True))
        return _not_found()

    # -- for those outside of the process

    def _controlled(self, question: _Question) -> _Answer:
        try:
            value = self._control(question)
        except Exception as e:
            return _message(400, f"{type(e).__name__}: {e}")
        return _Answer(
            200, _Rendering(_encode(value, JSON), is_json=True), cache_control="no-store"
        )

    def _control(self, question: _Question) -> Any:
        """Do what a request under ``/_control/`` says; its body and its answer are JSON.

        GET ``counts``, ``switches``, ``log?last=N``, ``waiting?path=P`` (absent: the gate of all);
        POST ``switches`` (an object of those to set), ``reset_counts``, ``hold``, ``open`` (each
        with ``path``, null for all) and any method of `_CONTROLS` (an object of its arguments).
        """
        name = question.path.removeprefix("/_control/")
        if question.method == b"GET":
            return self._report(name, question.parameters)
        given = question.json()
        if name == "switches":
            for switch, value in given.items():
                if switch not in _switches():
                    raise ValueError(f"no such switch: {switch}")
                setattr(self, switch, value)
            return self._report("switches", {})
        if name == "hold":
            self.hold(**given)
        elif name == "open":
            for barrier in [g for g in self._gates if g.path == given.get("path")]:
                barrier.open()
        elif name in self._CONTROLS:
            getattr(self, name)(**given)
        else:
            raise ValueError(f"no such control: {name}")
        return {}

    _CONTROLS: ClassVar[frozenset[str]] = frozenset(
        {
            *("user", "token", "revoke", "set_quota", "put", "put_list", "put_search", "delete"),
            *("private", "repository", "rename", "alias", "redirect", "yes_no", "statistics"),
            *("fault", "clear_faults", "reset_counts"),
        }
    )

    def _report(self, name: str, parameters: dict[str, str]) -> Any:
        if name == "switches":
            return {switch: getattr(self, switch) for switch in _switches()}
        if name == "counts":
            return {
                "total_paid": self.total_paid,
                "total_free": self.total_free,
                "paid": [[who, target, n] for (who, target), n in self.paid.items()],
                "free": [[who, target, n] for (who, target), n in self.free.items()],
                "limited": self.limited,
                "in_flight": self.in_flight,
                "most_in_flight": self.most_in_flight,
                "most_points_in_minute": [
                    [who, kind, n] for (who, kind), n in self.most_points_in_minute.items()
                ],
                "connections_made": self.connections_made,
                "connections": len(self._connections),
            }
        if name == "log":
            last = list(self.log)[-int(parameters.get("last", "100")) :]
            return [
                {
                    "method": e.method.decode("latin-1"),
                    "target": e.target.decode("latin-1"),
                    "fields": [[k.decode("latin-1"), v.decode("latin-1")] for k, v in e.fields],
                    "body": e.body.decode("latin-1"),
                    "status": e.status,
                    "at": e.at,
                    "login": e.login,
                }
                for e in last
            ]
        if name == "waiting":
            gates = [g for g in self._gates if g.path == parameters.get("path")]
            return {"waiting": sum(barrier.waiting for barrier in gates)}
        raise ValueError(f"no such report: {name}")


@define(eq=False)
class _Canned:
    """The answer to one method of a path."""

    thing: _Thing

    @property
    def private_to(self) -> frozenset[str] | None:
        return self.thing.private_to

    def read(self, github: GitHub, question: _Question) -> _Answer:
        return self.thing.read(github, question)

    write = read


def _switches() -> list[str]:
    return [a.name for a in fields(GitHub) if a.init]


def _accepts_gzip(accept_encoding: bytes | None) -> bool:
    if not accept_encoding:
        return False
    for member in accept_encoding.lower().split(b","):
        name, _, weight = member.partition(b";")
        if name.strip() in {b"gzip", b"*"}:
            return not re.fullmatch(rb"\s*q=0(\.0*)?\s*", weight)
    return False


def _not_modified(last_modified: str | None, since: bytes | None) -> bool:
    if last_modified is None or since is None:
        return False
    try:
        given = parsedate_to_datetime(since.decode("latin-1"))
        return parsedate_to_datetime(last_modified) <= given
    except (ValueError, TypeError):
        return False


def _media_type(accept: bytes) -> bytes:
    media = _MEDIA.search(accept.decode("latin-1"))
    if media is None or not media[1]:
        return b"github.v3; format=json"
    json_too = b"; format=json" if b"+json" in accept else b""
    return b"github.v3; param=%b%b" % (media[1].encode(), json_too)


_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}


class _Connections(ProtocolFactory):
    noisy = False

    def __init__(self, github: GitHub) -> None:
        self.github = github

    def buildProtocol(self, addr: IAddress | None) -> _Connection:
        return _Connection(self.github, str(getattr(addr, "host", "")))


class _MalformedError(Exception):
    """The client does not speak HTTP/1.1."""


@implementer(IPullProducer)
class _Connection(TwistedProtocol):
    """HTTP/1.1 (RFC 9112) for one client: one question at a time, others wait in the buffer."""

    def __init__(self, github: GitHub, address: str) -> None:
        self.github = github
        self.address = address
        self._wire = cast("ITCPTransport", None)
        self._buffer = b""
        self._question: _Question | None = None
        self._busy = self._advancing = self._paused = self._lost = False
        self._chunked = self._in_chunk = False
        self._left = 0
        self._stream_left = 0

    def connectionMade(self) -> None:
        self._wire = cast("ITCPTransport", self.transport)
        self._wire.setTcpNoDelay(True)
        self.github._connections.add(self)
        self.github.connections_made += 1

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._lost = True
        if self._question is not None and self._busy:
            self.github._end(self._question)
        self._question = None
        github = self.github
        github._connections.discard(self)
        if not github._connections:
            emptied, github._emptied = github._emptied, []
            for done in emptied:
                done.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._busy:
            self._advance()
        if self._busy and not self._paused and len(self._buffer) > _MAX_BUFFERED_BYTES:
            self._paused = True
            cast("Any", self._wire).pauseProducing()

    def write(self, content: bytes) -> None:
        if not self._lost:
            self._wire.write(content)

    def lose(self) -> None:
        if not self._lost:
            self._wire.loseConnection()

    def abort(self) -> None:
        if not self._lost:
            self._wire.abortConnection()

    def finished(self, question: _Question) -> None:
        """Go on with the next question, or close."""
        if self._lost or question is not self._question:
            return
        self.github._end(question)
        self._question = None
        if question.close:
            self._wire.loseConnection()
            return
        self._busy = False
        if self._paused:
            self._paused = False
            cast("Any", self._wire).resumeProducing()
        if not self._advancing:
            self._advance()

    def stream(self, question: _Question, size_bytes: int) -> None:
        """Send so many bytes, as fast as they are taken."""
        if self._lost:
            return
        self._stream_left = size_bytes
        cast("Any", self._wire).registerProducer(self, False)

    def resumeProducing(self) -> None:
        block = BLOCK[: self._stream_left] if self._stream_left < len(BLOCK) else BLOCK
        self._stream_left -= len(block)
        if block:
            self._wire.write(block)
        if not self._stream_left:
            cast("Any", self._wire).unregisterProducer()
            if self._question is not None:
                self.finished(self._question)

    def stopProducing(self) -> None:
        self._stream_left = 0

    def _advance(self) -> None:
        self._advancing = True
        try:
            while not self._busy and not self._lost:
                if self._question is None and not self._read_head():
                    return
                question = self._question
                if question is None or not self._read_body(question):
                    return
                self._busy = True
                self.github._begin(question)
        except _MalformedError as e:
            self._busy = True
            text = str(e).encode()
            self.write(
                b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(text), text)
            )
            self.lose()
        finally:
            self._advancing = False

    def _read_head(self) -> bool:
        buffer = self._buffer
        if buffer[:1] in {b"\r", b"\n"}:
            buffer = self._buffer = buffer.lstrip(b"\r\n")
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(buffer) > _MAX_HEAD_BYTES:
                raise _MalformedError("header section too large")
            return False
        lines = buffer[:end].split(b"\r\n")
        self._buffer = buffer[end + 4 :]
        start = lines[0].split(b" ")
        if len(start) != 3 or not start[2].startswith(b"HTTP/1.") or not start[1].startswith(b"/"):
            raise _MalformedError("malformed request line")
        method, target, version = start
        pairs = []
        named: dict[bytes, bytes] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon or not name or name != name.strip():
                raise _MalformedError("malformed field line")
            value = value.strip(b" \t")
            pairs.append((name, value))
            key = name.lower()
            named[key] = named[key] + b", " + value if key in named else value
        connection = named.get(b"connection", b"").lower()
        close = b"close" in connection or (
            version == b"HTTP/1.0" and b"keep-alive" not in connection
        )
        path, _, query = target.decode("latin-1").partition("?")
        question = _Question(self, method, target, path, query, pairs, named, close)
        if path == "/_sink" and method not in {b"GET", b"HEAD"}:
            question.digest = hashlib.sha256()
        self._question = question
        self._chunked = b"chunked" in named.get(b"transfer-encoding", b"").lower()
        self._in_chunk = False
        self._left = 0
        length = named.get(b"content-length")
        if length is not None:
            if self._chunked or not length.isdigit():
                raise _MalformedError("malformed Content-Length")
            self._left = int(length)
        if named.get(b"expect", b"").lower() == b"100-continue" and not self._buffer:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _read_body(self, question: _Question) -> bool:
        if not self._chunked:
            if self._left:
                self._take(question)
            return not self._left
        while True:
            if self._left:
                self._take(question)
                if self._left:
                    return False
            if self._in_chunk:
                if len(self._buffer) < 2:
                    return False
                if self._buffer[:2] != b"\r\n":
                    raise _MalformedError("malformed chunk")
                self._buffer = self._buffer[2:]
                self._in_chunk = False
            line, found, rest = self._buffer.partition(b"\r\n")
            if not found:
                if len(self._buffer) > 4096:
                    raise _MalformedError("malformed chunk size")
                return False
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError:
                raise _MalformedError("malformed chunk size") from None
            if size:
                self._buffer, self._left, self._in_chunk = rest, size, True
                continue
            if rest.startswith(b"\r\n"):
                self._buffer = rest[2:]
                return True
            _, found, rest = rest.partition(b"\r\n\r\n")
            if not found:
                return False
            self._buffer = rest
            return True

    def _take(self, question: _Question) -> None:
        piece = self._buffer[: self._left]
        self._buffer = self._buffer[self._left :]
        self._left -= len(piece)
        question.body_bytes += len(piece)
        if question.digest is not None:
            question.digest.update(piece)
        room = _KEPT_BODY_BYTES - len(question.body)
        if room > 0:
            question.body += piece[:room]


def populate(
    github: GitHub,
    *,
    resources: int = 0,
    users: int = 0,
    size_bytes: int = 23_000,
    own: int = 0,
    lists: int = 0,
    items: int = 100,
    limit: int = 1_000_000_000,
) -> None:
    """Make what benchmarks ask for.

    Users ``user0``… with tokens ``token0``…; the same for all of them: resources
    ``/repos/bench/repo-0``… of about `size_bytes`, lists ``/repos/bench/repo-0/issues``… of
    `items` items; and resources ``/own/0``… whose content differs by user.
    """
    for i in range(users):
        github.user(f"user{i}", tokens=[f"token{i}"], limit=limit)
    for i in range(resources):
        content = _sample(i, size_bytes)
        content["url"] = f"{github.api_url}/repos/bench/repo-{i}"
        github.put(f"/repos/bench/repo-{i}", _encode(content, JSON))
    for i in range(own):
        github.put(f"/own/{i}", lambda login, _: {"of": login, "text": "x" * 500})
    for i in range(lists):
        made = [{"number": n, "title": f"Issue {n} of {i}"} for n in range(1, items + 1)]
        github.put_list(f"/repos/bench/repo-{i}/issues", made)


def _sample(number: int, size_bytes: int) -> dict[str, Any]:
    """Make a JSON object of about this size that compresses about as well as GitHub's do."""
    content: dict[str, Any] = {"id": number, "name": f"repo-{number}", "labels": []}
    size = len(_encode(content, JSON))
    while size < size_bytes - 150:
        n = len(content["labels"])
        noise = hashlib.sha256(b"%d %d" % (number, n)).hexdigest()
        label = {"id": n, "node_id": noise[:24], "name": f"label {n}", "description": noise[:40]}
        content["labels"].append(label)
        size += len(_encode(label, JSON)) + 1
    return content


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until a signal comes; the first line on stdout is the URL."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.github", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--interface", default="127.0.0.1")
    parser.add_argument("--resources", type=int, default=0)
    parser.add_argument("--size", type=int, default=23_000, help="bytes of a resource")
    parser.add_argument("--users", type=int, default=0)
    parser.add_argument("--own", type=int, default=0, help="resources that differ by user")
    parser.add_argument("--lists", type=int, default=0)
    parser.add_argument("--items", type=int, default=100, help="items of a list")
    parser.add_argument("--limit", type=int, default=1_000_000_000, help="quota of a user")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--log", type=int, default=100_000, help="exchanges that are kept")
    options = parser.parse_args(arguments)
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    github = GitHub(delay_s=options.delay)
    github.log = deque(maxlen=options.log)

    async def start() -> None:
        url = await github.listen(options.port, interface=options.interface)
        populate(
            github,
            resources=options.resources,
            users=options.users,
            size_bytes=options.size,
            own=options.own,
            lists=options.lists,
            items=options.items,
            limit=options.limit,
        )
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()

    def failed(failure: Failure) -> None:
        failure.printTraceback()
        cast("Any", reactor).stop()

    world = cast("Any", reactor)
    world.callWhenRunning(lambda: Deferred.fromCoroutine(start()).addErrback(failed))
    world.run()


if __name__ == "__main__":
    main()
