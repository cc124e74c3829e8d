"""The pagination of each operation, by the table."""

import pytest

from ghmirror_tw.github.operation_paging import Operation, Paging, most_items_of_page, operation_of


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
        (b"/repos/o/r/issues", Operation(Paging.NUMBERED)),
        (b"/repos/o/r/issues?state=all", Operation(Paging.NUMBERED)),
        (b"/events", Operation(Paging.NUMBERED, 15, 100)),
        (b"/notifications?all=true", Operation(Paging.NUMBERED, 50, 50)),
        (b"/repos/o/r/dependabot/alerts", Operation(Paging.CURSORS)),
        (b"/users", Operation(Paging.CURSORS)),
        (b"/app/hook/deliveries", Operation(Paging.CURSORS)),
        (b"/repos/o/r/contents", Operation(Paging.NONE)),
        (b"/repos/o/r/contents/a/b/c", Operation(Paging.NONE)),
        (b"/repos/o/r", Operation(Paging.NONE)),
        (b"/orgs/teams/teams/teams/repos", Operation(Paging.NUMBERED)),
        (b"/repositories", Operation(Paging.CURSORS)),
        (b"/repositories/1", Operation(Paging.NONE)),
        (b"/repositories/1/issues?page=2", Operation(Paging.NUMBERED)),
        (b"/repositories/1/dependabot/alerts", Operation(Paging.CURSORS)),
        (b"/organizations/1/repos", Operation(Paging.NUMBERED)),
        (b"/organizations/1/team/2/repos", Operation(Paging.NUMBERED)),
        (b"/user/1/repos", Operation(Paging.NUMBERED)),
        (b"/user/repos", Operation(Paging.NUMBERED)),
        (b"/user/o/repos", Operation(Paging.UNKNOWN)),
        (b"/issues/1/comments", Operation(Paging.UNKNOWN)),
        (b"/repos/o/r/git/matching-refs/heads/x", Operation(Paging.UNKNOWN)),
        (b"/users/o/packages/npm/p/versions", Operation(Paging.UNKNOWN)),
        (b"/nowhere", Operation(Paging.UNKNOWN)),
        (b"/", Operation(Paging.NONE)),
        (b"", Operation(Paging.UNKNOWN)),
        (b"/" * 100_000, Operation(Paging.UNKNOWN)),
        (b"/repos" * 100_000, Operation(Paging.UNKNOWN)),
    ],
)
def test_operations_are_found_by_their_path(target: bytes, operation: Operation) -> None:
    """By the table, and under the numbers by which GitHub's links name owners."""
    assert operation_of(target) == operation
