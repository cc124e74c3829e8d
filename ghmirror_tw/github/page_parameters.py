"""The query parameters by which clients request a page of a list (GitHub: using pagination)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from ghmirror_tw.github.operation_paging import page_limits_of
from ghmirror_tw.http.target_memo import memoised_by_target
from ghmirror_tw.runtime.whole_numbers import whole_number

#: The largest page number; larger values are no page numbers.
_MOST_NUMBER: Final = 999_999_999

#: Query parameters that hold a cursor: an opaque position in a list, known from links only.
_CURSORS: Final = frozenset({b"cursor", b"starting_after", b"ending_before"})
_MAYBE_CURSORS: Final = frozenset({b"after", b"before"})
_DATE: Final = re.compile(rb"\d{4}-\d\d-\d\d")


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
    """Return the page that *target* names by a number, or None."""
    return _positive(_last(target, b"page") or b"")


@memoised_by_target
def page_number(target: bytes) -> int | None:
    """Return the page that *target* requests: 1 by default, None if it is no number."""
    value = _last(target, b"page")
    return 1 if value is None else _positive(value)


def with_page(target: bytes, page: int) -> bytes:
    """Return *target* with *page* as its page, and all other bytes unchanged."""
    path, parameters = _split(target)
    new = b"page=%d" % page
    changed = [new if _name(parameter) == b"page" else parameter for parameter in parameters]
    if new not in changed:
        if changed[-1:] == [b""]:
            changed.pop()
        changed.append(new)
    return path + b"?" + b"&".join(changed)


@memoised_by_target
def list_identity(target: bytes) -> bytes:
    """Return *target* without its page: the same for all pages of a list."""
    path, parameters = _split(target)
    kept = [parameter for parameter in parameters if _name(parameter) != b"page"]
    return path + b"?" + b"&".join(kept) if kept else path


@memoised_by_target
def page_size(target: bytes) -> int:
    """Return the largest number of items on a page of *target*: `per_page` within its bounds.

    GitHub may read a malformed value, such as `5x`, as a number. Then any page may be full, and the
    size is 1.
    """
    operation = page_limits_of(target)
    value = _last(target, b"per_page")
    if not value:
        return operation.size
    if not value.isdigit():
        return 1
    size = whole_number(value.lstrip(b"0") or b"0", operation.most)
    return operation.most if size is None else size or operation.size


def has_page_parameter(target: bytes) -> bool:
    """Return whether *target* has a parameter for the page, or for the size of pages."""
    return any(name in {b"page", b"per_page"} for name, _ in _parameters(target))


def has_cursor(target: bytes) -> bool:
    """Return whether *target* names its position in a list by a cursor instead of a page number.

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
