"""The origin server: its address, its uploads, and the targets there."""

from __future__ import annotations

import pytest

from ghmirror_tw.github.origin import Origin, is_asset_upload
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request

GITHUB = "https://api.github.com"
TENANT = "https://api.octocorp.ghe.com"
SERVER = "https://github.example:8443/api/v3/"
ASSETS = b"/repos/o/r/releases/1/assets?name=a"


def request(target: bytes, method: bytes = b"GET") -> Request:
    return Request(method, target, Fields())


@pytest.mark.parametrize(
    ("api_url", "authority", "uploads_url"),
    [
        (GITHUB, b"api.github.com", b"https://uploads.github.com"),
        (TENANT, b"api.octocorp.ghe.com", b"https://uploads.octocorp.ghe.com"),
        (SERVER, b"github.example:8443", b"https://github.example:8443/api/uploads"),
        ("http://[::1]:80/api/v3", b"[::1]", b"http://[::1]/api/uploads"),
        ("http://127.0.0.1:8080", b"127.0.0.1:8080", None),
    ],
)
def test_addresses(api_url: str, authority: bytes, uploads_url: bytes | None) -> None:
    """A server without a host or a prefix for uploads has no URL for them."""
    origin = Origin.of(api_url)
    assert (origin.authority, origin.uploads_url) == (authority, uploads_url)


@pytest.mark.parametrize(
    ("api_url", "target", "expected"),
    [
        (GITHUB, b"/user?a=b", b"/user?a=b"),
        (GITHUB, b"/graphql", b"/graphql"),
        (SERVER, b"/user", b"/api/v3/user"),
        (SERVER, b"/graphql", b"/api/graphql"),
        (SERVER, b"/api/uploads/a", b"/api/uploads/a"),
    ],
)
def test_targets(api_url: str, target: bytes, expected: bytes) -> None:
    """The base path precedes the target, except for GraphQL and uploads."""
    assert Origin.of(api_url).target(request(target)) == expected


def test_targets_of_uploads() -> None:
    """The host for uploads has no prefix."""
    assert Origin.of(GITHUB).uploads.target(request(b"/api/uploads/a")) == b"/a"


def test_assets_are_uploaded_with_the_prefix() -> None:
    """Only the upload of an asset is changed, and only if there is a server for uploads."""
    upload = request(ASSETS, b"POST")
    assert is_asset_upload(upload)
    assert Origin.of(GITHUB).routed(upload).target == b"/api/uploads" + ASSETS
    assert Origin.of("http://127.0.0.1:8080").routed(upload) is upload
    for other in (request(ASSETS), request(b"/repos/o/r/releases/1", b"POST")):
        assert not is_asset_upload(other)
        assert Origin.of(GITHUB).routed(other) is other
