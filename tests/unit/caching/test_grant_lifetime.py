"""The lifetime of grants."""

from __future__ import annotations

import base64

from ghmirror_tw.caching.records_from_responses import grant_expires_at
from ghmirror_tw.http.fields import Fields

DAY = 86_400.0


EXPIRATION = b"github-authentication-token-expiration"


def until(
    authorization: bytes | None, shown: bytes | None = None, limit_s: float = 7 * DAY
) -> float:
    fields = Fields() if shown is None else Fields(((EXPIRATION, shown),))
    sent = Fields() if authorization is None else Fields(((b"authorization", authorization),))
    return grant_expires_at(sent, fields, 1000.0, limit_s)


def test_a_grant_is_stored_as_long_as_stale_responses_need_it() -> None:
    """And a day at least, with any credential or none."""
    for authorization in (b"token abc", b"Bearer abc", b"Basic !", b"Basic abcde", b"", None):
        assert until(authorization) == 1000.0 + 7 * DAY
        assert until(authorization, limit_s=60.0) == 1000.0 + DAY


def test_a_grant_of_an_installation_is_stored_for_an_hour() -> None:
    """Its token lives no longer, however it is sent."""
    basic = b"Basic " + base64.b64encode(b"x-access-token:ghs_abc")
    for authorization in (b"token ghs_abc", b"Bearer ghs_abc", basic):
        assert until(authorization) == 1000.0 + 3600.0


def test_grants_do_not_outlive_the_tokens_of_apps() -> None:
    """A token that an App has for a user lives eight hours, and the App's own ten minutes."""
    assert until(b"Bearer ghu_abc") == 1000.0 + 8 * 3600.0
    assert until(b"Bearer eyJhbGciOiJSUzI1NiJ9.e30.abc") == 1000.0 + 600.0
    assert until(b"token gho_abc") == 1000.0 + 7 * DAY


def test_a_grant_does_not_outlive_its_token() -> None:
    """Where GitHub sends its end; an end in any other format is ignored."""
    assert until(b"token abc", b"1970-01-01 02:00:00 UTC") == 7200.0
    assert until(b"token abc", b"1970-01-01 04:00:00 +0200") == 7200.0
    assert until(b"token abc", b"1970-01-01 00:00:00 UTC") == 1060.0
    for other in (b"tomorrow", b"9999-12-31 23:59:59 UTC", b"\xff", b"0001-01-01 00:00:00 +2359"):
        assert until(b"token abc", other) >= 1060.0
