"""The options of the mirror, shared by all parts of it."""

from __future__ import annotations

from attrs import define, field

from ghmirror_tw.http.path_globs import PathGlobs


@define(eq=False)
class MirrorOptions:
    """Options as in the configuration; durations in seconds, sizes in bytes.

    All parts share one object. SIGHUP replaces `allowed_users`; nothing else changes.
    """

    allowed_users: frozenset[str] = frozenset()
    fresh_for: float = 0.0
    negative_for: float = 0.0
    validate_by_date: PathGlobs = field(factory=PathGlobs)
    verify_last: bool = True
    api_url: bytes = b"https://api.github.com"
    stale_limit: float = 7 * 86400.0
    max_stored_size: int = 8 * 1024 * 1024
    collapse_wait: float = 10.0
    timeout: float = 30.0
    stale_after: float = 5.0
