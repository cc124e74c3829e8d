"""Request targets: validation, and the prefixes of GitHub Enterprise Server.

A target becomes part of a request to GitHub and of URLs in responses. So none is accepted that
could name another host, or that another server could resolve to another path.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from attrs import evolve, frozen

from ghmirror_tw.http.host import valid_host
from ghmirror_tw.http.request import BadRequestError
from ghmirror_tw.http.target_memo import memoised_by_target

#: The prefixes of a GitHub Enterprise Server: for the API, for GraphQL, and for uploads, which have
#: their own host at GitHub.com.
API_PREFIX: Final = b"/api/v3"
_GRAPHQL: Final = b"/api/graphql"
UPLOADS_PREFIX: Final = b"/api/uploads"
#: Bytes that no target has: all but visible ASCII, and `#`.
_NOT_IN_A_TARGET: Final = re.compile(rb"[^!\"$-~]")
_INVALID_CHARACTER: Final = "The URL holds a character that has no place in a URL"
_NOT_ASCII: Final = re.compile(rb"[\x80-\xff]")
_RAW_LETTERS: Final = re.compile(rb"[A-Z]+ (?=[ -~]*+[\x80-\xff])[ -~\x80-\xff]+ HTTP/1\.[01]")
_UNENCODED: Final = (
    "The URL holds bytes that are not ASCII: percent-encode them, each byte of their UTF-8 (%C3%A4"
    " for the letter ä)"
)

#: The absolute-form of a target (RFC 9112, section 3.2.2): scheme, authority, and the rest.
_ABSOLUTE: Final = re.compile(rb"(?is)(https?)://([^/?#]*+)(.*)")

#: A second prefix: no path of GitHub's API begins with it.
_PREFIX_AGAIN: Final = re.compile(rb"/api/(?:v3|graphql|uploads)(?:/|\Z)")
_BAD_ENCODING: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SLASHES: Final = re.compile(rb"/|%2f|%5c", re.IGNORECASE)
_ENCODED_DOT: Final = re.compile(rb"%2e", re.IGNORECASE)
_SECRETS: Final = frozenset({b"access_token", b"client_secret"})


class NoSuchPathError(BadRequestError):
    """A path that cannot be GitHub's; *message* describes the likely mistake of the client."""


@frozen
class Target:
    """The parts of a request target: the client's *prefix*, and the *target* for GitHub.

    The target of an upload begins with `UPLOADS_PREFIX`. *authority* is that of an absolute URL, in
    place of `Host`; *secure*: the scheme of that URL is `https:`.
    """

    prefix: bytes
    target: bytes
    authority: bytes | None = None
    secure: bool = False


def _split_prefix(path: bytes) -> Target:
    for start, replacement in ((API_PREFIX, b""), (_GRAPHQL, b"/graphql")):
        if path == start or path.startswith(start + b"/"):
            return Target(API_PREFIX, replacement + path[len(start) :] or b"/")
    return Target(API_PREFIX if is_upload(path) else b"", path)


def parse_target(uri: bytes) -> Target:
    """Return the parts of a request target, byte for byte.

    The origin-form and the absolute-form are accepted (RFC 9112, sections 3.2.1 and 3.2.2). These
    are refused: bytes that no URI has, NUL even encoded, userinfo, raw backslashes, and segments of
    dots, also between encoded slashes. Encoded slashes are accepted, since branches need them
    (`heads%2Fmain`), and encoded backslashes as names of files. A malformed percent-encoding is
    refused in the path but not in the query, which only GitHub parses.

    Raises `BadRequestError`, and `NoSuchPathError` for a path that shows a wrong base URL.
    """
    if uri.startswith(b"/"):
        return _parse_origin_form(uri)
    absolute = _ABSOLUTE.fullmatch(uri)
    if absolute is None:
        raise BadRequestError("The request target must be a path, starting with a slash, or a URL")
    authority = valid_host(absolute[2], "The URL of the request")
    rest = absolute[3]
    split = _parse_origin_form(rest if rest.startswith(b"/") else b"/" + rest)
    return evolve(split, authority=authority, secure=len(absolute[1]) == len(b"https"))


def is_sendable(target: bytes) -> bool:
    """Return whether *target* can be sent to GitHub, unchanged."""
    try:
        return target.startswith(b"/") and parse_target(target).target == target
    except BadRequestError:
        return False


def check_request_line(line: bytes) -> None:
    """Raise `BadRequestError` for a request line whose target has bytes beyond ASCII.

    It is invalid (RFC 9112, section 3), and Twisted would respond without the reason.
    """
    if _RAW_LETTERS.fullmatch(line):
        raise BadRequestError(_UNENCODED)


def path_of(uri: bytes) -> bytes:
    """Return the path of a request target in either form, valid or not."""
    absolute = None if uri.startswith(b"/") else _ABSOLUTE.fullmatch(uri)
    return (uri if absolute is None else absolute[3]).partition(b"?")[0]


def _parse_origin_form(uri: bytes) -> Target:
    path, mark, query = uri.partition(b"?")
    if query:
        _check_bytes(query)
    split = _parse_path(path)
    return Target(split.prefix, split.target + mark + query) if mark else split


def _check_bytes(part: bytes) -> None:
    if _NOT_IN_A_TARGET.search(part) or b"%00" in part:
        raise BadRequestError(_UNENCODED if _NOT_ASCII.search(part) else _INVALID_CHARACTER)


@memoised_by_target
def _parse_path(uri: bytes) -> Target:
    _check_bytes(uri)
    split = _split_prefix(uri)
    path = split.target
    _check_base(uri, split)
    if b"\\" in path:
        raise BadRequestError("The path holds a backslash")
    if _BAD_ENCODING.search(path):
        raise BadRequestError("The path holds a percent sign that encodes nothing")
    segments = _SLASHES.split(_ENCODED_DOT.sub(b".", path))
    if b"." in segments or b".." in segments:
        raise BadRequestError("The path holds a segment of dots")
    return split


def _check_base(path: bytes, split: Target) -> None:
    """Refuse a path that shows a mistake in the client's base URL.

    GitHub would respond 404 without the cause. Raises `NoSuchPathError`.
    """
    rest = split.target.removeprefix(UPLOADS_PREFIX) if is_upload(split.target) else split.target
    if path.startswith(b"//") or rest.startswith(b"//"):
        raise NoSuchPathError(
            "Not Found: the path has an empty segment (//). The client's base URL has a slash at"
            " its end, and the client adds another: remove it from the base URL"
        )
    if split.prefix and _PREFIX_AGAIN.match(rest):
        raise NoSuchPathError(
            "Not Found: the path has the prefix /api twice. The client adds it to a base URL that"
            " has it already: remove it from the base URL"
        )


def is_upload(target: bytes) -> bool:
    """Return whether a target is one for uploads."""
    return target.startswith(UPLOADS_PREFIX + b"/")


def has_secret_in_query(target: bytes) -> bool:
    """Return whether the query holds a credential, as that of some old clients does."""
    query = target.partition(b"?")[2]
    if not query:
        return False
    names = (parameter.partition(b"=")[0] for parameter in query.split(b"&"))
    return any(unquote_to_bytes(name) in _SECRETS for name in names)
