"""Where GitHub is, and how its targets look there."""

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
    """Tell whether a request uploads the asset of a release without the prefix for uploads."""
    return request.method == b"POST" and _ASSETS.fullmatch(request.path) is not None


@frozen
class Origin:
    """Where `api_url` leads: with its `uploads`, the only place that anything is ever sent to."""

    secure: bool
    host: str
    port: int
    base_path: bytes
    #: What stands here in the place of `UPLOADS`.
    uploads_path: bytes

    @classmethod
    def of(cls, api_url: str) -> Origin:
        """Return the origin of an http(s) URL; its path comes before every target."""
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
        """Where GitHub takes uploads: at GitHub.com, a host for nothing else."""
        host = self.host.removeprefix("api.")
        if self.host == "api.github.com" or (host != self.host and host.endswith(".ghe.com")):
            return evolve(self, host=f"uploads.{host}", uploads_path=b"")
        return self

    @property
    def uploads_url(self) -> bytes | None:
        """How GitHub calls what clients know by `UPLOADS`, if it has a URL of its own."""
        uploads = self.uploads
        if uploads == self and not self.base_path.endswith(API_PREFIX):
            return None
        scheme = b"https://" if self.secure else b"http://"
        return scheme + uploads.authority + uploads.uploads_path

    def routed(self, request: Request) -> Request:
        """Return the upload of an asset with the prefix `UPLOADS`, any other request unchanged.

        GitHub accepts assets only at the host for uploads (GitHub: upload a release asset). Some
        clients send them to the API's host: they use no host but that of their base URL, or add a
        prefix of their own.
        """
        if self.uploads_url is not None and is_asset_upload(request):
            return evolve(request, target=UPLOADS_PREFIX + request.target)
        return request

    def target(self, request: Request) -> bytes:
        """Return the request target of a question, byte for byte but for the base path."""
        if is_upload(request.target):
            return self.uploads_path + request.target.removeprefix(UPLOADS_PREFIX)
        if self.base_path.endswith(b"/api/v3") and is_graphql(request):
            return self.base_path.removesuffix(b"v3") + b"graphql"
        return self.base_path + request.target
