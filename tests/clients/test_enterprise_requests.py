"""Requests as clients of GitHub Enterprise Server send them, byte for byte, have usable responses.

Their fields and paths are those in the sources of the clients. The checks are for the parts of a
response that the clients read.
"""

from __future__ import annotations

from tests.clients.raw_requests import GO, GO_GITHUB, RawRequests

RENOVATE = (
    "user-agent: RenovateBot/39.0.0 (https://github.com/renovatebot/renovate)\r\n"
    "accept: application/vnd.github.v3+json\r\n"
    "authorization: token alice-1\r\n"
    "accept-encoding: gzip, deflate, br\r\n"
)
QUERY = '{"query":"{viewer{login}}"}'


class Requests(RawRequests):
    """Clients of GitHub Enterprise Server."""

    async def test_renovate(self) -> None:
        """Renovate reads the version from HEAD /, and sends GraphQL beside the API."""
        got = await self.seen("HEAD /api/v3/", RENOVATE)
        assert (got.status, got.fields["x-github-enterprise-version"]) == (200, "3.17.0")
        got = await self.seen("GET /api/v3/user", RENOVATE)
        assert got.json["login"] == "alice"
        etag = got.fields["etag"]
        got = await self.seen("GET /api/v3/user", f"{RENOVATE}if-none-match: {etag}\r\n")
        assert (got.status, got.fields["etag"]) == (304, etag)
        fields = f"{RENOVATE}content-type: application/json\r\n"
        got = await self.seen("POST /api/graphql", fields, QUERY)
        assert (got.status, got.fields["x-github-enterprise-version"]) == (200, "3.17.0")

    async def test_terraform(self) -> None:
        """Its provider requests its user or the organisation, with its own entity-tags, and
        GraphQL beside the API.
        """
        for target, name in (("/api/v3/user", "alice"), ("/api/v3/orgs/octo", "octo")):
            got = await self.seen(f"GET {target}", GO_GITHUB + GO)
            assert got.json["login"] == name
            etag = got.fields["etag"]
            got = await self.seen(f"GET {target}", f"{GO_GITHUB}If-None-Match: {etag}\r\n{GO}")
            assert (got.status, got.fields["etag"], got.content) == (304, etag, b"")
        fields = (
            "User-Agent: Go-http-client/1.1\r\nAuthorization: Bearer alice-1\r\n"
            f"Content-Type: application/json\r\n{GO}"
        )
        got = await self.seen("POST /api/graphql", fields, QUERY)
        assert got.json == {"data": {"viewer": {"login": "alice"}}}

    async def test_go_github(self) -> None:
        """go-github finds the version in /meta, follows `Link`, and uploads beside the API."""
        got = await self.seen("GET /api/v3/meta", GO_GITHUB + GO)
        assert got.json["installed_version"] == "3.17.0"
        self.github.put_list("/orgs/octo/repos", [{"id": n} for n in range(1, 4)])
        got = await self.seen("GET /api/v3/orgs/octo/repos?per_page=2", GO_GITHUB + GO)
        assert [each["id"] for each in got.json] == [1, 2]
        link = '<http://mirror.test/api/v3/orgs/octo/repos?per_page=2&page=2>; rel="next"'
        assert link in got.fields["link"]
        path = "/api/uploads/repos/octo/hello/releases/1/assets"
        self.github.put(path, {"id": 9}, method="POST", status=201)
        fields = GO_GITHUB + "Content-Type: application/zip\r\n" + GO
        got = await self.seen(f"POST {path}?name=a+b.zip", fields, "PK")
        assert (got.status, got.json) == (201, {"id": 9})
        (sent,) = self.github.exchanges(path)
        assert sent.target == f"{path}?name=a+b.zip".encode()
        assert (sent.body, sent.field(b"content-type")) == (b"PK", b"application/zip")


del RawRequests  # nothing to run by itself
