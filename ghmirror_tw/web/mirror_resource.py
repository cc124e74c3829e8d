"""The web resource that answers all of GitHub's API."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Final

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.resource import IResource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from ghmirror_tw.caching.forwarded_fields import forwarded_request_fields
from ghmirror_tw.github.base_urls import BaseUrlSelector
from ghmirror_tw.github.cors import is_preflight
from ghmirror_tw.github.enterprise import VERSION_FIELD, holds_version
from ghmirror_tw.github.indenting import indented
from ghmirror_tw.github.url_rewriting import BaseUrls
from ghmirror_tw.github.user_agents import gets_indented_json
from ghmirror_tw.http import error_responses
from ghmirror_tw.http.cache_status import Outcome
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.host import parse_host
from ghmirror_tw.http.preconditions import PRECONDITIONS
from ghmirror_tw.http.request import BadRequestError, Request
from ghmirror_tw.http.targets import NoSuchPathError, Target, parse_target, path_of
from ghmirror_tw.http.via import has_passed
from ghmirror_tw.proxy.mirror import Mirror
from ghmirror_tw.telemetry.busiest import Busiest
from ghmirror_tw.telemetry.metrics import Metrics
from ghmirror_tw.upstream.byte_budget import FREE_BYTES, ByteBudgets
from ghmirror_tw.upstream.received_content import ReceivedContent
from ghmirror_tw.upstream.upstream_interface import UpstreamError
from ghmirror_tw.web import health
from ghmirror_tw.web.access_log import AccessLog, shown_path
from ghmirror_tw.web.client_channel import PIECE_BYTES
from ghmirror_tw.web.client_response import (
    ClientResponse,
    ClientResponseBuilder,
    View,
    own_answer,
    preflight_answer,
)
from ghmirror_tw.web.content_streaming import pour
from ghmirror_tw.web.mirror_request import MirrorRequest

_METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
#: What nginx made customary for a client that went away before its answer.
_GONE: Final = 499
#: Paths are told apart by so many characters where the busiest are shown.
_PATH_LENGTH: Final = 200
#: `Retry-After` on a connection that is reserved for health checks, in seconds.
_NO_CONNECTION_S: Final = 5


@define(eq=False)
class _Told:
    """What the log and the metrics say of one request."""

    began: float
    status: int = _GONE
    outcome: str = Outcome.ERROR
    #: Name of the credential, once it is known.
    credential: str = ""
    #: Whether it was asked as GitHub Enterprise Server is.
    enterprise: bool = False


@implementer(IResource)
@define(eq=False)
class MirrorResource:
    """Answers requests through the mirror, and health checks by itself."""

    reactor: IReactorTime
    mirror: Mirror
    fitter: ClientResponseBuilder
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
    #: Set once nothing new is taken; seconds after which to come again.
    closing: int | None = None
    busiest: Busiest = field(factory=Busiest)
    #: Whether the warning about ignored fields of a proxy was logged.
    _warned: bool = False
    _quiet: list[Deferred[None]] = field(factory=list)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.web"))

    def __attrs_post_init__(self) -> None:
        self.metrics.in_flight.set_function(lambda: self.in_flight)

    @property
    def budgets(self) -> ByteBudgets:
        """How many bytes of content may be held."""
        return self.fitter.budgets

    # IResource.

    def putChild(self, path: bytes, child: Any) -> None:
        """There are no children."""
        raise NotImplementedError

    def getChildWithDefault(self, name: bytes, request: Any) -> Any:  # noqa: ARG002
        """There are no children: every path is answered here."""
        return self

    def render(self, request: MirrorRequest) -> int:
        """Answer *request*, in time."""
        page = health.page_of(path_of(request.uri), self.readiness)
        if page is not None:
            request.write(health.send(request, page))
            request.finish()
            return NOT_DONE_YET
        told = _Told(self.reactor.seconds())
        self.in_flight += 1
        request.on_lost = Deferred.fromCoroutine(self._respond(request, told)).cancel
        return NOT_DONE_YET

    def refused(self, error: MirrorError) -> None:
        """Count what was refused before it was a request."""
        self.metrics.request(b"", error.status, Outcome.ERROR, 0.0)
        self.access_log.request(b"-", "-", error.status, Outcome.ERROR, seconds=0.0)

    def _done(self, request: MirrorRequest, told: _Told) -> None:
        self.in_flight -= 1
        seconds = self.reactor.seconds() - told.began
        self.metrics.request(request.method, told.status, told.outcome, seconds)
        path = shown_path(request.uri)
        cut = len(path) > _PATH_LENGTH
        self.busiest.count(path[: _PATH_LENGTH - 3] + "..." if cut else path)
        self.access_log.request(
            request.method,
            path,
            told.status,
            told.outcome,
            seconds=seconds,
            login=self.mirror.login(told.credential),
        )
        if self._quiet and not self.in_flight:
            quiet, self._quiet = self._quiet, []
            for waiting in quiet:
                waiting.callback(None)

    def quiet(self) -> Deferred[None]:
        """Return when no request is under way."""
        waiting: Deferred[None] = Deferred(self._quiet.remove)
        self._quiet.append(waiting)
        if not self.in_flight:
            self._quiet.remove(waiting)
            waiting.callback(None)
        return waiting

    # One request.

    async def _respond(self, request: MirrorRequest, told: _Told) -> None:
        try:
            try:
                _check_credential(request.fields)
                if is_preflight(request.method, request.fields):
                    told.outcome = Outcome.PASS
                    fitted = preflight_answer(self.reactor.seconds())
                else:
                    fitted = await self._answered(request, told)
            except CancelledError:
                if request.fault is None:
                    raise
                told.outcome = Outcome.ERROR
                fitted = self._sorry(request.fault, request.fields)
            except Exception as error:  # noqa: BLE001 - the client gets a clean answer to any
                fitted = self._sorry(error, request.fields)
            if told.enterprise and self.enterprise_version:
                fields = fitted.fields.with_line(VERSION_FIELD, self.enterprise_version)
                fitted = evolve(fitted, fields=fields)
            told.status = fitted.status
            await self._send_or_say(request, fitted, told)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it was, it ends here
            if not isinstance(error, CancelledError):
                self._log.failure("A request could not be answered")
            _drop_frames(error)
            if not request._disconnected and not request.finished:  # noqa: SLF001
                _abort(request)
        self._done(request, told)

    def _sorry(self, error: Exception, fields: Fields) -> ClientResponse:
        """Return the error response to a request with *fields*."""
        if isinstance(error, NoSuchPathError):
            error = error_responses.no_such_path(error.message)
        elif isinstance(error, BadRequestError):
            error = error_responses.malformed(error.message)
        elif not isinstance(error, MirrorError):
            self._log.failure("A request could not be answered")
            _drop_frames(error)
            error = error_responses.internal()
        _drop_frames(error)
        body = indented(error.body()) if gets_indented_json(fields) else error.body()
        now = self.reactor.seconds()
        return own_answer(error.status, body, error.reason, error.retry_after, now)

    async def _answered(self, request: MirrorRequest, told: _Told) -> ClientResponse:
        fields = request.fields
        target = parse_target(request.uri)
        told.enterprise = bool(target.prefix)
        trusted = self._is_trusted(request)
        base = self._base(request, target, trusted)
        if request.method not in _METHODS:
            raise error_responses.not_implemented(
                "The method is not one of GitHub's: use GET, HEAD, POST, PUT, PATCH, DELETE or"
                " OPTIONS"
            )
        via = fields.get_all(b"via")
        if via and has_passed(via, self.pseudonym):
            raise error_responses.loop()
        if self.closing is not None:
            raise error_responses.shutting_down(self.closing)
        if request.channel.is_reserved:
            raise error_responses.overloaded("of connections of clients", _NO_CONNECTION_S)
        sent = fields.memoised(forwarded_request_fields)
        question = Request(request.method, target.target, sent)
        told.credential = self.mirror.credential_of(sent)
        version = b""
        if told.enterprise and holds_version(question.method, question.path):
            version = self.enterprise_version
        if version:
            # GitHub knows no such representation; it is we who judge what the client has of it.
            question = evolve(question, fields=sent.without(PRECONDITIONS))
        view = View(request.method, base, fields, version, question.path)
        response = await self.mirror.respond(question, request.upload)
        told.outcome = response.outcome
        try:
            return await self.fitter.fit(response, view, self.reactor.seconds())
        except BaseException as error:
            told.outcome = Outcome.ERROR
            if response.incoming is not None:
                response.incoming.abort()
            if isinstance(error, UpstreamError):
                raise error_responses.upstream_error(error.reason, error.limit) from error
            raise

    def _is_trusted(self, request: MirrorRequest) -> bool:
        """Tell whether a request came through one of the trusted proxies."""
        if not self.trusted_proxies:
            return False
        try:
            peer = ip_address(getattr(request.getClientAddress(), "host", ""))
        except ValueError:
            return False
        # Who comes by IPv4 to a socket for both is known by an address of IPv6 (RFC 4291, 2.5.5.2).
        peer = getattr(peer, "ipv4_mapped", None) or peer
        return any(peer in network for network in self.trusted_proxies)

    def _base(self, request: MirrorRequest, target: Target, trusted: bool) -> BaseUrls:
        """Return the URLs that replace GitHub's in the response; the host is always validated."""
        fields = request.fields
        if request.clientproto == b"HTTP/1.0" and fields.get(b"host") is None:
            host = parse_host([_authority(request.getHost())])
        else:
            host = fields.memoised(_host)
        if not self._warned and self.addressing.ignores(fields, trusted=trusted):
            self._warned = True
            self._log.warn(
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

    async def _send_or_say(
        self, request: MirrorRequest, fitted: ClientResponse, told: _Told
    ) -> None:
        """Send a response, or say that it is broken, where nothing of it has been sent yet."""
        try:
            await self._send(request, fitted, told)
        except UpstreamError as error:
            _drop_frames(error)
            for name in {name for name, _ in fitted.fields} | {b"content-length"}:
                request.responseHeaders.removeHeader(name)
            fitted = self._sorry(
                error_responses.upstream_error(error.reason, error.limit), request.fields
            )
            told.status = fitted.status
            await self._send(request, fitted, told)

    async def _send(self, request: MirrorRequest, fitted: ClientResponse, told: _Told) -> None:
        if self.closing is not None or request.channel.is_reserved:
            request.responseHeaders.setRawHeaders(b"connection", [b"close"])
            request.channel.persistent = False
        held = fitted.held
        if len(held) > FREE_BYTES:
            request.note_held_content()
            budgets = self.budgets
            budget = budgets.forms if fitted.made else budgets.of_size(len(held))
            budget.track(fitted, held)
        whole = fitted.incoming is None and len(fitted.content) <= PIECE_BYTES
        if whole and request.send_response(
            fitted.status, fitted.fields, fitted.content, fitted.length
        ):
            return
        request.setResponseCode(fitted.status)
        for name, value in fitted.fields:
            request.responseHeaders.addRawHeader(name, value)
        if fitted.length is not None:
            request.responseHeaders.setRawHeaders(b"content-length", [b"%d" % fitted.length])
        if fitted.incoming is not None and request.method == b"HEAD":
            if await fitted.incoming.collect(0) is None:
                fitted.incoming.abort()
        elif fitted.incoming is not None:
            await self._relay(request, fitted, told)
        else:
            await pour(request, ReceivedContent(fitted.content), None, self.reactor.callLater)
        request.finish()

    async def _relay(self, request: MirrorRequest, fitted: ClientResponse, told: _Told) -> None:
        """Pass content on as fast as the client takes it; what breaks off there, breaks off here.

        After the first byte there is no other way to tell the client than to close the
        connection (RFC 9112, section 8).
        """
        content = fitted.incoming
        assert content is not None
        working = 0
        if fitted.conversion is not None:
            working = fitted.conversion.size_bytes
            request.note_held_content()
        try:
            with self.budgets.forms.charge(working):
                await pour(request, content, fitted.conversion, self.reactor.callLater)
        except UpstreamError as error:
            told.outcome = Outcome.ERROR
            self._log.warn("An answer broke off: {why}", why=error.why)
            if not request.startedWriting:
                raise
            _abort(request)
            raise CancelledError from error
        finally:
            content.abort()


def _drop_frames(error: BaseException) -> None:
    """Drop the frames that an exception has passed, which hold content and the exception itself.

    Such a cycle would keep the content until the garbage collector finds it.
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
    """Return an address of ours as it stands in a URL; a UNIX socket has none."""
    host: str = getattr(address, "host", "localhost")
    port: int = getattr(address, "port", 80)
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode()


def _abort(request: MirrorRequest) -> None:
    channel: Any = request.channel
    if channel is not None and channel.transport is not None:
        channel.transport.abortConnection()
