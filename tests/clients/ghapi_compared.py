"""ghapi in several situations; what it reports is JSON.

Run as ``python -m tests.clients.ghapi_compared URL TOKEN SITUATION [ARGUMENT]``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from ghapi.core import GhApi
from ghapi.page import paged

NAMES = ("X-RateLimit-Limit", "X-RateLimit-Resource", "X-OAuth-Scopes", "X-GitHub-Media-Type")


class Client:
    """ghapi, and the values with which it called the callback for limits."""

    def __init__(self, url: str, token: str) -> None:
        self.limits: list[tuple[int, int]] = []
        self.api = GhApi(
            owner="octo",
            repo="hello",
            token=token,
            gh_host=url,
            limit_cb=lambda remaining, limit: self.limits.append((remaining, limit)),
        )

    def fields(self) -> dict[str, Any]:
        """Return fields of the last response, which ghapi has in a plain dict."""
        return {name: self.api.recv_hdrs.get(name) for name in NAMES}


def failure_of(request: Callable[[], object]) -> Any:
    try:
        return request()
    except OSError as e:  # urllib's, and fastcore's of them
        return {"class": type(e).__name__, "message": str(e)}


def read(url: str, token: str, _argument: str) -> Any:
    """Read single things, then a list page by page."""
    client = Client(url, token)
    api = client.api
    repository = api.repos.get()
    output = {"repository": repository, "fields": client.fields()}
    output["owner"] = api(repository.owner.url)
    first = api.issues.list_for_repo(per_page=20)
    output["last_page"] = api.last_page()
    pages = [
        [each.number for each in page] for page in paged(api.issues.list_for_repo, per_page=50)
    ]
    output["pages"] = [[each.number for each in first], *pages]
    return output


def limits(url: str, token: str, _argument: str) -> Any:
    """Request three things, two of them twice; return with what the callback was called."""
    client = Client(url, token)
    for request in (client.api.repos.get, client.api.users.get_authenticated):
        request()
        request()
    client.api.repos.get_latest_release()
    return {"calls": client.limits, "remaining": client.api.limit_rem}


def failures(url: str, token: str, _argument: str) -> Any:
    client = Client(url, token)
    return {
        "missing": failure_of(lambda: client.api.issues.get(100_000)),
        "refused": failure_of(Client(url, "an unknown token").api.repos.get),
        "limited": failure_of(Client(url, "primary-limit").api.repos.get),
        "limited_again": failure_of(Client(url, "primary-limit").api.repos.get),
        "calls": client.limits,
    }


def upload(url: str, token: str, path: str) -> Any:
    client = Client(url, token)
    asset = client.api.upload_file(client.api.repos.get_release(1), path)
    return {"id": asset.id, "name": asset.name}


SITUATIONS = {"read": read, "limits": limits, "failures": failures, "upload": upload}

if __name__ == "__main__":
    at, credential, situation, *rest = sys.argv[1:]
    output = SITUATIONS[situation](at, credential, rest[0] if rest else "")
    sys.stdout.write(json.dumps(output, default=dict))
