"""The resources for clients: an owner, a repository with issues, a renamed one."""

from __future__ import annotations

from typing import Any

from tests.fakes.github import GitHub

TOKEN = "the-token-of-alice"
ISSUES = 90
"""As many as fill three pages to the last place."""

FOUND = 42


def issue(github: GitHub, number: int) -> dict[str, Any]:
    """Return an issue as in lists; only the issue itself has the body."""
    return {
        "id": 1000 + number,
        "number": number,
        "title": f"Issue {number}",
        "state": "open",
        "url": f"{github.api_url}/repos/octo/hello/issues/{number}",
        "html_url": f"https://github.com/octo/hello/issues/{number}",
        "user": {"login": "alice", "id": 1, "url": f"{github.api_url}/users/alice"},
    }


def put_issues(github: GitHub, total: int) -> None:
    """Create issues, of which the last has a page of its own."""
    github.put_list(
        "/repos/octo/hello/issues", [issue(github, number) for number in range(1, total + 1)]
    )
    last = {**issue(github, total), "body": f"The body of issue {total}"}
    github.put(f"/repos/octo/hello/issues/{total}", last)


async def scene() -> GitHub:
    """Start a GitHub with all that `seen` expects; lists have their default size of page."""
    github = GitHub()
    await github.listen()
    furnish(github)
    return github


def furnish(github: GitHub) -> None:
    """Create all resources that `seen` expects; URLs begin with the stand-in's `api_url`."""
    github.user("alice", tokens=[TOKEN])
    github.user("octo")
    github.repository("octo/hello", {"alice": "admin"})
    github.repository("octo/second", {"alice": "push"})
    put_issues(github, ISSUES)
    github.put_search("/search/issues", [issue(github, n) for n in range(1, FOUND + 1)])
    # a renamed resource still exists under its id, which is where GitHub redirects to
    github.repository("octo/old", {"alice": "admin"})
    github.rename("/repos/octo/old", "/repositories/3")


RELEASE = "/repos/octo/hello/releases/1"
ASSETS = f"{RELEASE}/assets"


def put_release(github: GitHub, uploads_url: str) -> None:
    """Create a release, the latest one; it accepts assets below *uploads_url*."""
    value = {
        "id": 1,
        "url": f"{github.api_url}{RELEASE}",
        "html_url": "https://github.com/octo/hello/releases/tag/v1.2.3",
        "assets_url": f"{github.api_url}{ASSETS}",
        "upload_url": f"{uploads_url}{ASSETS}{{?name,label}}",
        "tag_name": "v1.2.3",
        "name": 'One <two> "three"',
        "body": f"See {github.api_url}{RELEASE}",
        "draft": False,
        "author": {"login": "alice", "id": 1, "url": f"{github.api_url}/users/alice"},
        "assets": [],
        "mentions": {},
    }
    for path in (RELEASE, "/repos/octo/hello/releases/latest"):
        github.put(path, value, last_modified="Mon, 05 Jan 2026 10:00:00 GMT")


def seen(total: int = ISSUES) -> dict[str, Any]:
    """Return the expected report of each client, with and without the mirror."""
    return {
        "login": "alice",
        "repository": "octo/hello",
        "admin": True,
        "owner": "Octo",
        "repositories": ["octo/hello", "octo/second", "octo/old"],
        "total": total,
        "numbers": list(range(1, total + 1)),
        "last": total,
        "body": f"The body of issue {total}",
        "found": FOUND,
        "found_numbers": list(range(1, FOUND + 1)),
        "renamed": "octo/old",
        "missing": 404,
        "refused": 401,
        "scopes": ["repo", "user"],
    }


def furnish_limits(github: GitHub) -> None:
    """Create a user for each kind of limit, whose token is the name of the limit."""
    for login, kind in (("bob", "primary-limit"), ("carol", "secondary-limit")):
        github.user(login, tokens=[kind])
        github.fault(None, kind, login=login)


def furnish_release(github: GitHub) -> None:
    """Create a release as on Enterprise servers, where uploads are beside the API."""
    put_release(github, f"{github.api_url}/api/uploads")
    asset = {"id": 7, "name": "asset.bin", "url": f"{github.api_url}{ASSETS}/7"}
    github.put(f"/api/uploads{ASSETS}", asset, method="POST", status=201)
