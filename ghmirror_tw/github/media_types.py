"""Media types of GitHub's API, in `Accept` and in `Content-Type` (GitHub: media types)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

#: Media types of GitHub's whose content is a user's file or page, whatever their suffix says
#: (GitHub: media types). Text with the suffix `+json` that is not JSON must not be touched.
_FILE_TYPES: Final = frozenset({b"raw", b"diff", b"patch", b"html", b"sha", b"base64"})

#: Media types whose empty list is the two bytes `[]`.
_JSON: Final = frozenset(
    {b"application/json", b"application/vnd.github+json", b"application/vnd.github.v3+json"}
)

_JSON_ACCEPTED: Final = _JSON | {b"*/*"}
_HTML: Final = frozenset({b"text/html", b"application/xhtml+xml"})
_HTML_OF_GITHUB: Final = re.compile(rb"vnd\.github[a-z0-9.+-]*html")


@lru_cache(64)
def is_json(content_type: bytes | None) -> bool:
    """Tell whether content is JSON of GitHub's making, by its media type (RFC 6839, section 3.1).

    `application/vnd.github.raw+json` and its like are not: their content is a user's file.
    """
    essence = (content_type or b"").partition(b";")[0].strip(b" \t").lower()
    subtype = essence.partition(b"/")[2]
    if subtype != b"json" and not subtype.endswith(b"+json"):
        return False
    kinds = re.split(rb"[.+]", subtype) if subtype.startswith(b"vnd.github.") else ()
    return _FILE_TYPES.isdisjoint(kinds)


def accepts_only_json(accept: bytes | None) -> bool:
    """Tell whether an `Accept` value names JSON, and nothing else."""
    return accept is not None and _media_types(accept) <= _JSON


def _media_types(accept: bytes) -> frozenset[bytes]:
    return frozenset([part.split(b";")[0].strip().lower() for part in accept.split(b",")])


def is_as_accepted(accept: bytes | None, content_type: bytes | None) -> bool:
    """Tell whether GitHub sends content with this media type for *accept*.

    HTML is from GitHub only if *accept* names one of its media types for HTML; else it is the
    maintenance page of a load balancer (GitHub: media types). If *accept* names JSON alone, any
    other media type is not from GitHub either.
    """
    kind = (content_type or b"").partition(b";")[0].strip(b" \t").lower()
    if kind in _HTML:
        return _HTML_OF_GITHUB.search((accept or b"").lower()) is not None
    return not accepts_only_json(accept) or kind == b"application/json" or kind.endswith(b"+json")
