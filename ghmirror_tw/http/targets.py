"""What a client may ask for, and where: `Host`, the request target, `Via`.

What comes in here lands in a request to GitHub and in the URLs of answers, so nothing passes that
could name another host or be read differently by whoever reads it next.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from attrs import evolve, frozen

from ghmirror_tw.http.host import valid_host
from ghmirror_tw.http.request import BadRequestError
from ghmirror_tw.http.target_memo import memoised_by_target

#: Where clients of GitHub Enterprise Server look for the API, and beside it for GraphQL and for
#: where to upload to, which at GitHub.com is another host.
API_PREFIX: Final = b"/api/v3"
_GRAPHQL: Final = b"/api/graphql"
UPLOADS_PREFIX: Final = b"/api/uploads"
_NOT_IN_A_TARGET: Final = re.compile(rb"[^\x21-\x7e]|#|%00")
_NO_PLACE: Final = "The URL holds a character that has no place in a URL"
_NOT_ASCII: Final = re.compile(rb"[\x80-\xff]")
_RAW_LETTERS: Final = re.compile(rb"[A-Z]+ (?=[ -~]*+[\x80-\xff])[ -~\x80-\xff]+ HTTP/1\.[01]")
_UNENCODED: Final = (
    "The URL holds bytes that are not ASCII: percent-encode them, each byte of their UTF-8 (%C3%A4"
    " for the letter ä)"
)

#: The absolute-form of a target (RFC 9112, section 3.2.2): scheme, authority, and the rest.
_ABSOLUTE: Final = re.compile(rb"(?is)(https?)://([^/?#]*+)(.*)")

#: A prefix behind the prefix: no path of GitHub's API begins with it.
_PREFIX_AGAIN: Final = re.compile(rb"/api/(?:v3|graphql|uploads)(?:/|\Z)")
_BAD_ENCODING: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SLASHES: Final = re.compile(rb"/|%2f|%5c", re.IGNORECASE)
_ENCODED_DOT: Final = re.compile(rb"%2e", re.IGNORECASE)
_SECRETS: Final = frozenset({b"access_token", b"client_secret"})


class NoSuchPathError(BadRequestError):
    """A path that cannot be GitHub's; *message* describes the likely mistake of the client."""


@frozen
class Target:
    """Where a request goes: *prefix* as the client has it, *target* as GitHub gets it.

    The target of an upload keeps its own prefix, `UPLOADS_PREFIX`, by which it is known as one.
    *authority*: where the client has a whole URL, that stands for its `Host`; *secure*: `https:`.
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
    """Return where a request for *uri* goes, byte for byte but for the prefix.

    The origin-form and the absolute-form are taken (RFC 9112, sections 3.2.1 and 3.2.2). Refused
    are bytes that no URI has, NUL however spelled, userinfo, and what a next reader might resolve
    to another path: raw backslashes, and segments of dots, also between encoded slashes. Encoded
    slashes pass, as branches need them (`heads%2Fmain`), and so do encoded backslashes, as names
    of files. An encoding that is none is refused in the path, which is judged here, and not in the
    query, which only GitHub reads.

    Raises BadRequest, and NoSuchPathError for paths that only a wrong base URL explains.
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
    """Tell whether *target* can be sent to GitHub: a request for it is forwarded as it is."""
    try:
        return target.startswith(b"/") and parse_target(target).target == target
    except BadRequestError:
        return False


def check_request_line(line: bytes) -> None:
    """Raise BadRequest for a request line whose target has raw letters beyond ASCII.

    It is no request line at all by RFC 9112, section 3, and Twisted could only say so.
    """
    if _RAW_LETTERS.fullmatch(line):
        raise BadRequestError(_UNENCODED)


def path_of(uri: bytes) -> bytes:
    """Return the path of a request target, in either form, whether it is valid or not."""
    absolute = None if uri.startswith(b"/") else _ABSOLUTE.fullmatch(uri)
    return (uri if absolute is None else absolute[3]).partition(b"?")[0]


def _parse_origin_form(uri: bytes) -> Target:
    path, mark, query = uri.partition(b"?")
    _check_bytes(query)
    split = _parse_path(path)
    return Target(split.prefix, split.target + mark + query) if mark else split


def _check_bytes(part: bytes) -> None:
    if _NOT_IN_A_TARGET.search(part):
        raise BadRequestError(_UNENCODED if _NOT_ASCII.search(part) else _NO_PLACE)


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

    GitHub would send a 404 without the cause. Raises NoSuchPathError.
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
    """Tell whether a target is one for where GitHub takes uploads."""
    return target.startswith(UPLOADS_PREFIX + b"/")


def has_secret_in_query(target: bytes) -> bool:
    """Tell whether the query holds a credential, as old clients of GitHub's have it."""
    query = target.partition(b"?")[2]
    if not query:
        return False
    names = (parameter.partition(b"=")[0] for parameter in query.split(b"&"))
    return any(unquote_to_bytes(name) in _SECRETS for name in names)
