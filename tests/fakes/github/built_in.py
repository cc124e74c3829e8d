"""Resources that GitHub always has: root, meta, users, repositories, limits, GraphQL."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

from tests.fakes.github.limits import LIMITS, quota_of
from tests.fakes.github.messages import (
    JSON,
    Rendering,
    Response,
    encode,
    message_response,
    not_found,
)

if TYPE_CHECKING:
    from tests.fakes.github.messages import Request
    from tests.fakes.github.server import GitHub
    from tests.fakes.github.users import User

_ROLES = ("pull", "triage", "push", "maintain", "admin")


def root(github: GitHub) -> Any:
    url = github.api_url
    return {
        "current_user_url": f"{url}/user",
        "emails_url": f"{url}/user/emails",
        "rate_limit_url": f"{url}/rate_limit",
        "repository_url": f"{url}/repos/{{owner}}/{{repo}}",
        "current_user_repositories_url": f"{url}/user/repos{{?type,page,per_page,sort}}",
        "user_url": f"{url}/users/{{user}}",
        "issue_search_url": f"{url}/search/issues?q={{query}}{{&page,per_page,sort,order}}",
    }


def meta(github: GitHub) -> Any:
    return {
        "verifiable_password_authentication": False,
        "ssh_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0"],
        "hooks": ["192.30.252.0/22", "185.199.108.0/22"],
        "api": ["192.30.252.0/22", "185.199.108.0/22"],
    }


def user_document(github: GitHub, user: User) -> Any:
    url = f"{github.api_url}/users/{user.login}"
    return {
        "login": user.login,
        "id": user.id,
        "node_id": base64.b64encode(b"04:User%d" % user.id).decode(),
        "url": url,
        "html_url": f"https://github.com/{user.login}",
        "repos_url": f"{url}/repos",
        "type": "Bot" if user.is_bot else "User",
        "name": user.login.title(),
    }


def repository_document(github: GitHub, name: str, login: str | None) -> Any:
    roles, private = github.repositories[name]
    url = f"{github.api_url}/repos/{name}"
    owner, _, short = name.partition("/")
    number = list(github.repositories).index(name) + 1
    value = {
        "id": number,
        "name": short,
        "full_name": name,
        "private": private,
        "owner": {"login": owner, "url": f"{github.api_url}/users/{owner}"},
        "html_url": f"https://github.com/{name}",
        "description": f"About {github.api_url}",
        "url": url,
        "issues_url": f"{url}/issues{{/number}}",
        "default_branch": "main",
    }
    if login is not None:
        role = roles.get(login.lower(), "pull")
        rank = _ROLES.index(role)
        value["permissions"] = {r: _ROLES.index(r) <= rank for r in reversed(_ROLES)}
    return value


def repositories_of(github: GitHub, login: str | None) -> Any:
    known = (login or "").lower()
    return [
        repository_document(github, name, login)
        for name, (roles, _) in github.repositories.items()
        if known in roles
    ]


def rate_limit(github: GitHub, request: Request) -> Response:
    owner = request.login or request.connection.address
    resources = {}
    for resource in LIMITS:
        quota = github.quota(owner, resource)
        resources[resource] = {
            "limit": quota.limit,
            "used": quota.used,
            "remaining": quota.remaining,
            "reset": quota.reset,
        }
    value = {"resources": resources, "rate": resources["core"]}
    rendering = Rendering(encode(value, JSON), is_json=True)
    return Response(200, rendering, cache_control="no-cache", free=True)


def graphql(github: GitHub, request: Request) -> Response:
    if request.method != b"POST":
        return not_found()
    if request.credential is None:
        return message_response(401, "This endpoint requires you to be authenticated.")
    document = request.json()
    login = request.credential.user.login
    query = str(document.get("query", ""))
    if re.match(r"\s*mutation\b", query):
        github.mutations.append((login, query))
    result = None
    if github.graphql is not None:
        result = github.graphql(login, query, document.get("variables"))
    if result is None:
        result = {}
        if re.search(r"\bviewer\b", query):
            result["viewer"] = {"login": login}
        if re.search(r"\brateLimit\b", query):
            quota = quota_of(github, request)
            result["rateLimit"] = {"limit": quota.limit, "remaining": quota.remaining - 1}
    rendering = Rendering(encode({"data": result}, JSON), is_json=True)
    return Response(200, rendering, cache_control="")


def stream_or_sink(github: GitHub, request: Request) -> Response:
    stream = re.fullmatch(r"/_stream/(\d+)", request.path)
    if stream and request.reads:
        response = Response(200, None, "application/octet-stream")
        response.stream_bytes = int(stream[1])
        return response
    if request.path == "/_sink" and request.digest is not None:
        value = {"bytes": request.body_bytes, "sha256": request.digest.hexdigest()}
        return Response(200, Rendering(encode(value, JSON), is_json=True))
    return not_found()
