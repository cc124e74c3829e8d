"""A stand-in for GitHub that is fast enough to compare others before it: an nginx with answers.

It knows tokens and things; it gives each thing the entity-tag that GitHub would give it for each
token, answers 304 to that tag, and 200 with the content, compressed, otherwise. It sends GitHub's
usual fields. Requests are to have no ``Accept``, which would count in the tag. What it was asked
it writes down, so that a benchmark can tell what was really measured.
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

from benchmarks import usage
from benchmarks.filling import issue
from benchmarks.programs import Program, nginx
from ghmirror_tw.github.entity_tag_rule import compute_entity_tag
from tests.fakes.github import VARY
from tests.harness.certificates import Authority
from tests.harness.redis_servers import free_port

DOWNLOAD: Final = "/download"
"""Something that is no JSON and not compressed."""

UNCHANGED: Final = "304 conditional"
"""What `FastGitHub.upstream_requests` calls a conditional request that was answered with 304."""

_LEVEL: Final = 6
_QUIET_S: Final = 0.1
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
    access_log {folder}/asked brief;
    root {folder}/things;
    default_type "application/json; charset=utf-8";
    gzip_static on;
    # as GitHub does, also for who sends Via
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
    # A substitution takes away Content-Length, which a 304 of GitHub's does not have.
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
class Thing:
    """Content of *size* bytes of JSON; *number* makes it another than others'."""

    number: int
    size: int
    urls: bool = True
    """Whether there are URLs of the API in it."""

    def content(self, url: str) -> bytes:
        """Return issues with URLs of the API at *url*, as GitHub's are, in an object.

        A list would not do: where one ends is proved by asking for more pages.
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


class FastGitHub(Program):
    """The stand-in; *things* by target, tokens ``token0``… so many as *users*.

    With an *authority*, it speaks TLS with a certificate by it.
    """

    name = "GitHub's stand-in"
    fields: ClassVar[dict[str, str]] = {}
    """More fields of all responses."""
    key = "$uri"
    """The variable of nginx by which things are told apart."""
    certificate_path: Path
    """Where the authority's certificate is."""

    def __init__(
        self,
        things: Mapping[str, Thing],
        *,
        users: int = 1,
        download_bytes: int = 0,
        authority: Authority | None = None,
    ) -> None:
        super().__init__()
        self.port = free_port()
        self.things = things
        self._users = users
        self._download_bytes = download_bytes
        self._authority = authority
        self._read = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._authority else 'http'}://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """Write things, their tags and the configuration."""
        (self.folder / "things").mkdir()
        tokens = [b"token token%d" % user for user in range(self._users)]
        digests, maps, serving = self.write_things(tokens)
        if self._download_bytes:
            noise = random.Random(1).randbytes(self._download_bytes)
            (self.folder / "things" / DOWNLOAD.lstrip("/")).write_bytes(noise)
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

    def write_things(self, tokens: Sequence[bytes]) -> tuple[list[str], str, str]:
        """Write the files; return entity-tags by token, and more of the configuration.

        That is maps, and what serves a thing in its location.
        """
        digests: list[str] = []
        for target, thing in self.things.items():
            content = thing.content(self.url)
            self.write_thing(target.lstrip("/"), content)
            digests += entity_tags(target, content, tokens)
        return digests, "", ""

    def write_thing(self, name: str, content: bytes) -> None:
        """Write the file of a thing, and its gzip."""
        path = self.folder / "things" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content, _LEVEL, mtime=0))

    @property
    def pids(self) -> tuple[int, ...]:
        """The one that watches, and the one that works."""
        return tuple(usage.family(self.pid))

    def quiet(self) -> None:
        """Return when nobody asks any more: mirrors end what nobody waits for."""
        self.upstream_requests()
        while True:
            time.sleep(_QUIET_S)
            if not self.upstream_requests():
                return

    def upstream_requests(self) -> Counter[str]:
        """Return what it was asked since this was last called: ``"304 conditional"`` and such."""
        with (self.folder / "asked").open() as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        self._read += len(whole)
        return Counter(whole.splitlines())
