"""The rules of validators: what a 304 confirms, what a date means, and what ends a grant."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from tests.harness.home import Home, open_home

WHEN = "Mon, 05 Oct 2026 10:00:00 GMT"
LATER = "Tue, 06 Oct 2026 10:00:00 GMT"
STALE = "fwd=stale; fwd-status=503; detail=server-error"
RAW = "https://raw.githubusercontent.com/o/r/main/a"


class Validators(TestCase):
    """One replica."""

    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self)
        self.github = self.home.github
        self.github.put("/thing", {"a": 1})

    async def outcome(self, token: str = "alice-1") -> str:
        return (await self.home.get("/thing", token=token)).outcome.rpartition("detail=")[2]

    async def test_status_fields_describe_one_message(self) -> None:
        """A 200 from the store has none of the 304's, and a 304 to a client none of a 200's."""
        self.github.status_field = True
        first = await self.home.get("/thing", token="alice-1")
        assert (first.status, first.field("status")) == (200, "200 OK")
        for token in ("alice-1", "bob-1"):
            got = await self.home.get("/thing", token=token)
            assert (got.status, got.field("status")) == (200, None), token
        self.github.fault("/thing", "503", times=1)
        got = await self.home.get("/thing", token="alice-1")
        assert (got.outcome, got.field("status")) == (STALE, None)
        self.github.put("/thing", {"a": 2})
        tag = self.github.tag({"a": 2}, authorization=b"token alice-1").decode()
        got = await self.home.get("/thing", token="alice-1", headers={"If-None-Match": tag})
        assert (got.status, got.field("status")) == (304, None)
        got = await self.home.get("/nowhere", token="alice-1")
        assert (got.status, got.field("status")) == (404, "404 Not Found")

    async def test_confirmations_by_date_are_counted(self) -> None:
        """Such responses may be old in what changes without a date."""
        home = await open_home(self, self.github, cache={"validate_by_date": ("/dated/*",)})
        self.github.put("/dated/latest", {"downloads": 1}, last_modified=WHEN)
        self.github.put("/thing", {"a": 1}, last_modified=WHEN)
        for target in ("/dated/latest", "/thing"):
            for _ in range(3):
                assert (await home.get(target, token="alice-1")).status == 200
        assert await home.metric("ghmirror_dated_total") == 2.0

    async def test_if_modified_since_applies_with_a_grant(self) -> None:
        """A client that was only ever refused has nothing that could be unmodified."""
        since = {"If-Modified-Since": LATER}
        self.github.put("/thing", {"a": 1}, last_modified=WHEN, private_to={"bob"})
        await self.home.get("/thing", token="bob-1")
        assert (await self.home.get("/thing", token="alice-1")).status == 404
        self.github.put("/thing", {"a": 1}, last_modified=WHEN)
        for status in (200, 304):
            got = await self.home.get("/thing", token="alice-1", headers=since)
            assert got.status == status
        # shared with what bob was granted, and new to all
        assert (await self.home.get("/thing", token="carol-1", headers=since)).status == 200
        self.github.put("/new", {"a": 1}, last_modified=WHEN)
        for status in (200, 304):
            got = await self.home.get("/new", token="alice-1", headers=since)
            assert got.status == status
        self.github.fault("/new", "503")
        got = await self.home.get("/new", token="alice-1", headers=since)
        assert (got.status, got.outcome) == (304, STALE)

    async def test_304_with_another_tag_confirms_the_only_validator(self) -> None:
        """Its tag is the grant's from then on."""
        await self.home.get("/thing", token="alice-1")
        self.github.reset_counts()
        self.github.tag_in_304 = "ab" * 32
        got = await self.home.get("/thing", token="alice-1")
        assert (got.status, got.json, got.field("etag")) == (200, {"a": 1}, f'W/"{"ab" * 32}"')
        assert len(self.github.log) == 1
        assert self.github.total_paid == 0
        await self.home.get("/thing", token="alice-1")
        assert self.github.log[-1].field(b"if-none-match") == f'W/"{"ab" * 32}"'.encode()

    async def test_304_with_another_tag_is_unclear_for_several_validators(self) -> None:
        """It is uncertain which one it confirms: the request is repeated with the first."""
        for number, token in enumerate(("alice-1", "bob-1")):
            self.github.put("/thing", {"a": number})
            await self.home.get("/thing", token=token)
        self.github.reset_counts()
        self.github.log.clear()
        self.github.tag_in_304 = "ab" * 32
        got = await self.home.get("/thing", token="carol-1")
        sent = [(each.field(b"if-none-match") or b"").count(b'"') // 2 for each in self.github.log]
        assert sent == [2, 1]
        assert (got.json, self.github.total_paid) == ({"a": 1}, 0)
        # the received tag is not the computed one: it proves nothing for others
        assert "ab" * 32 in (got.field("etag") or "")

    async def test_urls_with_tokens_are_stored_only_if_the_tag_covers_them(self) -> None:
        """Else a 304 would confirm a token that has ended."""
        for etag, name, query, stored in (
            ("cd" * 32, "download_url", "?token=ABC", False),
            ("cd" * 32, "download_url", "?a=1&token=ABC", False),
            ("cd" * 32, "download_url", "", True),
            ("cd" * 32, "body", " see ?token=ABC", True),
            (True, "download_url", "?token=ABC", True),
        ):
            case = (etag, name, query)
            value = f"{RAW}{query}" if name == "download_url" else f"text {RAW}{query}"
            path = f"/{name}/{len(query)}/{etag}"
            self.github.put(path, [{"name": "a", name: value}], etag=etag)
            assert (await self.home.get(path, token="alice-1")).status == 200
            got = await self.home.get(path, token="alice-1")
            assert got.json[0][name] == value
            assert got.outcome.endswith("revalidated") is stored, case

    async def test_response_that_does_not_confirm_ends_the_grant(self) -> None:
        """No stale response is made of what was granted before a redirect, a 409, a 204 …"""
        cases: list[dict[str, Any]] = [
            {"status": 301, "content": {}},
            {"status": 409, "content": {}},
            {"status": 422, "content": {}},
            {"status": 202, "content": {}},
            {"status": 204, "content": b""},
            {"status": 400, "content": {}},
            {"content": {"a": 3}, "etag": False},
            {"content": {"a": 3}, "cache_control": "no-store"},
        ]
        for case in cases:
            self.github.put("/thing", {"a": 1})
            assert (await self.home.get("/thing", token="alice-1")).status == 200, case
            self.github.put("/thing", **case)
            assert (await self.home.get("/thing", token="alice-1")).outcome.startswith("fwd="), case
            wrong = self.github.fault("/thing", "503")
            assert (await self.home.get("/thing", token="alice-1")).status == 503, case
            wrong.end()
            self.github.put("/thing", {"a": 1})
            self.github.reset_counts()
            # what was granted is still a candidate
            assert await self.outcome() == "shared", case
            assert self.github.total_paid == 0, case

    async def test_response_too_large_to_store_ends_the_grant(self) -> None:
        """The credential has a representation other than the granted one."""
        self.home = await open_home(self, self.github, cache={"max_stored_size": 1000})
        await self.home.get("/thing", token="alice-1")
        self.github.put("/thing", {"text": "".join(map(str, range(10_000)))})
        await self.home.get("/thing", token="alice-1")
        self.github.fault("/thing", "503")
        assert (await self.home.get("/thing", token="alice-1")).status == 503

    async def test_failures_and_head_end_no_grant(self) -> None:
        """A 5xx does not concern the resource, and a HEAD has no content that could replace it."""
        await self.home.get("/thing", token="alice-1")
        for kind in ("500", "truncated"):
            self.github.put("/thing", {"a": 1})
            wrong = self.github.fault("/thing", kind, times=1)
            await self.home.get("/thing", token="alice-1", headers={"Cache-Control": "no-cache"})
            wrong.end()
        self.github.put("/thing", {"a": 2})
        await self.home.send("HEAD", "/thing", token="alice-1")
        self.github.fault("/thing", "503")
        assert (await self.home.get("/thing", token="alice-1")).outcome == STALE

    async def test_no_cache_sends_no_tag_of_an_empty_list(self) -> None:
        """And so does everything that is not GitHub's word on the very request."""
        self.github.put_list("/list", [])
        no_cache = {"Cache-Control": "no-cache"}
        await self.home.get("/list", token="alice-1", headers=no_cache)
        assert self.github.log[-1].field(b"if-none-match") is None
        got = await self.home.get("/list", token="alice-1", headers=no_cache)
        assert got.outcome.endswith("fwd-status=304; detail=revalidated")
