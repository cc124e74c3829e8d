"""Selection of the base URLs that replace GitHub's in responses, by the URL of the request."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from attrs import field, frozen

from ghmirror_tw.github.url_rewriting import BaseUrls
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.host import parse_host
from ghmirror_tw.http.targets import UPLOADS_PREFIX

_HTTP: frozenset[bytes] = frozenset({b"http", b"https"})

#: The most base URLs in the memo.
_MOST_URLS: Final = 256
_DEFAULT_PORTS = {"http": 80, "https": 443}


@frozen
class _Authority:
    """Host and port of a URL, with the default port where it has none."""

    host: bytes
    port: int

    @classmethod
    def of(cls, url: bytes) -> _Authority:
        parts = urlsplit(url.decode("ascii"))
        host = parts.hostname or ""
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
        return cls((f"[{host}]" if ":" in host else host).encode("ascii"), port)


def _split(host: bytes) -> tuple[bytes, int | None]:
    """Return the name and the port in a valid `Host`; None where it has no port."""
    name, colon, port = host.rpartition(b":")
    if not colon or host.endswith(b"]"):
        return host.lower(), None
    return name.lower(), int(port)


@frozen
class BaseUrlSelector:
    """Selects the base URLs for each client.

    *api_url* and *uploads_url* are GitHub's; some servers have no *uploads_url*. *public_url* is
    the mirror's, for requests with its host or through a trusted proxy; it may be empty. No URL
    ends in a slash.
    """

    api_url: bytes
    uploads_url: bytes | None
    public_url: bytes = b""
    _api: _Authority = field(init=False, eq=False, repr=False)
    _public: _Authority | None = field(init=False, eq=False, repr=False)
    #: `_select` with a memo: each client has one base URL, or a few.
    _urls: Callable[[bytes, bytes, bytes, bool], BaseUrls] = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_api", _Authority.of(self.api_url))
        public = _Authority.of(self.public_url) if self.public_url else None
        object.__setattr__(self, "_public", public)
        object.__setattr__(self, "_urls", lru_cache(_MOST_URLS)(self._select))

    def base(
        self, host: bytes, fields: Fields, prefix: bytes, *, secure: bool, trusted: bool
    ) -> BaseUrls:
        """Return the URLs that replace GitHub's in the response to a request with *fields*.

        *host* is the valid host of the request, *prefix* that of its target. *secure*: it was
        received over TLS. *trusted*: it was received from a trusted proxy, and `X-Forwarded-Host`
        names the host. `X-Forwarded-Proto: https` is accepted from every client, since it only
        changes that client's URLs from `http:` to `https:`. Raises `BadRequestError`.
        """
        value = fields.get(b"x-forwarded-proto")
        proto = b"" if value is None else _first(value).lower()
        scheme = b"https" if secure or proto == b"https" else b"http"
        if trusted:
            forwarded = fields.get(b"x-forwarded-host")
            if forwarded is not None:
                host = parse_host([_first(forwarded)])
            scheme = proto if proto in _HTTP else scheme
        return self._urls(host, scheme, prefix, trusted)

    def _select(self, host: bytes, scheme: bytes, prefix: bytes, trusted: bool) -> BaseUrls:
        name, port = _split(host)
        if self._is_github(name, port):
            return BaseUrls(self.api_url, self.uploads_url or b"")
        root = self.public_url if self._is_public(name, port, trusted) else scheme + b"://" + host
        return BaseUrls(root + prefix, root + UPLOADS_PREFIX)

    def ignores(self, fields: Fields, *, trusted: bool) -> bool:
        """Return whether `X-Forwarded-Proto` is ignored, since no option for proxies is set."""
        return not (trusted or self.public_url) and fields.get(b"x-forwarded-proto") is not None

    def _is_github(self, name: bytes, port: int | None) -> bool:
        """Return whether the host is GitHub's own, as through a transparent proxy."""
        if name != self._api.host:
            return False
        return port == self._api.port or (
            port is None and self._api.port in _DEFAULT_PORTS.values()
        )

    def _is_public(self, name: bytes, port: int | None, trusted: bool) -> bool:
        """Return whether `public_url` is for this client; proxies may drop the port from `Host`."""
        if self._public is None:
            return False
        return trusted or (name == self._public.host and port in {None, self._public.port})


def _first(value: bytes) -> bytes:
    return value.partition(b",")[0].strip()
