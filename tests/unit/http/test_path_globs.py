"""Patterns of paths: an asterisk is one segment."""

import pytest

from ghmirror_tw.http.path_globs import PathGlobs, check_path_pattern


@pytest.mark.parametrize(
    ("path", "matches"),
    [
        (b"/repos/o/r/releases/latest", True),
        (b"/repos/o.x/r-1/releases/1", True),
        (b"/repos/o%2Fx/r/releases/1", True),
        (b"/users/octocat", True),
        (b"/repos/o/r/releases", False),
        (b"/repos/o/r/releases/", False),
        (b"/repos/o/r/releases/1/assets", False),
        (b"/repos//r/releases/1", False),
        (b"/x/repos/o/r/releases/1", False),
        (b"/users/octocat2", False),
        (b"/users/octocat\n", False),
        (b"/usersXoctocat", False),
        (b"", False),
    ],
)
def test_a_pattern_matches_whole_paths(path: bytes, matches: bool) -> None:
    """An asterisk matches one segment that is not empty; everything else is literal."""
    patterns = PathGlobs(("/repos/*/*/releases/*", "/users/octocat"))
    assert patterns.match(path) is matches


def test_dots_in_patterns_are_literal() -> None:
    """A pattern is no regular expression."""
    assert PathGlobs(("/a.b",)).match(b"/a.b")
    assert not PathGlobs(("/a.b",)).match(b"/axb")


def test_no_pattern_matches_nothing() -> None:
    """That is the default."""
    assert not PathGlobs().match(b"/repos/o/r/releases/1")
    assert PathGlobs() == PathGlobs(())


@pytest.mark.parametrize("good", ["/*", "/rate_limit", "/repos/*/*/releases/*", "/a/b%20c/@x:y"])
def test_good_patterns(good: str) -> None:
    """Literal segments have the characters of RFC 3986, section 3.3."""
    check_path_pattern(good)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("", "does not start with a slash"),
        ("repos/*", "does not start with a slash"),
        ("https://api.github.com/repos/*", "does not start with a slash"),
        ("/repos/*?per_page=1", "query or a fragment"),
        ("/repos/*#x", "query or a fragment"),
        ("/repos/o*/r", "neither \\* nor text without"),
        ("/repos/**/r", "neither \\* nor text without"),
        ("/repos//r", "neither \\* nor text without"),
        ("/repos/r/", "neither \\* nor text without"),
        ("/", "neither \\* nor text without"),
        ("/repos/ü", "neither \\* nor text without"),
        ("/repos/a b", "neither \\* nor text without"),
        ("/repos/[a-z]/r", "neither \\* nor text without"),
        ("/repos/../r", "segment of dots"),
        ("/api/v3/repos/*/*", "prefix of Enterprise Server"),
    ],
)
def test_malformed_patterns(wrong: str, reason: str) -> None:
    """Each is reported with its fault."""
    with pytest.raises(ValueError, match=reason):
        check_path_pattern(wrong)
