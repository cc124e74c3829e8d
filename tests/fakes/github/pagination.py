"""Paginated lists, by page number or by cursor."""

from __future__ import annotations

import base64
import binascii
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import Factory, define

from tests.fakes.github.messages import JSON, VARY, Response, message_response, not_found

if TYPE_CHECKING:
    from tests.fakes.github.messages import Fields, Rendering, Request
    from tests.fakes.github.server import GitHub


@define(eq=False)
class PaginatedList:
    """A paginated list."""

    path: str
    items: Any
    private_to: frozenset[str] | None = None
    links: bool = True
    cursor: bool = False
    wrap: str | None = None
    extra: Mapping[str, Any] = Factory(dict)
    link_path: str | None = None
    fields: Fields = ()
    vary: str | None = VARY
    last_modified: str | None = None
    honours_page: bool = True
    pages: dict[tuple[int, int], Rendering] = Factory(dict)

    def read(self, github: GitHub, request: Request) -> Response:
        items = self.items
        per_user = callable(items)
        if per_user:
            items = items(request.login)
        parameters = request.parameters if request.query else {}
        if not self.honours_page and "page" in parameters:
            return message_response(400, "Pagination using the `page` parameter is not supported.")
        per_page = _number(parameters.get("per_page"), 30)
        per_page = min(per_page or 30, 100)
        if self.cursor:
            start, end, link = self._by_cursor(github, request, parameters, len(items), per_page)
        else:
            start, end, link = self._by_number(github, request, parameters, len(items), per_page)
        rendering = None if per_user else self.pages.get((start, end))
        if rendering is None:
            page = items[start:end]
            value = page
            if self.wrap is not None:
                value = {"total_count": len(items), **self.extra, self.wrap: page}
            rendering = github.render(value, JSON)
            if not per_user:
                self.pages[start, end] = rendering
        return Response(
            200,
            rendering,
            tagged=True,
            link=link if self.links else None,
            fields=self.fields,
            vary=self.vary,
            last_modified=self.last_modified,
        )

    def _by_number(
        self,
        github: GitHub,
        request: Request,
        parameters: dict[str, str],
        total: int,
        per_page: int,
    ) -> tuple[int, int, str | None]:
        page = _number(parameters.get("page"), 1) or 1
        last = max(1, -(-total // per_page))
        pages = {}
        if page > 1:
            pages["prev"] = min(page - 1, last)
        if page < last:
            pages["next"] = page + 1
        if page != last:
            pages["last"] = last
        if page > 1:
            pages["first"] = 1
        start = (page - 1) * per_page
        links = {rel: {"page": str(number)} for rel, number in pages.items()}
        return start, start + per_page, self._link(github, request, links)

    def _by_cursor(
        self,
        github: GitHub,
        request: Request,
        parameters: dict[str, str],
        total: int,
        per_page: int,
    ) -> tuple[int, int, str | None]:
        start = 0
        if "after" in parameters:
            start = _position(parameters["after"]) + 1
        elif "before" in parameters:
            start = max(0, _position(parameters["before"]) - per_page)
        end = min(start + per_page, total)
        links = {}
        if end < total:
            links["next"] = {"after": _cursor(end - 1)}
        if start > 0:
            links["prev"] = {"before": _cursor(start)}
        return start, max(start, end), self._link(github, request, links)

    def _link(
        self, github: GitHub, request: Request, links: dict[str, dict[str, str]]
    ) -> str | None:
        if not links:
            return None
        parts = []
        kept = urllib.parse.parse_qsl(request.query, keep_blank_values=True)
        url = github.api_url + (self.link_path or request.path)
        for rel, changed in links.items():
            drop = {"after", "before"} if self.cursor else set()
            query = [(k, changed.pop(k, v)) for k, v in kept if k not in drop]
            query += changed.items()
            parts.append(f'<{url}?{urllib.parse.urlencode(query)}>; rel="{rel}"')
        return ", ".join(parts)

    def write(self, github: GitHub, request: Request) -> Response:
        if request.method != b"POST" or callable(self.items):
            return not_found()
        item = request.json()
        if isinstance(item, dict):
            item = {"id": len(self.items) + 1} | item
        self.items = [*self.items, item]
        self.pages.clear()
        where = f"{github.api_url}{request.path}/{len(self.items)}".encode()
        return Response(201, github.render(item, JSON), tagged=True, fields=[(b"Location", where)])


def _number(text: str | None, default: int) -> int:
    try:
        return max(0, int(text or default))
    except ValueError:
        return default


def _cursor(position: int) -> str:
    return base64.urlsafe_b64encode(b"cursor:%d" % position).decode()


def _position(cursor: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(cursor).removeprefix(b"cursor:"))
    except (ValueError, binascii.Error):
        return -1
