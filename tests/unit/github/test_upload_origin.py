"""Uploads are sent to GitHub's host for uploads, and no other requests are."""

import pytest

from ghmirror_tw.github.origin import Origin
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request

TARGET = b"/repos/o/r/releases/1/assets?name=a%20b&label="


@pytest.mark.parametrize(
    ("api_url", "authority", "target", "url"),
    [
        ("https://api.github.com", b"uploads.github.com", TARGET, b"https://uploads.github.com"),
        ("https://api.x.ghe.com", b"uploads.x.ghe.com", TARGET, b"https://uploads.x.ghe.com"),
        (
            "https://ghe.test:8443/api/v3",
            b"ghe.test:8443",
            b"/api/uploads" + TARGET,
            b"https://ghe.test:8443/api/uploads",
        ),
        ("http://mirror:8080", b"mirror:8080", b"/api/uploads" + TARGET, None),
        ("http://mirror:8080/x", b"mirror:8080", b"/x/api/uploads" + TARGET, None),
        ("https://api.github.com.test", b"api.github.com.test", b"/api/uploads" + TARGET, None),
        ("https://x.ghe.com", b"x.ghe.com", b"/api/uploads" + TARGET, None),
        ("https://uploads.test", b"uploads.test", b"/api/uploads" + TARGET, None),
    ],
)
def test_where_they_go(api_url: str, authority: bytes, target: bytes, url: bytes | None) -> None:
    """At GitHub.com to a host of its own, elsewhere beside the API; all else stays as it is."""
    origin = Origin.of(api_url)
    request = Request(b"POST", b"/api/uploads" + TARGET, Fields())
    assert origin.uploads.authority == authority
    assert origin.uploads.target(request) == target
    assert origin.uploads_url == url
    asset = Request(b"POST", TARGET, Fields())
    assert origin.routed(asset) == (asset if url is None else request)
    assert origin.routed(request) == request
    other = Request(b"GET", b"/zen", Fields())
    assert origin.target(other) == origin.base_path + b"/zen"
