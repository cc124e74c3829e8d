"""Pages of a list: what `Link` says, and what of it must be shown to hold still.

GitHub's entity-tags cover content only, and a 304 has no `Link`; so a stored `Link` may have
grown old while the content is current (GitHub: using pagination in the REST API; RFC 8288).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from attrs import frozen

from ghmirror_tw.policy.remembered import remembered

#: GitHub's page size where nothing is asked for, and the largest one.
DEFAULT_SIZE: Final = 30
LARGEST_SIZE: Final = 100

#: Longer numbers are no page numbers.
_MAX_DIGITS: Final = 9

_PARAMETER_TEXT: Final = rb'([^\s=;,"<>]+)(?:[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?'
_PARAMETER: Final = re.compile(rb";[ \t]*" + _PARAMETER_TEXT)

#: A link-value (RFC 8288, section 3): its target (group 1) and all its parameters (group 2).
LINK_VALUE: Final = re.compile(rb"<([^<>]*)>((?:[ \t]*;[ \t]*(?:%s)?)*)" % _PARAMETER_TEXT)
_PAGING: Final = frozenset({b"first", b"prev", b"previous", b"next", b"last"})

#: Query parameters that hold a place in a list which can't be computed, only followed.
_CURSORS: Final = frozenset({b"cursor", b"starting_after", b"ending_before"})
_MAYBE_CURSORS: Final = frozenset({b"after", b"before"})
_DATE: Final = re.compile(rb"\d{4}-\d\d-\d\d")
_ARRAY: Final = re.compile(rb"[ \t\r\n]*\[")


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
    """Return what a `Link` value says; None and what can't be read are no links (RFC 8288)."""
    found = LINK_VALUE.finditer(value or b"")
    return Links(tuple((link[1], _relations(link[2])) for link in found))


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
    return (int(value) or None) if value.isdigit() and len(value) <= _MAX_DIGITS else None


def page_of(target: bytes) -> int | None:
    """Return the page that *target* names, or None where it names none or not by a number."""
    return _positive(_last(target, b"page") or b"")


@remembered
def page_number(target: bytes) -> int | None:
    """Return the page that *target* asks for: 1 where it names none, None for no number."""
    value = _last(target, b"page")
    return 1 if value is None else _positive(value)


def with_page(target: bytes, page: int) -> bytes:
    """Return *target* asking for *page*, with all other bytes as they are."""
    path, parameters = _split(target)
    wanted = b"page=%d" % page
    changed = [wanted if _name(parameter) == b"page" else parameter for parameter in parameters]
    if wanted not in changed:
        if changed[-1:] == [b""]:
            changed.pop()
        changed.append(wanted)
    return path + b"?" + b"&".join(changed)


def list_identity(target: bytes) -> bytes:
    """Return what all pages of a list have in common: *target* without its page."""
    path, parameters = _split(target)
    kept = [parameter for parameter in parameters if _name(parameter) != b"page"]
    return path + b"?" + b"&".join(kept) if kept else path


def page_size(target: bytes) -> int:
    """Return how many items a page of *target* holds at most: `per_page`, 30 unless valid."""
    value = _last(target, b"per_page") or b""
    if not value.isdigit():
        return DEFAULT_SIZE
    size = value.lstrip(b"0")
    if len(size) > _MAX_DIGITS:
        return LARGEST_SIZE
    return min(int(size or b"0") or DEFAULT_SIZE, LARGEST_SIZE)


def asks_for_page(target: bytes) -> bool:
    """Tell whether *target* says which page it wants, or how long pages are to be."""
    return any(name in {b"page", b"per_page"} for name, _ in _parameters(target))


def uses_cursor(target: bytes) -> bool:
    """Tell whether *target* names its place in a list by something that can't be counted on.

    `since`, `before` and `after` are filters where they hold a date, as on notifications; a
    `since` that is a number is a place (`GET /users`).
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


def count_items(content: bytes) -> int | None:
    """Return how many elements a top-level JSON array has; None for any other content."""
    if _ARRAY.match(content) is None:
        return None
    try:
        items: object = json.loads(content.decode())
    except (ValueError, RecursionError):
        return None
    return len(items) if isinstance(items, list) else None


@frozen
class Demand:
    """What must hold at GitHub, for the asking credential, before a stored `Link` is used.

    *next_page* is a page that must be proved empty, *last_page* one that must be proved not to
    be. *unprovable*: something must hold that can't be proved free of charge.
    """

    next_page: int | None = None
    last_page: int | None = None
    unprovable: bool = False


#: There is nothing to prove.
NOTHING: Final = Demand()
_UNPROVABLE: Final = Demand(unprovable=True)


def _may_have_grown(target: bytes, items: int, sent: Links) -> bool:
    """Tell whether a page is full and without a next one, of a list that GitHub paginates."""
    if items < page_size(target) or sent.target(b"next") is not None:
        return False
    return bool(sent.paging()) or asks_for_page(target) or items == DEFAULT_SIZE


@remembered
def what_must_hold(  # noqa: PLR0913 - each is a fact of its own
    target: bytes,
    items: int | None,
    link: bytes | None,
    *,
    shared: bool,
    verify_last: bool,
    complete: bool,
    authorised: bool,
) -> Demand:
    """Return what must be proved before *link* is used again with a list of *items* elements.

    *next*: a full page without a next one still has none, unless it is known to be *complete*.
    *last*: the last page still is the last one, where the link is another's (*shared*), where
    clients count with it (`per_page=1`), or where *verify_last* asks for it. Without a credential
    (not *authorised*) no proof is free. *items* is None for what is no list: nothing to prove.
    """
    if items is None:
        return NOTHING
    sent = links(link)
    last = sent.target(b"last") if shared or verify_last or page_size(target) == 1 else None
    grown = not complete and _may_have_grown(target, items, sent)
    if last is None and not grown:
        return NOTHING
    if not authorised or any(map(uses_cursor, (target, *sent.paging()))):
        return _UNPROVABLE
    here = page_number(target) if grown else None
    if last is None:
        return _UNPROVABLE if here is None else Demand(here + 1)
    end = page_of(last)
    if end is None or (grown and here != end):
        return _UNPROVABLE
    return Demand(end + 1, end)
