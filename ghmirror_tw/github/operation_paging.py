"""The pagination of each GET operation of GitHub, by a tree of path templates."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

from attrs import define, field, frozen

from ghmirror_tw.github import pagination_table
from ghmirror_tw.http.target_memo import memoised_by_target

#: The default page size, and the largest one, of nearly all operations.
DEFAULT_SIZE: Final = 30
LARGEST_SIZE: Final = 100

#: No template of the table has so many segments.
_MOST_SEGMENTS: Final = 24


class Paging(Enum):
    """The way in which an operation names its pages."""

    NUMBERED = "NUMBERED"
    CURSORS = "CURSORS"
    NONE = "NONE"
    UNKNOWN = "UNKNOWN"


@frozen
class PageLimits:
    """The pagination of an operation: how many items a page has by default (*size*), at *most*."""

    paging: Paging
    size: int = DEFAULT_SIZE
    most: int = LARGEST_SIZE


_UNKNOWN: Final = PageLimits(Paging.UNKNOWN)


@define(eq=False)
class _Node:
    """A node in the tree of path templates, with its children by their segment."""

    literals: dict[bytes, _Node] = field(factory=dict)
    parameter: _Node | None = None
    limits: PageLimits | None = None
    #: The operation whose last parameter stands for all further segments, or for none.
    rest: PageLimits | None = None

    def add(self, segments: Sequence[bytes], limits: PageLimits) -> None:
        """Add a path template below this node."""
        if not segments:
            self.limits = limits
        elif segments[0] == b"{+}":
            self.rest = limits
        elif segments[0] == b"{}":
            self.parameter = self.parameter or _Node()
            self.parameter.add(segments[1:], limits)
        else:
            self.literals.setdefault(segments[0], _Node()).add(segments[1:], limits)

    def find(self, segments: Sequence[bytes]) -> PageLimits | None:
        """Return the operation of a path below this node; a literal segment precedes `{}`."""
        if not segments:
            return self.limits or self.rest
        for node in (self.literals.get(segments[0]), self.parameter):
            found = None if node is None else node.find(segments[1:])
            if found is not None:
                return found
        return self.rest


def _build_tree() -> _Node:
    root = _Node()
    for paging in (Paging.NUMBERED, Paging.CURSORS, Paging.NONE):
        for line in getattr(pagination_table, paging.value).splitlines():
            template, *sizes = line.split()
            root.add(template.encode().split(b"/"), PageLimits(paging, *map(int, sizes)))
    return root


_OPERATIONS: Final = _build_tree()


def _with_placeholders(segments: Sequence[bytes]) -> Sequence[bytes] | None:
    """Return a path with placeholders in place of the number of an owner, or None.

    GitHub's own `Link` names ``/repositories/1/issues`` for ``/repos/o/r/issues``, likewise
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


@memoised_by_target
def page_limits_of(target: bytes) -> PageLimits:
    """Return the pagination of the GET operation of *target*, by the table of operations.

    The work is bounded by the size of the table, for every target.
    """
    segments = target.partition(b"?")[0].split(b"/", _MOST_SEGMENTS)
    found = _OPERATIONS.find(segments)
    if found is None:
        named = _with_placeholders(segments)
        found = None if named is None else _OPERATIONS.find(named)
    return found or _UNKNOWN


def most_items_of_page(target: bytes) -> int:
    """Return the largest number of items on a page of *target*; 0 if the operation has no pages.

    An operation that is not in the table may have pages.
    """
    limits = page_limits_of(target)
    return 0 if limits.paging is Paging.NONE else limits.most
