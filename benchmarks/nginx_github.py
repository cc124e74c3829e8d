"""A stand-in for GitHub that is faster than all subjects: an nginx with static responses.

Each resource has the entity-tag that GitHub would send for it, by token. The response to that tag
is 304, and otherwise 200 with compressed content, with GitHub's usual fields. Requests must not
have ``Accept``, which is part of the tag. Requests are logged, so that a benchmark can verify what
was measured.
"""

from __future__ import annotations

import gzip
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from attrs import frozen

from benchmarks import process_usage
from benchmarks.generated_records import issue
from benchmarks.programs import Program, nginx
from ghmirror_tw.github.entity_tag_rule import compute_entity_tag
from tests.fakes.github import VARY
from tests.harness.certificates import Authority
from tests.harness.redis_servers import free_port

DOWNLOAD: Final = "/download"
"""The target of content that is neither JSON nor compressed."""

UNCHANGED: Final = "304 conditional"
"""The name of a conditional request with a 304 in `NginxGitHub.upstream_requests`."""

_LEVEL: Final = 6
_IDLE_S: Final = 0.1
_API: Final = b"https://api.github.com"
_ELSEWHERE: Final = b"https://www.github.com"
_RESET_S: Final = 86_400
_FIELDS: Final = {
    "Cache-Control": "private, max-age=60, s-maxage=60",
    "Vary": VARY,
    "X-OAuth-Scopes": "repo, user",
    "X-Accepted-OAuth-Scopes": "repo",
    "X-GitHub-Media-Type": "github.v3; format=json",
    "X-GitHub-Api-Version-Selected": "2022-11-28",
    "X-RateLimit-Limit": "5000",
    "X-RateLimit-Remaining": "4987",
    "X-RateLimit-Used": "13",
    "X-RateLimit-Resource": "core",
    "Access-Control-Expose-Headers": (
        "ETag, Link, Location, Retry-After, X-GitHub-OTP, X-RateLimit-Limit, "
        "X-RateLimit-Remaining, X-RateLimit-Used, X-RateLimit-Resource, X-RateLimit-Reset, "
        "X-OAuth-Scopes, X-Accepted-OAuth-Scopes, X-Poll-Interval, X-GitHub-Media-Type, "
        "X-GitHub-SSO, X-GitHub-Request-Id, Deprecation, Sunset"
    ),
    "Access-Control-Allow-Origin": "*",
    "Strict-Transport-Security": "max-age=31536000; includeSubdomains; preload",
    "X-Frame-Options": "deny",
    "X-Content-Type-Options": "nosniff",
    "X-XSS-Protection": "0",
    "Referrer-Policy": "origin-when-cross-origin, strict-origin-when-cross-origin",
    "Content-Security-Policy": "default-src 'none'",
    "X-GitHub-Request-Id": "$request_id",
}

_HTTP: Final = """\
sendfile on;
tcp_nopush on;
open_file_cache max=100000 inactive=1d;
map_hash_max_size 1048576;
map_hash_bucket_size 256;
map "$http_authorization {key}" $digest {{
    default "";
    {digests}
}}
map $digest $tag {{
    default 'W/"$digest"';
    "" "";
}}
map "$digest $http_if_none_match" $unmodified {{
    default "";
    "~^([0-9a-f]{{64}}) .*\\"\\1\\"" 1;
}}
map $http_if_none_match $kind {{
    default conditional;
    "" plain;
}}
log_format brief "$status $kind";
{maps}
server {{
    listen 127.0.0.1:{port}{tls} backlog=4096;
    {certificate}
    access_log {folder}/requests brief;
    root {folder}/resources;
    default_type "application/json; charset=utf-8";
    gzip_static on;
    # as GitHub does, also if a request has Via
    gzip_proxied any;
    etag off;
    if_modified_since off;
    {fields}
    add_header ETag $tag;
    location / {{
        if ($digest = "") {{ return 401; }}
        if ($unmodified) {{ rewrite ^ /unmodified last; }}
        {serving}
    }}
    # A substitution removes Content-Length, which is not in a 304 of GitHub's.
    location = /rate_limit {{
      return 200 "{{}}";
    }}
    location = /unmodified {{
        internal;
        default_type "";
        sub_filter_types *;
        sub_filter nothing nothing;
        sub_filter_last_modified on;
        return 304 nothing;
    }}
    location {download} {{
        default_type application/octet-stream;
        gzip_static off;
    }}
}}
"""


@frozen
class Resource:
    """Content of *size* bytes of JSON, which differs by *number*."""

    number: int
    size: int
    urls: bool = True
    """Whether it has URLs of the API."""

    def content(self, url: str) -> bytes:
        """Return issues like GitHub's, with URLs of the API at *url*, in an object.

        It is no list: a mirror proves the end of a list by requests for further pages.
        """
        rng = random.Random(self.number)
        pieces: list[bytes] = []
        front, between, back = b'{"number":%d,"items":[' % self.number, b'],"body":"', b'"}'
        room = self.size - len(front) - len(between) - len(back)
        while True:
            more = json.dumps(issue(rng, rng.randrange(10_000))).encode()
            more = more.replace(_API, url.encode() if self.urls else _ELSEWHERE)
            if len(more) + 1 > room:
                break
            pieces.append(more)
            room -= len(more) + (len(pieces) > 1)
        words = ""
        while len(words) < room:
            words += f"{issue(rng, 0)['body']} "
        return front + b",".join(pieces) + between + words[: max(room, 0)].encode() + back


def entity_tags(target: str, content: bytes, tokens: Sequence[bytes]) -> Iterator[str]:
    """Return the entity-tag of *content* for each token, as lines of a map of nginx."""
    for token in tokens:
        tag = compute_entity_tag(content, VARY.encode(), accept=None, authorization=token)
        yield f'"{token.decode()} {target}" {tag.decode().strip(chr(34))};'


class NginxGitHub(Program):
    """The stand-in: *resources* by target, and as many tokens ``token0``… as *users*.

    With an *authority*, it uses TLS with a certificate of that authority.
    """

    name = "GitHub's stand-in"
    fields: ClassVar[dict[str, str]] = {}
    """Further fields of all responses."""
    key = "$uri"
    """The variable of nginx that identifies a resource."""
    certificate_path: Path
    """The path of the authority's certificate."""

    def __init__(
        self,
        resources: Mapping[str, Resource],
        *,
        users: int = 1,
        download_bytes: int = 0,
        authority: Authority | None = None,
    ) -> None:
        super().__init__()
        self.port = free_port()
        self.resources = resources
        self._users = users
        self._download_bytes = download_bytes
        self._authority = authority
        self._read = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._authority else 'http'}://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """Write resources, entity-tags and configuration; return the command."""
        (self.folder / "resources").mkdir()
        tokens = [b"token token%d" % user for user in range(self._users)]
        digests, maps, serving = self.write_resources(tokens)
        if self._download_bytes:
            noise = random.Random(1).randbytes(self._download_bytes)
            (self.folder / "resources" / DOWNLOAD.lstrip("/")).write_bytes(noise)
        fields = {**_FIELDS, **self.fields, "X-RateLimit-Reset": str(int(time.time()) + _RESET_S)}
        certificate = ""
        if self._authority is not None:
            paths = self._authority.issue(self.folder)
            self.certificate_path = paths["authority"]
            certificate = f"ssl_certificate {paths['certificate']};"
            certificate += f" ssl_certificate_key {paths['key']};"
        return nginx(
            self.folder,
            _HTTP.format(
                folder=self.folder,
                port=self.port,
                tls=" ssl" if certificate else "",
                certificate=certificate,
                download=DOWNLOAD,
                key=self.key,
                maps=maps,
                serving=serving,
                digests="\n    ".join(digests),
                fields="\n    ".join(
                    f'add_header {name} "{value}";' for name, value in fields.items()
                ),
            ),
        )

    def write_resources(self, tokens: Sequence[bytes]) -> tuple[list[str], str, str]:
        """Write the files; return entity-tags by token, and two parts of the configuration.

        They are further maps, and the directives that serve a resource in its location.
        """
        digests: list[str] = []
        for target, resource in self.resources.items():
            content = resource.content(self.url)
            self.write_resource(target.lstrip("/"), content)
            digests += entity_tags(target, content, tokens)
        return digests, "", ""

    def write_resource(self, name: str, content: bytes) -> None:
        """Write the file of a resource, and its gzip."""
        path = self.folder / "resources" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content, _LEVEL, mtime=0))

    @property
    def pids(self) -> tuple[int, ...]:
        """Its supervisor and its worker."""
        return tuple(process_usage.family(self.pid))

    def wait_until_idle(self) -> None:
        """Return when no more requests are received; mirrors may have background requests."""
        self.upstream_requests()
        while True:
            time.sleep(_IDLE_S)
            if not self.upstream_requests():
                return

    def upstream_requests(self) -> Counter[str]:
        """Count the requests since the last call, by names like ``"304 conditional"``."""
        with (self.folder / "requests").open() as file:
            file.seek(self._read)
            text = file.read()
        complete = text[: text.rfind("\n") + 1]
        self._read += len(complete)
        return Counter(complete.splitlines())
