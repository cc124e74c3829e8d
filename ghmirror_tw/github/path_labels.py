"""Labels of paths: one for all paths of an operation, such as ``/repos/*/*/issues/*``.

An asterisk replaces each name of a repository, user or other thing. So metrics and logs have a
bounded number of patterns, which reveal no name.
"""

from __future__ import annotations

import re
from typing import Final

from ghmirror_tw.github.path_redaction import without_credentials

#: A word of the API itself; any other segment is a name.
_WORD: Final = re.compile(rb"[a-z][a-z_-]{0,39}")

#: The number of names after a word, which may look like words (GitHub: REST API, paths).
_NAMES: Final = {
    **dict.fromkeys((b"repos", b"starred", b"packages"), 2),
    **dict.fromkeys(
        (
            *(b"users", b"orgs", b"enterprises", b"organizations", b"teams", b"gists", b"apps"),
            *(b"app-manifests", b"applications", b"branches", b"commits", b"statuses", b"tags"),
            *(b"trees", b"labels", b"environments", b"members", b"memberships", b"collaborators"),
            *(b"assignees", b"following", b"blocks", b"secrets", b"variables", b"workflows"),
            *(b"token", b"tokens", b"grants"),
            *(
                b"licenses",
                b"templates",
                b"codespaces",
                b"public_members",
                b"outside_collaborators",
            ),
        ),
        1,
    ),
}

#: The rest of the path behind one of these words is one name, which may contain slashes.
_PATHS: Final = frozenset(
    {b"contents", b"readme", b"ref", b"refs", b"matching-refs", b"compare", b"zipball", b"tarball"}
)

_MOST_SEGMENTS: Final = 12


def operation_of(method: bytes, path: bytes) -> str:
    """Return method and pattern of a request, such as ``GET /user``; HEAD is the same as GET."""
    shown = "GET" if method == b"HEAD" else method.decode("latin-1")
    return f"{shown} {path_pattern(path)}"


def path_pattern(path: bytes) -> str:
    """Return the pattern of a *path* (without a query)."""
    path = without_credentials(path)
    shown: list[bytes] = []
    names = 0
    for segment in path.split(b"/")[1 : _MOST_SEGMENTS + 1]:
        if shown and shown[-1] in _PATHS and not names:
            shown.append(b"*")
            break
        if names or _WORD.fullmatch(segment) is None:
            names = max(names - 1, 0)
            shown.append(b"*" if segment else b"")
        else:
            names = _NAMES.get(segment, 0)
            shown.append(segment)
    return "/" + b"/".join(shown).decode("ascii")
