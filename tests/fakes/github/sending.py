"""A response as bytes: status line, fields, content coding, ranges and faults."""

from __future__ import annotations

import re
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

from tests.fakes.github.limits import quota_of
from tests.fakes.github.messages import MEDIA_TYPE, OLD_VERSION, VERSIONS
from tests.fakes.github.tags import tag_of

if TYPE_CHECKING:
    from tests.fakes.github.faults import Fault
    from tests.fakes.github.messages import Request, Response
    from tests.fakes.github.server import GitHub

_PRETTY = (b"curl", b"Wget", b"Safari", b"Firefox")


STATIC_FIELDS = (
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


_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}


def _accepts_gzip(accept_encoding: bytes | None) -> bool:
    if not accept_encoding:
        return False
    for member in accept_encoding.lower().split(b","):
        name, _, weight = member.partition(b";")
        if name.strip() in {b"gzip", b"*"}:
            return not re.fullmatch(rb"\s*q=0(\.0*)?\s*", weight)
    return False


def _media_type(accept: bytes) -> bytes:
    media = MEDIA_TYPE.search(accept.decode("latin-1"))
    if media is None or not media[1]:
        return b"github.v3; format=json"
    json_too = b"; format=json" if b"+json" in accept else b""
    return b"github.v3; param=%b%b" % (media[1].encode(), json_too)


def send_response(
    github: GitHub, request: Request, response: Response, fault: Fault | None
) -> None:
    request.call = None
    connection = request.connection
    kind = fault.kind if fault is not None else ""
    request.status = response.status
    content, coding, ranges = _content_as_sent(github, request, response)
    status = response.status
    if kind == "bad-gzip":
        content, coding = b"\x1f\x8b\x08\x00" + b"this is no gzip" * 8, b"gzip"
    head = [_status_line(github, status), _common_fields(github, request, response)]
    put = head.append
    has_content = status >= 200 and status not in {204, 304}
    if response.content_type and (has_content or (status == 304 and github.content_type_in_304)):
        put(b"Content-Type: %b\r\n" % response.content_type.encode("latin-1"))
    chunked = False
    if has_content:
        size = response.stream_bytes if response.stream_bytes is not None else len(content)
        chunked = github.chunked and response.stream_bytes is None and not kind
        if chunked:
            put(b"Transfer-Encoding: chunked\r\n")
        else:
            put(b"Content-Length: %d\r\n" % size)
        if coding:
            put(b"Content-Encoding: %b\r\n" % coding)
    for name, value in ranges:
        put(b"%b: %b\r\n" % (name, value))
    if response.tagged and response.rendering is not None and (status != 304 or github.tag_in_304):
        weak = b"W/" if coding else b""
        tag = tag_of(github, request, response)
        if status == 304 and isinstance(github.tag_in_304, str):
            tag = github.tag_in_304.encode()
        put(b'ETag: %b"%b"\r\n' % (weak, tag))
    if response.last_modified:
        put(b"Last-Modified: %b\r\n" % response.last_modified.encode("latin-1"))
    if response.link and status != 304:
        put(b"Link: %b\r\n" % response.link.encode("latin-1"))
    for name, value in response.fields:
        put(b"%b: %b\r\n" % (name, value))
    if kind == "huge-field" and fault is not None:
        put(b"X-Huge: %b\r\n" % (b"x" * fault.size_bytes))
    close = request.close
    if close:
        put(b"Connection: close\r\n")
    put(b"\r\n")
    if request.method == b"HEAD" or not has_content:
        content = b""
    elif response.stream_bytes is not None:
        connection.write(b"".join(head))
        connection.stream(request, response.stream_bytes)
        return
    elif chunked:
        content = (b"%x\r\n%b\r\n" % (len(content), content) if content else b"") + b"0\r\n\r\n"
    breaks_off = kind in {"reset-in-content", "truncated"}
    # The response to HEAD is complete after its fields.
    if breaks_off or (kind == "idle-in-content" and request.method != b"HEAD"):
        connection.write(b"".join(head) + content[: len(content) // 2])
        if kind == "truncated":
            connection.lose()
        elif kind == "reset-in-content":
            # a reset at once would overtake what was written
            request.call = github.clock.callLater(0.02, connection.abort)
        return
    put(content)
    connection.write(b"".join(head))
    connection.finished(request)


def _content_as_sent(
    github: GitHub, request: Request, response: Response
) -> tuple[bytes, bytes, list[tuple[bytes, bytes]]]:
    """Return the content as sent, its coding, and the fields of a range."""
    rendering = response.rendering
    if rendering is None:
        return b"", b"", []
    named = request.named
    if not rendering.is_json and response.status == 200 and response.tagged:
        wanted = named.get(b"range")
        if wanted is not None and request.method == b"GET":
            condition = named.get(b"if-range")
            if condition in {None, b'"%b"' % tag_of(github, request, response)}:
                return _range_of(github, request, response, rendering.content, wanted)
    pretty = rendering.is_json and any(name in named.get(b"user-agent", b"") for name in _PRETTY)
    is_text = rendering.is_json or "text/" in (response.content_type or "")
    zipped = (
        github.gzip
        and bool(rendering.content)
        and (is_text or "vnd.github" in (response.content_type or ""))
        and _accepts_gzip(named.get(b"accept-encoding"))
    )
    if response.status == 304:
        return b"", b"gzip" if zipped else b"", []
    content = rendering.view(pretty=pretty, zipped=zipped)
    accepts = [] if is_text else [(b"Accept-Ranges", b"bytes")]
    return content, b"gzip" if zipped else b"", accepts


def _range_of(
    github: GitHub, request: Request, response: Response, content: bytes, wanted: bytes
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
        response.status = request.status = 416
        return b"", b"", [(b"Content-Range", b"bytes */%d" % size)]
    response.status = request.status = 206
    return (
        content[start : end + 1],
        b"",
        [(b"Content-Range", b"bytes %d-%d/%d" % (start, end, size))],
    )


def _status_line(github: GitHub, status: int) -> bytes:
    line = _STATUS_LINES.get(status)
    return line if line is not None else b"HTTP/1.1 %d Unknown\r\n" % status


def _common_fields(github: GitHub, request: Request, response: Response) -> bytes:
    """Return the fields of every response."""
    now = int(github.clock.seconds())
    if github.date[0] != now:
        github.date = (now, formatdate(now, usegmt=True).encode())
    github.request_count += 1
    number = github.request_count
    lines = [
        b"Server: github.com\r\nDate: %b\r\nX-GitHub-Request-Id: %04X:%06X:%X:%X\r\n"
        % (github.date[1], number & 0xFFFF, number * 7919 & 0xFFFFFF, number, now)
    ]
    put = lines.append
    if github.status_field:
        put(b"Status: %b" % _status_line(github, response.status).removeprefix(b"HTTP/1.1 "))
    credential = request.credential
    cache_control = response.cache_control
    if cache_control is None:
        cache_control = "%s, max-age=60, s-maxage=60" % ("private" if credential else "public")
    if cache_control:
        put(b"Cache-Control: %b\r\n" % cache_control.encode("latin-1"))
    if response.vary:
        put(b"Vary: %b\r\n" % response.vary.encode("latin-1"))
    if response.bare:
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
    media = request.named.get(b"accept", b"")
    put(b"X-GitHub-Media-Type: %b\r\n" % _media_type(media))
    version = request.version
    if version in VERSIONS:
        put(b"x-github-api-version-selected: %b\r\n" % version.encode())
    names_version = b"x-github-api-version" in request.named
    if version == OLD_VERSION and (
        github.deprecation == "always" or (names_version and github.deprecation == "requested")
    ):
        put(b"Deprecation: Tue, 10 Mar 2026 00:00:00 GMT\r\n")
        put(b"Sunset: Fri, 10 Mar 2028 00:00:00 GMT\r\n")
        if response.status != 304:
            put(b"Link: <https://docs.github.com/rest/about-the-rest-api/api-versions>; ")
            put(b'rel="deprecation"; type="text/html"\r\n')
    if github.sends_quota and not request.path.startswith("/_control/"):
        quota = quota_of(github, request)
        put(
            b"X-RateLimit-Limit: %d\r\nX-RateLimit-Remaining: %d\r\nX-RateLimit-Reset: %d\r\n"
            b"X-RateLimit-Used: %d\r\nX-RateLimit-Resource: %b\r\n"
            % (
                quota.limit,
                0 if response.exhausted else quota.remaining,
                quota.reset,
                quota.limit if response.exhausted else quota.used,
                quota.resource.encode(),
            )
        )
    put(STATIC_FIELDS)
    return b"".join(lines)
