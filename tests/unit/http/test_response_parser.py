"""The parser of response heads, compared with Twisted's client on the same bytes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import define as service
from attrs import field, frozen
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web._newclient import HTTP11ClientProtocol, Request
from twisted.web.http_headers import Headers

from ghmirror_tw.http import response_parser
from ghmirror_tw.http.response_parser import (
    MOST_HEAD_BYTES,
    MOST_INTERIM,
    MalformedResponseError,
    ResponseHead,
)
from ghmirror_tw.upstream.http_connection import HTTPConnection
from ghmirror_tw.upstream.incoming_response import IncomingResponse
from tests.fakes.in_memory_connections import ContentCollector

STRICTER = {
    # Lines end in CR LF, and neither is elsewhere (RFC 9112, section 2.2); no line continues
    # in the next one: an intermediary may refuse that (section 5.2); names are tokens, at
    # once followed by a colon (section 5.1), and values have no control characters.
    "a line that does not end in CR LF",
    "a line that is no field",
    # A status line has a version of HTTP/1, a status of three digits, and a reason without control
    # characters (section 4).
    "no status line of HTTP/1.1",
    # No request has Upgrade, so that no other protocol follows (RFC 9110, section 15.2.2).
    "another protocol, which was not requested",
    # One length or one coding defines the end of content (section 6.3), also where there is none;
    # there, the value of the coding is irrelevant.
    "more than one length or coding",
    "a length that is no number",
    "a transfer coding without a name",
    "a transfer coding that is not chunked",
    # There is an end to it.
    "the fields are too large",
    "too many interim responses",
}
"""Refused heads with the reason, which Twisted's client accepts."""


@frozen
class Outcome:
    """The outcome of a request: *end* is complete, uncertain, broken or refused."""

    end: str
    status: int = 0
    fields: tuple[tuple[bytes, tuple[bytes, ...]], ...] = ()
    content: bytes = b""
    reused: bool = field(default=False, eq=False)
    why: str = field(default="", eq=False)


@service(eq=False)
class Recorded:
    """Receives a response, or the reason of its absence."""

    response: Any = None
    reason: Failure | None = None
    collector: ContentCollector = field(factory=ContentCollector)

    def response_received(self, response: Any) -> None:
        assert self.response is None
        assert self.reason is None
        self.response = response
        response.deliverBody(self.collector)

    def request_failed(self, reason: Failure) -> None:
        assert self.response is None
        assert self.reason is None
        self.reason = reason

    def outcome(self, *, reused: bool) -> Outcome:
        """Return the outcome of the request, once the connection is closed."""
        if self.response is None:
            assert self.reason is not None
            return Outcome("refused", why=why(self.reason))
        by_name: dict[bytes, tuple[bytes, ...]] = {}
        if isinstance(self.response, IncomingResponse):
            # Twisted's client drops this field, with all that it names.
            for name, value in self.response.lines:
                if name != b"connection":
                    by_name[name] = (*by_name.get(name, ()), value)
        else:
            for name, values in self.response.headers.getAllRawHeaders():
                by_name[name.lower()] = tuple(values)
        assert self.collector.end
        return Outcome(
            self.collector.end,
            self.response.code,
            tuple(sorted(by_name.items())),
            self.collector.content,
            reused,
        )


def why(reason: Failure) -> str:
    """Return what a response was refused for."""
    for each in getattr(reason.value, "reasons", ()):
        if each.check(MalformedResponseError):
            return str(each.value)
    return ""


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """Cut bytes at places counted from the start, as far as there are such places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    for begin, end in itertools.pairwise(places):
        yield data[begin:end]


def feed(protocol: Any, transport: StringTransport, data: bytes, cuts: list[int]) -> None:
    """Feed the pieces to a connection, until it is closed by either side."""
    for piece in pieces(data, cuts):
        if transport.disconnecting:
            break
        assert transport.producerState == "producing"
        protocol.dataReceived(piece)


def twisted(data: bytes, method: bytes, cuts: list[int]) -> Outcome:
    """Return what Twisted's client makes of a response."""
    reused: list[object] = []
    protocol = HTTP11ClientProtocol(reused.append)
    transport = StringTransport()
    protocol.makeConnection(transport)
    headers = Headers({b"Host": [b"h"]})
    shown = Recorded()
    sent = protocol.request(Request(method, b"/", headers, None, persistent=True))
    sent.addCallbacks(shown.response_received, shown.request_failed)
    # Data on an idle connection makes it log a failure of its own.
    for piece in pieces(data, cuts):
        if transport.disconnecting or reused:
            break
        protocol.dataReceived(piece)
    protocol.connectionLost(Failure(ConnectionDone()))
    return shown.outcome(reused=bool(reused))


def ours(data: bytes, method: bytes, cuts: list[int]) -> Outcome:
    """Return what ours makes of it."""
    freed: list[object] = []
    lost: list[object] = []
    connection = HTTPConnection(freed.append, lost.append)
    transport = StringTransport()
    connection.makeConnection(transport)
    shown = Recorded()
    connection.send(b"", shown, is_head=method == b"HEAD", persistent=True)
    feed(connection, transport, data, cuts)
    reused = bool(freed) and connection.is_open
    connection.connectionLost(Failure(ConnectionDone()))
    assert lost == [connection]
    return shown.outcome(reused=reused)


# The received data: responses, more or less.

ENDS = st.sampled_from([b"\r\n"] * 150 + [b"\n", b"\r", b"\n\r", b"\r\n ", b"\r\n\t", b"\r\r\n"])
VERSIONS = st.sampled_from(
    [b"HTTP/1.1"] * 100 + [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"ICY"]
)
STATUSES = st.sampled_from(
    [b"200"] * 80
    + [b"304", b"204", b"404", b"500", b"600"] * 5
    + [b"100", b"103", b"199", b"101", b"99", b"099", b"0200", b"+200", b"2_0", b"2000", b"", b"20"]
    + [b"abc", b" 200"]
)
REASONS = st.sampled_from([b" OK"] * 20 + [b"", b" ", b" \0", b"\tOK", b" Not  Modified", b" \xff"])
LENGTHS = st.sampled_from(
    [b"5"] * 20
    + [b"0", b"05", b"+5", b"-5", b"5 ", b"5, 5", b"5,6", b"5 5", b"", b"0x5", b"1_0", b"5\t"]
    + [b"99999999999999999999999", b"4294967301", b"\xb2", b"5.0"]
)
CODINGS = st.sampled_from(
    [b"chunked"] * 20
    + [b"Chunked", b"chunked ", b"gzip, chunked", b"chunked, chunked", b"identity", b"gzip", b""]
    + [b"chunked;x=y", b"xchunked", b"chunked,"]
)
NAMES = st.sampled_from(
    [b"ETag", b"X-A", b"x-a", b"Link", b"Set-Cookie", b"Date", b"Server", b"content-type"] * 6
    + [b"Trailer", b"TE", b"Upgrade", b"Keep-Alive", b"Trailers"] * 2
    + [b"X A", b"X-A ", b"", b"X\0", b"\xc4", b"X(", b"Content-Length "]
)
VALUES = st.one_of(
    st.sampled_from(
        [b"", b'W/"1"', b" x ", b"\t", b"a\tb", b"a\0b", b"\xc3\xa4", b"a\x7f", b"\x01"]
    ),
    st.binary(max_size=5),
)
FIELDS = st.one_of(
    st.tuples(NAMES, VALUES),
    st.tuples(st.sampled_from([b"Content-Length", b"content-length"]), LENGTHS),
    st.tuples(st.just(b"Transfer-Encoding"), CODINGS),
    st.tuples(
        st.just(b"Connection"),
        st.sampled_from([b"close", b"Close", b"keep-alive", b"x, close", b"upgrade", b""]),
    ),
)
COLONS = st.sampled_from([b": "] * 60 + [b":", b" :", b"", b":\t ", b"::"])
CHUNKS = st.lists(
    st.tuples(
        st.sampled_from(
            [b"%x"] * 20 + [b"0%x", b"0x%x", b"%x ", b" %x", b"-%x", b"%x;a=b", b"%x;\n"]
        ),
        st.binary(max_size=6),
        ENDS,
        ENDS,
    ),
    max_size=4,
)
TRAILERS = st.sampled_from([b""] * 5 + [b"X-T: 1\r\n", b"Content-Length: 9\r\n", b"bad\r\n", b"\n"])


@st.composite
def head(draw: st.DrawFn) -> bytes:
    """A status line and fields."""
    lines = draw(VERSIONS) + b" " + draw(STATUSES) + draw(REASONS) + draw(ENDS)
    for name, value in draw(st.lists(FIELDS, max_size=5)):
        lines += name + draw(COLONS) + value + draw(ENDS)
    return lines + draw(ENDS)


@st.composite
def content(draw: st.DrawFn) -> bytes:
    """The data after a head."""
    kind = draw(st.sampled_from(["none", "plain", "chunked"]))
    if kind == "none":
        return b""
    if kind == "plain":
        return draw(st.one_of(st.just(b"12345"), st.binary(max_size=8)))
    text = b""
    for size, piece, end, after in draw(CHUNKS):
        text += size % len(piece) + end + piece + after
    return (
        text
        + draw(st.sampled_from([b"0\r\n"] * 8 + [b"", b"00\r\n", b"0\n"]))
        + draw(TRAILERS)
        + draw(st.sampled_from([b"\r\n"] * 8 + [b"", b"\n"]))
    )


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    """Responses, with interim ones before and other data behind, and some bytes changed."""
    interim = draw(st.lists(st.sampled_from([b"HTTP/1.1 100 Continue\r\n\r\n"]), max_size=2))
    data = bytearray(b"".join(interim) + draw(head()) + draw(content()))
    data += draw(st.sampled_from([b""] * 6 + [b"\r\n", b"x", b"HTTP/1.1 200 OK\r\n\r\n"]))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        change = draw(st.sampled_from(["drop", "set", "add"]))
        if change == "drop":
            del data[place : place + 1]
        elif change == "set":
            data[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
        else:
            data[place:place] = draw(st.sampled_from([b"\r", b"\n", b" ", b"\0", b":", b"\r\n"]))
    return bytes(data)


METHODS = st.sampled_from([b"GET", b"GET", b"GET", b"HEAD"])
CUTS = st.lists(st.integers(0, 400), max_size=6)


@settings(deadline=None, max_examples=600)
@given(data=responses(), method=METHODS, cuts=CUTS)
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345", b"GET", [3, 30, 42])
@example(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"GET", [])
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"HEAD", [])
@example(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n", b"GET", [1])
@example(b"", b"GET", [])
def test_heads_are_parsed_as_by_twisted_or_refused(
    data: bytes, method: bytes, cuts: list[int]
) -> None:
    """The same status, fields, content and end; or it is refused, by one of both or for a name."""
    expected, got = twisted(data, method, cuts), ours(data, method, cuts)
    if got.end == "refused":
        if expected.end != "refused":
            assert any(got.why.startswith(name) for name in STRICTER), (got.why, expected)
    else:
        assert got == expected
        assert expected.reused or not got.reused


@settings(deadline=None, max_examples=300)
@given(data=responses(), method=METHODS, cuts=CUTS)
def test_pieces_make_no_difference_to_a_head(data: bytes, method: bytes, cuts: list[int]) -> None:
    """The result does not depend on the pieces in which bytes are received, even byte by byte."""
    whole = ours(data, method, [])
    for places in (cuts, list(range(len(data)))):
        other = ours(data, method, places)
        assert other == whole
        assert other.reused == whole.reused


# By name.

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("coding", [b"chunked", b"Chunked", b"CHUNKED", b" chunked\t"])
def test_accepted_codings(coding: bytes) -> None:
    """Names of codings have no case (RFC 9112, section 7); values may have space around them."""
    got = ours(OK + b"Transfer-Encoding:" + coding + b"\r\n\r\n2\r\nab\r\n0\r\n\r\n", b"GET", [])
    assert (got.end, got.content) == ("complete", b"ab")


@pytest.mark.parametrize("length", [b"5", b"05", b" 5 ", b"\t5", b"000000000000000005"])
def test_accepted_lengths(length: bytes) -> None:
    """A length is digits, however many (RFC 9110, section 8.6)."""
    got = ours(OK + b"Content-Length:" + length + b"\r\n\r\n12345", b"GET", [])
    assert (got.end, got.content) == ("complete", b"12345")


def test_the_longest_length() -> None:
    """It need not be received to count."""
    got = ours(OK + b"Content-Length: 999999999999999999\r\n\r\n12345", b"GET", [])
    assert (got.end, got.content) == ("broken", b"12345")


def test_each_line_is_parsed_on_its_own() -> None:
    """Lines that were read before are known whole: by another value or another name they aren't."""
    for lines in ((b"Date: a", b"date: a"), (b"Date: b", b"DATE:a"), (b"Server: a", b"Date:  a ")):
        for _ in range(2):
            block = b"\r\n".join((OK[:-2], *lines, b"", b""))
            read = ResponseHead(block, to_head=False).lines
            assert read == [
                (name.lower(), value.strip())
                for name, value in (line.split(b":") for line in lines)
            ]


def test_parsed_lines_are_memoised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of some common fields, without data of users, up to some hundreds."""
    known: dict[bytes, tuple[bytes, bytes]] = {}
    monkeypatch.setattr(response_parser, "_parsed_lines", known)
    personal = b"ETag: x\r\nLink: <x>\r\nX-OAuth-Scopes: repo\r\nLocation: https://x/?token=y\r\n"
    for number in range(3000):
        ResponseHead(OK + b"Server: s\r\nDate: %d\r\n%b\r\n" % (number, personal), to_head=False)
        assert len(known) <= 1024
    assert {name for name, _ in known.values()} == {b"server", b"date"}
    known.clear()
    ResponseHead(OK + b"Server: %b\r\n\r\n" % (b"s" * 512), to_head=False)
    assert not known


def refused(data: bytes, method: bytes = b"GET") -> str:
    """Return why a response is refused, in one piece and byte by byte."""
    got = ours(data, method, [])
    assert got.end == "refused", got
    assert ours(data, method, list(range(len(data)))) == got
    return got.why


def test_two_lengths() -> None:
    """The end of such a response is ambiguous."""
    for fields in (
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 5 5\r\n",
        b"Content-Length:\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: identity\r\n",
    ):
        assert refused(OK + fields + b"\r\n5\r\n12345\r\n0\r\n\r\n"), fields


def test_lines() -> None:
    """A line ends in CR LF, and is not continued."""
    for data in (
        b"HTTP/1.1 200 OK\nA: b\n\n",
        OK + b"A: b\nC: d\r\n\r\n",
        OK + b"A: b\rC: d\r\n\r\n",
        OK + b"A: b\r\n c\r\n\r\n",
        OK + b" A: b\r\n\r\n",
        OK + b"A: b\0c\r\n\r\n",
        OK + b"A\r\n\r\n",
        OK + b"A : b\r\n\r\n",
        OK + b": b\r\n\r\n",
        b"\r\n" + OK + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n\r\n" + OK + b"\r\n",
        b"no HTTP at all",
        b"HTTP/1.1 101 Switching\r\n\r\n",
    ):
        assert refused(data), data


def test_limits() -> None:
    """All fields together have a limit, a single line has none; the excess is refused at once."""
    for sizes in ((16_384,), (60_000, 60_000), (200_000,)):
        lines = b"".join(b"A: " + b"x" * size + b"\r\n" for size in sizes)
        got = ours(OK + lines + b"\r\n", b"GET", [70_000])
        taken = [len(value) for _, values in got.fields for value in values]
        assert (got.end, taken) == ("uncertain", list(sizes))
    lines = (b"A: " + b"x" * 1000 + b"\r\n") * 100
    rest = MOST_HEAD_BYTES - len(OK + lines) - len(b"A: ") - 4
    fits = OK + lines + b"A: " + b"x" * rest + b"\r\n\r\n"
    assert len(fits) == MOST_HEAD_BYTES
    assert ours(fits, b"GET", [70_000, 200_000]).end == "uncertain"
    for data in (fits[:-4] + b"x\r\n\r\n", fits[:-4] + b"x" * 10):
        assert ours(data, b"GET", []).why == f"all fields may take {MOST_HEAD_BYTES} bytes"
        assert ours(data, b"GET", [70_000]).why == f"all fields may take {MOST_HEAD_BYTES} bytes"


def test_interim_responses() -> None:
    """They are skipped, but not for ever."""
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    got = ours(interim * MOST_INTERIM + OK + b"Content-Length: 0\r\n\r\n", b"GET", [])
    assert (got.end, got.status, got.fields) == ("complete", 200, ())
    assert refused(interim * (MOST_INTERIM + 1)) == f"more than {MOST_INTERIM} interim responses"


def test_connection_options() -> None:
    """The field remains where it names fields that are not to be forwarded, in all of its lines."""
    options = (b"close, X-A", b"keep-alive", b"Close, Keep-Alive,", b"", b"upgrade")
    block = OK + b"".join(b"Connection: %b\r\n" % each for each in options) + b"X-A: 1\r\n\r\n"
    head = ResponseHead(block, to_head=False)
    kept = [(b"connection", b"close, X-A"), (b"connection", b"upgrade")]
    assert head.lines == [(b"x-a", b"1"), *kept]
    assert not head.persistent


def test_persistent_connections() -> None:
    """Only a connection that is to last, and brought a whole response and nothing behind it."""
    whole = OK + b"Content-Length: 2\r\n\r\nab"
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    unmodified = b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"
    for data in (whole, chunked, unmodified):
        assert ours(data, b"GET", []).reused
        assert ours(data, b"GET", list(range(len(data)))).reused
        for more in (b"x", b"\r\n", whole):
            got = ours(data + more, b"GET", [])
            assert got.end == "complete"
            assert not got.reused
            assert not ours(data + more, b"GET", [len(data)]).reused
        for option in (b"close", b"Close", b"keep-alive, close"):
            closing = data.replace(b"\r\n", b"\r\nConnection: %b\r\n" % option, 1)
            got = ours(closing, b"GET", [])
            assert got.end == "complete"
            assert not got.reused
        assert not ours(data.replace(b"1.1", b"1.0"), b"GET", []).reused
    assert not ours(OK + b"\r\nab", b"GET", []).reused
    assert not ours(whole[:-1], b"GET", []).reused
    assert ours(OK + b"Content-Length: 2\r\n\r\n", b"HEAD", []).reused
