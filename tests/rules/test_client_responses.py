"""The rules of responses: which fields and content of GitHub's are changed, and which never."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from ghmirror_tw.caching import validators
from ghmirror_tw.proxy import received_responses
from ghmirror_tw.web import variant_maker
from tests.harness.home import Home, open_home

WHEN = "Mon, 05 Oct 2026 10:00:00 GMT"


class Responses(TestCase):
    """One mirror."""

    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self)
        self.github = self.home.github

    async def test_only_json_is_rewritten(self) -> None:
        """Not raw files, diffs, pages, text or archives, though they look like it."""
        text = f'{{"url":"{self.github.api_url}/thing"}}'.encode()
        for number, content_type in enumerate(
            (
                "text/plain; charset=utf-8",
                "text/html",
                "application/vnd.github.raw+json; charset=utf-8",
                "application/vnd.github.diff; charset=utf-8",
                "application/vnd.github.html+json",
                "application/octet-stream",
                "application/zip",
                "application/jsonp",
            )
        ):
            self.github.put(f"/{number}", text, content_type=content_type)
            for _ in range(2):
                got = await self.home.get(f"/{number}", token="alice-1")
                assert got.content == text, content_type

    async def test_only_members_that_are_urls_are_rewritten(self) -> None:
        """Every other byte of JSON stays: names, text, other hosts, spaces, escapes."""
        api = self.github.api_url
        made = (
            '{ "%s/a" : 1, "url" : "%s/b",\n\t"n": 1.50, "t": "%s/c", "e": "\\u0041\\/",'
            ' "o_url": "%s.evil/d", "p_url": "%s0/e", "w_url": "https://github.com/f",'
            ' "_links": ["%s/g{/h}", "%s"]}'
        )
        self.github.put("/thing", (made % ((api,) * 7)).encode())
        url = self.home.url
        expected = (made % (api, url, api, api, api, url, url)).encode()
        for _ in range(2):
            assert (await self.home.get("/thing", token="alice-1")).content == expected

    async def test_json_of_any_method_and_status_is_rewritten(self) -> None:
        """And so are `Link` and `Location`; other fields are not."""
        api, url = self.github.api_url, self.home.url
        fields = {"X-Odd": f"{api}/odd", "Link": f'<{api}/l>; rel="a", <https://x.test/m>; rel="b"'}
        body = b'{"url":"' + api.encode() + b'/x"}'
        for method, status in (("POST", 201), ("PATCH", 422), ("GET", 404), ("DELETE", 403)):
            content = {"url": f"{api}/thing"}
            self.github.put("/thing", content, status=status, method=method, fields=fields)
            sent = None if method == "GET" else body
            got = await self.home.send(method, "/thing", token="alice-1", body=sent)
            assert (got.status, got.json) == (status, {"url": f"{url}/thing"})
            assert got.field("x-odd") == f"{api}/odd"
            assert got.field("link") == f'<{url}/l>; rel="a", <https://x.test/m>; rel="b"'
        self.github.put_list("/list", [])
        got = await self.home.send("POST", "/api/v3/list", token="alice-1", body=b"{}")
        assert got.field("location") == f"{url}/api/v3/list/1"

    async def test_redirects_are_passed_on_and_never_followed(self) -> None:
        """Neither to the API itself nor elsewhere, for reading or writing."""
        self.github.put("/target", {"a": 1})
        self.github.rename("/old", "/target")
        self.github.redirect("/zip", "/target", 302)
        for method, path, status in (
            ("GET", "/old", 301),
            ("PATCH", "/old", 307),
            ("GET", "/zip", 302),
            ("HEAD", "/zip", 302),
        ):
            got = await self.home.send(method, path, token="alice-1", body=None)
            assert (got.status, got.field("location")) == (status, f"{self.home.url}/target")
        assert self.github.exchanges("/target") == []

    async def test_cache_control_is_replaced_in_storable_responses_only(self) -> None:
        """All others have GitHub's, with any status."""
        output = "private, max-age=60, s-maxage=60"
        self.github.put("/thing", {"a": 1})
        no_store = {"Cache-Control": "no-store"}
        pending: list[tuple[str, str, dict[str, str], str]] = [
            ("GET", "/thing", {}, "private, no-cache"),
            ("GET", "/thing", {}, "private, no-cache"),
            ("HEAD", "/thing", {}, "private, no-cache"),
            ("GET", "/nowhere", {}, "private, no-cache"),
            ("GET", "/thing", no_store, output),
            ("POST", "/thing", {}, output),
            ("GET", "/rate_limit", {}, "no-cache"),
        ]
        for method, target, headers, expected in pending:
            body = b"{}" if method == "POST" else None
            got = await self.home.send(method, target, token="alice-1", headers=headers, body=body)
            assert got.field("cache-control") == expected, (method, target)

    async def test_changed_content_has_a_weak_tag(self) -> None:
        """A weak tag of the same hex, `Vary: Accept-Encoding`, no ranges; else all is GitHub's."""
        fields = {"Accept-Ranges": "bytes"}
        self.github.put("/url", {"url": f"{self.github.api_url}/x"}, fields=fields)
        binary = "application/octet-stream"
        self.github.put("/raw", b"x" * 50, content_type=binary, fields=fields)
        gzip = {"Accept-Encoding": "gzip"}
        for target, headers, changed in (
            ("/url", {}, True),
            ("/url", gzip, True),
            ("/raw", {}, False),
            ("/raw", gzip, True),
        ):
            content: Any = {"url": f"{self.github.api_url}/x"} if target == "/url" else b"x" * 50
            tag = self.github.tag(content, authorization=b"token alice-1").decode()
            for method in ("GET", "GET", "HEAD"):
                got = await self.home.send(method, target, token="alice-1", headers=headers)
                assert got.field("etag") == ("W/" if changed else "") + tag, (target, headers)
                assert "accept-encoding" in (got.field("vary") or "").lower()
                assert (got.field("accept-ranges") is None) is changed or method == "HEAD"

    async def test_if_modified_since_is_evaluated(self) -> None:
        """Against the current representation, and only where it sends no tag."""
        self.github.put("/thing", {"a": 1}, last_modified=WHEN)
        await self.home.get("/thing", token="alice-1")
        since = {"If-Modified-Since": WHEN}
        for headers, status in (
            (since, 304),
            ({"If-Modified-Since": WHEN.replace("05", "04")}, 200),
            ({**since, "If-None-Match": '"other"'}, 200),
        ):
            for _ in range(2):
                got = await self.home.get("/thing", token="alice-1", headers=headers)
                assert got.status == status, headers
                assert self.github.log[-1].field(b"if-modified-since") is None

    async def test_requests_are_forwarded_with_their_own_fields_and_no_others(self) -> None:
        """Storable requests with a canonical set; none with what names another host or client."""
        sent: dict[str, str | list[str]] = {
            "X-One": ["1", "2"],
            "X-Forwarded-For": "10.1.2.3",
            "Prefer": "a=b",
        }
        for method in ("GET", "POST", "DELETE"):
            for headers in ({}, sent):
                await self.home.send(method, "/x", token="alice-1", headers=headers, body=None)
                got = {name.lower() for name, _ in self.github.log[-1].fields}
                plain = {b"host", b"user-agent", b"authorization", b"via", b"accept-encoding"}
                extra = got - plain - {b"connection", b"content-length"}
                if method == "GET":
                    assert extra <= {b"if-none-match"}
                else:
                    assert extra == ({b"x-one", b"prefer"} if headers else set())
        assert self.github.log[-1].field(b"x-one") == b"1, 2"

    async def test_agents_are_spelled_differently_on_storable_gets_only(self) -> None:
        """GitHub indents for them, so that the content would not be what its tag covers."""
        self.github.put("/thing", {"a": 1})
        agent = {"User-Agent": "curl/8.0 Firefox Wget Safari"}
        got = await self.home.get("/thing", token="alice-1", headers=agent)
        assert got.content == b'{\n  "a": 1\n}\n'
        spelt = self.github.log[-1].field(b"user-agent") or b""
        assert len(spelt) > 10
        assert not any(name in spelt for name in (b"curl", b"Firefox", b"Wget", b"Safari"))
        for method, headers in (("POST", {}), ("GET", {"Cache-Control": "no-store"})):
            both = {**agent, **headers}
            await self.home.send(method, "/thing", token="alice-1", headers=both, body=None)
            assert self.github.log[-1].field(b"user-agent") == agent["User-Agent"].encode()

    async def test_large_content_is_converted_in_threads(self) -> None:
        """More than 256 kB is never packed, rewritten or hashed in one go in the reactor."""
        seen: list[tuple[str, bool]] = []

        def watch(where: Any, name: str) -> None:
            work: Callable[..., Any] = getattr(where, name)

            def watched(*args: Any, **kwargs: Any) -> Any:
                seen.append((name, threading.current_thread() is threading.main_thread()))
                return work(*args, **kwargs)

            self.patch(where, name, watched)

        for where, name in (
            (received_responses, "representation_of"),
            (validators, "computed_tag"),
            (variant_maker, "compress"),
            (variant_maker, "_plain"),
            (variant_maker, "is_changed_by"),
            (variant_maker, "compressor"),
        ):
            watch(where, name)
        small, large = {"compress", "_plain"}, {"is_changed_by", "compressor"}
        for path, size, in_reactor, made in (
            ("/small", 1000, True, small),
            ("/large", 300_000, False, large),
        ):
            self.github.put(path, {"url": f"{self.github.api_url}/x", "text": "x" * size})
            seen.clear()
            for token in ("alice-1", "bob-1"):
                for headers in ({}, {"Accept-Encoding": "gzip"}):
                    await self.home.get(path, token=token, headers=headers)
            assert {name for name, _ in seen} == {"representation_of", "computed_tag"} | made
            assert {where for _, where in seen} == {in_reactor}, path

    async def broken(self, home: Home, target: str, headers: bytes = b"") -> bytes | Exception:
        """Send a request over a new connection; return all received data, or the error."""
        line = b"GET %s HTTP/1.1\r\nHost: x\r\nUser-Agent: t\r\n%s" % (target.encode(), headers)
        pending = Deferred.fromCoroutine(
            home.raw(line + b"Authorization: token alice-1\r\nConnection: close\r\n\r\n")
        )
        try:
            return await pending
        except Exception as error:
            return error

    async def test_broken_content_never_ends_as_complete(self) -> None:
        """After the first byte the connection is aborted, also with changed content."""
        home = await open_home(self, self.github, cache={"max_stored_size": 1000})
        big = [{"url": f"{self.github.api_url}/{number}"} for number in range(100_000)]
        self.github.put("/json", big)
        self.github.put("/raw", b"x" * 3_000_000, content_type="application/octet-stream")
        for chunked in (False, True):
            self.github.chunked = chunked
            for target in ("/json", "/raw"):
                for headers in (b"", b"Accept-Encoding: gzip\r\n"):
                    for kind in ("reset-in-content", "truncated"):
                        fault = self.github.fault(target, kind)
                        got = await self.broken(home, target, headers)
                        fault.end()
                        assert isinstance(got, Exception), (chunked, target, headers, kind)
                        assert "aborted" in str(got) or "lost" in str(got), got

    async def test_no_client_receives_a_traceback(self) -> None:
        """An error of the mirror itself is JSON like GitHub's, without details of the error."""

        def fail(*_: object, **__: object) -> None:
            raise ValueError("a secret")

        self.patch(type(self.home.parts.store), "look_up", fail)
        got = await self.home.get("/thing", token="alice-1")
        assert (got.status, set(got.json)) == (500, {"message", "documentation_url", "status"})
        assert got.outcome == "detail=internal"
        for word in (b"Traceback", b"ValueError", b"secret", b".py"):
            assert word not in got.content
        assert len(self.flushLoggedErrors(ValueError)) == 1
