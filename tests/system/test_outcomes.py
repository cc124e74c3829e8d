"""A test for each row of the table of outcomes, and for the fields of such a response."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from ghmirror_tw.store.memory_records_by_name import NamedRecords
from ghmirror_tw.store.record_kinds import REPRESENTATION
from tests.harness.home import Home, open_home, start

LIVE = "x-ratelimit-remaining"


class Outcomes(TestCase):
    """Each outcome as a client sees it."""

    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self)
        self.github = self.home.github
        self.github.put("/thing", {"a": 1}, last_modified="Mon, 05 Oct 2026 10:00:00 GMT")

    async def outcome(self, target: str, token: str, **more: str) -> tuple[int, str, str | None]:
        """Send a request, and return status, outcome and `X-Cache`."""
        got = await self.home.get(target, token=token, headers=more)
        assert (got.field(LIVE) is None) is ("hit" in got.outcome)
        return got.status, got.outcome, got.field("x-cache")

    async def test_miss(self) -> None:
        """A 200 for an unknown key is a miss."""
        result = await self.outcome("/thing", "alice-1")
        assert result == (200, "fwd=uri-miss; fwd-status=200; stored", "MISS")

    async def test_revalidated(self) -> None:
        """A 304 to the credential's own validator is revalidated."""
        await self.outcome("/thing", "alice-1")
        result = await self.outcome("/thing", "alice-1")
        assert result == (200, "fwd=stale; fwd-status=304; detail=revalidated", "HIT")

    async def test_shared(self) -> None:
        """A 304 to a computed tag is shared."""
        await self.outcome("/thing", "alice-1")
        result = await self.outcome("/thing", "bob-1")
        assert result == (200, "fwd=vary-miss; fwd-status=304; detail=shared", "HIT")

    async def test_empty(self) -> None:
        """A 304 to the tag of `[]` is empty."""
        self.github.put("/none", [])
        result = await self.outcome("/none", "alice-1")
        assert result == (200, "fwd=uri-miss; fwd-status=304; detail=empty", "HIT")

    async def test_no_cache_prevents_the_guess_of_an_empty_list(self) -> None:
        """A client's `no-cache` prevents the guess, and is charged."""
        self.github.put("/none", [])
        result = await self.outcome("/none", "alice-1", **{"Cache-Control": "no-cache"})
        assert result == (200, "fwd=uri-miss; fwd-status=200; stored", "MISS")

    async def test_changed(self) -> None:
        """A 200 that differs from all known content is changed."""
        await self.outcome("/thing", "alice-1")
        self.github.put("/thing", {"a": 2})
        result = await self.outcome("/thing", "alice-1")
        assert result == (200, "fwd=stale; fwd-status=200; stored; detail=changed", "MISS")

    async def test_negative(self) -> None:
        """A 404 is repeated to the same credential within `negative_for`."""
        home = await open_home(self, cache={"negative_for": 60.0})
        for outcome in ("fwd=uri-miss; fwd-status=404", "hit; detail=negative"):
            got = await home.get("/nowhere", token="alice-1")
            assert (got.status, got.outcome) == (404, outcome)
            assert got.field("x-cache") == ("HIT" if "hit" in outcome else "MISS")
        requests = "ghmirror_requests_total"
        labels = '{method="GET",outcome="negative",status="404"}'
        assert await home.metric(requests + labels) == 1
        assert await home.metric('ghmirror_quota_saved_total{user="unknown"}') == 1

    async def test_pass(self) -> None:
        """Another method, a reason of the client, or an unstorable response is a pass."""
        got = await self.home.send("DELETE", "/thing", token="alice-1")
        assert (got.outcome, got.field("x-cache")) == ("fwd=method", "MISS")
        result = await self.outcome("/thing", "alice-1", **{"Cache-Control": "no-store"})
        assert result[1:] == ("fwd=bypass", "MISS")
        result = await self.outcome("/nowhere", "alice-1")
        assert result == (404, "fwd=uri-miss; fwd-status=404", "MISS")

    async def test_x_cache_mode_has_the_modes_of_ghproxy(self) -> None:
        """`X-Cache-Mode` shows Prow which responses were free of charge."""
        waiting = self.github.hold("/thing")
        both = [start(self.home.get("/thing", token="alice-1")) for _ in range(2)]
        await waiting.arrived()
        waiting.open()
        modes = [(await each).field("x-cache-mode") for each in both]
        assert sorted(map(str, modes)) == ["COALESCED", "MISS"]
        for target, more, mode in (
            ("/thing", {}, "REVALIDATED"),
            ("/thing", {"Cache-Control": "no-store"}, "SKIP"),
            ("/nowhere", {}, "NO-STORE"),
        ):
            got = await self.home.get(target, token="alice-1", headers=more)
            assert got.field("x-cache-mode") == mode
        self.github.put("/thing", {"a": 2})
        got = await self.home.get("/thing", token="alice-1")
        assert got.field("x-cache-mode") == "CHANGED"
        got = await self.home.send("POST", "/thing", token="alice-1", body=b"{}")
        assert got.field("x-cache-mode") == "SKIP"

    async def test_error(self) -> None:
        """The mirror's own response has the reason."""
        self.github.fault("/thing", "reset")
        got = await self.home.get("/thing", token="alice-1")
        assert (got.status, got.outcome) == (502, "detail=broken-answer")

    async def test_server_error_without_stale_response_is_forwarded(self) -> None:
        """Without a stale response GitHub's server error is forwarded."""
        self.github.fault("/thing", "502")
        got = await self.home.get("/thing", token="alice-1")
        assert (got.status, got.outcome) == (502, "fwd=uri-miss; fwd-status=502")

    async def test_date_is_sent_only_without_a_tag(self) -> None:
        """`If-Modified-Since` has the date of a grant without entity-tag, and of nothing else."""
        self.github.put(
            "/dated", {"a": 1}, etag=False, last_modified="Mon, 05 Oct 2026 10:00:00 GMT"
        )
        for path, tag, date in (("/thing", True, False), ("/dated", False, True)):
            await self.outcome(path, "alice-1")
            result = await self.outcome(path, "alice-1")
            assert result[1].endswith("detail=revalidated" if tag else "detail=dated")
            exchange = self.github.exchanges(path)[-1]
            assert (exchange.field(b"if-none-match") is not None) is tag
            assert (exchange.field(b"if-modified-since") is not None) is date

    async def test_date_is_never_sent_for_another_credential(self) -> None:
        """Each credential is charged for a representation without entity-tag."""
        self.github.put(
            "/dated", {"a": 1}, etag=False, last_modified="Mon, 05 Oct 2026 10:00:00 GMT"
        )
        await self.outcome("/dated", "alice-1")
        await self.outcome("/dated", "bob-1")
        assert self.github.paid["bob", "/dated"] == 1

    async def test_fields_of_a_credential_are_not_shared(self) -> None:
        """Scopes and limits of a shared response are from the 304 of the client's credential."""
        self.github.user("poor", tokens=["poor-1"], scopes="gist", limit=77)
        await self.outcome("/thing", "alice-1")
        got = await self.home.get("/thing", token="poor-1")
        assert got.outcome.endswith("detail=shared")
        assert (got.field("x-oauth-scopes"), got.field("x-ratelimit-limit")) == ("gist", "77")

    async def test_each_credential_is_charged_without_sharing(self) -> None:
        """With `share = no` no response is validated for another credential."""
        alone = await open_home(self, self.github, cache={"share": False})
        for token in ("alice-1", "bob-1", "bob-1"):
            await alone.get("/thing", token=token)
        assert self.github.total_paid == 2
        assert await alone.metric("ghmirror_sharing_enabled") == 0.0

    async def test_unstorable_response_is_requested_each_time(self) -> None:
        """Requests for unstorable responses are sent each time, and never collapsed."""
        for kind in ("no-store", "no-etag"):
            self.github.put("/odd", {"a": 1})
            fault = self.github.fault("/odd", kind)
            for _ in range(2):
                result = await self.outcome("/odd", "alice-1")
                assert result == (200, "fwd=uri-miss; fwd-status=200", "MISS"), kind
            fault.end()

    async def test_lost_representation_is_requested_without_validators(self) -> None:
        """A grant without its representation validates nothing."""
        await self.outcome("/thing", "alice-1")
        store = self.home.parts.store
        records = NamedRecords(store.records)
        for name in [n for n in records.names() if n.kind is REPRESENTATION]:
            records.remove(name)
        result = await self.outcome("/thing", "alice-1")
        assert result == (200, "fwd=stale; fwd-status=200; stored; detail=changed", "MISS")

    async def test_304_without_tag_is_followed_by_a_request_with_one_tag(self) -> None:
        """A 304 to several tags is resolved by a second request; content is never guessed."""
        await self.outcome("/thing", "alice-1")
        self.github.put("/thing", {"a": 2})
        await self.outcome("/thing", "bob-1")
        self.github.tag_in_304 = False
        for token, content in (("carol-1", 2), ("alice-1", 2)):
            got = await self.home.get("/thing", token=token)
            assert got.json == {"a": content}
