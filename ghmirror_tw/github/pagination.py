"""Pages of a list: the links between them, and what must be proved before a stored `Link` is used.

GitHub's entity-tags cover content only, and a 304 has no `Link`. So a stored `Link` may be outdated
while the content is current (GitHub: using pagination in the REST API; RFC 8288).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final
from urllib.parse import unquote_to_bytes

from attrs import define, field, frozen

from ghmirror_tw.github import pagination_table
from ghmirror_tw.http.remembered import remembered
from ghmirror_tw.http.scanning import STRING, end_of
from ghmirror_tw.http.targets import is_sendable
from ghmirror_tw.runtime.numbers import whole_number

#: GitHub's page size where a request names none, and the largest one, for nearly all operations.
DEFAULT_SIZE: Final = 30
LARGEST_SIZE: Final = 100

#: The largest page number; larger ones are not taken for one.
_MOST_NUMBER: Final = 999_999_999

_PARAMETER_TEXT: Final = rb'([^\s=;,"<>]+)(?:[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?'
_PARAMETER: Final = re.compile(rb";[ \t]*" + _PARAMETER_TEXT)

#: A link-value (RFC 8288, section 3): its target (group 1) and all its parameters (group 2).
LINK_VALUE: Final = re.compile(rb"<([^<>]*)>((?:[ \t]*;[ \t]*(?:%s)?)*)" % _PARAMETER_TEXT)
_PAGING: Final = frozenset({b"first", b"prev", b"previous", b"next", b"last"})

#: The end of a URL's authority, and the default port of its scheme (RFC 3986, section 3.2).
_END_OF_AUTHORITY: Final = re.compile(rb"[/?#]")
_DEFAULT_PORTS: Final = {b"http": b":80", b"https": b":443"}
#: A target without scheme and authority: an absolute path, or a query.
_ON_SAME_SERVER: Final = re.compile(rb"/(?![/\\])|\?")

#: Query parameters that hold a cursor: an opaque position in a list, which only links give.
_CURSORS: Final = frozenset({b"cursor", b"starting_after", b"ending_before"})
_MAYBE_CURSORS: Final = frozenset({b"after", b"before"})
_DATE: Final = re.compile(rb"\d{4}-\d\d-\d\d")

_ARRAY: Final = re.compile(rb"[ \t\r\n]*+\[[ \t\r\n]*+")
#: An object or array without others in it.
_FLAT: Final = rb'[{\[](?:[^"{}\[\]]++|%s)*[}\]]' % STRING
#: Everything up to a bracket of what is not flat, or to a string that has no end; in the top-level
#: array up to a comma.
_NO_BRACKETS: Final = re.compile(rb'(?s:(?:[^"{}\[\]]++|%s|%s)*)' % (STRING, _FLAT))
_IN_ITEM: Final = re.compile(rb'(?s:(?:[^"{}\[\],]++|%s|%s)*)' % (STRING, _FLAT))
#: No page of GitHub's is nested so deeply, or has so many brackets and items.
_DEEPEST: Final = 100
_MOST_TOKENS: Final = 500_000
#: Content up to this size is decoded to count its items: that takes milliseconds, and is right on
#: PyPy, too, whose pattern matching finds no end of an item.
_DECODED_BYTES: Final = 256 * 1024

#: No template of the table has so many segments.
_MOST_SEGMENTS: Final = 24


class Paging(Enum):
    """How the pages of an operation are named."""

    NUMBERED = "NUMBERED"
    CURSORS = "CURSORS"
    NONE = "NONE"
    UNKNOWN = "UNKNOWN"


@frozen
class Operation:
    """How an operation is paginated, with the items of a page by default (*size*) and at *most*."""

    paging: Paging
    size: int = DEFAULT_SIZE
    most: int = LARGEST_SIZE


_UNKNOWN: Final = Operation(Paging.UNKNOWN)


@define(eq=False)
class _Node:
    """A node in the tree of path templates, with its children by their segment."""

    literals: dict[bytes, _Node] = field(factory=dict)
    parameter: _Node | None = None
    operation: Operation | None = None
    #: The operation with a last parameter that stands for all segments from here on, or for none.
    rest: Operation | None = None

    def add(self, segments: Sequence[bytes], operation: Operation) -> None:
        """Add a path template below this node."""
        if not segments:
            self.operation = operation
        elif segments[0] == b"{+}":
            self.rest = operation
        elif segments[0] == b"{}":
            self.parameter = self.parameter or _Node()
            self.parameter.add(segments[1:], operation)
        else:
            self.literals.setdefault(segments[0], _Node()).add(segments[1:], operation)

    def find(self, segments: Sequence[bytes]) -> Operation | None:
        """Return the operation of a path below this node; a literal segment goes before `{}`."""
        if not segments:
            return self.operation or self.rest
        for node in (self.literals.get(segments[0]), self.parameter):
            found = None if node is None else node.find(segments[1:])
            if found is not None:
                return found
        return self.rest


def _tree() -> _Node:
    root = _Node()
    for paging in (Paging.NUMBERED, Paging.CURSORS, Paging.NONE):
        for line in getattr(pagination_table, paging.value).splitlines():
            template, *sizes = line.split()
            root.add(template.encode().split(b"/"), Operation(paging, *map(int, sizes)))
    return root


_OPERATIONS: Final = _tree()


def _by_name(segments: Sequence[bytes]) -> Sequence[bytes] | None:
    """Return a path with names in place of the number of an owner, as GitHub's own links have it.

    `Link` names ``/repositories/1/issues`` for ``/repos/o/r/issues``, likewise
    ``/organizations/1`` and ``/user/1``.
    """
    if len(segments) <= 2 or not segments[2].isdigit():  # noqa: PLR2004 - empty, noun, number
        return None
    match segments[1]:
        case b"repositories":
            return [b"", b"repos", b"{}", b"{}", *segments[3:]]
        case b"user":
            return [b"", b"users", b"{}", *segments[3:]]
        case b"organizations" if segments[3:4] == [b"team"]:
            return [b"", b"orgs", b"{}", b"teams", *segments[4:]]
        case b"organizations":
            return [b"", b"orgs", b"{}", *segments[3:]]
    return None


@remembered
def operation_of(target: bytes) -> Operation:
    """Return how the GET operation of *target* is paginated, by the table of GitHub's operations.

    The work is bounded by the size of the table, whatever the target.
    """
    segments = target.partition(b"?")[0].split(b"/", _MOST_SEGMENTS)
    found = _OPERATIONS.find(segments)
    if found is None:
        named = _by_name(segments)
        found = None if named is None else _OPERATIONS.find(named)
    return found or _UNKNOWN


@frozen
class Links:
    """The links of a message: (target, lower-case relation types) in the order of the field."""

    members: tuple[tuple[bytes, frozenset[bytes]], ...] = ()

    def target(self, rel: bytes) -> bytes | None:
        """Return the target of the first link with relation type *rel* (lower case), or None."""
        return next((target for target, rels in self.members if rel in rels), None)

    def paging(self) -> tuple[bytes, ...]:
        """Return the targets that are other pages of the same list."""
        return tuple(target for target, rels in self.members if rels & _PAGING)


def _relations(parameters: bytes) -> frozenset[bytes]:
    found = _PARAMETER.finditer(parameters)
    values = ((item[2] or item[3] or b"") for item in found if item[1].lower() == b"rel")
    # Only the first `rel` counts (RFC 8288, section 3.3).
    return frozenset(next(values, b"").lower().split())


def links(value: bytes | None) -> Links:
    """Return the links in a `Link` value; None and malformed parts have none (RFC 8288)."""
    found = LINK_VALUE.finditer(value or b"")
    return Links(tuple((link[1], _relations(link[2])) for link in found))


def _server(url: bytes) -> tuple[bytes, bytes]:
    """Return scheme and authority of an absolute URL, without the scheme's default port."""
    scheme, _, rest = url.lower().partition(b"://")
    authority = _END_OF_AUTHORITY.split(rest, 1)[0]
    return scheme, authority.removesuffix(_DEFAULT_PORTS.get(scheme, b":"))


def leads_elsewhere(link: bytes | None, api_url: bytes) -> bool:
    """Tell whether *link* names a page of a list at another server than that of *api_url*.

    A server may take its name from a field of one client's request, which must not reach other
    clients. Links with other relations, as to documentation, may lead anywhere.
    """
    server = _server(api_url)
    return any(
        _server(page) != server
        for page in links(link).paging()
        if _ON_SAME_SERVER.match(page) is None
    )


def _split(target: bytes) -> tuple[bytes, list[bytes]]:
    path, mark, query = target.partition(b"?")
    return path, query.split(b"&") if mark else []


def _name(parameter: bytes) -> bytes:
    return unquote_to_bytes(parameter.partition(b"=")[0])


def _parameters(target: bytes) -> Iterator[tuple[bytes, bytes]]:
    for parameter in _split(target)[1]:
        yield _name(parameter), unquote_to_bytes(parameter.partition(b"=")[2])


def _last(target: bytes, name: bytes) -> bytes | None:
    """Return the value of the last parameter called *name*, as GitHub's framework does."""
    return dict(_parameters(target)).get(name)


def _positive(value: bytes) -> int | None:
    return whole_number(value, _MOST_NUMBER) or None


def page_of(target: bytes) -> int | None:
    """Return the page that *target* names, or None where it names none or not by a number."""
    return _positive(_last(target, b"page") or b"")


@remembered
def page_number(target: bytes) -> int | None:
    """Return the page that *target* requests: 1 where it names none, None for no number."""
    value = _last(target, b"page")
    return 1 if value is None else _positive(value)


def with_page(target: bytes, page: int) -> bytes:
    """Return *target* with *page* as its page, and all other bytes unchanged."""
    path, parameters = _split(target)
    wanted = b"page=%d" % page
    changed = [wanted if _name(parameter) == b"page" else parameter for parameter in parameters]
    if wanted not in changed:
        if changed[-1:] == [b""]:
            changed.pop()
        changed.append(wanted)
    return path + b"?" + b"&".join(changed)


@remembered
def list_identity(target: bytes) -> bytes:
    """Return *target* without its page, which is the same for all pages of a list."""
    path, parameters = _split(target)
    kept = [parameter for parameter in parameters if _name(parameter) != b"page"]
    return path + b"?" + b"&".join(kept) if kept else path


@remembered
def page_size(target: bytes) -> int:
    """Return the largest number of items on a page of *target*: `per_page` within its bounds.

    GitHub may read a value that is no number, such as `5x`, as one: then any page may be full.
    """
    operation = operation_of(target)
    value = _last(target, b"per_page")
    if not value:
        return operation.size
    if not value.isdigit():
        return 1
    size = whole_number(value.lstrip(b"0") or b"0", operation.most)
    return operation.most if size is None else size or operation.size


def asks_for_page(target: bytes) -> bool:
    """Tell whether *target* has a parameter for the page, or for the size of pages."""
    return any(name in {b"page", b"per_page"} for name, _ in _parameters(target))


def uses_cursor(target: bytes) -> bool:
    """Tell whether *target* names its position in a list by a cursor instead of a page number.

    `before` and `after` are filters where they hold a date, as on notifications, and so is
    `since`. A `since` that is a number is a cursor (`GET /users`).
    """
    for name, value in _parameters(target):
        if name in _CURSORS:
            return True
        if name in _MAYBE_CURSORS and not _DATE.match(value):
            return True
        if name == b"since" and value.isdigit():
            return True
        if name == b"page" and not value.isdigit():
            return True
    return False


def most_items(target: bytes) -> int:
    """Return how many items a page of *target* may have; 0 where the operation has no pages.

    An operation that the table does not know may have pages.
    """
    operation = operation_of(target)
    return 0 if operation.paging is Paging.NONE else operation.most


def _decoded_items(content: bytes, most: int) -> int | None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return len(value) if isinstance(value, list) and len(value) <= most else None


def count_items(content: bytes, most: int) -> int | None:
    """Return how many elements a top-level JSON array has; None beyond *most* elements.

    None for other content, too. The content is scanned in linear time and not decoded, so for a
    malformed array the result has no meaning.
    """
    found = _ARRAY.match(content)
    if found is None or not most:
        return None
    if len(content) <= _DECODED_BYTES:
        return _decoded_items(content, most)
    at, depth = found.end(), 1
    items = 0 if content[at : at + 1] == b"]" else 1
    for _ in range(_MOST_TOKENS):
        at = end_of(_IN_ITEM if depth == 1 else _NO_BRACKETS, content, at)
        token = content[at : at + 1]
        at += 1
        if token == b",":
            items += 1
        elif token in {b"[", b"{"}:
            depth += 1
        elif token:
            depth -= 1
        if not token or token == b'"' or items > most or depth > _DEEPEST:
            return None
        if not depth:
            return None if content[at:].strip(b" \t\r\n") else items
    return None


@frozen
class Demand:
    """What must hold at GitHub, for the requesting credential, before a stored `Link` is used.

    *next_page* is the target of a page that must be empty. *last_page* is the target of a page that
    must be the last one: it has items, and it is not full, or the page after it is empty.
    *linked_page* is the target of a page that must have items. *unprovable*: a condition must hold
    that no free request can prove.
    """

    next_page: bytes | None = None
    last_page: bytes | None = None
    unprovable: bool = False
    linked_page: bytes | None = None


#: There is nothing to prove.
NOTHING: Final = Demand()
UNPROVABLE: Final = Demand(unprovable=True)


def _may_have_grown(target: bytes, items: int, sent: Links) -> bool:
    """Tell whether a page is full and has no next one, in a list that may have pages."""
    if items < page_size(target) or sent.target(b"next") is not None:
        return False
    if sent.paging():
        return True
    paging = operation_of(target).paging
    if paging is Paging.UNKNOWN:
        return asks_for_page(target) or items == DEFAULT_SIZE
    return paging is not Paging.NONE


def _has_numbers(target: bytes, sent: Links) -> bool:
    """Tell whether the pages of a list are numbered: by its own links, else by the table."""
    pages = sent.paging()
    if any(map(uses_cursor, (target, *pages))):
        return False
    if pages:
        return all(page_of(page) is not None for page in pages)
    return operation_of(target).paging is Paging.NUMBERED


def _linked(url: bytes, api_url: bytes) -> bytes | None:
    """Return the target of a link below *api_url*, or None for any other link.

    The mirror will request it, so it must be a target that a client may send.
    """
    target = url.removeprefix(api_url)
    return target if target != url and is_sendable(target) else None


def next_page(link: bytes | None, api_url: bytes) -> bytes | None:
    """Return the target of the next page by a `Link` value, if it is below *api_url*."""
    following = links(link).target(b"next")
    return None if following is None else _linked(following, api_url)


def _leads_on(sent: Links, api_url: bytes, *, authorised: bool) -> Demand:
    """Return what must be proved of a next page to which another credential has the link."""
    following = sent.target(b"next")
    if following is None:
        return NOTHING
    linked = _linked(following, api_url) if authorised else None
    return UNPROVABLE if linked is None else Demand(linked_page=linked)


@remembered
def what_must_hold(  # noqa: PLR0913 - each is a fact of its own
    target: bytes,
    items: int | None,
    link: bytes | None,
    *,
    shared: bool,
    verify_last: bool,
    authorised: bool,
    api_url: bytes,
) -> Demand:
    """Return what must be proved before *link* is used again with a list of *items* elements.

    For `rel=next`: a full page without a next one still has none. For `rel=last`: the last page is
    still the last one. Without *verify_last* that is proved only for the link of another credential
    (*shared*). Without a last page, that credential's next page is proved too: this one may see
    fewer items. Without a credential (not *authorised*) no proof is free. *items* is None for
    content that is not an array. The last page is requested by the target of GitHub's own link
    (below *api_url*), as clients that follow links do.
    """
    sent = links(link)
    if items is None:
        # An object that contains a page also contains a total, unless its pages have cursors.
        ends = shared or sent.target(b"next") is None
        has_cursors = operation_of(target).paging is Paging.CURSORS
        return UNPROVABLE if ends and has_cursors else NOTHING
    last = sent.target(b"last") if shared or verify_last else None
    grown = _may_have_grown(target, items, sent)
    if last is None and not grown:
        return _leads_on(sent, api_url, authorised=authorised) if shared else NOTHING
    here = page_number(target)
    end = here if last is None else page_of(last)
    if here is None or end is None or not authorised or not _has_numbers(target, sent):
        return UNPROVABLE
    if end != here:
        # A full page without a next one contradicts a last page elsewhere.
        if grown or last is None:
            return UNPROVABLE
        return Demand(last_page=_linked(last, api_url) or with_page(target, end))
    return Demand(next_page=with_page(target, here + 1)) if grown else NOTHING
