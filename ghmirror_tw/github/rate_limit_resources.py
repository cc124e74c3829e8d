"""The resources that have a quota at GitHub, and the resource of each request (rate limits)."""

from __future__ import annotations

import re
from typing import Final

from ghmirror_tw.github.rate_limits import CONTENT_CREATION, EVERYTHING
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request
from ghmirror_tw.http.target_memo import memoised_by_target

CORE: Final = "core"
GRAPHQL: Final = "graphql"
_OWNED: Final = rb"/(?:repos/[^/]+/[^/]+|orgs/[^/]+|enterprises/[^/]+)"

#: Methods (None: any) and paths of what does not count as core, the first that fits.
_RESOURCES: Final = tuple(
    (methods, re.compile(path), bucket)
    for methods, path, bucket in (
        (None, rb"/search/code", "code_search"),
        (None, rb"/search/.*", "search"),
        (None, rb"/graphql", GRAPHQL),
        (b"POST", rb"/app-manifests/[^/]+/conversions", "integration_manifest"),
        (b"POST", _OWNED + rb"/actions/runners/registration-token", "actions_runner_registration"),
        (None, rb"/scim/.*", "scim"),
        (b"POST", rb"/repos/[^/]+/[^/]+/dependency-graph/snapshots", "dependency_snapshots"),
        (None, rb"/(?:orgs|enterprises)/[^/]+/audit-log", "audit_log"),
    )
)

#: Resources with a name of their own that share the quota of another one.
_SHARED: Final = {"code_scanning_upload": CORE}
_NAME: Final = re.compile(rb"[a-z0-9_]{1,64}")
_CREATING: Final = frozenset({b"POST", b"PUT", b"PATCH"})


def scopes_of(method: bytes, path: bytes, *, creates: bool) -> tuple[str, ...]:
    """Return the scopes of all limits for a request; `/rate_limit` counts for no resource.

    *path* is without query and prefix. *creates*: whether it creates content.
    """
    if path.rstrip(b"/") == b"/rate_limit":
        return (EVERYTHING,)
    bucket = resource_of_path(method, path)
    return (EVERYTHING, bucket, CONTENT_CREATION) if creates else (EVERYTHING, bucket)


def creates_content(method: bytes, *, graphql: bool, mutates: bool) -> bool:
    """Tell whether a request creates content (GitHub: secondary rate limits).

    GraphQL is always sent as POST, and creates content only where it *mutates*.
    """
    return mutates if graphql else method in _CREATING


def resource_of_path(method: bytes, path: bytes) -> str:
    """Return to which resource's quota a question counts (GitHub: rate limits).

    *path* is without query and prefix. GitHub's own word, `X-RateLimit-Resource`, counts for more.
    """
    return _resource_of_path(path, method)


@memoised_by_target
def _resource_of_path(path: bytes, method: bytes) -> str:
    path = path.rstrip(b"/")
    for methods, shape, bucket in _RESOURCES:
        if methods in {None, method} and shape.fullmatch(path):
            return bucket
    return CORE


def resource_of(request: Request, fields: Fields) -> str:
    """Return to which resource's quota an answer says that it counts; else, what is known."""
    return named_resource(fields) or resource_of_path(request.method, request.path)


def named_resource(fields: Fields) -> str | None:
    """Return the resource that a response names, or the one whose quota it shares."""
    said = fields.get(b"x-ratelimit-resource")
    if said is None or not _NAME.fullmatch(said):
        return None
    name = said.decode("ascii")
    return _SHARED.get(name, name)


def is_quota_request(request: Request) -> bool:
    """Tell whether a request asks what is left of the quota, which costs nothing."""
    target = request.target
    return target.startswith(b"/rate_limit") and request.path.rstrip(b"/") == b"/rate_limit"
