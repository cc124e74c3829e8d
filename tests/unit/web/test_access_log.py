"""The access log: one line for each request, without credentials."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import ILogObserver, Logger, formatEvent

from ghmirror_tw.http.fields import Fields
from ghmirror_tw.telemetry.logs import as_json, as_text
from ghmirror_tw.web.access_log import AccessLog, LoggedRequest, shown_path


def logged(access: Any = "all", **request: Any) -> list[dict[str, Any]]:
    """Return the events that a request leaves in the log."""
    events: list[dict[str, Any]] = []
    log = AccessLog(access, Logger(namespace="test", observer=cast(ILogObserver, events.append)))
    values: dict[str, Any] = {
        "method": b"GET",
        "target": b"/user?page=2",
        "status": 200,
        "outcome": "shared",
        "seconds": 0.01234,
        "user": "octocat",
    }
    values |= request
    log.request(LoggedRequest(path=shown_path(values.pop("target")), **values))
    return events


TOKEN = b"ghp_0123456789abcdefghijABCDEFGHIJ012345"
#: What ``printf TOKEN | openssl dgst -sha256 -binary | base64`` prints.
HASH = base64.b64encode(hashlib.sha256(TOKEN).digest()).decode()
ALL: dict[str, Any] = {
    "size": 2345,
    "detail": "timeout",
    "upstream_status": 304,
    "upstream_seconds": 0.0101,
    "client": "192.0.2.7",
    "request_id": b"C0FF:EE",
    "fields": Fields(((b"authorization", b"Bearer " + TOKEN), (b"user-agent", b'a "b"/1'))),
}


def test_line_begins_with_method_path_status_outcome_time_and_user() -> None:
    """An unknown value is omitted in the text, and null in JSON."""
    (event,) = logged()
    assert formatEvent(event) == "GET /user 200 shared 12.3 ms octocat bytes=0"
    shown = json.loads(as_json(event))
    keys = ("method", "path", "status", "outcome", "milliseconds", "user", "bytes")
    assert [shown[key] for key in keys] == ["GET", "/user", 200, "shared", 12.3, "octocat", 0]
    for key in ("detail", "client", "upstream_status", "upstream_ms", "request_id", "user_agent"):
        assert shown[key] is None
    assert shown["hashed_token"] is None


def test_line_has_all_that_is_known() -> None:
    """By key; numbers are numbers in JSON."""
    (event,) = logged(**ALL)
    assert as_text(event).rpartition(" octocat ")[2] == (
        f"detail=timeout client=192.0.2.7 bytes=2345 upstream_status=304 upstream_ms=10.1"
        f' hashed_token={HASH} request_id=C0FF:EE user_agent="a \\"b\\"/1"\n'
    )
    shown = json.loads(as_json(event))
    assert (shown["bytes"], shown["upstream_status"], shown["upstream_ms"]) == (2345, 304, 10.1)
    assert (shown["hashed_token"], shown["user_agent"]) == (HASH, 'a "b"/1')
    assert (shown["client"], shown["request_id"]) == ("192.0.2.7", "C0FF:EE")


@pytest.mark.parametrize("layout", [as_text, as_json])
def test_no_credential_is_logged(layout: Callable[[Any], str]) -> None:
    """Wherever a client or GitHub sends it; nor the hash of what is no token of GitHub's."""
    fields = Fields(
        (
            (b"authorization", b"Basic " + base64.b64encode(b"octocat:hunter2")),
            (b"user-agent", b"a" * 150 + b" Bearer " + TOKEN * 3),
        )
    )
    (event,) = logged(fields=fields, target=b"/x/" + TOKEN, method=TOKEN, request_id=TOKEN)
    line = layout(event)
    assert "0123456789" not in line
    assert event["log_scrubbed"]["hashed_token"] is None
    assert "hashed_token=" not in line


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


def test_unknown_user_is_a_dash() -> None:
    """The beginning of each line has the same number of words; in JSON it is null."""
    (event,) = logged(user=None)
    assert formatEvent(event).endswith(" ms - bytes=0")
    assert json.loads(as_json(event))["user"] is None


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
    """With any target."""
    shown = shown_path(target)
    assert all("!" <= each <= "~" for each in shown)


def test_methods_and_logins_are_escaped() -> None:
    """A client can send any method."""
    (event,) = logged(method=b"GE\nT" + b"X" * 100, user="a\nb\u20ac")
    line = formatEvent(event)
    assert "\n" not in line
    assert line.isascii()
    assert len(event["log_scrubbed"]["method"]) < 50
