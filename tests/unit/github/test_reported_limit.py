"""Limits in force: the latest of each scope, and their reasons."""

from __future__ import annotations

from ghmirror_tw.github.reported_limit import (
    Limit,
    LimitKind,
    latest_of_each_scope,
)


def test_the_later_of_two_limits() -> None:
    """Of each scope."""
    one, two = Limit(LimitKind.PRIMARY, "core", 1.0), Limit(LimitKind.SECONDARY, "core", 2.0)
    search = Limit(LimitKind.PRIMARY, "search", 1.0)
    assert latest_of_each_scope((one,), ()) == (one,)
    assert latest_of_each_scope((), (one,)) == (one,)
    assert (
        latest_of_each_scope((one,), (two, search))
        == latest_of_each_scope((two, search), (one,))
        == (two, search)
    )


def test_kinds_are_reasons() -> None:
    """As in stale responses."""
    assert [kind.reason for kind in LimitKind] == ["primary-limit", "secondary-limit"]
