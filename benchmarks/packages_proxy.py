"""A validating proxy made of packages: uvicorn, httpx and hishel, configured by their options.

    python -m benchmarks.packages_proxy PORT GITHUB_URL

It is the simplest alternative to a mirror in Python. It validates each GET with GitHub, since each
request that it sends has `Cache-Control: no-cache`. The credential is part of the cache key, so
that stored responses are not shared.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Any, Final

import httpx
import uvicorn
from hishel import AsyncSqliteStorage, CacheOptions
from hishel.httpx import AsyncCacheClient

Message = MutableMapping[str, Any]

_HOP_BY_HOP: Final = frozenset({b"host", b"connection", b"keep-alive", b"transfer-encoding"})
_DECODED: Final = frozenset({b"content-encoding", b"content-length"})
_MOST_CONNECTIONS: Final = 100


def _end_to_end(
    fields: Iterable[tuple[bytes, bytes]], dropped: frozenset[bytes]
) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in fields if name.lower() not in dropped]


class Proxy:
    """An ASGI application that forwards requests to *github_url*, with a cache."""

    def __init__(self, github_url: str, database: Path) -> None:
        self._url = github_url
        self._client = AsyncCacheClient(
            storage=AsyncSqliteStorage(database_path=database),
            rfc=CacheOptions(shared=False),
            limits=httpx.Limits(
                max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_MOST_CONNECTIONS
            ),
            trust_env=False,
        )

    async def __call__(
        self,
        scope: Message,
        _receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Forward one request."""
        if scope["type"] != "http":
            return
        target = scope["raw_path"].decode()
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode()
        fields = _end_to_end(scope["headers"], _HOP_BY_HOP)
        credential = dict(fields).get(b"authorization", b"")
        key = hashlib.sha256(b"%b %b" % (credential, target.encode())).hexdigest()
        response = await self._client.request(
            scope["method"],
            self._url + target,
            headers=[*fields, (b"cache-control", b"no-cache")],
            extensions={"caching": {"key": key}},
        )
        content = response.content
        fields = _end_to_end(response.headers.raw, _HOP_BY_HOP | _DECODED)
        if response.status_code != httpx.codes.NOT_MODIFIED:
            fields.append((b"content-length", b"%d" % len(content)))
        await send(
            {"type": "http.response.start", "status": response.status_code, "headers": fields}
        )
        await send({"type": "http.response.body", "body": content})


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("github_url")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        proxy = Proxy(options.github_url, Path(folder, "cache.db"))
        uvicorn.run(proxy, port=options.port, access_log=False, log_level="warning", lifespan="off")


if __name__ == "__main__":
    main()
