"""What a client may ask for, and where: `Host`, the request target, `Via`.

What comes in here lands in a request to GitHub and in the URLs of answers, so nothing passes that
could name another host or be read differently by whoever reads it next.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import AddressValueError, IPv6Address
from typing import Final
from urllib.parse import unquote_to_bytes

from attrs import frozen

from ghmirror_tw.policy.remembered import remembered

#: Where clients of GitHub Enterprise Server look for the API, and beside it for GraphQL and for
#: where to upload to, which at GitHub.com is another host.
PREFIX: Final = b"/api/v3"
_GRAPHQL: Final = b"/api/graphql"
UPLOADS: Final = b"/api/uploads"

_NOT_IN_A_TARGET: Final = re.compile(rb"[^\x21-\x7e]|#|%00")
_NO_PLACE: Final = "The URL holds a character that has no place in a URL"
_BAD_ENCODING: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SLASHES: Final = re.compile(rb"/|%2f|%5c", re.IGNORECASE)
_ENCODED_DOT: Final = re.compile(rb"%2e", re.IGNORECASE)

_HOST: Final = re.compile(rb"(?:([A-Za-z0-9._-]+)|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{1,5}))?")
_LONGEST_HOST: Final = 255
_LAST_PORT: Final = 65535

_SECRETS: Final = frozenset({b"access_token", b"client_secret"})

_VIA_PIECE: Final = re.compile(rb"\\.|[()]|[^\\()]+|\\", re.DOTALL)


@frozen
class BadRequest(Exception):  # noqa: N818 - it is what the client made
    """A request that nobody may forward; *message* says what is wrong with it."""

    message: str


@frozen
class Target:
    """Where a request goes: *prefix* as the client has it, *target* as GitHub gets it.

    The target of an upload keeps its own prefix, `UPLOADS`, by which it is known as one.
    """

    prefix: bytes
    target: bytes


def _split_prefix(path: bytes) -> Target:
    for start, replacement in ((PREFIX, b""), (_GRAPHQL, b"/graphql")):
        if path == start or path.startswith(start + b"/"):
            return Target(PREFIX, replacement + path[len(start) :] or b"/")
    return Target(PREFIX if is_upload(path) else b"", path)


def parse_target(uri: bytes) -> Target:
    """Return where a request for *uri* goes, byte for byte but for the prefix.

    Only the origin-form is taken (RFC 9112, section 3.2.1). Refused are bytes that no URI has,
    NUL however spelled, an authority, and what a next reader might resolve to another path: raw
    backslashes, and segments of dots, also between encoded slashes. Encoded slashes pass, as
    branches need them (`heads%2Fmain`), and so do encoded backslashes, as names of files. An
    encoding that is none is refused in the path, which is judged here, and not in the query,
    which only GitHub reads.

    Raises BadRequest.
    """
    if not uri.startswith(b"/"):
        raise BadRequest("The request target must be a path, starting with a slash")
    path, mark, query = uri.partition(b"?")
    if _NOT_IN_A_TARGET.search(query):
        raise BadRequest(_NO_PLACE)
    split = _parse_path(path)
    return Target(split.prefix, split.target + mark + query) if mark else split


@remembered
def _parse_path(uri: bytes) -> Target:
    if _NOT_IN_A_TARGET.search(uri):
        raise BadRequest(_NO_PLACE)
    split = _split_prefix(uri)
    path = split.target
    if uri.startswith(b"//") or path.removeprefix(UPLOADS).startswith(b"//"):
        raise BadRequest("The URL must not start with two slashes")
    if b"\\" in path:
        raise BadRequest("The path holds a backslash")
    if _BAD_ENCODING.search(path):
        raise BadRequest("The path holds a percent sign that encodes nothing")
    segments = _SLASHES.split(_ENCODED_DOT.sub(b".", path))
    if b"." in segments or b".." in segments:
        raise BadRequest("The path holds a segment of dots")
    return split


def is_upload(target: bytes) -> bool:
    """Tell whether a target is one for where GitHub takes uploads."""
    return target.startswith(UPLOADS + b"/")


def parse_host(values: Sequence[bytes]) -> bytes:
    """Return the one value of `Host`, if it is a host with or without a port.

    It is a name, an IPv4 address or an IPv6 address in brackets (RFC 3986, section 3.2.2), and a
    port from 1 to 65535. A request with none, or with several, is malformed (RFC 9112, section
    3.2). Raises BadRequest.
    """
    if len(values) != 1:
        raise BadRequest("The request must have exactly one Host field")
    found = _HOST.fullmatch(values[0])
    if found is None or len(values[0]) > _LONGEST_HOST:
        raise BadRequest("The Host field names no host")
    if found[2] is not None:
        try:
            IPv6Address(found[2].decode())
        except AddressValueError:
            raise BadRequest("The Host field holds no valid address") from None
    if found[3] is not None and not 1 <= int(found[3]) <= _LAST_PORT:
        raise BadRequest("The Host field holds no valid port")
    return values[0]


def has_secret_in_query(target: bytes) -> bool:
    """Tell whether the query holds a credential, as old clients of GitHub's have it."""
    query = target.partition(b"?")[2]
    if not query:
        return False
    names = (parameter.partition(b"=")[0] for parameter in query.split(b"&"))
    return any(unquote_to_bytes(name) in _SECRETS for name in names)


def _without_comments(value: bytes) -> bytes:
    """Return *value* without comments, which nest; one that never ends is none."""
    kept, depth = [], 0
    for piece in _VIA_PIECE.findall(value):
        depth += piece == b"("
        if depth == 0:
            kept.append(piece)
        depth -= piece == b")" and depth > 0
    return value if depth else b"".join(kept)


def loops(via: Sequence[bytes], pseudonym: bytes) -> bool:
    """Tell whether a request has been through *pseudonym* before (RFC 9110, section 7.6.3).

    *via* are the values of all its `Via` lines; comments in them say nothing.
    """
    members = (member.split() for value in via for member in _without_comments(value).split(b","))
    wanted = pseudonym.lower()
    return any(len(words) > 1 and words[1].lower() == wanted for words in members)
