"""`Link`: its members, their relations, and the servers that they lead to (RFC 8288)."""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

_PARAMETER_TEXT: Final = rb'([^\s=;,"<>]+)(?:[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*)))?'
_PARAMETER: Final = re.compile(rb";[ \t]*" + _PARAMETER_TEXT)

#: A link-value (RFC 8288, section 3): its target (group 1) and all its parameters (group 2).
LINK_VALUE: Final = re.compile(rb"<([^<>]*)>((?:[ \t]*;[ \t]*(?:%s)?)*)" % _PARAMETER_TEXT)
_PAGE_RELATIONS: Final = frozenset({b"first", b"prev", b"previous", b"next", b"last"})

#: The end of a URL's authority, and the default port of its scheme (RFC 3986, section 3.2).
_END_OF_AUTHORITY: Final = re.compile(rb"[/?#]")
_DEFAULT_PORTS: Final = {b"http": b":80", b"https": b":443"}

#: A target without scheme and authority: an absolute path, or a query.
_ON_SAME_SERVER: Final = re.compile(rb"/(?![/\\])|\?")


@frozen
class Links:
    """The links of a message: (target, lower-case relation types) in the order of the field."""

    members: tuple[tuple[bytes, frozenset[bytes]], ...] = ()

    def target(self, rel: bytes) -> bytes | None:
        """Return the target of the first link with relation type *rel* (lower case), or None."""
        return next((target for target, rels in self.members if rel in rels), None)

    def page_targets(self) -> tuple[bytes, ...]:
        """Return the targets of the links to other pages of the list."""
        return tuple(target for target, rels in self.members if rels & _PAGE_RELATIONS)


def _relations(parameters: bytes) -> frozenset[bytes]:
    found = _PARAMETER.finditer(parameters)
    values = ((item[2] or item[3] or b"") for item in found if item[1].lower() == b"rel")
    # Only the first `rel` counts (RFC 8288, section 3.3).
    return frozenset(next(values, b"").lower().split())


def parse_links(value: bytes | None) -> Links:
    """Return the links in a `Link` value (RFC 8288); malformed parts are ignored."""
    found = LINK_VALUE.finditer(value or b"")
    return Links(tuple((link[1], _relations(link[2])) for link in found))


def _server(url: bytes) -> tuple[bytes, bytes]:
    """Return scheme and authority of an absolute URL, without the scheme's default port."""
    scheme, _, rest = url.lower().partition(b"://")
    authority = _END_OF_AUTHORITY.split(rest, 1)[0]
    return scheme, authority.removesuffix(_DEFAULT_PORTS.get(scheme, b":"))


def has_foreign_page(link: bytes | None, api_url: bytes) -> bool:
    """Return whether *link* names a page of a list at a server other than *api_url*'s.

    A server may derive its name from a field of one client's request. Such a response must not be
    sent to other clients. Links with other relations, as to documentation, may lead anywhere.
    """
    if link is None:
        return False
    server = _server(api_url)
    return any(
        _server(page) != server
        for page in parse_links(link).page_targets()
        if _ON_SAME_SERVER.match(page) is None
    )
