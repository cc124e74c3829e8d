"""The conditions under which a stored `Link` is used again with a list.

GitHub's entity-tags cover content only, and a 304 has no `Link`. So a stored `Link` may be outdated
while the content is current (GitHub: using pagination in the REST API; RFC 8288).
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from ghmirror_tw.github.operation_paging import DEFAULT_SIZE, Paging, page_limits_of
from ghmirror_tw.github.page_parameters import (
    has_cursor,
    has_page_parameter,
    page_number,
    page_of,
    page_size,
    with_page,
)
from ghmirror_tw.http.links import Links, parse_links
from ghmirror_tw.http.target_memo import memoised_by_target
from ghmirror_tw.http.targets import is_sendable


@frozen
class LinkConditions:
    """Conditions that must hold for the requesting credential before a stored `Link` is used.

    *next_page* is the target of a page that must be empty. *last_page* is the target of a page that
    must be the last one: it has items, and it is not full, or the page after it is empty.
    *linked_page* is the target of a page that must have items. *unprovable*: there is a condition
    that no free request can prove.
    """

    next_page: bytes | None = None
    last_page: bytes | None = None
    unprovable: bool = False
    linked_page: bytes | None = None


NO_CONDITIONS: Final = LinkConditions()


UNPROVABLE: Final = LinkConditions(unprovable=True)


def _may_have_grown(target: bytes, items: int, sent: Links) -> bool:
    """Return whether a page is full and without a next page, in a list that may have pages."""
    if items < page_size(target) or sent.target(b"next") is not None:
        return False
    if sent.page_targets():
        return True
    paging = page_limits_of(target).paging
    if paging is Paging.UNKNOWN:
        return has_page_parameter(target) or items == DEFAULT_SIZE
    return paging is not Paging.NONE


def _has_numbers(target: bytes, sent: Links) -> bool:
    """Return whether the pages of a list are numbered, by its links or else by the table."""
    pages = sent.page_targets()
    if any(map(has_cursor, (target, *pages))):
        return False
    if pages:
        return all(page_of(page) is not None for page in pages)
    return page_limits_of(target).paging is Paging.NUMBERED


def _has_total(target: bytes) -> bool:
    """Return whether an object that contains a page contains a total: unless pages have cursors."""
    return page_limits_of(target).paging is not Paging.CURSORS


def _linked(url: bytes, api_url: bytes) -> bytes | None:
    """Return the target of a link below *api_url*, or None for any other link.

    The mirror requests it, so it must be a target that a client may send.
    """
    target = url.removeprefix(api_url)
    return target if target != url and is_sendable(target) else None


def next_page(link: bytes | None, api_url: bytes) -> bytes | None:
    """Return the target of the next page by a `Link` value, if it is below *api_url*."""
    following = parse_links(link).target(b"next")
    return None if following is None else _linked(following, api_url)


def _condition_of_next_page(
    sent: Links, api_url: bytes, *, shared: bool, authorised: bool
) -> LinkConditions:
    """Return the condition for a next page that the `Link` of another credential names."""
    following = sent.target(b"next") if shared else None
    if following is None:
        return NO_CONDITIONS
    linked = _linked(following, api_url) if authorised else None
    return UNPROVABLE if linked is None else LinkConditions(linked_page=linked)


@memoised_by_target
def conditions_of_link(  # noqa: PLR0913 - independent facts
    target: bytes,
    items: int | None,
    link: bytes | None,
    *,
    shared: bool,
    verify_last: bool,
    authorised: bool,
    api_url: bytes,
) -> LinkConditions:
    """Return the conditions under which *link* is used again with a list of *items* elements.

    For `rel=next`: a full page without a next page still has none. For `rel=last`: the last page is
    still the last. Without *verify_last* this condition is only that of a link from another
    credential (*shared*). If such a link has no last page, its next page must have items, since the
    requesting credential may see fewer. Without a credential (not *authorised*) no proof is free.
    *items* is None for content that is not an array. The last page is requested by the target of
    GitHub's own link (below *api_url*), as by clients that follow links.
    """
    sent = parse_links(link)
    if items is None:
        ends = shared or sent.target(b"next") is None
        return UNPROVABLE if ends and not _has_total(target) else NO_CONDITIONS
    last = sent.target(b"last") if shared or verify_last else None
    grown = _may_have_grown(target, items, sent)
    if last is None and not grown:
        return _condition_of_next_page(sent, api_url, shared=shared, authorised=authorised)
    here = page_number(target)
    end = here if last is None else page_of(last)
    if here is None or end is None or not authorised or not _has_numbers(target, sent):
        return UNPROVABLE
    if end != here:
        # A full page without a next page contradicts a last page elsewhere.
        if grown or last is None:
            return UNPROVABLE
        return LinkConditions(last_page=_linked(last, api_url) or with_page(target, end))
    return LinkConditions(next_page=with_page(target, here + 1)) if grown else NO_CONDITIONS
