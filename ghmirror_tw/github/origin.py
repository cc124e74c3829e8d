"""The origin server, and the request targets there."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from attrs import evolve, frozen

from ghmirror_tw.github.graphql import is_graphql
from ghmirror_tw.http.request import Request
from ghmirror_tw.http.targets import API_PREFIX, UPLOADS_PREFIX, is_upload

#: The path to which the asset of a release is uploaded.
_ASSETS: Final = re.compile(
    rb"/(?:repos/[^/]+/[^/]+|repositories/[0-9]+)/releases/[0-9]+/assets",
)


def is_asset_upload(request: Request) -> bool:
    """Return whether a request uploads the asset of a release without the prefix for uploads."""
    return request.method == b"POST" and _ASSETS.fullmatch(request.path) is not None


@frozen
class Origin:
    """The server of `api_url`. Requests are sent only to it, and to its `uploads`."""

    secure: bool
    host: str
    port: int
    base_path: bytes
    #: The path in place of `UPLOADS_PREFIX`.
    uploads_path: bytes

    @classmethod
    def of(cls, api_url: str) -> Origin:
        """Return the origin of an http(s) URL; its path precedes every target."""
        parts = urlsplit(api_url)
        assert parts.hostname is not None
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        path = parts.path.rstrip("/").encode("ascii")
        return cls(
            secure, parts.hostname, port, path, path.removesuffix(API_PREFIX) + UPLOADS_PREFIX
        )

    @property
    def authority(self) -> bytes:
        """The `Host` field (RFC 9110, section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.secure else 80
        return host.encode() if self.port == default else f"{host}:{self.port}".encode()

    @property
    def uploads(self) -> Origin:
        """The server for uploads, which is a host of its own at GitHub.com."""
        host = self.host.removeprefix("api.")
        if self.host == "api.github.com" or (host != self.host and host.endswith(".ghe.com")):
            return evolve(self, host=f"uploads.{host}", uploads_path=b"")
        return self

    @property
    def uploads_url(self) -> bytes | None:
        """GitHub's URL in place of `UPLOADS_PREFIX`; None if it has none."""
        uploads = self.uploads
        if uploads == self and not self.base_path.endswith(API_PREFIX):
            return None
        scheme = b"https://" if self.secure else b"http://"
        return scheme + uploads.authority + uploads.uploads_path

    def routed(self, request: Request) -> Request:
        """Return the upload of an asset with `UPLOADS_PREFIX`, and any other request unchanged.

        GitHub accepts assets only at the host for uploads (GitHub: upload a release asset). Some
        clients send them to the API's host: they use no host but that of their base URL, or add a
        prefix of their own.
        """
        if is_asset_upload(request) and self.uploads_url is not None:
            return evolve(request, target=UPLOADS_PREFIX + request.target)
        return request

    def target(self, request: Request) -> bytes:
        """Return the target of the forwarded request: with the base path, else byte for byte."""
        if is_upload(request.target):
            return self.uploads_path + request.target.removeprefix(UPLOADS_PREFIX)
        if self.base_path.endswith(b"/api/v3") and is_graphql(request):
            return self.base_path.removesuffix(b"v3") + b"graphql"
        return self.base_path + request.target
