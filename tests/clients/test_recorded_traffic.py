"""Exchanges recorded from api.github.com are unchanged through the mirror.

Each scenario is loaded twice into a server that replays it, directly and through the mirror.
Two responses to the same request may differ only as the mirror documents.
"""

from __future__ import annotations

import gzip
import http.client
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import IO, Any, Self, cast
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from attrs import field, frozen

from tests.clients.programs import NODE_MODULES, node
from tests.harness.running import BlockingMirror

RECORDED = NODE_MODULES / "@octokit" / "fixtures" / "scenarios" / "api.github.com"
SCENARIOS = (
    "add-and-remove-repository-collaborator",
    "add-labels-to-issue",
    "branch-protection",
    "create-file",
    "create-status",
    "errors",
    "get-archive",
    "get-content",
    "get-organization",
    "get-repository",
    "get-root",
    "git-refs",
    "labels",
    "lock-issue",
    "mark-notifications-as-read",
    "markdown",
    "paginate-issues",
    "project-cards",
    "release-assets",
    "release-assets-conflict",
    "rename-repository",
    "search-issues",
)

FRAMING = {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding"}
"""Fields of one connection, or of content that was rewritten or coded."""
ADDED = {"via", "cache-status", "x-cache", "x-cache-mode"}
"""The fields of the mirror itself."""
JUDGED = {
    "access-control-allow-origin",
    "access-control-expose-headers",
    "cache-control",
    "etag",
    "link",
    "location",
    "set-cookie",
    "vary",
}
"""Fields that may differ in a documented way; all others are to be equal."""


@frozen
class Call:
    """A recorded request of a client, and its status."""

    method: str
    host: str
    path: str
    fields: Mapping[str, str]
    body: bytes
    status: int

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Self:
        body = recorded["body"]
        return cls(
            recorded["method"].upper(),
            cast("str", urlsplit(recorded["scope"]).hostname),
            recorded["path"],
            {name: str(value) for name, value in recorded["reqheaders"].items() if name != "host"},
            _content(body),
            recorded["status"],
        )

    def send(self, base: str) -> Received:
        """Send a request to a server under a base URL; redirects are not followed."""
        origin = urlsplit(base)
        connection = http.client.HTTPConnection(cast("str", origin.hostname), origin.port, 30)
        try:
            connection.putrequest(self.method, origin.path + self.path, skip_accept_encoding=True)
            for name, value in {"user-agent": "recorded/1.0", **self.fields}.items():
                connection.putheader(name, value)
            connection.endheaders(self.body or None)
            response = connection.getresponse()
            fields = [(name.lower(), value) for name, value in response.getheaders()]
            return Received(response.status, sorted(fields), response.read())
        finally:
            connection.close()


def _content(body: Any) -> bytes:
    text = body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))
    return text.encode()


@frozen
class Received:
    """A response, its fields sorted by their names in lower case."""

    status: int
    fields: list[tuple[str, str]]
    content: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]

    @property
    def decoded(self) -> bytes:
        """The content without its coding."""
        if self.value("content-encoding") == "gzip":
            return gzip.decompress(self.content)
        assert self.value("content-encoding") in {"", "identity"}
        return self.content

    def value(self, name: str) -> str:
        return ", ".join(self.values(name))


class FixturesServer:
    """The replaying server, in a process of its own."""

    def __init__(self) -> None:
        command = node("fixtures_server.mjs", "@octokit/fixtures-server", "@octokit/fixtures")
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.url = cast("IO[bytes]", self._process.stdout).readline().decode().strip()
        assert self.url, "the fixtures server did not start; its error is above"

    def load(self, scenario: str) -> str:
        """Load a scenario for one replay; return its id."""
        request = Request(
            f"{self.url}/fixtures",
            json.dumps({"scenario": scenario}).encode(),
            {"Content-Type": "application/json"},
        )
        with build_opener(ProxyHandler({})).open(request) as response:
            return cast("str", json.load(response)["id"])

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@frozen
class Route:
    """The target of a scenario's requests, and the form of URLs there."""

    id: str
    """The scenario's, in the server that replays it."""
    bases: Mapping[str, str] = field(hash=False)
    """The base URL by the host of the recorded exchange."""

    def send(self, call: Call) -> Received:
        return call.send(self.bases[call.host])


@frozen
class Views:
    """How a URL of the replaying server looks to a client of the mirror."""

    direct: Route
    mirrored: Route
    api_url: str
    mirror_url: str

    def url(self, value: str) -> str:
        """Return a URL in a field as the mirror sends it."""
        return self._same_id(value).replace(self.api_url, self.mirror_url)

    def field(self, value: str) -> str:
        """Return any other field as the mirror sends it."""
        return self._same_id(value)

    def content(self, content: bytes, content_type: str) -> bytes:
        """Return content as the mirror sends it: JSON has its URLs at the start of strings."""
        content = content.replace(self.direct.id.encode(), self.mirrored.id.encode())
        if not re.match(r"application/(.*\+)?json\b", content_type):
            return content
        start = re.compile(rb'(?<=")' + re.escape(self.api_url.encode()) + rb"(?=[^\w.:-])")
        return start.sub(self.mirror_url.encode(), content)

    def _same_id(self, value: str) -> str:
        return value.replace(self.direct.id, self.mirrored.id)


def recorded(scenario: str) -> list[Call]:
    """Return the requests of a scenario."""
    text = (RECORDED / scenario / "normalized-fixture.json").read_text()
    return [Call.of(exchange) for exchange in json.loads(text)]


def compare(call: Call, direct: Received, mirrored: Received, views: Views) -> None:
    """Compare a response through the mirror with the direct one."""
    assert direct.status == call.status, direct.content
    assert mirrored.status == direct.status, mirrored.content
    content_type = direct.value("content-type")
    assert mirrored.decoded == views.content(direct.decoded, content_type)
    if mirrored.value("content-encoding"):
        assert "gzip" in call.fields["accept-encoding"]

    apart = FRAMING | ADDED | JUDGED
    rest = [(name, value) for name, value in mirrored.fields if name not in apart]
    assert rest == [
        (name, views.field(value)) for name, value in direct.fields if name not in apart
    ]
    assert all(len(mirrored.values(name)) == 1 for name in ADDED), mirrored.fields

    for name in ("link", "location"):
        assert mirrored.values(name) == [views.url(value) for value in direct.values(name)]
    if (tag := direct.value("etag")) != mirrored.value("etag"):
        assert mirrored.value("etag") == f"W/{tag}"
        assert "accept-encoding" in mirrored.value("vary").lower()
    added = _names(mirrored.value("vary")) - _names(direct.value("vary"))
    assert added <= {"accept-encoding"}
    assert _names(direct.value("vary")) <= _names(mirrored.value("vary"))
    if call.method != "GET" or mirrored.value("cache-control") != "private, no-cache":
        assert mirrored.values("cache-control") == direct.values("cache-control")
    elif call.method == "GET" and direct.status == 200:
        assert "max-age" not in mirrored.value("cache-control")
    for length in mirrored.values("content-length"):
        assert int(length) == len(mirrored.content)


def _names(value: str) -> set[str]:
    return {name.strip().lower() for name in value.split(",") if name.strip()}


def replay(scenario: str, views: Views) -> None:
    """Send each request of a scenario both ways, in the recorded order."""
    for call in recorded(scenario):
        compare(call, views.direct.send(call), views.mirrored.send(call), views)


@pytest.fixture(scope="module")
def server() -> Iterator[FixturesServer]:
    """Start the replaying server."""
    started = FixturesServer()
    yield started
    started.close()


@pytest.fixture(scope="module")
def mirror(server: FixturesServer) -> Iterator[BlockingMirror]:
    """Start a mirror of all that the server replays, api.github.com and its siblings."""
    with BlockingMirror({"github": {"api_url": server.url}}) as started:
        yield started


def test_each_recorded_scenario_is_replayed() -> None:
    """All recorded scenarios are replayed."""
    node("fixtures_server.mjs", "@octokit/fixtures")
    assert {path.name for path in RECORDED.iterdir()} == set(SCENARIOS)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario: str, server: FixturesServer, mirror: BlockingMirror) -> None:
    """A scenario with reads, writes, errors, redirects, uploads and binary content is the same."""
    hosts = {call.host for call in recorded(scenario)}

    def route(base: str) -> Route:
        loaded = server.load(scenario)
        return Route(loaded, {host: f"{base}/{host}/{loaded}" for host in hosts})

    views = Views(route(server.url), route(mirror.url), server.url, mirror.url)
    replay(scenario, views)


@pytest.mark.parametrize("shape", ["", "/api/v3"])
@pytest.mark.parametrize("scenario", ["get-root", "paginate-issues", "rename-repository"])
def test_api_below_a_path(scenario: str, shape: str, server: FixturesServer) -> None:
    """A scenario is the same where the API has a path prefix, as on Enterprise Servers."""
    host = "api.github.com"
    direct, mirrored = server.load(scenario), server.load(scenario)
    api_url = f"{server.url}/{host}/{mirrored}"
    with BlockingMirror({"github": {"api_url": api_url}}) as mirror:
        url = mirror.url + shape
        views = Views(
            Route(direct, {host: f"{server.url}/{host}/{direct}"}),
            Route(mirrored, {host: url}),
            api_url,
            url,
        )
        replay(scenario, views)
