"""gidgethub and github3.py at work: each reads what there is, and the report is printed as JSON.

Run as ``python -m tests.clients.python_clients URL TOKEN``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import github3
import httpx2
from gidgethub import BadRequest
from gidgethub.httpx import GitHubAPI
from github3.structs import GitHubIterator


async def by_gidgethub(url: str, token: str) -> dict[str, Any]:
    """Read by gidgethub, whose cache sends validators of its own."""
    cache: dict[str, Any] = {}
    async with httpx2.AsyncClient() as client:
        api = GitHubAPI(client, "tests", oauth_token=token, base_url=url, cache=cache)
        logins = [(await api.getitem("/user"))["login"] for _ in range(2)]
        try:
            await api.getitem("/repos/octo/none")
        except BadRequest as error:
            missing = error.status_code
        return {
            "logins": logins,
            "numbers": [each["number"] async for each in api.getiter("/repos/octo/hello/issues")],
            "found": [each["number"] async for each in api.getiter("/search/issues?q=sesame")],
            "missing": missing,
            "cached": bool(cache),
        }


class Numbered:
    """An item of a list, as github3.py makes it."""

    def __init__(self, item: dict[str, Any]) -> None:
        self.number = item["number"]


def by_github3(url: str, token: str) -> dict[str, Any]:
    """Read by github3.py, which adds /api/v3, and whose iterators refresh by entity-tag."""
    session = github3.GitHubEnterprise(url, token=token).session
    base = f"{url}/api/v3"
    issues = GitHubIterator(-1, f"{base}/repos/octo/hello/issues", Numbered, session)
    numbers = [each.number for each in issues]
    return {
        "login": session.get(f"{base}/user").json()["login"],
        "numbers": numbers,
        "again": [each.number for each in issues.refresh(True)],
        "missing": session.get(f"{base}/repos/octo/none").status_code,
        "refused": session.get(f"{base}/user", headers={"Authorization": "token x"}).status_code,
    }


if __name__ == "__main__":
    url, token = sys.argv[1:3]
    report = {
        "gidgethub": asyncio.run(by_gidgethub(url, token)),
        "github3.py": by_github3(url, token),
    }
    json.dump(report, sys.stdout)
