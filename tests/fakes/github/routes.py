"""From a request to the resource that responds."""

from __future__ import annotations

import json
import urllib.parse
from typing import TYPE_CHECKING

from tests.fakes.github.built_in import graphql, rate_limit, stream_or_sink
from tests.fakes.github.messages import VERSIONS, message_response, needs_login, not_found
from tests.fakes.github.resources import MethodResponse

if TYPE_CHECKING:
    from tests.fakes.github.messages import Request, Response
    from tests.fakes.github.resources import Resource
    from tests.fakes.github.server import GitHub


def is_under(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix + "/")


def response_to(github: GitHub, request: Request) -> Response:
    if request.refused:
        return message_response(401, "Bad credentials")
    if request.version not in VERSIONS:
        return message_response(
            400,
            f"{json.dumps(request.version)} is not a supported API version. "
            f"Supported versions: {', '.join(VERSIONS)}.",
        )
    try:
        return _route(github, request)
    except json.JSONDecodeError:
        return message_response(400, "Problems parsing JSON")


def _route(github: GitHub, request: Request) -> Response:
    path = request.path
    if path.startswith("/_"):
        return stream_or_sink(github, request)
    if path in {"/graphql", "/api/graphql"}:
        return graphql(github, request)
    if path == "/rate_limit":
        return rate_limit(github, request)
    login = (request.login or "").lower()
    same = _resolve_alias(github, path)
    for prefix, shown in github.private_prefixes.items():
        if login not in shown and (is_under(path, prefix) or is_under(same, prefix)):
            return not_found()
    if github.renames:
        renamed = _redirect_of_renamed(github, request, login)
        if renamed is not None:
            return renamed
    resource = _find(github, request)
    if resource is None or (resource.private_to is not None and login not in resource.private_to):
        return not_found()
    if request.reads:
        if path == "/user" or path.startswith("/user/"):
            if request.credential is None:
                return needs_login()
            if path == "/user" and request.credential.user.is_bot:
                return message_response(403, "Resource not accessible by integration")
        return resource.read(github, request)
    if request.credential is None:
        return needs_login()
    if request.method not in {b"POST", b"PUT", b"PATCH", b"DELETE"}:
        return message_response(405, "Method not allowed")
    return resource.write(github, request)


def _find(github: GitHub, request: Request) -> Resource | None:
    path = request.path
    if not request.reads and github.written:
        written = github.written.get((request.method, path))
        if written is not None:
            return MethodResponse(written)
    found = None
    if request.query:
        found = github.resources.get(f"{path}?{request.query}")
    found = found or github.resources.get(path)
    if found is None and "%" in path:
        found = github.resources.get(urllib.parse.unquote(path))
    return found or github.resources.get(_resolve_alias(github, path))


def _resolve_alias(github: GitHub, path: str) -> str:
    for prefix, old in github.aliases.items():
        if is_under(path, prefix):
            return old + path.removeprefix(prefix)
    return path


def _redirect_of_renamed(github: GitHub, request: Request, login: str) -> Response | None:
    for old, new in github.renames.items():
        if is_under(request.path, old):
            there = github.resources.get(old)
            if there and there.private_to is not None and login not in there.private_to:
                return not_found()
            rest = request.target.decode("latin-1").removeprefix(old)
            location = f"{github.api_url}{new}{rest}"
            status = 301 if request.reads else 307
            text = "Moved Permanently" if request.reads else "Temporary Redirect"
            response = message_response(status, text, url=location)
            response.fields = [(b"Location", location.encode("latin-1"))]
            return response
    return None
