"""Path patterns hold no names, and are equal for all paths of an operation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.github.path_labels import operation_of, path_pattern


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        (b"/", "/"),
        (b"/user", "/user"),
        (b"/user/starred/o/r", "/user/starred/*/*"),
        (b"/users/alice/repos", "/users/*/repos"),
        (b"/repos/octo/issues/issues/17", "/repos/*/*/issues/*"),
        (b"/repos/octo/issues/issues/17/comments", "/repos/*/*/issues/*/comments"),
        (b"/repos/o/r/contents/docs/index.rst", "/repos/*/*/contents/*"),
        (b"/repos/o/r/contents", "/repos/*/*/contents"),
        (b"/repos/o/contents/readme", "/repos/*/*/readme"),
        (b"/repos/o/r/branches/main", "/repos/*/*/branches/*"),
        (b"/repos/o/r/commits/5e3c1f/status", "/repos/*/*/commits/*/status"),
        (b"/repos/o/r/compare/a...b", "/repos/*/*/compare/*"),
        (b"/orgs/o/teams/t/members", "/orgs/*/teams/*/members"),
        (b"/app-manifests/secretcode/conversions", "/app-manifests/*/conversions"),
        (b"/App-Manifests/secretcode/conversions", "/*/*/conversions"),
        (b"/applications/id/tokens/secrettoken", "/applications/*/tokens/*"),
        (b"/applications/id/token/secrettoken", "/applications/*/token/*"),
        (b"/applications/id/grants/secrettoken", "/applications/*/grants/*"),
        (b"/Applications/id/tokens/secrettoken", "/*/id/tokens/*"),
        (b"/user/", "/user/"),
        (b"/repositories/1296269", "/repositories/*"),
        (b"/caf%C3%A9", "/*"),
    ],
)
def test_the_pattern_of_each_kind_of_path(path: bytes, pattern: str) -> None:
    """Words of the API stay, names go."""
    assert path_pattern(path) == pattern


def test_head_is_the_operation_of_get() -> None:
    """GitHub charges both alike; other methods are operations of their own."""
    assert operation_of(b"HEAD", b"/repos/o/r") == operation_of(b"GET", b"/repos/o/r")
    assert operation_of(b"POST", b"/repos/o/r/issues") == "POST /repos/*/*/issues"


@given(st.binary(max_size=300))
def test_patterns_are_bounded(path: bytes) -> None:
    """In length and in characters, for any path."""
    pattern = path_pattern(b"/" + path)
    assert len(pattern) <= 12 * 41
    assert pattern.isascii()
