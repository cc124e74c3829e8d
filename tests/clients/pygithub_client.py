"""PyGithub at work: reads what there is, and reports it as JSON.

Run as ``python -m tests.clients.pygithub_client URL TOKEN``.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import urlsplit

from github import Auth, Github, GithubException


def connect(url: str, token: str) -> Github:
    """Set PyGithub up for a base URL; it neither waits nor tries again."""
    auth = Auth.Token(token)
    pause = None
    return Github(
        base_url=url,
        auth=auth,
        retry=None,
        seconds_between_requests=pause,
        seconds_between_writes=pause,
    )


def status_of(client: Github, name: str) -> int:
    """Return the status with which a repository is refused."""
    try:
        client.get_repo(name)
    except GithubException as e:
        return e.status
    return 200


def report(url: str, token: str) -> dict[str, Any]:
    """Request everything once."""
    client = connect(url, token)
    repository = client.get_repo("octo/hello")
    issues = repository.get_issues()
    last = issues.reversed[0]
    found = client.search_issues("sesame")
    remaining, limit = client.rate_limiting
    assert 0 < remaining <= limit == 5000, (remaining, limit)
    assert issues.totalCount == repository.get_issues().totalCount
    for seen in (repository.url, last.url, repository.owner.url):
        assert urlsplit(seen).netloc == urlsplit(url).netloc, seen
    return {
        "login": client.get_user().login,
        "repository": repository.full_name,
        "admin": repository.permissions.admin,
        "owner": repository.owner.name,  # only at the URL that the repository names
        "repositories": [one.full_name for one in client.get_user().get_repos()],
        "total": issues.totalCount,
        "numbers": [issue.number for issue in issues],
        "last": last.number,
        "body": last.body,  # likewise
        "found": found.totalCount,
        "found_numbers": [issue.number for issue in found],
        "renamed": client.get_repo("octo/old").full_name,
        "missing": status_of(client, "octo/none"),
        "refused": status_of(connect(url, "unknown-1"), "octo/hello"),
        "scopes": client.oauth_scopes,
    }


if __name__ == "__main__":
    json.dump(report(*sys.argv[1:3]), sys.stdout)
