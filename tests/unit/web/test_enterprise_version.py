"""Responses below /api/v3, where the mirror resembles GitHub Enterprise Server."""

from __future__ import annotations

import gzip
import re
from typing import Any

from twisted.trial.unittest import TestCase

from tests.fakes.github import JSON
from tests.harness.home import Home, Received, open_home

VERSION = "3.17.0"
FIELD = "X-GitHub-Enterprise-Version"


class Enterprise(TestCase):
    """A mirror that is configured as version 3.17.0."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home: Home = await open_home(self, server={"enterprise_version": VERSION})
        self.github = self.home.github

    async def meta(self, method: str = "GET", prefix: str = "/api/v3", **headers: str) -> Received:
        """Return the response to GET /meta."""
        fields: dict[str, Any] = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.home.send(method, f"{prefix}/meta", token="alice-1", headers=fields)

    async def test_version_field_is_sent_below_the_prefix_only(self) -> None:
        """With errors, too."""
        self.github.put("/list", [{"a": 1}])
        for method, target, status in (
            ("GET", "/api/v3/list", 200),
            ("GET", "/api/v3/list", 200),
            ("HEAD", "/api/v3/", 200),
            ("GET", "/api/v3", 200),
            ("GET", "/api/v3/nothing", 404),
            ("POST", "/api/v3/list", 201),
            ("POST", "/api/graphql", 200),
            ("BREW", "/api/v3/list", 501),
        ):
            body = b'{"query": "{viewer{login}}"}' if method == "POST" else None
            got = await self.home.send(method, target, token="alice-1", body=body)
            assert (got.status, got.field(FIELD)) == (status, VERSION), (method, target)
            bare = target.replace("/api/v3", "").replace("/api/", "/") or "/"
            got = await self.home.send(method, bare, token="alice-1", body=body)
            assert (got.status, got.field(FIELD)) == (status, None), (method, bare)

    async def test_configured_version_replaces_that_of_the_origin(self) -> None:
        """Also where the origin is an Enterprise Server."""
        self.github.put("/meta", {"installed_version": "2.1.0"}, fields={FIELD: "2.1.0"})
        for _ in range(2):
            got = await self.meta()
            assert got.json == {"installed_version": VERSION}
            assert got.field(FIELD) == VERSION
            got = await self.meta(prefix="")
            assert got.json == {"installed_version": "2.1.0"}

    async def test_meta_has_the_version(self) -> None:
        """In both codings, from GitHub and from the store."""
        plain = (await self.meta(prefix="")).json
        assert "installed_version" not in plain
        for _ in range(2):
            for coding in ("gzip", "identity"):
                got = await self.meta(Accept_Encoding=coding)
                assert got.json == {**plain, "installed_version": VERSION}
                assert "revalidated" in got.outcome
                assert got.field("content-encoding") == (coding if coding == "gzip" else None)
                assert await self.length(coding) == len(got.content)
        assert self.github.paid["alice", "/meta"] == 1

    async def length(self, coding: str, more: str = "") -> int:
        """Return the only Content-Length of a response, which is that of its content."""
        got = await self.home.raw(
            f"GET /api/v3/meta HTTP/1.1\r\nHost: a\r\nUser-Agent: a\r\nConnection: close\r\n{more}"
            f"Authorization: token alice-1\r\nAccept-Encoding: {coding}\r\n\r\n".encode()
        )
        head, _, content = got.partition(b"\r\n\r\n")
        (length,) = re.findall(rb"(?i)\ncontent-length: ([0-9]+)", head)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert int(length) == len(content), got
        return int(length)

    async def test_versioned_content_has_a_tag_of_its_own(self) -> None:
        """It is weak, and differs from GitHub's and from those of other versions."""
        tags = {(await self.meta(prefix="")).field("etag"), (await self.meta()).field("etag")}
        tags.add((await self.meta(Accept_Encoding="gzip")).field("etag"))
        assert len(tags) == 2
        self.home.parts.resource.enterprise_version = b"3.18.0"
        tags.add((await self.meta()).field("etag"))
        assert len(tags) == 3
        assert all(tag and tag.startswith('W/"') for tag in tags)

    async def test_tag_of_versioned_content_gets_a_304(self) -> None:
        """GitHub's own tag does not."""
        bare, first = await self.meta(prefix=""), await self.meta()
        mine, theirs = first.field("etag"), bare.field("etag")
        assert mine is not None
        assert theirs is not None
        for method in ("GET", "HEAD"):
            for coding in ("gzip", "identity"):
                got = await self.meta(method, If_None_Match=mine, Accept_Encoding=coding)
                assert (got.status, got.content) == (304, b"")
                assert (got.field("etag"), got.field(FIELD)) == (mine, VERSION)
                got = await self.meta(method, If_None_Match=theirs, Accept_Encoding=coding)
                assert (got.status, got.field("etag")) == (200, mine)
        assert (await self.meta(prefix="", If_None_Match=mine)).status == 200
        assert (await self.meta(prefix="", If_None_Match=theirs)).status == 304
        assert (await self.meta(If_None_Match=f'"x", {mine}')).status == 304
        self.home.parts.resource.enterprise_version = b"3.18.0"
        assert (await self.meta(If_None_Match=mine)).status == 200

    async def test_preconditions_are_not_forwarded(self) -> None:
        """The mirror evaluates them against its own tag."""
        tag = (await self.meta(prefix="", Cache_Control="no-store")).field("etag")
        assert tag is not None
        got = await self.meta(If_None_Match=tag)
        assert (got.status, got.json["installed_version"]) == (200, VERSION)
        (sent,) = [each for each in self.github.exchanges("/meta")[1:] if each.method == b"GET"]
        assert tag.encode() not in (sent.field(b"If-None-Match") or b"")

    async def test_dates_are_not_evaluated(self) -> None:
        """The date does not cover the version."""
        date = "Wed, 01 Jan 2025 00:00:00 GMT"
        self.github.put("/meta", {"a": 1}, last_modified=date)
        for _ in range(2):
            got = await self.meta(If_Modified_Since=date)
            assert (got.status, got.field("last-modified")) == (200, None)
            assert got.json == {"a": 1, "installed_version": VERSION}

    async def test_head_has_the_fields_of_get(self) -> None:
        """Without content, stored or not."""
        for _ in range(2):
            head = await self.meta("HEAD")
            got = await self.meta()
            assert (head.status, head.content) == (200, b"")
            for name in ("etag", "content-type", FIELD):
                assert head.field(name) == got.field(name), name

    async def test_passthrough_content_has_the_version(self) -> None:
        """In any coding."""
        for coding in ("gzip", "identity"):
            for headers in ({"X_GitHub_OTP": "123456"}, {"Cache_Control": "no-store"}):
                got = await self.meta(Accept_Encoding=coding, **headers)
                assert got.json["installed_version"] == VERSION
                assert got.outcome.startswith("fwd=bypass")
                length = await self.length(coding, more="X-GitHub-OTP: 1\r\n")
                assert length == len(got.content)

    async def test_stale_content_has_the_version(self) -> None:
        """While GitHub is unavailable."""
        await self.meta()
        await self.github.go_away()
        got = await self.meta()
        assert "connect-error" in got.outcome
        assert got.json["installed_version"] == VERSION

    async def test_other_content_is_unchanged(self) -> None:
        """A list, text that is no JSON, and an error."""
        for content, content_type in (([1], JSON), (b"{", JSON), (b"{}", "text/plain")):
            self.github.put("/meta", content, content_type=content_type)
            for _ in range(2):
                assert (await self.meta()).plain == (await self.meta(prefix="")).plain
        self.github.delete("/meta")
        got = await self.meta()
        assert (got.status, set(got.json)) == (404, {"message", "documentation_url", "status"})

    async def test_large_content_is_streamed_unchanged(self) -> None:
        """No /meta is as large."""
        self.github.gzip = False
        self.github.put("/meta", {"a": "x" * (9 * 1024 * 1024)})
        got = await self.meta(Accept_Encoding="identity")
        assert (got.status, list(got.json)) == (200, ["a"])

    async def test_without_a_version_nothing_is_added(self) -> None:
        """In either shape."""
        home = await open_home(self, self.github)
        bare = await home.get("/meta", token="alice-1")
        got = await home.get("/api/v3/meta", token="alice-1")
        assert got.content == bare.content
        assert got.field(FIELD) is None


class Uploads(TestCase):
    """Requests of clients of GitHub Enterprise Server to /api/uploads."""

    async def test_upload_urls_lead_to_the_mirror(self) -> None:
        """In every shape; uploads reach GitHub whole, with their credential."""
        home = await open_home(self)
        github = home.github
        api_url = f"{github.api_url}/api/v3"
        uploads = f"{github.api_url}/api/uploads"
        home = await open_home(self, github, github={"api_url": api_url})
        path = "/repos/o/r/releases/1"
        release = {"url": api_url + path, "upload_url": f"{uploads}{path}/assets{{?name,label}}"}
        github.put(f"/api/v3{path}", {**release, "text": f"see {uploads}"})
        github.put(f"/api/v3{path}/huge", {**release, "text": "x" * 9_000_000})
        github.put(
            f"/api/uploads{path}/assets",
            {"url": f"{api_url}{path}/assets/7"},
            method="POST",
            status=201,
        )
        for target in (f"{path}", f"{path}/huge"):
            for coding in ("gzip", "identity"):
                got = await home.get(
                    f"/api/v3{target}", token="alice-1", headers={"Accept-Encoding": coding}
                )
                seen = got.json
                assert seen["url"] == f"{home.url}/api/v3{path}"
                upload_url = f"{home.url}/api/uploads{path}/assets{{?name,label}}"
                assert seen["upload_url"] == upload_url
                assert seen["text"] in (f"see {uploads}", "x" * 9_000_000)
            bare = (await home.get(target, token="alice-1")).json
            assert bare["url"] == home.url + path
            assert bare["upload_url"] == upload_url
        content = gzip.compress(b"x" * 300_000, mtime=0)
        got = await home.send(
            "POST",
            f"/api/uploads{path}/assets?name=a.gz&label=",
            token="alice-1",
            headers={"Content-Type": "application/gzip"},
            body=content,
        )
        assert (got.status, got.json) == (201, {"url": f"{home.url}/api/v3{path}/assets/7"})
        sent = github.exchanges(f"/api/uploads{path}/assets?name=a.gz&label=")[-1]
        assert sent.login == "alice"
        assert sent.field(b"content-length") == str(len(content)).encode()
        assert sent.body == content[: len(sent.body)]
        assert sent.body

    async def test_mirror_in_front_of_a_mirror(self) -> None:
        """Uploads are forwarded through both."""
        home = await open_home(self)
        github = home.github
        github.put("/api/uploads/x", {"a": 1}, method="POST", status=201)
        outer = await open_home(self, github, github={"api_url": home.url})
        got = await outer.send("POST", "/api/uploads/x", token="alice-1", body=b"{}")
        assert (got.status, got.json) == (201, {"a": 1})
