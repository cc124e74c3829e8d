"""Entity-tags by GitHub's rule, and preconditions (RFC 9110, section 13)."""

from __future__ import annotations

import hashlib
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fakes.github.messages import Request, Response
    from tests.fakes.github.server import GitHub

MEMBER = re.compile(rb'(?:W/)?"([^"]*)"')


def _not_modified(last_modified: str | None, since: bytes | None) -> bool:
    if last_modified is None or since is None:
        return False
    try:
        given = parsedate_to_datetime(since.decode("latin-1"))
        return parsedate_to_datetime(last_modified) <= given
    except (ValueError, TypeError):
        return False


def evaluate_preconditions(github: GitHub, request: Request, response: Response) -> Response:
    """Judge the preconditions of RFC 9110, 13.2.2, for reading."""
    if response.status != 200 or not request.reads or not github.honours_conditions:
        return response
    condition = request.named.get(b"if-none-match")
    if condition is not None:
        if not response.tagged or response.rendering is None:
            return response
        if condition.strip() == b"*":
            unchanged = True
        else:
            members = MEMBER.findall(condition)
            if len(members) > 1 and not github.honours_lists:
                return response
            unchanged = tag_of(github, request, response) in members
    else:
        since = request.named.get(b"if-modified-since")
        unchanged = _not_modified(response.last_modified, since)
    if unchanged:
        response.status = 304
    return response


def tag_of(github: GitHub, request: Request, response: Response) -> bytes:
    if response.tag is not None:
        return response.tag
    vary = response.vary
    counts = github.variations.get(vary or "*")
    if counts is None:
        names = {name.strip().lower() for name in (vary or "*").split(",")}
        every = "*" in names
        counts = (
            every or "accept" in names,
            every or "authorization" in names,
            every or "cookie" in names,
        )
        github.variations[vary or "*"] = counts
    named = request.named
    salt = github.salt if github.tag_rule == "other" else b""
    key = (
        salt,
        named.get(b"accept") if counts[0] else None,
        named.get(b"authorization") if counts[1] else None,
        named.get(b"cookie") if counts[2] else None,
    )
    rendering = response.rendering
    assert rendering is not None
    tag = rendering.tags.get(key)
    if tag is None:
        digest = hashlib.sha256(salt)
        for value in key[1:]:
            if value is not None:
                digest.update(value + b":")
        digest.update(rendering.content)
        tag = digest.hexdigest().encode()
        if len(rendering.tags) > 10_000:
            rendering.tags.clear()
        rendering.tags[key] = tag
    return tag
