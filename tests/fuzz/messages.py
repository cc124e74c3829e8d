"""Parsers of messages: requests of clients, responses of GitHub and of proxies."""

from __future__ import annotations

from typing import Any, cast

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from ghmirror_tw.caching.forwarded_fields import canonical_request_fields, forwarded_request_fields
from ghmirror_tw.http.fields import Fields, serialised
from ghmirror_tw.http.outbound_proxy import OutboundProxy, TunnelError
from ghmirror_tw.http.response_parser import MalformedResponseError, ResponseHead, ResponseParser
from ghmirror_tw.upstream.http_connection import HTTPConnection
from ghmirror_tw.web.client_connections import MirrorSite
from ghmirror_tw.web.mirror_channel import MirrorChannel
from ghmirror_tw.web.mirror_request import MirrorRequest
from ghmirror_tw.web.response_head import head_of
from tests.fakes.in_memory_connections import HOST, ClientTransport, ContentCollector
from tests.fuzz import reference
from tests.fuzz.input_values import fields_of, ways

#: No input of a fuzzer has so much content; what is announced beyond it is refused.
MOST_CONTENT = 1 << 20
#: Method, target, version, sorted fields and content of a request.
Seen = tuple[bytes, bytes, bytes, reference.Lines, bytes]


@define(eq=False)
class Server:
    """Receives requests, and sends a 204 for each complete one."""

    seen: list[Seen] = field(factory=list)
    refusals: int = 0
    max_request_size: int = MOST_CONTENT
    in_flight: int = 0

    def render(self, request: Any) -> None:
        if request.upload is None:
            self._respond(request, b"")
        else:
            request.on_lost = request.channel.transport.abortConnection
            Deferred.fromCoroutine(self._receive(request))

    async def _receive(self, request: Any) -> None:
        self._respond(request, await request.upload.whole(MOST_CONTENT))

    def _respond(self, request: Any, content: bytes) -> None:
        lines = tuple(sorted(request.fields.lines))
        self.seen.append((request.method, request.uri, request.clientproto, lines, content))
        assert request.send_response(204, Fields(), b"")

    def note_refused(self, error: Any) -> None:
        assert 400 <= error.status <= 501
        self.refusals += 1


def received(pieces: list[bytes]) -> tuple[list[Seen], bool]:
    """Return the requests in what a client sends, and whether the connection was ended."""
    server = Server()
    channel = cast(MirrorChannel, MirrorSite(server, MirrorRequest, Clock()).buildProtocol(HOST))
    transport = ClientTransport()
    channel.makeConnection(transport)
    for piece in pieces:
        if transport.ended:
            break
        channel.dataReceived(piece)
    ended, sent = transport.ended, transport.value()
    channel.connectionLost(Failure(ConnectionDone()))
    _check_sent(sent, len(server.seen) + server.refusals)
    return server.seen, ended


def _check_sent(sent: bytes, responses: int) -> None:
    """Assert that *sent* are so many whole responses."""
    while sent:
        found = ResponseParser(to_head=False).find(sent)
        if found is None:
            assert sent == b"HTTP/1.1 100 Continue\r\n\r\n"
            break
        head, sent = found
        assert head.length is not None
        assert len(sent) >= head.length
        sent = sent[head.length :]
        responses -= 1
    assert responses == 0


def request_heads(raw: bytes) -> None:
    """Each request is the one of RFC 9112, in any pieces, and is forwarded as such."""
    seen, ended = received([raw])
    expected = [
        (*each.first.groups(), tuple(sorted(each.lines)), each.content)
        for each in reference.requests(raw)
    ]
    assert seen == expected[: len(seen)]
    assert ended or len(seen) == len(expected)
    # A request with known field lines is recognised by them, where it is sent alone.
    heads = [head + b"\r\n\r\n" for head in raw.split(b"\r\n\r\n")]
    heads[-1] = heads[-1].removesuffix(b"\r\n\r\n")
    # Two bytes of a TLS handshake are recognised where they are received together.
    for pieces in () if raw.startswith(b"\x16\x03") else (heads, *ways(raw)):
        assert received([piece for piece in pieces if piece]) == (seen, ended)
    for _, _, _, lines, _ in seen:
        fields = Fields(lines)
        for sent in (forwarded_request_fields(fields), canonical_request_fields(fields), fields):
            _is_written(sent)


def _is_written(fields: Fields) -> None:
    """Assert that *fields* are the same when a recipient has read them."""
    head = b"HTTP/1.1 200 OK\r\n" + serialised(fields) + b"\r\n"
    found = reference.response(head, to_head=True)
    assert found is not None
    message, rest = found
    assert message.lines == tuple((n, v.strip(b" \t")) for n, v in fields.lines)
    assert not rest


def sent_heads(raw: bytes) -> None:
    """Fields are sent to clients as they are, or not at all."""
    status = 200 + len(raw) % 400
    for lines in (
        fields_of(raw).lines,
        tuple((b"x-%d" % at, line) for at, line in enumerate(raw.split(b"\0"))),
    ):
        breaks = any(b"\r" in value or b"\n" in value for _, value in lines)
        try:
            block: bytes | None = serialised(Fields(lines))
        except ValueError:
            block = None
        assert (block is None) is (breaks or any(b"\0" in value for _, value in lines))
        if block is not None:
            _is_written(Fields(lines))
        head = head_of(b"HTTP/1.1", status, lines)
        assert (head is None) is breaks
        if head is not None and not breaks:
            found = reference.response(head, to_head=True)
            if found is None:
                assert b"\0" in head
                continue
            message, rest = found
            assert not rest
            assert int(message.first[2]) == status
            expected = [
                (name, value.strip(b" \t"))
                for name, value in lines
                if not name.startswith(b"access-control-")
            ]
            sent = [line for line in message.lines if not line[0].startswith(b"access-control-")]
            assert sent == expected


def _heads(pieces: list[bytes], *, to_head: bool) -> tuple[ResponseHead | None, bytes, bool]:
    """Return a head, the data after it, and whether it was refused."""
    heads = ResponseParser(to_head=to_head)
    for at, piece in enumerate(pieces):
        try:
            found = heads.find(piece)
        except MalformedResponseError:
            return None, b"", True
        if found is not None:
            return found[0], found[1] + b"".join(pieces[at + 1 :]), False
    return None, b"", False


def response_heads(raw: bytes) -> None:
    """A head is the one of RFC 9112, for any division into pieces."""
    for to_head in (False, True):
        head, rest, refused = _heads([raw], to_head=to_head)
        for pieces in ways(raw):
            other, other_rest, other_refused = _heads(pieces, to_head=to_head)
            assert (other_rest, other_refused) == (rest, refused)
            assert _facts(other) == _facts(head)
        if head is None:
            continue
        assert raw.endswith(b"\r\n\r\n" + rest)
        assert 200 <= head.status <= 999
        _is_written(Fields(head.lines))
        # Its content has nothing to do with it.
        empty = reference.response(raw[: len(raw) - len(rest)], to_head=True)
        assert empty is not None
        assert int(empty[0].first[2]) == head.status
        names = {name for name, _ in head.lines}
        expected = [line for line in empty[0].lines if line[0] in names and _names_fields(line)]
        assert sorted(head.lines) == sorted(expected)
        # Those that concern the connection or delimit the message are last.
        last = {b"connection", b"content-length"}
        in_order = [line for line in head.lines if line[0] not in last]
        assert in_order == [line for line in expected if line[0] not in last]
        assert head.persistent is empty[0].persistent


def _names_fields(line: tuple[bytes, bytes]) -> bool:
    """Whether a line other than `Connection: close` and the like: those are not forwarded."""
    options = {option.strip(b" \t").lower() for option in line[1].split(b",")}
    return line[0] != b"connection" or not options <= {b"", b"close", b"keep-alive"}


def _facts(head: ResponseHead | None) -> Any:
    return head and (head.status, head.lines, head.persistent, head.chunked, head.length)


@frozen
class Response:
    """The response for a requester; *status* is 0 for none."""

    status: int
    lines: reference.Lines = ()
    content: bytes = b""
    end: str = ""
    reusable: bool = False


@define(eq=False)
class Requester:
    """Receives a response, or the reason of its absence; exactly one of them, once."""

    response: Any = None
    failure: Failure | None = None
    reader: ContentCollector = field(factory=ContentCollector)

    def response_received(self, response: Any) -> None:
        assert self.response is self.failure is None
        self.response = response
        response.deliverBody(self.reader)

    def request_failed(self, reason: Failure) -> None:
        assert self.response is self.failure is None
        self.failure = reason


def responded(pieces: list[bytes], *, to_head: bool) -> Response:
    """Return the response in what a server sends."""
    freed: list[object] = []
    connection = HTTPConnection(freed.append, lambda _: None)
    transport = StringTransport()
    connection.makeConnection(transport)
    requester = Requester()
    connection.send(b"", requester, is_head=to_head, persistent=True)
    for piece in pieces:
        if transport.disconnecting:
            break
        assert transport.producerState == "producing"
        connection.dataReceived(piece)
    reusable = bool(freed) and connection.is_open
    connection.connectionLost(Failure(ConnectionDone()))
    response = requester.response
    if response is None:
        assert requester.failure is not None
        return Response(0)
    reader = requester.reader
    assert reader.end
    lines = tuple(response.lines)
    headers: Headers = response.headers
    assert sum(len(values) for _, values in headers.getAllRawHeaders()) == len(lines)
    return Response(response.code, lines, reader.content, reader.end, reusable)


def responses(raw: bytes) -> None:
    """A response has the content of RFC 9112, and a truncated one is recognised as such."""
    for to_head in (False, True):
        whole = responded([raw], to_head=to_head)
        for pieces in ways(raw):
            assert responded(pieces, to_head=to_head) == whole
        if whole.end not in {"complete", "uncertain"}:
            continue
        found = reference.response(raw, to_head=to_head)
        assert found is not None
        message, rest = found
        assert (whole.status, whole.content) == (int(message.first[2]), message.content)
        assert (whole.end == "uncertain") is message.to_the_end
        if not message.to_the_end:
            assert whole.reusable is (message.persistent and not rest)


_PROXY = OutboundProxy("proxy", 3128, "user", "swordfish")


def _opened(pieces: list[bytes], *, sealed: bool) -> bool | None:
    """Return whether the tunnel is open after the last piece; None: there is none."""
    so_far, opened, reason = b"", False, ""
    for piece in pieces:
        assert not opened
        so_far += piece
        try:
            opened = _PROXY.is_open(so_far, sealed=sealed)
        except TunnelError as error:
            reason = error.reason
            break
    assert reason == "" or reason.isprintable()
    assert "swordfish" not in reason
    return None if reason else opened


def tunnels(raw: bytes) -> None:
    """A tunnel is open only after a response 2xx without following data, in any pieces."""
    for sealed in (False, True):
        whole = _opened([raw], sealed=sealed)
        if whole is not False:
            head = raw.replace(b"\r\n", b"\n")
            assert whole is None or (head.endswith(b"\n\n") and b" 2" in head)
            continue
        # All of its parts are incomplete, too.
        for pieces in ways(raw):
            assert _opened(pieces, sealed=sealed) is False
    if _opened([raw], sealed=True) is True:
        assert _opened([raw + b"x"], sealed=True) is None
