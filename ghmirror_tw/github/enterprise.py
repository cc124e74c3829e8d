"""The face of GitHub Enterprise Server: what clients look for there to know its version.

Clients that are pointed at another host than GitHub.com take it for such a server. They ask for
`/meta` below `/api/v3`, where `installed_version` says which version it is (GitHub Enterprise
Server: meta endpoint), or look for the field `X-GitHub-Enterprise-Version` in any answer.
"""

from __future__ import annotations

import json
from typing import Final

from ghmirror_tw.http.entity_tags import opaque_tag
from ghmirror_tw.http.fields import Fields

#: The field by which each answer of such a server says its version.
VERSION_FIELD: Final = b"x-github-enterprise-version"
_MEMBER: Final = "installed_version"
_META: Final = b"/meta"
_READING: Final = frozenset({b"GET", b"HEAD"})


def holds_version(method: bytes, path: bytes) -> bool:
    """Tell whether the answer to a request holds the version; *path* is without `/api/v3`."""
    return method in _READING and path == _META


def with_installed_version(content: bytes, version: bytes) -> bytes:
    """Return the JSON object *content* with *version* in it; what is no object stays as it is.

    The version that the content has, if GitHub is itself an Enterprise Server, is replaced.
    """
    try:
        meta = json.loads(content)
    except (ValueError, RecursionError):
        return content
    if not isinstance(meta, dict):
        return content
    said = {**meta, _MEMBER: version.decode("ascii")}
    return json.dumps(said, separators=(",", ":")).encode("ascii")


def versioned_fields(fields: Fields, version: bytes) -> Fields:
    """Return the fields of a representation as they stand beside content `with_installed_version`.

    It is another representation than GitHub's, and another for each version, so its entity-tag is
    its own: nobody who has the one is told that it is the other (RFC 9110, section 8.8.1). It is
    a weak one, as of all content that is made here. When it was last modified, nobody knows.
    """
    etag = fields.get(b"etag")
    if etag is not None:
        etag = b'W/%s-%s"' % (opaque_tag(etag)[:-1], version)
    return fields.with_line(b"etag", etag).without(frozenset({b"last-modified"}))
