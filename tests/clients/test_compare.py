"""The comparison of two ways finds what differs without a reason."""

from __future__ import annotations

import pytest
from attrs import evolve

from tests.clients.compare import DIFFERENCES, Both, Exchange, Upstream

TAG = f'"{"0" * 64}"'

DIRECT = Exchange(
    method="GET",
    target="/repos/o/r",
    sent=[],
    content_sent=b"",
    status=200,
    reason="OK",
    fields=[
        ("Content-Type", "application/octet-stream"),
        ("Cache-Control", "private, max-age=60, s-maxage=60"),
        ("ETag", TAG),
        ("Vary", "Accept, Authorization"),
        ("X-RateLimit-Limit", "5000"),
        ("X-RateLimit-Remaining", "4999"),
        ("X-RateLimit-Used", "1"),
        ("X-GitHub-Request-Id", "0001:001EEF:1:6B0CF0B8"),
    ],
    content=b"PK",
)
ADDED = [
    ("Via", "1.1 ghmirror"),
    ("Cache-Status", "ghmirror; fwd=uri-miss; fwd-status=200; stored"),
]
MIRRORED = evolve(DIRECT, fields=[*DIRECT.fields, *ADDED])


def unexplained(mirrored: Exchange) -> list[str]:
    both = Both(None, None, [DIRECT], [mirrored], (Upstream(1, 1), Upstream(1, 1)))
    return both.unexplained()


def with_field(name: str, value: str) -> Exchange:
    """Return the exchange through the mirror with another value of a field."""
    fields = [(key, value if key == name else old) for key, old in MIRRORED.fields]
    return evolve(MIRRORED, fields=fields)


def test_listed_differences_are_allowed() -> None:
    """The mirror may add Cache-Status, and have its own Cache-Control."""
    assert unexplained(MIRRORED) == []
    assert unexplained(with_field("Cache-Control", "private, no-cache")) == []
    assert unexplained(with_field("Vary", "Accept, Authorization, Accept-Encoding")) == []


@pytest.mark.parametrize(
    ("mirrored", "what"),
    [
        (evolve(MIRRORED, status=404), "status: 200"),
        (evolve(MIRRORED, reason="Fine"), "reason: 'OK'"),
        (evolve(MIRRORED, content=b"PQ"), "content: b'PK'"),
        (evolve(MIRRORED, complete=False), "complete: True"),
        (evolve(MIRRORED, fields=MIRRORED.fields[1:]), "content-type: 'application/octet-stream'"),
        (evolve(MIRRORED, fields=[*MIRRORED.fields, ("X-Else", "1")]), "x-else: ''"),
        (with_field("Vary", "Accept"), "vary: "),
        (with_field("ETag", f"W/{TAG}"), "etag: "),
        (with_field("ETag", f'"{"1" * 64}"'), "etag: "),
        (with_field("Cache-Control", "public"), "cache-control: "),
        (with_field("X-RateLimit-Remaining", "4000"), "x-ratelimit-remaining: "),
        (with_field("X-GitHub-Request-Id", ""), "x-github-request-id: "),
    ],
)
def test_other_differences_are_reported(mirrored: Exchange, what: str) -> None:
    """Each difference is one line, which names the request."""
    (line,) = unexplained(mirrored)
    assert line.startswith(f"GET /repos/o/r: {what}")


def test_case_of_field_names_is_preserved() -> None:
    """Clients may look fields up case-sensitively."""
    spelled = evolve(MIRRORED, fields=[(n.title(), value) for n, value in MIRRORED.fields])
    assert "GET /repos/o/r: X-RateLimit-Limit is spelled X-Ratelimit-Limit by the mirror" in (
        unexplained(spelled)
    )


def test_requests_of_one_side_only_are_reported() -> None:
    """A request that only one side has is a failure."""
    none: list[Exchange] = []
    for ways in ((none, [MIRRORED]), ([DIRECT], none)):
        with pytest.raises(AssertionError, match="GET /repos/o/r"):
            Both(None, None, *ways, (Upstream(1, 1), Upstream(1, 1))).pairs()


def test_each_difference_has_one_reason() -> None:
    """No field is listed twice."""
    names = [name for difference in DIFFERENCES for name in difference.names]
    assert len(names) == len(set(names))
    assert all(difference.why for difference in DIFFERENCES)
