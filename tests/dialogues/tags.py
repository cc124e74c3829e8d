"""Entity-tags by GitHub's rule, which is observed and not documented."""

from __future__ import annotations

import hashlib

from attrs import define

from tests.dialogues.peers import Lines, combined


@define(eq=False)
class Content:
    """The last content that GitHub sent for a target, and the `Vary` of that response."""

    content: bytes
    vary: str | None


def tag_of(stored: Content, lines: Lines, authorization: str | None) -> str:
    """Return the entity-tag that GitHub computes for a request with these fields."""
    names = {name.strip().lower() for name in (stored.vary or "*").split(",")}
    digest = hashlib.sha256()
    for name, value in (
        ("accept", combined(lines, "accept")),
        ("authorization", authorization),
        ("cookie", combined(lines, "cookie")),
    ):
        if value is not None and names.intersection({name, "*"}):
            digest.update(value.encode() + b":")
    digest.update(stored.content)
    return f'"{digest.hexdigest()}"'
