"""The resources that have a quota, and the resource of each request (GitHub: rate limits)."""

from __future__ import annotations

import re
from typing import Final

from ghmirror_tw.github.reported_limit import CONTENT_CREATION, EVERYTHING
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request
from ghmirror_tw.http.target_memo import memoised_by_target

CORE: Final = "core"
GRAPHQL: Final = "graphql"
_OWNED: Final = rb"/(?:repos/[^/]+/[^/]+|orgs/[^/]+|enterprises/[^/]+)"

#: Methods (None: any) and paths of the requests to resources other than core; the first match
#: decides.
_RESOURCES: Final = tuple(
    (methods, re.compile(path), resource)
    for methods, path, resource in (
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

#: Resources that share the quota of another resource.
_SHARED: Final = {"code_scanning_upload": CORE}
_NAME: Final = re.compile(rb"[a-z0-9_]{1,64}")
_CREATING: Final = frozenset({b"POST", b"PUT", b"PATCH"})


@memoised_by_target
def scopes_of(path: bytes, method: bytes, *, creates: bool) -> tuple[str, ...]:
    """Return the scopes of all limits that apply to a request; `/rate_limit` has no resource.

    *path* is without query and prefix. *creates*: whether it creates content.
    """
    if path.rstrip(b"/") == b"/rate_limit":
        return (EVERYTHING,)
    resource = resource_of_path(path, method)
    return (EVERYTHING, resource, CONTENT_CREATION) if creates else (EVERYTHING, resource)


def scopes_of_read(path: bytes) -> tuple[str, ...]:
    """Return the scopes of all limits that apply to a GET; *path* is without query."""
    return scopes_of(path, b"GET", creates=False)


def creates_content(method: bytes, *, graphql: bool, mutates: bool) -> bool:
    """Return whether a request creates content (GitHub: secondary rate limits).

    GraphQL is always sent as POST, and creates content only where it *mutates*.
    """
    return mutates if graphql else method in _CREATING


@memoised_by_target
def resource_of_path(path: bytes, method: bytes) -> str:
    """Return the resource of a request, by path and method (GitHub: rate limits).

    *path* is without query and prefix. `X-RateLimit-Resource` of the response is more reliable.
    """
    path = path.rstrip(b"/")
    for methods, pattern, resource in _RESOURCES:
        if methods in {None, method} and pattern.fullmatch(path):
            return resource
    return CORE


def resource_of(request: Request, fields: Fields) -> str:
    """Return the resource that a response names, or else that of the request's path."""
    return named_resource(fields) or resource_of_path(request.path, request.method)


def named_resource(fields: Fields) -> str | None:
    """Return the resource that a response names, or the resource whose quota it shares."""
    value = fields.get(b"x-ratelimit-resource")
    if value is None or not _NAME.fullmatch(value):
        return None
    name = value.decode("ascii")
    return _SHARED.get(name, name)


def is_quota_request(request: Request) -> bool:
    """Return whether a request is for the remaining quota, which costs nothing."""
    target = request.target
    return target.startswith(b"/rate_limit") and request.path.rstrip(b"/") == b"/rate_limit"
