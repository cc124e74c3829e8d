"""The pagination of each operation, by the table."""

import pytest

from ghmirror_tw.github.operation_paging import (
    PageLimits,
    Paging,
    most_items_of_page,
    page_limits_of,
)


@pytest.mark.parametrize(
    ("target", "most"),
    [
        (b"/repos/o/r/issues", 100),
        (b"/notifications?per_page=5", 50),
        (b"/repos/o/r/dependabot/alerts", 100),
        (b"/repos/o/r", 0),
        (b"/repos/o/r/contents/a/b.json", 0),
        (b"/unknown", 100),
    ],
)
def test_the_most_items_of_a_page(target: bytes, most: int) -> None:
    """They are those of the table; an operation without pages has none."""
    assert most_items_of_page(target) == most


@pytest.mark.parametrize(
    ("target", "operation"),
    [
        (b"/repos/o/r/issues", PageLimits(Paging.NUMBERED)),
        (b"/repos/o/r/issues?state=all", PageLimits(Paging.NUMBERED)),
        (b"/events", PageLimits(Paging.NUMBERED, 15, 100)),
        (b"/notifications?all=true", PageLimits(Paging.NUMBERED, 50, 50)),
        (b"/repos/o/r/dependabot/alerts", PageLimits(Paging.CURSORS)),
        (b"/users", PageLimits(Paging.CURSORS)),
        (b"/app/hook/deliveries", PageLimits(Paging.CURSORS)),
        (b"/repos/o/r/contents", PageLimits(Paging.NONE)),
        (b"/repos/o/r/contents/a/b/c", PageLimits(Paging.NONE)),
        (b"/repos/o/r", PageLimits(Paging.NONE)),
        (b"/orgs/teams/teams/teams/repos", PageLimits(Paging.NUMBERED)),
        (b"/repositories", PageLimits(Paging.CURSORS)),
        (b"/repositories/1", PageLimits(Paging.NONE)),
        (b"/repositories/1/issues?page=2", PageLimits(Paging.NUMBERED)),
        (b"/repositories/1/dependabot/alerts", PageLimits(Paging.CURSORS)),
        (b"/organizations/1/repos", PageLimits(Paging.NUMBERED)),
        (b"/organizations/1/team/2/repos", PageLimits(Paging.NUMBERED)),
        (b"/user/1/repos", PageLimits(Paging.NUMBERED)),
        (b"/user/repos", PageLimits(Paging.NUMBERED)),
        (b"/user/o/repos", PageLimits(Paging.UNKNOWN)),
        (b"/issues/1/comments", PageLimits(Paging.UNKNOWN)),
        (b"/repos/o/r/git/matching-refs/heads/x", PageLimits(Paging.UNKNOWN)),
        (b"/users/o/packages/npm/p/versions", PageLimits(Paging.UNKNOWN)),
        (b"/nowhere", PageLimits(Paging.UNKNOWN)),
        (b"/", PageLimits(Paging.NONE)),
        (b"", PageLimits(Paging.UNKNOWN)),
        (b"/" * 100_000, PageLimits(Paging.UNKNOWN)),
        (b"/repos" * 100_000, PageLimits(Paging.UNKNOWN)),
    ],
)
def test_operations_are_found_by_their_path(target: bytes, operation: PageLimits) -> None:
    """By the table, and under the numbers by which GitHub's links name owners."""
    assert page_limits_of(target) == operation
