"""Many generated records for a store, with sizes like GitHub's: mostly small, some large."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from typing import Any, Final

from attrs import evolve, frozen

from ghmirror_tw.caching.credential_names import CredentialNames
from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Entry, Grant, Representation
from ghmirror_tw.caching.representation_from_response import representation_of
from ghmirror_tw.http.fields import Fields

SMALLEST: Final = 2_000
LARGEST: Final = 200_000
DIFFERENT: Final = 1_000
"""The number of different contents; further representations repeat them at a distance."""

_LINES: Final = (
    (b"content-type", b"application/json; charset=utf-8"),
    (b"vary", b"Accept, Authorization, Cookie, X-GitHub-OTP,Accept-Encoding, Accept"),
    (b"x-github-media-type", b"github.v3; format=json"),
    (b"x-github-api-version-selected", b"2022-11-28"),
)
_WORDS: Final = tuple(
    word
    for line in (
        "the a of to and in is it that when with for not as on be are this by from we if error",
        "server cache test build should fails version support add fix remove update branch merge",
        "token header response thread memory crash timeout linux windows docker release config",
        "default value method class module import python reactor deferred snapshot store option",
    )
    for word in line.split()
)


@frozen
class GeneratedRecord:
    """A representation with its entry and its grants."""

    key: CacheKey
    stored: Representation
    entry: Entry
    grants: tuple[tuple[str, Grant], ...]


def issue(rng: random.Random, number: int) -> dict[str, Any]:
    """Generate an issue like GitHub's, with URLs of its API."""
    owner = f"https://api.github.com/repos/octo/project-{number % 97}"
    login = f"user-{rng.randrange(1000)}"
    return {
        "url": f"{owner}/issues/{number}",
        "repository_url": owner,
        "labels_url": f"{owner}/issues/{number}/labels{{/name}}",
        "comments_url": f"{owner}/issues/{number}/comments",
        "html_url": f"https://github.com/octo/project-{number % 97}/issues/{number}",
        "id": rng.randrange(1 << 31),
        "node_id": f"I_kwDO{rng.getrandbits(96):024x}",
        "title": " ".join(rng.choices(_WORDS, k=7)),
        "user": {
            "login": login,
            "id": rng.randrange(1 << 24),
            "avatar_url": f"https://avatars.githubusercontent.com/u/{rng.randrange(1 << 24)}?v=4",
            "url": f"https://api.github.com/users/{login}",
            "repos_url": f"https://api.github.com/users/{login}/repos",
            "type": "User",
            "site_admin": False,
        },
        "labels": [],
        "state": "open",
        "created_at": "2026-11-25T07:28:00Z",
        "body": " ".join(rng.choices(_WORDS, k=rng.randrange(20, 120))),
    }


def _content(rng: random.Random) -> bytes:
    # half of them below 4 kB, a tenth above 50 kB
    wanted = SMALLEST * (LARGEST / SMALLEST) ** (rng.random() ** 3)
    issues, size = [], 0
    while size < wanted:
        issues.append(json.dumps(issue(rng, rng.randrange(10_000))))
        size += len(issues[-1])
    return b"[" + ",".join(issues).encode() + b"]"


def generate_records(
    count: int, names: CredentialNames, credentials: int = 2
) -> Iterator[GeneratedRecord]:
    """Generate representations, each with an entry and with grants to *credentials*."""
    rng = random.Random(1)
    fields = Fields(_LINES)
    pool = [
        representation_of(fields, _content(rng), None, 1 << 30)[0]
        for _ in range(min(count, DIFFERENT))
    ]
    users = [names.name(b"token %d" % user) for user in range(credentials)]
    now = time.time()
    for number in range(count):
        same = pool[number % len(pool)]
        # no shared memory, as if it had been received
        stored = evolve(
            same,
            digest="".join(list(same.digest)),
            packed=bytes(bytearray(same.packed)),
            fields=Fields(tuple((bytes(bytearray(n)), bytes(bytearray(v))) for n, v in _LINES)),
        )
        tag = b'W/"%s"' % same.digest.encode()
        modified = b"Wed, 25 Nov 2026 07:28:00 GMT"
        at = now - (count - number) / 1000
        grant = Grant(stored.digest, tag, modified, None, at, at, True, "octocat")
        yield GeneratedRecord(
            CacheKey(b"/repos/octo/project/issues?page=%d" % number, b"application/json"),
            stored,
            Entry(stored.digest, at, at, True, stored.size, None, modified, "octocat"),
            tuple((user, evolve(grant, etag=bytes(bytearray(tag)))) for user in users),
        )
