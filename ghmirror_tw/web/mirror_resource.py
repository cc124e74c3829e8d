"""The web resource for all of GitHub's API."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from ghmirror_tw.caching.forwarded_fields import forwarded_request_fields
from ghmirror_tw.github.claimed_enterprise_version import VERSION_FIELD, holds_version
from ghmirror_tw.github.client_base_urls import BaseUrlSelector
from ghmirror_tw.github.cors import is_preflight
from ghmirror_tw.github.json_indenting import gets_indented_json, indented
from ghmirror_tw.github.path_labels import path_pattern
from ghmirror_tw.github.url_rewriting import BaseUrls
from ghmirror_tw.http import error_responses
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.host import parse_host
from ghmirror_tw.http.loop_detection import has_passed
from ghmirror_tw.http.outcomes import Outcome
from ghmirror_tw.http.preconditions import PRECONDITIONS
from ghmirror_tw.http.request import Request
from ghmirror_tw.http.targets import Target, parse_target, path_of
from ghmirror_tw.proxy.mirror import Mirror
from ghmirror_tw.proxy.mirror_response import Response
from ghmirror_tw.runtime.deferreds import add_waiter, wake
from ghmirror_tw.telemetry.busiest import Busiest
from ghmirror_tw.telemetry.metrics import Metrics
from ghmirror_tw.upstream.byte_budget import ByteBudgets
from ghmirror_tw.upstream.request_to_send import Requester
from ghmirror_tw.upstream.upstream_interface import UpstreamError
from ghmirror_tw.web import health, own_page
from ghmirror_tw.web.access_log import AccessLog, LoggedRequest, shown_path
from ghmirror_tw.web.client_address import client_address, is_trusted, peer_of
from ghmirror_tw.web.client_response import ClientResponse, ClientView
from ghmirror_tw.web.client_response_builder import ClientResponseBuilder
from ghmirror_tw.web.mirror_request import MirrorRequest
from ghmirror_tw.web.own_responses import error_response, preflight_response, shown_error
from ghmirror_tw.web.response_sender import BrokenResponseError, ResponseSender

_METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
#: The status that nginx logs for a client that closed the connection before its response.
_CLIENT_CLOSED: Final = 499
#: Why a request is never stored, as `fwd` in `Cache-Status` names it.
_BYPASSES: Final = frozenset({"method", "bypass"})
#: The longest path in the table of the busiest ones, in characters.
_PATH_LENGTH: Final = 200
#: `Retry-After` on a connection that is reserved for health checks, in seconds.
_NO_CONNECTION_S: Final = 5
_log: Final = Logger(namespace="ghmirror.web")


@define(eq=False)
class _RequestRecord:
    """What the access log and the metrics record of one request."""

    began: float
    status: int = _CLIENT_CLOSED
    outcome: str = Outcome.ERROR
    #: Once it is known.
    requester: Requester | None = None
    #: See `LoggedRequest`.
    detail: str | None = None
    upstream_status: int | None = None
    upstream_seconds: float | None = None
    request_id: bytes | None = None
    #: Whether the target is one of GitHub Enterprise Server's.
    enterprise: bool = False

    def noted(self, response: Response) -> Response:
        """Note the mirror's response, and return it."""
        self.outcome = response.outcome
        bypassed = response.forward if response.forward in _BYPASSES else None
        self.detail = response.detail or bypassed
        self.upstream_status = response.upstream_status
        self.upstream_seconds = response.upstream_seconds
        self.request_id = response.request_id or response.fields.get(b"x-github-request-id")
        return response


@implementer(IResource)
@define(eq=False)
class MirrorResource:
    """Responds to requests through the mirror, and to health checks itself."""

    reactor: IReactorTime
    mirror: Mirror
    response_builder: ClientResponseBuilder
    metrics: Metrics
    access_log: AccessLog
    readiness: health.Readiness
    pseudonym: bytes
    max_request_size: int
    addressing: BaseUrlSelector
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    #: The version of GitHub Enterprise Server that the mirror is below `/api/v3`; empty: none.
    enterprise_version: bytes = b""
    isLeaf: bool = True
    server: Any = None
    in_flight: int = 0
    #: `Retry-After` in seconds, once new requests are refused because the mirror shuts down.
    closing: int | None = None
    busiest: Busiest = field(factory=Busiest)
    #: Whether the warning about ignored fields of a proxy was logged.
    _warned: bool = False
    _idle_waiters: list[Deferred[None]] = field(factory=list)
    _sender: ResponseSender = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._sender = ResponseSender(self.reactor, self.budgets)
        self.metrics.in_flight.set_function(lambda: self.in_flight)

    @property
    def budgets(self) -> ByteBudgets:
        """How many bytes of content may be held."""
        return self.response_builder.budgets

    # IResource.

    def putChild(self, path: bytes, child: Any) -> None:
        """Raise an error, since there are no children."""
        raise NotImplementedError

    def getChildWithDefault(self, name: bytes, request: Any) -> Any:  # noqa: ARG002
        """Return this resource, which is responsible for all paths."""
        return self

    def render(self, request: MirrorRequest) -> int:
        """Begin the response to *request*."""
        page = health.health_page(path_of(request.uri), self.readiness)
        if page is not None:
            request.write(own_page.prepare(request, page))
            request.finish()
            return NOT_DONE_YET
        record = _RequestRecord(self.reactor.seconds())
        self.in_flight += 1
        request.on_lost = Deferred.fromCoroutine(self._respond(request, record)).cancel
        return NOT_DONE_YET

    def note_refused(self, error: MirrorError) -> None:
        """Count a request that was refused before it was parsed."""
        self.metrics.request(b"", error.status, Outcome.ERROR, 0.0)
        self.access_log.request(
            LoggedRequest(b"-", "-", error.status, Outcome.ERROR, 0.0, detail=error.reason)
        )

    def when_idle(self) -> Deferred[None]:
        """Return a Deferred that fires when no request is under way."""
        return add_waiter(self.reactor, self._idle_waiters) if self.in_flight else succeed(None)

    def _end(self, request: MirrorRequest, record: _RequestRecord) -> None:
        self.in_flight -= 1
        seconds = self.reactor.seconds() - record.began
        self.metrics.request(request.method, record.status, record.outcome, seconds)
        if record.detail == "dated":
            self.metrics.dated()
        path = shown_path(request.uri)
        cut = len(path) > _PATH_LENGTH
        self.busiest.count(path[: _PATH_LENGTH - 3] + "..." if cut else path)
        self.access_log.request(
            LoggedRequest(
                request.method,
                path,
                record.status,
                record.outcome,
                seconds,
                request.sentLength,
                record.detail,
                record.upstream_status,
                record.upstream_seconds,
                None if record.requester is None else self.mirror.user(record.requester),
                self._client(request),
                record.request_id,
                request.fields,
            )
        )
        if self._idle_waiters and not self.in_flight:
            wake(self._idle_waiters)

    # One request.

    async def _respond(self, request: MirrorRequest, record: _RequestRecord) -> None:
        """Send the response to a request, also after an unexpected error."""
        try:
            try:
                response = self._own_response(request, record)
                if response is None:
                    forwarded, requester, view = self._forwarded(request, record)
                    # No name for the mirror's response: its content would live until the end.
                    response = await self.response_builder.build(
                        record.noted(
                            await self.mirror.respond(forwarded, requester, request.upload)
                        ),
                        view,
                        self.reactor.seconds(),
                    )
            except Exception as error:
                record.outcome = Outcome.ERROR
                if isinstance(error, CancelledError) and request.fault is None:
                    raise
                response = self._error_response(error, request, record)
            if record.enterprise and self.enterprise_version:
                fields = response.fields.with_line(VERSION_FIELD, self.enterprise_version)
                response = evolve(response, fields=fields)
            record.status = response.status
            last = self.closing is not None or request.channel.is_reserved
            if not self._sender.send_whole(request, response, last=last):
                await self._stream(request, response, record)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - the last one that can catch it
            if not isinstance(error, CancelledError):
                _log_failure(request)
            _drop_frames(error)
            if not request._disconnected and not request.finished:  # noqa: SLF001
                request.abort()
        self._end(request, record)

    def _own_response(
        self, request: MirrorRequest, record: _RequestRecord
    ) -> ClientResponse | None:
        """Return the response to a preflight request; None: GitHub has to respond."""
        _check_credential(request.fields)
        if not is_preflight(request.method, request.fields):
            return None
        record.outcome = Outcome.PASS
        return preflight_response(self.reactor.seconds())

    def _error_response(
        self, error: Exception, request: MirrorRequest, record: _RequestRecord
    ) -> ClientResponse:
        """Return the error response to a request; note its reason.

        A request is cancelled for the fault in its content, where it has one.
        """
        shown = request.fault if isinstance(error, CancelledError) else shown_error(error)
        if shown is None:
            _log_failure(request)
            shown = error_responses.internal()
        _drop_frames(error)
        record.detail = shown.reason
        body = indented(shown.body()) if gets_indented_json(request.fields) else shown.body()
        return error_response(shown, body, self.reactor.seconds())

    def _forwarded(
        self, request: MirrorRequest, record: _RequestRecord
    ) -> tuple[Request, Requester, ClientView]:
        """Return a request as it is forwarded, and what selects its variant of the response."""
        target = parse_target(request.uri)
        record.enterprise = bool(target.prefix)
        trusted = bool(self.trusted_proxies) and is_trusted(
            peer_of(request.getClientAddress()), self.trusted_proxies
        )
        base = self._base(request, target, trusted)
        self._check(request)
        fields = request.fields
        sent = fields.memoised(forwarded_request_fields)
        forwarded_request = Request(request.method, target.target, sent)
        record.requester = requester = self.mirror.credentials.requester(sent)
        version = b""
        if record.enterprise and holds_version(request.method, forwarded_request.path):
            version = self.enterprise_version
        if version:
            # GitHub has no representation with the version: the mirror evaluates preconditions.
            without = sent.without(PRECONDITIONS)
            forwarded_request = evolve(forwarded_request, fields=without)
        view = ClientView(request.method, base, fields, version, forwarded_request.path)
        return forwarded_request, requester, view

    def _check(self, request: MirrorRequest) -> None:
        """Raise `MirrorError` for a request that is not forwarded."""
        if request.method not in _METHODS:
            raise error_responses.not_implemented(
                "The method is not one of GitHub's: use GET, HEAD, POST, PUT, PATCH, DELETE or"
                " OPTIONS"
            )
        via = request.fields.get_all(b"via")
        if via and has_passed(via, self.pseudonym):
            raise error_responses.loop()
        if self.closing is not None:
            raise error_responses.shutting_down(self.closing)
        if request.channel.is_reserved:
            raise error_responses.overloaded("of connections of clients", _NO_CONNECTION_S)

    def _client(self, request: MirrorRequest) -> str | None:
        """Return the address of a client for the log."""
        address = request.getClientAddress()
        if not self.trusted_proxies:
            return getattr(address, "host", None)
        forwarded = request.fields.listed(b"x-forwarded-for")
        return client_address(peer_of(address), forwarded, self.trusted_proxies)

    def _base(self, request: MirrorRequest, target: Target, trusted: bool) -> BaseUrls:
        """Return the URLs that replace GitHub's in the response; the host is always validated."""
        fields = request.fields
        if request.clientproto == b"HTTP/1.0" and fields.get(b"host") is None:
            host = parse_host([_authority(request.getHost())])
        else:
            host = fields.memoised(_host)
        if not self._warned and self.addressing.ignores(fields, trusted=trusted):
            self._warned = True
            _log.warn(
                "X-Forwarded-Proto received, but [server] trusted_proxies and public_url are empty:"
                " URLs in responses have the Host of the request"
            )
        return self.addressing.base(
            target.authority or host,
            fields,
            target.prefix,
            secure=request.isSecure() or target.secure,
            trusted=trusted,
        )

    async def _stream(
        self, request: MirrorRequest, response: ClientResponse, record: _RequestRecord
    ) -> None:
        """Stream a response, or send an error response if it breaks off before its first byte."""
        try:
            await self._sender.stream(request, response)
        except BrokenResponseError as error:
            record.outcome = Outcome.ERROR
            _drop_frames(error)
            request.abort()
        except UpstreamError as error:
            record.outcome = Outcome.ERROR
            for name in {name for name, _ in response.fields} | {b"content-length"}:
                request.responseHeaders.removeHeader(name)
            response = self._error_response(error, request, record)
            record.status = response.status
            last = self.closing is not None or request.channel.is_reserved
            if not self._sender.send_whole(request, response, last=last):
                await self._sender.stream(request, response)


def _log_failure(request: MirrorRequest) -> None:
    """Log the exception that is being handled."""
    _log.failure(
        "Request failed: method={method} path={path}",
        method=request.method.decode("latin-1"),
        path=path_pattern(path_of(request.uri)),
    )


def _drop_frames(error: BaseException) -> None:
    """Drop the frames that an exception has passed, which hold content and the exception itself.

    Such a cycle would keep the content until the garbage collector runs.
    """
    each: BaseException | None = error
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__


def _check_credential(fields: Fields) -> None:
    """Raise MirrorError where there are two credentials (RFC 9110, section 11.6.2: there is one).

    Two servers could each use another one of them.
    """
    if len(fields.get_all(b"authorization")) > 1:
        raise error_responses.malformed("The request must have one Authorization field at most")


def _host(fields: Fields) -> bytes:
    return parse_host(fields.get_all(b"host"))


def _authority(address: Any) -> bytes:
    """Return an address of the mirror's as it stands in a URL; a UNIX socket has none."""
    host: str = getattr(address, "host", "localhost")
    port: int = getattr(address, "port", 80)
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode()
