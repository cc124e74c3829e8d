"""The version of GitHub Enterprise Server that the mirror claims to be.

Clients take every host but GitHub.com for such a server. To learn its version they request `/meta`
below `/api/v3`, whose `installed_version` holds it (GitHub Enterprise Server: meta endpoint), or
read `X-GitHub-Enterprise-Version` of any response.
"""

from __future__ import annotations

import json
from typing import Final

from ghmirror_tw.http.entity_tags import opaque_tag
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import READ_METHODS

#: The field with the version, in every response of such a server.
VERSION_FIELD: Final = b"x-github-enterprise-version"
_MEMBER: Final = "installed_version"
_META: Final = b"/meta"


def holds_version(method: bytes, path: bytes) -> bool:
    """Return whether the response to a request holds the version; *path* is without `/api/v3`."""
    return method in READ_METHODS and path == _META


def with_installed_version(content: bytes, version: bytes) -> bytes:
    """Return the JSON object *content* with *version* in it; other content stays unchanged.

    A version of GitHub's own, if it is an Enterprise Server, is replaced.
    """
    try:
        meta = json.loads(content)
    except (ValueError, RecursionError):
        return content
    if not isinstance(meta, dict):
        return content
    versioned = {**meta, _MEMBER: version.decode("ascii")}
    return json.dumps(versioned, separators=(",", ":")).encode("ascii")


def versioned_fields(fields: Fields, version: bytes) -> Fields:
    """Return the fields of a representation whose content is `with_installed_version`.

    It is another representation than GitHub's, and another for each version, so it has an
    entity-tag of its own (RFC 9110, section 8.8.1). The tag is weak, as of all content that the
    mirror rewrites. `Last-Modified` is removed, since the time is unknown.
    """
    etag = fields.get(b"etag")
    if etag is not None:
        etag = b'W/%s-%s"' % (opaque_tag(etag)[:-1], version)
    return fields.with_line(b"etag", etag).without(frozenset({b"last-modified"}))
