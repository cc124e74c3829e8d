"""GitHub's API on a socket: its state, and the course of a request."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

from attrs import define, field
from twisted.internet.defer import Deferred

from tests.fakes.github.built_in import (
    meta,
    repositories_of,
    repository_document,
    root,
    user_document,
)
from tests.fakes.github.connection import ConnectionFactory
from tests.fakes.github.control import control_response
from tests.fakes.github.faults import CONTENT_FAULTS, FAULTS, Fault, Gate
from tests.fakes.github.limits import LIMITS, limit_response, quota_of
from tests.fakes.github.messages import (
    ANONYMOUS,
    JSON,
    VARY,
    Exchange,
    Rendering,
    Response,
    encode,
    message_response,
)
from tests.fakes.github.pagination import PaginatedList
from tests.fakes.github.resources import Redirect, Statistics, Thing, YesNo, field_pairs
from tests.fakes.github.routes import response_to
from tests.fakes.github.sending import STATIC_FIELDS, send_response
from tests.fakes.github.tags import evaluate_preconditions
from tests.fakes.github.users import Credential, Points, Quota, User, lower_logins

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort, IReactorTime

    from tests.fakes.github.connection import Connection
    from tests.fakes.github.messages import Request
    from tests.fakes.github.resources import Resource
    from tests.fakes.github.users import Logins

LOGGED_BODY_BYTES = 1 << 16


PREFLIGHT_FIELDS = (
    (b"Access-Control-Allow-Origin", b"*"),
    (
        b"Access-Control-Expose-Headers",
        re.search(rb"Expose-Headers: (.*)", STATIC_FIELDS)[1].rstrip(),  # type: ignore[index]
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


NO_USER_AGENT = (
    b"Request forbidden by administrative rules. Please make sure your request has a User-Agent "
    b"header (https://docs.github.com/en/rest/overview/resources-in-the-rest-api"
    b"#user-agent-required). Check https://developer.github.com for other possible causes.\n"
)


@define(eq=False)
class GitHub:
    """GitHub's API, on a socket of its own.

    Arguments of the constructor are switches: they can be set at any time, and under
    ``/_control/switches``.
    """

    tag_rule: Literal["observed", "other"] = "observed"
    """``observed``: the tag can be computed from content and credential; ``other``: it cannot."""
    honours_lists: bool = True
    """Whether an If-None-Match of several members can match."""
    honours_conditions: bool = True
    """Whether preconditions are evaluated, so that there are 304s."""
    tag_in_304: bool | str = True
    """Whether a 304 has a tag; as text: its hex, in place of the requested one."""
    status_field: bool = False
    """Whether each response has a ``Status`` field, as those of Enterprise servers have."""
    content_type_in_304: bool = False
    gzip: bool = True
    """Whether textual content is compressed where Accept-Encoding allows; its tag is weak then."""
    chunked: bool = False
    """Whether content is sent in chunks instead of with a Content-Length."""
    delay_s: float = 0.0
    """The delay of each request before it is processed."""
    limit_status: int = 403
    """The status when the primary limit is reached: 403 or 429."""
    free_when_exhausted: bool = False
    """Whether free requests are permitted beyond the primary limit."""
    anonymous_limit: int = 60
    resets_at: int | None = None
    """When all quotas are full again, in seconds of the clock; None: each by its own window."""
    secondary_limit_in_flight: int | None = None
    """Simultaneous requests of one credential; beyond, the secondary limit applies."""
    secondary_points_per_minute: int | None = None
    secondary_graphql_points_per_minute: int | None = None
    secondary_status: int = 403
    secondary_retry_after_s: int | None = 60
    secondary_message: Literal["secondary", "abuse", "none"] = "secondary"
    sends_quota: bool = True
    """Whether responses have the fields of the quota; limited ones do not always."""
    deprecation: Literal["requested", "always", "never"] = "requested"
    """Which responses in the old version announce its end: to requests that name it, or all."""

    api_url: str = field(default="", init=False)
    users: dict[str, User] = field(factory=dict, init=False)
    paid: Counter[tuple[str, str]] = field(factory=Counter, init=False)
    """(login or ``anonymous``, target): requests that were charged."""
    free: Counter[tuple[str, str]] = field(factory=Counter, init=False)
    """(login or ``anonymous``, target): requests without a charge."""
    limited: Counter[str] = field(factory=Counter, init=False)
    """login or ``anonymous``: responses of a primary or secondary limit."""
    in_flight: Counter[str] = field(factory=Counter, init=False)
    most_in_flight: Counter[str] = field(factory=Counter, init=False)
    """token or ``anonymous``: the most requests that were in flight at once."""
    most_points_in_minute: Counter[tuple[str, str]] = field(factory=Counter, init=False)
    """(token or ``anonymous``, ``rest`` or ``graphql``): points of the worst minute."""
    mutations: list[tuple[str, str]] = field(factory=list, init=False)
    """(login, query) of GraphQL mutations."""
    graphql: Callable[[str, str, Any], Any] | None = field(default=None, init=False)
    """(login, query, variables) -> data of a response, or None: the built-in one."""
    log: deque[Exchange] = field(factory=lambda: deque(maxlen=100_000), init=False)
    """Exchanges in the order in which they ended."""
    checks: list[bytes | None] = field(factory=list, init=False)
    """The credentials that mirrors have checked; those that are accepted are not logged."""
    connections_made: int = field(default=0, init=False)

    _credentials: dict[str, Credential] = field(factory=dict, init=False)
    _known: dict[bytes, Credential | None] = field(factory=dict, init=False)
    _app: User | None = field(default=None, init=False)
    resources: dict[str, Resource] = field(factory=dict, init=False)
    written: dict[tuple[bytes, str], Thing] = field(factory=dict, init=False)
    renames: dict[str, str] = field(factory=dict, init=False)
    aliases: dict[str, str] = field(factory=dict, init=False)
    private_prefixes: dict[str, frozenset[str]] = field(factory=dict, init=False)
    repositories: dict[str, tuple[dict[str, str], bool]] = field(factory=dict, init=False)
    _quotas: dict[tuple[str, str], Quota] = field(factory=dict, init=False)
    points: dict[tuple[str, str], Points] = field(factory=dict, init=False)
    buckets: dict[str, str] = field(factory=dict, init=False)
    variations: dict[str, tuple[bool, bool, bool]] = field(factory=dict, init=False)
    _interned: dict[tuple[bytes, bool], Rendering] = field(factory=dict, init=False)
    faults: list[Fault] = field(factory=list, init=False)
    gates: list[Gate] = field(factory=list, init=False)
    connections: set[Connection] = field(factory=set, init=False)
    emptied: list[Deferred[None]] = field(factory=list, init=False)
    _port: IListeningPort | None = field(default=None, init=False)
    _where: tuple[int, str] = field(default=(0, "127.0.0.1"), init=False)
    _tls: Any = field(default=None, init=False)
    clock: IReactorTime = field(default=cast("IReactorTime", None), init=False)
    request_count: int = field(default=0, init=False)
    date: tuple[int, bytes] = field(default=(0, b""), init=False)
    salt: bytes = field(default=b"an unknown salt", init=False)

    def __attrs_post_init__(self) -> None:
        self.put("/", lambda _login, _accept: root(self))
        self.put("/user", lambda login, _accept: user_document(self, self.users[login or ""]))
        self.put("/zen", "Keep it logically awesome.", content_type="text/plain;charset=utf-8")
        self.put("/meta", meta(self))
        self.put_list("/user/repos", partial(repositories_of, self))

    # -- serving

    async def listen(
        self, port: int = 0, *, interface: str = "127.0.0.1", context_factory: Any = None
    ) -> str:
        """Serve on a port (0: a free one), with TLS by a context factory; return the URL."""
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        world = cast("Any", reactor)
        self.clock = world
        self._tls = context_factory
        factory = ConnectionFactory(self)
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
        """Stop listening, abort all connections, and wait for their end; may be called twice."""
        if self._port is not None:
            port, self._port = self._port, None
            await cast("Deferred[None]", port.stopListening())
        for barrier in list(self.gates):
            self.gates.remove(barrier)
        for connection in list(self.connections):
            connection.abort()
        if self.connections:
            gone: Deferred[None] = Deferred()
            self.emptied.append(gone)
            await gone

    async def go_away(self) -> None:
        """Refuse connections, and break those that are open."""
        await self.close()

    async def come_back(self) -> None:
        """Listen again where it did before."""
        port, interface = self._where
        await self.listen(port, interface=interface, context_factory=self._tls)

    # -- users

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
            self.put(f"/users/{login}", lambda _login, _accept: user_document(self, user))
        user.scopes, user.limit = scopes, limit
        for (requester, resource), quota in self._quotas.items():
            if requester == login and resource == "core":
                quota.limit = limit
        for token in tokens:
            self.token(token, login)
        return user

    def token(self, token: str, login: str, *, expires: str | None = None) -> None:
        """Add a token to a user."""
        user = self.users.get(login) or self.user(login)
        self._credentials[token] = Credential(token, user, expires)
        self._known.clear()

    def app(self, login: str) -> None:
        """Accept each JSON Web Token as that of an App, a user here; no signature is verified."""
        self._app = self.users[login]
        self._known.clear()

    def revoke(self, token: str) -> None:
        """Send 401 for a token."""
        self._credentials.pop(token, None)
        self._known.clear()

    def quota(self, login: str, resource: str = "core") -> Quota:
        """Return the quota of a user, or of an address."""
        quota = self._quotas.get((login, resource))
        if quota is None:
            limit = LIMITS[resource]
            if login not in self.users:
                limit = self.anonymous_limit if resource in {"core", "graphql"} else limit
            elif resource == "core":
                limit = self.users[login].limit
            quota = self._quotas[login, resource] = Quota(resource, limit)
        quota.roll(self.now())
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
        """Set the remaining quota, and the time of its reset."""
        quota = self.quota(login, resource)
        quota.used = quota.limit - remaining
        if reset_in_s is not None:
            quota.reset = int(self.now() + reset_in_s)

    # -- resources

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
        """Create or replace a resource; a path with a query is for that query only.

        Content is bytes, a JSON value, text where the content type is not JSON's, or a callable
        (login or None, Accept) that gives one. `variants` are contents by media type (``raw``,
        ``diff``, ``star+json`` as ``star``), `versions` by API version. With a `method` other than
        GET it is the response to that method, with `status`. `etag` as text is the hex of a tag
        that stays constant, with any content.
        """
        thing = Thing(
            path,
            content,
            content_type,
            lower_logins(private_to),
            last_modified,
            etag,
            field_pairs(fields),
            vary,
            cache_control,
            variants or {},
            versions or {},
            status,
        )
        if method is None or method == "GET":
            self.resources[path] = thing
        else:
            self.written[method.encode(), path] = thing

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
        honours_page: bool = True,
    ) -> None:
        """Set a paginated list; items are a list or a callable (login or None) -> list.

        `wrap` names the member of an object with ``total_count`` that holds the items; `link_path`
        is the target of Link instead of the requested path. With `cursor`, Link names pages by
        ``after`` and ``before``. Without `honours_page` a request with ``page`` gets a 400, as
        Dependabot's lists do. A longer list in its place leaves full pages as they are.
        """
        self.resources[path] = PaginatedList(
            path,
            items,
            lower_logins(private_to),
            links,
            cursor,
            wrap,
            {},
            link_path,
            field_pairs(fields),
            vary,
            last_modified,
            honours_page,
        )

    def put_search(self, path: str, items: Any, *, private_to: Logins = None) -> None:
        """Set the result of a search: an object with ``total_count`` and paginated ``items``."""
        extra = {"incomplete_results": False}
        self.resources[path] = PaginatedList(
            path, items, lower_logins(private_to), wrap="items", extra=extra
        )

    def delete(self, path: str) -> None:
        """Remove a resource."""
        self.resources.pop(path, None)

    def private(self, prefix: str, logins: Logins) -> None:
        """Hide everything at and under a path from all but these logins (None: from none)."""
        shown = lower_logins(logins)
        if shown is None:
            self.private_prefixes.pop(prefix, None)
        else:
            self.private_prefixes[prefix] = shown

    def repository(
        self, name: str, permissions: Mapping[str, str] | None = None, *, private: bool = False
    ) -> None:
        """Make ``/repos/OWNER/NAME`` with the permissions of the requesting user.

        `permissions` are roles by login: pull, triage, push, maintain or admin.
        """
        roles = {login.lower(): role for login, role in (permissions or {}).items()}
        self.repositories[name] = (roles, private)
        self.put(
            f"/repos/{name}",
            lambda login, _accept: repository_document(self, name, login),
            private_to=roles if private else None,
        )

    def rename(self, old: str, new: str) -> None:
        """Redirect `old` and all under it to `new`, where the resources now are."""
        self.renames[old] = new
        self.aliases[new] = old

    def alias(self, path: str, same_as: str) -> None:
        """Serve the resources under `same_as` under `path`, too."""
        self.aliases[path] = same_as

    def redirect(
        self, path: str, location: str, status: int = 302, *, private_to: Logins = None
    ) -> None:
        """Redirect a path, such as a download, to a URL; a path is made absolute on `api_url`."""
        self.resources[path] = Redirect(location, status, lower_logins(private_to))

    def yes_no(self, path: str, logins: Logins = None) -> None:
        """Send 204 to these logins (None: to all), 404 to others, never with a tag."""
        shown = lower_logins(logins)
        self.resources[path] = YesNo({"*"} if shown is None else set(shown))

    def statistics(self, path: str, content: Any, computing: int = 1) -> None:
        """Send 202 for the first `computing` requests, the content for later ones."""
        self.resources[path] = Statistics(Thing(path, content), computing)

    # -- faults and gates

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
        """Add a fault for requests to a path (None: all) by a login (None: all), see `FAULTS`.

        500, 502, 503, 504: that status. ``timeout``: no response ever. ``refuse``: closed without a
        response. ``reset``: reset without a response. ``reset-in-content``, ``truncated`` (closed),
        ``idle-in-content``: half of the content. ``malformed``: no HTTP. ``bad-gzip``: content that
        does not decompress. ``slow``: `delay_s` later. ``no-etag``, ``no-store``: without or with
        that field. ``huge-field``: a field of `size_bytes`. ``primary-limit``, ``secondary-limit``,
        ``abuse-limit``: limited at any count. ``creation-limit``: limited, for requests
        that create content. ``login-limit``: too many attempts to log in, without a hint.
        ``unmetered-limit``: the words of a primary limit, with plenty left. For refused connections
        see `go_away`.
        """
        name = str(kind).replace(" ", "-")
        if name not in FAULTS:
            raise ValueError(f"no such fault: {kind!r}; there are {sorted(FAULTS)}")
        fault = Fault(path, name, times, delay_s, size_bytes, login, self.faults)
        self.faults.append(fault)
        return fault

    def clear_faults(self) -> None:
        """Remove all faults."""
        self.faults.clear()

    def hold(self, path: str | None = None, *, compute_first: bool = False) -> Gate:
        """Hold requests to a path (None: all) until the gate opens.

        The responses have the state of the release, or, with `compute_first`, that of the arrival.
        """
        barrier = Gate(path, compute_first, self)
        self.gates.append(barrier)
        return barrier

    # -- counts and exchanges

    @property
    def total_paid(self) -> int:
        return self.paid.total()

    @property
    def total_free(self) -> int:
        return self.free.total()

    def reset_counts(self) -> None:
        """Clear counts and logs; quotas stay as they are."""
        for counter in (self.paid, self.free, self.limited, self.most_in_flight):
            cast("Counter[Any]", counter).clear()
        self.most_points_in_minute.clear()
        self.points.clear()
        self.log.clear()
        self.mutations.clear()
        self.checks.clear()
        self.connections_made = 0

    def exchanges(self, path: str | None = None) -> list[Exchange]:
        """Return the logged exchanges of a path without or with its query (None: all)."""
        if path is None:
            return list(self.log)
        sought = path.encode("latin-1")
        return [e for e in self.log if sought in {e.target, e.target.partition(b"?")[0]}]

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
        digest.update(encode(content, JSON))
        return b'"%b"' % digest.hexdigest().encode()

    # -- the course of a request

    def now(self) -> float:
        if cast("IReactorTime | None", self.clock) is None:
            return datetime.now(UTC).timestamp()
        return self.clock.seconds()

    def begin(self, request: Request) -> None:
        if request.path.startswith("/_control/"):
            send_response(self, request, control_response(self, request), None)
            return
        request.at = now = self.clock.seconds()
        request.begun = True
        authorization = request.named.get(b"authorization")
        if authorization is not None:
            request.credential = self._credential(authorization)
            request.refused = request.credential is None
        if request.path == "/rate_limit" and request.named.get(b"user-agent") == b"ghmirror":
            # The mirror's own check of a credential: one that is accepted is logged apart.
            self.checks.append(authorization)
            gated = any(each.path == "/rate_limit" for each in self.gates)
            if not request.refused and not gated:
                request.begun = False
                send_response(self, request, response_to(self, request), None)
                return
        requester = request.requester
        in_flight = self.in_flight[requester] = self.in_flight[requester] + 1
        self.most_in_flight[requester] = max(self.most_in_flight[requester], in_flight)
        kind = "graphql" if request.path == "/graphql" else "rest"
        points = self.points.get((requester, kind))
        if points is None:
            points = self.points[requester, kind] = Points()
        spent = points.spend(now, 1 if request.reads or kind == "graphql" else 5)
        most = self.most_points_in_minute
        most[requester, kind] = max(most[requester, kind], spent)
        if self.delay_s:
            request.call = self.clock.callLater(self.delay_s, self._arrive, request)
        else:
            self._arrive(request)

    def _arrive(self, request: Request) -> None:
        request.call = None
        for barrier in self.gates:
            if request.is_for(barrier.path):
                if barrier.compute_first:
                    response = self._decide(request, None)
                    barrier.wait(request, partial(send_response, self, request, response, None))
                else:
                    barrier.wait(request, partial(self._respond, request))
                return
        self._respond(request)

    def _respond(self, request: Request) -> None:
        request.call = None
        fault = self._fault(request) if self.faults else None
        if fault is None:
            send_response(self, request, self._decide(request, None), None)
        elif fault.kind == "timeout":
            pass
        elif fault.kind == "refuse":
            request.connection.lose()
        elif fault.kind == "reset":
            request.connection.abort()
        elif fault.kind == "malformed":
            request.connection.write(b"HTP/one.one banana split\r\n\r\n")
            request.connection.lose()
        elif fault.kind == "slow":
            request.call = self.clock.callLater(
                fault.delay_s,
                lambda: send_response(self, request, self._decide(request, None), None),
            )
        else:
            send_response(self, request, self._decide(request, fault), fault)

    def _fault(self, request: Request) -> Fault | None:
        for fault in self.faults:
            if request.is_for(fault.path) and fault.login in {None, request.login}:
                fault.seen += 1
                if fault.times is not None and fault.seen >= fault.times:
                    self.faults.remove(fault)
                return fault
        return None

    def _decide(self, request: Request, fault: Fault | None) -> Response:
        if fault is not None and fault.kind.isdigit():
            response = message_response(int(fault.kind), "Server Error")
            response.bare = response.free = True
            return response
        if request.is_preflight:
            return Response(
                204,
                None,
                None,
                fields=PREFLIGHT_FIELDS,
                vary=None,
                cache_control="",
                free=True,
                bare=True,
            )
        if b"user-agent" not in request.named:
            rendering = Rendering(NO_USER_AGENT, is_json=False)
            return Response(403, rendering, "text/html; charset=utf-8", bare=True, free=True)
        quota = quota_of(self, request)
        login = request.login or ANONYMOUS
        limited = limit_response(self, request, quota, fault)
        if limited is not None and not limited.exhausted:
            self.limited[login] += 1
            return limited
        if limited is not None and not (
            self.free_when_exhausted and request.reads and fault is None
        ):
            self.limited[login] += 1
            return limited
        response = response_to(self, request)
        kind = fault.kind if fault is not None else ""
        if kind == "no-etag":
            response.tagged, response.last_modified = False, None
        elif kind == "no-store":
            response.cache_control = "no-store"
        if kind not in CONTENT_FAULTS:
            response = evaluate_preconditions(self, request, response)
        target = request.target.decode("latin-1")
        free = response.free or (response.status == 304 and request.credential is not None)
        if free:
            self.free[login, target] += 1
            return response
        if limited is not None:
            self.limited[login] += 1
            return limited
        quota.used += 1
        self.paid[login, target] += 1
        return response

    def _credential(self, authorization: bytes) -> Credential | None:
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
        if found is None and self._app is not None and value.startswith(b"eyJ"):
            found = Credential(value.decode("latin-1"), self._app)
        if len(self._known) > 100_000:
            self._known.clear()
        self._known[authorization] = found
        return found

    def render(self, value: Any, content_type: str) -> Rendering:
        """Return the rendering of a value; equal values share one."""
        content = encode(value, content_type)
        key = (content, "json" in content_type)
        rendering = self._interned.get(key)
        if rendering is None:
            if len(self._interned) > 2_000:
                self._interned.clear()
            rendering = self._interned[key] = self.rendering_of(content, content_type)
        return rendering

    def rendering_of(self, content: bytes, content_type: str) -> Rendering:
        return Rendering(content, "json" in content_type)

    # -- the end of a request

    def end(self, request: Request) -> None:
        """End a request that is complete, or whose client has disconnected."""
        if request.call is not None:
            if request.call.active():
                request.call.cancel()
            request.call = None
        if request.barrier is not None:
            request.barrier.leave(request)
            request.barrier = None
        if not request.begun:
            return
        request.begun = False
        self.in_flight[request.requester] -= 1
        self.log.append(
            Exchange(
                request.method,
                request.target,
                request.fields,
                bytes(request.body[:LOGGED_BODY_BYTES]) if request.body else b"",
                request.status,
                request.at,
                request.login,
            )
        )
