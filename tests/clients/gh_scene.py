"""The resources for gh: an Enterprise server with a repository, issues, pulls, a release."""

from __future__ import annotations

import re
from typing import Any

from tests.fakes.github import GitHub

TOKEN = "the-token-of-alice"
PREFIX = "/api/v3"
RELEASE = "/api/v3/repos/octo/hello/releases/1"
ASSETS = "/api/uploads/repos/octo/hello/releases/1/assets"


def _connection(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    page = {"hasNextPage": False, "endCursor": ""}
    return {"totalCount": len(nodes), "nodes": nodes, "pageInfo": page}


def _issue(number: int) -> dict[str, Any]:
    return {
        "number": number,
        "title": f"Issue {number}",
        "url": f"https://github.com/octo/hello/issues/{number}",
        "state": "OPEN",
        "updatedAt": "2026-01-01T00:00:00Z",
        "labels": _connection([]),
    }


def _pull_request(number: int) -> dict[str, Any]:
    return {
        "number": number,
        "title": f"Pull request {number}",
        "url": f"https://github.com/octo/hello/pull/{number}",
        "state": "OPEN",
        "headRefName": f"branch-{number}",
        "headRepositoryOwner": {"id": "1", "login": "octo", "name": "Octo"},
        "isCrossRepository": False,
        "isDraft": False,
        "createdAt": "2026-01-01T00:00:00Z",
    }


def respond(login: str, query: str, variables: Any) -> Any:
    """Return the data of the queries that gh makes, by their names."""
    named = re.search(r"\b(?:query|mutation) ([A-Za-z_0-9]+)", query)
    repository = {"owner": {"id": "2", "login": "octo"}, "name": "hello"}
    match named and named[1]:
        case "UserCurrent":
            return {"viewer": {"login": login}}
        case "Issue_fields":
            return {"Issue": {"fields": [{"name": "state"}, {"name": "stateReason"}]}}
        case "RepositoryInfo":
            return {"repository": {**repository, "description": "A repository"}}
        case "IssueList":
            issues = _connection([_issue(2), _issue(1)])
            return {"repository": {"hasIssuesEnabled": True, "issues": issues}}
        case "PullRequestList":
            return {"repository": {"pullRequests": _connection([_pull_request(3)])}}
        case "RepositoryReleaseByTag":
            return {"repository": {"release": {"databaseId": 1, "isDraft": False}}}
    return None


async def scene() -> GitHub:
    """Start it; its API is below /api/v3, and what is beside it where such a server has it."""
    github = GitHub()
    github.api_url = f"{await github.listen()}{PREFIX}"
    github.alias(PREFIX, "")
    furnish(github)
    return github


def furnish(github: GitHub) -> None:
    """Create all of it; URLs begin with the stand-in's `api_url`, which has the prefix."""
    host = github.api_url.removesuffix(PREFIX)
    github.user("alice", tokens=[TOKEN], scopes="repo, read:org")
    github.repository("octo/hello", {"alice": "admin"})
    github.put_list("/repos/octo/hello/tags", [{"name": f"v{number}"} for number in range(1, 36)])
    release = {
        "id": 1,
        "url": f"{host}{RELEASE}",
        "upload_url": f"{host}{ASSETS}{{?name,label}}",
        "assets": [],
    }
    github.put(RELEASE, release)
    github.put(f"{RELEASE.removesuffix('1')}tags/v1", release)
    github.put(ASSETS, {"url": f"{github.api_url}/assets/7"}, method="POST", status=201)
    github.graphql = respond
