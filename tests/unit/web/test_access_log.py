"""The access log: one line for each request, without credentials."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import ILogObserver, Logger, formatEvent

from ghmirror_tw.web.access_log import AccessLog, shown_path


def logged(access: Any = "all", **request: Any) -> list[dict[str, Any]]:
    """Return the events that a request leaves in the log."""
    events: list[dict[str, Any]] = []
    log = AccessLog(access, Logger(namespace="test", observer=cast(ILogObserver, events.append)))
    told: dict[str, Any] = {
        "method": b"GET",
        "target": b"/user?page=2",
        "status": 200,
        "outcome": "shared",
        "seconds": 0.01234,
        "login": "octocat",
    }
    told |= request
    log.request(path=shown_path(told.pop("target")), **told)
    return events


def test_line_has_method_path_status_outcome_time_and_login() -> None:
    """In the text, and as keys for JSON."""
    (event,) = logged()
    assert formatEvent(event) == "GET /user 200 shared 12.3 ms octocat"
    keys = ("method", "path", "status", "outcome", "milliseconds", "login")
    assert [event[key] for key in keys] == ["GET", "/user", 200, "shared", 12.3, "octocat"]


@pytest.mark.parametrize("prefix", ["", "/api/v3", "https://api.github.com", "//x"])
@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/app-manifests/0a1b2c/conversions", "/app-manifests/***/conversions"),
        ("/app-manifests/0a1b2c", "/app-manifests/***"),
        ("/app%2Dmanifests/0a1b2c/conversions", "/app%2Dmanifests/***/conversions"),
        ("/App-Manifests/0a1b2c/conversions?x", "/App-Manifests/***/conversions"),
        ("/applications/Iv1.8a61f9b3a7aba766/tokens/0a1b2c", None),
        ("/applications/Iv1.8a61f9b3a7aba766/grants/0a1b2c/", None),
        ("/applications/Iv1.8a61f9b3a7aba766/token/0a1b2c", None),
        ("/applications/Iv1.8a61f9b3a7aba766/token/sco%70ed/0a1b2c", None),
        ("/applications/Iv1.8a61f9b3a7aba766/token", "/applications/Iv1.8a61f9b3a7aba766/token"),
        ("/app-manifests", "/app-manifests"),
        ("/app-manifests//0a1b2c", "/app-manifests//***"),
        ("/app-manifests%2f0a1b2c", "/app-manifests%2f***"),
        ("/repos/o/applications/issues/tokens/1", "/repos/o/applications/issues/tokens/***"),
        ("/repos/o/r/actions/tokens/1", "/repos/o/r/actions/tokens/1"),
    ],
)
def test_secrets_in_paths_are_scrubbed(prefix: str, path: str, shown: str | None) -> None:
    """The codes of App manifests, and the tokens of OAuth Apps."""
    found = shown_path(f"{prefix}{path}".encode())
    assert "0a1b2c" not in found
    if shown is not None:
        assert found.endswith(shown)


def test_unknown_login_is_a_dash() -> None:
    """Each line has the same number of words."""
    assert formatEvent(logged(login=None)[0]).endswith(" ms -")


@pytest.mark.parametrize(
    ("access", "status", "outcome", "lines"),
    [
        ("all", 200, "fresh", 1),
        ("errors", 200, "fresh", 0),
        ("errors", 404, "pass", 0),
        ("errors", 500, "pass", 1),
        ("errors", 403, "error", 1),
        ("none", 502, "error", 0),
    ],
)
def test_option_selects_requests(access: str, status: int, outcome: str, lines: int) -> None:
    """All, those that failed, or none."""
    assert len(logged(access, status=status, outcome=outcome)) == lines


def test_default_is_all() -> None:
    """A mirror logs all requests by default."""
    assert AccessLog().access == "all"


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (b"/repos/o/r?access_token=abc", "/repos/o/r"),
        (b"/repos/o/r#part", "/repos/o/r"),
        (b"/a\r\nGET /b", "/a%0D%0AGET%20/b"),
        (b"/\x1b[31m\x7f\x00", "/%1B[31m%7F%00"),
        ("/é".encode(), "/%C3%A9"),
        (b"/a%2Fb", "/a%2Fb"),
        (b"http://me:secret@mirror/user?x", "/user"),
        (b"*", "*"),
        (b"", ""),
        (b"/x/ghp_0123456789abcdef0123", "/x/***"),
        (b"/x/gh%70_0123456789abcdef0123", "/x/***"),
        (b"/x/Bearer%20abcdef/y", "/x/Bearer%20***"),
    ],
)
def test_shown_path_is_safe(target: bytes, shown: str) -> None:
    """It has no query, userinfo, credential or control character."""
    assert shown_path(target) == shown


def test_long_path_is_cut() -> None:
    """It is cut at 2 kB after escaping."""
    for target in (b"/" + b"a" * 3000, b"/" + b"\xff" * 2000, b"/" + b"a" * 1_000_000):
        assert len(shown_path(target)) == 2048
        assert shown_path(target).endswith("...")
    assert shown_path(b"/" + b"a" * 2047) == "/" + "a" * 2047


@given(st.binary())
def test_shown_path_is_visible_ascii(target: bytes) -> None:
    """Whatever the target is."""
    shown = shown_path(target)
    assert all("!" <= each <= "~" for each in shown)


def test_methods_and_logins_are_escaped() -> None:
    """A client can send any method."""
    (event,) = logged(method=b"GE\nT" + b"X" * 100, login="a\nb\u20ac")
    line = formatEvent(event)
    assert "\n" not in line
    assert line.isascii()
    assert len(event["method"]) < 50
