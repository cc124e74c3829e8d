"""The resource of each request, and the scopes of its limits."""

from __future__ import annotations

import pytest

from ghmirror_tw.github.rate_limit_resources import (
    creates_content,
    resource_of,
    resource_of_path,
    scopes_of,
    scopes_of_read,
)
from ghmirror_tw.github.reported_limit import (
    CONTENT_CREATION,
)
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request


@pytest.mark.parametrize(
    ("method", "path", "bucket"),
    [
        (b"GET", b"/repos/o/r", "core"),
        (b"GET", b"/", "core"),
        (b"GET", b"/search/code", "code_search"),
        (b"HEAD", b"/search/code/", "code_search"),
        (b"GET", b"/search/codes", "search"),
        (b"GET", b"/search/issues", "search"),
        (b"GET", b"/searching", "core"),
        (b"POST", b"/graphql", "graphql"),
        (b"POST", b"/app-manifests/c0de/conversions", "integration_manifest"),
        (b"POST", b"/repos/o/r/code-scanning/sarifs", "core"),
        (b"GET", b"/repos/o/r/code-scanning/sarifs", "core"),
        (b"POST", b"/repos/o/r/actions/runners/registration-token", "actions_runner_registration"),
        (b"POST", b"/orgs/o/actions/runners/registration-token", "actions_runner_registration"),
        (b"GET", b"/orgs/o/actions/runners", "core"),
        (b"GET", b"/scim/v2/organizations/o/Users", "scim"),
        (b"POST", b"/repos/o/r/dependency-graph/snapshots", "dependency_snapshots"),
        (b"GET", b"/enterprises/e/audit-log", "audit_log"),
        (b"GET", b"/orgs/o/audit-log", "audit_log"),
        (b"GET", b"/repos/search/code", "core"),
    ],
)
def test_the_resource_of_each_path(method: bytes, path: bytes, bucket: str) -> None:
    """Each of GitHub's resources is known by its paths; the rest is core."""
    assert resource_of_path(path, method) == bucket


def test_scopes() -> None:
    """The limits of a request: of the credential, of its resource, and of creating content."""
    assert scopes_of(b"/search/issues", b"GET", creates=False) == ("", "search")
    assert scopes_of(b"/repos/o/r/issues", b"POST", creates=True) == ("", "core", CONTENT_CREATION)
    assert scopes_of(b"/rate_limit/", b"GET", creates=False) == ("",)
    assert scopes_of_read(b"/search/issues") == ("", "search")
    upload = Fields(((b"x-ratelimit-resource", b"code_scanning_upload"),))
    assert resource_of(Request(b"POST", b"/x", Fields()), upload) == "core"


@pytest.mark.parametrize(
    ("method", "graphql", "mutates", "creates"),
    [
        (b"POST", False, True, True),
        (b"PATCH", False, True, True),
        (b"DELETE", False, True, False),
        (b"POST", True, False, False),
        (b"POST", True, True, True),
    ],
)
def test_requests_that_create_content(
    method: bytes, graphql: bool, mutates: bool, creates: bool
) -> None:
    """GraphQL by its mutations; to delete something creates nothing."""
    assert creates_content(method, graphql=graphql, mutates=mutates) is creates
