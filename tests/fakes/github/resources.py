"""Resources other than lists: their content, and how writes change it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from attrs import Factory, define

from tests.fakes.github.messages import JSON, MEDIA_TYPE, VARY, Response, encode, not_found

if TYPE_CHECKING:
    from tests.fakes.github.messages import Fields, Rendering, Request
    from tests.fakes.github.server import GitHub


class Resource(Protocol):
    """Something that has a path."""

    @property
    def private_to(self) -> frozenset[str] | None: ...

    def read(self, github: GitHub, request: Request) -> Response: ...

    def write(self, github: GitHub, request: Request) -> Response: ...


def field_pairs(extra: Mapping[str, str] | None) -> Fields:
    return [(k.encode("latin-1"), v.encode("latin-1")) for k, v in (extra or {}).items()]


@define(eq=False)
class Thing:
    """A single resource."""

    path: str
    content: Any
    content_type: str = JSON
    private_to: frozenset[str] | None = None
    last_modified: str | None = None
    etag: bool | str = True
    fields: Fields = ()
    vary: str | None = VARY
    cache_control: str | None = None
    variants: Mapping[str, Any] = Factory(dict)
    versions: Mapping[str, Any] = Factory(dict)
    status: int = 200
    rendered: dict[str, Rendering] = Factory(dict)

    def read(self, github: GitHub, request: Request) -> Response:
        content, content_type, name = self.content, self.content_type, ""
        if self.variants:
            media = MEDIA_TYPE.search(request.accept)
            name = (media and media[1]) or ""
            if name in self.variants:
                content = self.variants[name]
                if isinstance(content, bytes | str):
                    content_type = f"application/vnd.github.{name}; charset=utf-8"
        if request.version in self.versions and name not in self.variants:
            name = request.version
            content = self.versions[name]
        if callable(content):
            rendering = github.render(content(request.login, request.accept), content_type)
        else:
            found = self.rendered.get(name)
            if found is None:
                found = github.rendering_of(encode(content, content_type), content_type)
                self.rendered[name] = found
            rendering = found
        return Response(
            self.status,
            rendering,
            content_type,
            tagged=bool(self.etag),
            tag=self.etag.encode() if isinstance(self.etag, str) else None,
            last_modified=self.last_modified,
            fields=self.fields,
            vary=self.vary,
            cache_control=self.cache_control,
        )

    def write(self, github: GitHub, request: Request) -> Response:
        if request.method == b"DELETE":
            github.delete(self.path)
            return Response(204, None, None)
        if request.method == b"POST":
            return Response(201, github.render(request.json(), JSON), tagged=True)
        if request.method == b"PATCH" and isinstance(self.content, dict):
            self.content = self.content | request.json()
        elif request.method == b"PUT":
            self.content = request.json()
        self.rendered.clear()
        return self.read(github, request)


@define(eq=False)
class Redirect:
    location: str
    status: int
    private_to: frozenset[str] | None = None

    def read(self, github: GitHub, request: Request) -> Response:
        location = self.location
        if location.startswith("/"):
            location = github.api_url + location
        response = Response(self.status, None, "text/html;charset=utf-8")
        response.fields = [(b"Location", location.encode("latin-1"))]
        return response

    write = read


@define(eq=False)
class YesNo:
    yes: set[str]
    private_to: frozenset[str] | None = None

    def read(self, github: GitHub, request: Request) -> Response:
        if "*" in self.yes or (request.login or "").lower() in self.yes:
            return Response(204, None, None)
        return not_found()

    def write(self, github: GitHub, request: Request) -> Response:
        login = (request.login or "").lower()
        if request.method == b"PUT":
            self.yes.add(login)
        elif request.method == b"DELETE":
            self.yes -= {login, "*"}
        return Response(204, None, None)


@define(eq=False)
class Statistics:
    thing: Thing
    computing: int
    private_to: frozenset[str] | None = None

    def read(self, github: GitHub, request: Request) -> Response:
        if self.computing > 0:
            self.computing -= 1
            return Response(202, github.render({}, JSON))
        return self.thing.read(github, request)

    def write(self, github: GitHub, request: Request) -> Response:
        return not_found()


@define(eq=False)
class MethodResponse:
    """The response to one method of a path."""

    thing: Thing

    @property
    def private_to(self) -> frozenset[str] | None:
        return self.thing.private_to

    def read(self, github: GitHub, request: Request) -> Response:
        return self.thing.read(github, request)

    write = read
