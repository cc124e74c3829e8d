"""What the clients find: an owner, a repository with issues, another that was renamed."""

from __future__ import annotations

from typing import Any

from tests.github import GitHub

TOKEN = "the-token-of-alice"
ISSUES = 90
"""As many as fill three pages to the last place."""

FOUND = 42


def issue(github: GitHub, number: int) -> dict[str, Any]:
    """Give an issue as lists show it; the body comes only with the issue itself."""
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
    """Let there be so many issues, of which the last has a page of its own."""
    github.put_list(
        "/repos/octo/hello/issues", [issue(github, number) for number in range(1, total + 1)]
    )
    last = {**issue(github, total), "body": f"The body of issue {total}"}
    github.put(f"/repos/octo/hello/issues/{total}", last)


async def scene() -> GitHub:
    """Start a GitHub with all that `seen` expects; lists have their default size of page."""
    github = GitHub()
    github.user("alice", tokens=[TOKEN])
    github.user("octo")
    await github.listen()
    github.repository("octo/hello", {"alice": "admin"})
    github.repository("octo/second", {"alice": "push"})
    put_issues(github, ISSUES)
    github.put_search("/search/issues", [issue(github, n) for n in range(1, FOUND + 1)])
    # what is renamed goes on to exist under its id, which is where GitHub redirects to
    github.repository("octo/old", {"alice": "admin"})
    github.rename("/repos/octo/old", "/repositories/3")
    return github


def seen(total: int = ISSUES) -> dict[str, Any]:
    """Give what each client has to report, whatever stands between it and GitHub."""
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
