"""PyGithub in several situations; what it reports is JSON.

Run as ``python -m tests.clients.pygithub_compared URL TOKEN SITUATION [ARGUMENT]``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from github import Github, GithubException

from tests.clients.pygithub_client import connect, report


def failure_of(request: Callable[[], object]) -> dict[str, Any]:
    """Return what PyGithub raises: the class, and what it holds."""
    try:
        request()
    except GithubException as e:
        fields = {name.lower(): value for name, value in (e.headers or {}).items()}
        return {
            "class": type(e).__name__,
            "status": e.status,
            "message": e.message,
            "data": e.data,
            "has_retry_after": "retry-after" in fields,
            "remaining": fields.get("x-ratelimit-remaining"),
            "reset": fields.get("x-ratelimit-reset"),
            "resource": fields.get("x-ratelimit-resource"),
        }
    return {"class": None}


def failures(url: str, token: str, _argument: str) -> Any:
    """Request missing resources, and those without access."""
    client = connect(url, token)
    return {
        "missing": failure_of(lambda: client.get_repo("octo/none")),
        "hidden": failure_of(lambda: client.get_repo("octo/secret")),
        "refused": failure_of(lambda: connect(url, "an unknown token").get_repo("octo/hello")),
        "anonymous": failure_of(lambda: Github(base_url=url, retry=None).get_user().login),
    }


def limited(url: str, token: str, _argument: str) -> Any:
    """Request the same twice while a limit is in force, and something else."""
    client = connect(url, token)
    output = [
        failure_of(lambda: client.get_repo("octo/hello")),
        failure_of(lambda: client.get_repo("octo/hello")),
        failure_of(lambda: client.get_user("octo")),
    ]
    return {
        "failures": output,
        "quota": client.rate_limiting,
        "reset": client.rate_limiting_resettime,
    }


def quota(url: str, token: str, _argument: str) -> Any:
    """Return the client's quota after each request, and that of GitHub's response."""
    client = connect(url, token)
    output = []
    for _ in range(2):
        client.get_repo("octo/hello")
        output.append([*client.rate_limiting, client.rate_limiting_resettime])
    core = client.get_rate_limit().resources.core
    return {"after": output, "limit": core.limit, "reset": int(core.reset.timestamp())}


def upload(url: str, token: str, path: str) -> Any:
    """Upload an asset to the URL in the release."""
    client = connect(url, token)
    release = client.get_repo("octo/hello").get_release(1)
    asset = release.upload_asset(path, label="An asset", name=Path(path).name)
    return {"upload_url": release.upload_url, "asset": asset.name, "id": asset.id}


SITUATIONS = {
    "report": lambda url, token, _: report(url, token),
    "failures": failures,
    "limited": limited,
    "read": lambda url, token, _: failure_of(lambda: connect(url, token).get_repo("octo/hello")),
    "quota": quota,
    "upload": upload,
}

if __name__ == "__main__":
    at, credential, situation, *rest = sys.argv[1:]
    json.dump(SITUATIONS[situation](at, credential, rest[0] if rest else ""), sys.stdout)
