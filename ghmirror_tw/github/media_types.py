"""Media types of GitHub's API, in `Accept` and in `Content-Type` (GitHub: media types)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

#: GitHub's media types whose content is a user's file or page, even with the suffix `+json`.
_FILE_TYPES: Final = frozenset({b"raw", b"diff", b"patch", b"html", b"sha", b"base64"})

#: Media types of GitHub's JSON.
_JSON: Final = frozenset(
    {b"application/json", b"application/vnd.github+json", b"application/vnd.github.v3+json"}
)

_JSON_OR_ANY: Final = _JSON | {b"*/*"}
_HTML: Final = frozenset({b"text/html", b"application/xhtml+xml"})
#: What separates media types. A search for ``vnd\.github[a-z0-9.+-]*html`` in the whole value would
#: scan the rest of the value from each `vnd.github`, in quadratic time.
_NOT_IN_MEDIA_TYPE: Final = re.compile(rb"[^a-z0-9.+-]")
_GITHUB: Final = b"vnd.github"


@lru_cache(64)
def is_json(content_type: bytes | None) -> bool:
    """Return whether content is JSON that GitHub made, by its media type (RFC 6839, section 3.1).

    `application/vnd.github.raw+json` and similar types are not: the content is a user's file.
    """
    essence = (content_type or b"").partition(b";")[0].strip(b" \t").lower()
    subtype = essence.partition(b"/")[2]
    if subtype != b"json" and not subtype.endswith(b"+json"):
        return False
    kinds = re.split(rb"[.+]", subtype) if subtype.startswith(b"vnd.github.") else ()
    return _FILE_TYPES.isdisjoint(kinds)


def accepts_only_json(accept: bytes | None) -> bool:
    """Return whether an `Accept` value names JSON and no other media type."""
    return accept is not None and _media_types(accept) <= _JSON


def accepts_only_json_or_any(accept: bytes | None) -> bool:
    """Return whether GitHub sends JSON: `Accept` names only JSON and `*/*`, or is absent."""
    return accept is None or _media_types(accept) <= _JSON_OR_ANY


def _names_github_html(accept: bytes) -> bool:
    """Return whether an `Accept` value names a media type of GitHub's for HTML."""
    return any(
        b"html" in part.partition(_GITHUB)[2] for part in _NOT_IN_MEDIA_TYPE.split(accept.lower())
    )


def _media_types(accept: bytes) -> frozenset[bytes]:
    return frozenset([part.split(b";")[0].strip().lower() for part in accept.split(b",")])


def is_as_accepted(accept: bytes | None, content_type: bytes | None) -> bool:
    """Return whether GitHub sends content of this media type for *accept*.

    HTML comes from GitHub only if *accept* names one of its media types for HTML. Else it is the
    maintenance page of a load balancer. If *accept* names only JSON, so is any other media type.
    """
    kind = (content_type or b"").partition(b";")[0].strip(b" \t").lower()
    if kind in _HTML:
        return _names_github_html(accept or b"")
    return not accepts_only_json(accept) or kind == b"application/json" or kind.endswith(b"+json")
