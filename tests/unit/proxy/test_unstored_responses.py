"""Responses without a stored representation."""

from __future__ import annotations

from ghmirror_tw.github.reported_limit import Limit, LimitKind
from ghmirror_tw.http.outcomes import Outcome
from ghmirror_tw.proxy.limit_responses import usual_limit_response
from ghmirror_tw.proxy.mirror_response import CodedContent


def test_limited_response_is_repeated() -> None:
    """It has the time that is left, a second at least, where GitHub sent one."""
    fields = ((b"x-ratelimit-limit", b"y"), (b"retry-after", b"10"))
    limit = Limit(LimitKind.PRIMARY, "core", 10.0, 429, fields, b"{}")
    for now, left in ((1.5, b"9"), (9.9, b"1"), (11.0, b"1")):
        again = usual_limit_response(limit, now)
        assert (again.status, again.body, again.fields.get(b"x-ratelimit-limit")) == (
            429,
            CodedContent(b"{}"),
            b"y",
        )
        assert again.fields.get(b"retry-after") == left
        assert (again.outcome, again.upstream_status, again.detail) == (
            Outcome.ERROR,
            None,
            "primary-limit",
        )


def test_limited_response_without_content_has_usual_content() -> None:
    """Another replica stores no content of the response that it received."""
    body = usual_limit_response(Limit(LimitKind.SECONDARY, "", 30.0), 10.0).body
    assert isinstance(body, CodedContent)
    assert b"secondary rate limit" in body.content
