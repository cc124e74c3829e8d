"""Primary and secondary rate limits: the quota of a request, and the responses beyond it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tests.fakes.github.messages import DOCS, message_response

if TYPE_CHECKING:
    from tests.fakes.github.faults import Fault
    from tests.fakes.github.messages import Request, Response
    from tests.fakes.github.server import GitHub
    from tests.fakes.github.users import Quota

BUCKETS = (
    (re.compile(r"/search/code$"), "code_search"),
    (re.compile(r"/search/"), "search"),
    (re.compile(r"/graphql$"), "graphql"),
    (re.compile(r"/app-manifests/[^/]+/conversions$"), "integration_manifest"),
    (re.compile(r"/repos/[^/]+/[^/]+/code-scanning/sarifs$"), "code_scanning_upload"),
    (re.compile(r"/.+/actions/runners/registration-token$"), "actions_runner_registration"),
    (re.compile(r"/scim/"), "scim"),
    (re.compile(r"/repos/[^/]+/[^/]+/dependency-graph/snapshots$"), "dependency_snapshots"),
    (re.compile(r"/(?:orgs|enterprises)/[^/]+/audit-log$"), "audit_log"),
)


LIMITS = {
    "core": 5000,
    "search": 30,
    "code_search": 10,
    "graphql": 5000,
    "integration_manifest": 5000,
    "code_scanning_upload": 1000,
    "actions_runner_registration": 10000,
    "scim": 15000,
    "dependency_snapshots": 100,
    "audit_log": 1750,
}


_SECONDARY = {
    "secondary": "You have exceeded a secondary rate limit. Please wait a few minutes before you "
    "try again. If you reach out to GitHub Support for help, please include the request ID.",
    "abuse": "You have triggered an abuse detection mechanism. Please wait a few minutes before "
    "you try again.",
    "creation": "You have exceeded a secondary rate limit and have been temporarily blocked from "
    "content creation. Please retry your request again later. If you reach out to GitHub Support "
    "for help, please include the request ID.",
    "login": "Maximum number of login attempts exceeded. Please try again later.",
    "none": "Forbidden",
}


_DOCS_OF_LIMITS = {
    "primary": "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api",
    "secondary": "https://docs.github.com/free-pro-team@latest/rest/overview/"
    "rate-limits-for-the-rest-api#about-secondary-rate-limits",
    "abuse": "https://docs.github.com/rest/overview/resources-in-the-rest-api#abuse-rate-limits",
}
_DOCS_OF_LIMITS["creation"] = _DOCS_OF_LIMITS["secondary"]


def quota_of(github: GitHub, request: Request) -> Quota:
    bucket = github.buckets.get(request.path)
    if bucket is None:
        bucket = next((name for shape, name in BUCKETS if shape.match(request.path)), "core")
        if len(github.buckets) > 100_000:
            github.buckets.clear()
        github.buckets[request.path] = bucket
    return github.quota(request.login or request.connection.address, bucket)


def limit_response(
    github: GitHub, request: Request, quota: Quota, fault: Fault | None
) -> Response | None:
    requester = request.requester
    kind = "graphql" if request.path == "/graphql" else "rest"
    budget = github.secondary_points_per_minute
    if kind == "graphql":
        budget = github.secondary_graphql_points_per_minute
    points = github.points.get((requester, kind))
    most = github.secondary_limit_in_flight
    fault_kind = fault.kind if fault is not None else ""
    if (
        fault_kind in {"secondary-limit", "abuse-limit", "login-limit"}
        or (fault_kind == "creation-limit" and request.method in {b"POST", b"PUT", b"PATCH"})
        or (most is not None and github.in_flight[requester] > most)
        or (budget is not None and points is not None and points.total > budget)
    ):
        text = fault_kind.partition("-")[0]
        text = text if text in {"abuse", "creation", "login"} else github.secondary_message
        url = _DOCS_OF_LIMITS.get(text, DOCS)
        response = message_response(
            github.secondary_status, _SECONDARY[text], documentation_url=url
        )
        if github.secondary_retry_after_s is not None and text != "login":
            response.fields = [(b"Retry-After", b"%d" % github.secondary_retry_after_s)]
        return response
    is_free = request.path == "/rate_limit"
    if fault_kind == "unmetered-limit":
        response = exhausted_response(github, request)
        response.exhausted = False
        return response
    if fault_kind == "primary-limit" or (quota.used >= quota.limit and not is_free):
        return exhausted_response(github, request)
    return None


def exhausted_response(github: GitHub, request: Request) -> Response:
    if request.credential is None:
        text = (
            f"API rate limit exceeded for {request.connection.address}. (But here's the good "
            "news: Authenticated requests get a higher rate limit. Check out the documentation "
            "for more details.)"
        )
    else:
        user = request.credential.user
        kind = "installation" if user.is_bot else "user"
        at = datetime.fromtimestamp(github.now(), UTC)
        text = (
            f"API rate limit exceeded for {kind} ID {user.id}. If you reach out to GitHub "
            f"Support for help, please include the timestamp {at:%Y-%m-%d %H:%M:%S} UTC."
        )
    url = _DOCS_OF_LIMITS["primary"]
    response = message_response(github.limit_status, text, documentation_url=url)
    response.exhausted = True
    return response
