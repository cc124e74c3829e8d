"""The rules of what is storable: what passes by, HEAD, `no-cache`, and what may be stored."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from ghmirror_tw.store.memory_records_by_name import NamedRecords
from ghmirror_tw.store.record_kinds import EPOCH, REFUSAL
from tests.harness.home import Home, open_home, reactor

NO_CACHE = {"Cache-Control": "no-cache"}
WHEN = "Mon, 05 Oct 2026 10:00:00 GMT"


class Uncertain(Protocol):
    """A server whose responses end with the connection, which may also have been cut."""

    def dataReceived(self, data: bytes) -> None:
        """Respond, and close."""
        assert self.transport is not None
        self.transport.write(b'HTTP/1.1 200 OK\r\nETag: "a"\r\nConnection: close\r\n\r\nhalf of i')
        self.transport.loseConnection()


class Storable(TestCase):
    """One mirror."""

    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self)
        self.github = self.home.github
        self.github.put("/thing", {"a": 1}, last_modified=WHEN)

    def remembered(self) -> list[Any]:
        """Return all records but refusals and epochs, as they are now."""
        records = NamedRecords(self.home.parts.store.records)
        return sorted(
            (name.encode(), repr(records.peek(name)))
            for name in records.names()
            if name.kind not in (REFUSAL, EPOCH)
        )

    async def test_cookies_are_not_forwarded(self) -> None:
        """Neither to GitHub nor back, and with one a request is what it is without."""
        self.github.put("/thing", {"a": 1}, fields={"Set-Cookie": "session=1"})
        for method, token, cookies, outcome in (
            ("GET", "alice-1", "a=b", "stored"),
            ("GET", "alice-1", "a=c", "detail=revalidated"),
            ("GET", "bob-1", ["a=d", "e=f"], "detail=shared"),
            ("HEAD", "alice-1", "a=b", "detail=revalidated"),
            ("PATCH", "alice-1", "a=b", "fwd=method"),
        ):
            headers = {"Cookie": cookies}
            got = await self.home.send(method, "/thing", token=token, headers=headers)
            assert got.outcome.endswith(outcome)
            assert got.field("set-cookie") is None
            assert self.github.log[-1].field(b"cookie") is None

    async def test_bypass_neither_uses_nor_changes_stored_responses(self) -> None:
        """Each of the reasons alone; GitHub gets the request with the client's own conditions."""
        await self.home.get("/thing", token="alice-1")
        etag = f'"{"0" * 64}"'
        reasons: list[dict[str, str | list[str]]] = [
            {"Range": "bytes=0-3"},
            {"X-GitHub-OTP": "123456"},
            {"Cache-Control": "no-store"},
            {"Cache-Control": "max-age=0, No-Store"},
            {"Accept": ["application/json", "application/json"]},
            {"X-GitHub-Api-Version": ["2022-11-28", "2022-11-28"]},
            {"X-Requested-With": ["a", "a"]},
        ]
        before = self.remembered()
        for reason in reasons:
            headers = {"Authorization": "token alice-1", "If-None-Match": etag, **reason}
            headers["If-Modified-Since"] = WHEN
            got = await self.home.get("/thing", headers=headers)
            assert got.outcome == "fwd=bypass", reason
            exchange = self.github.log[-1]
            assert exchange.field(b"if-none-match") == etag.encode()
            assert exchange.field(b"if-modified-since") == WHEN.encode()
            for name, value in reason.items():
                values = ", ".join(value) if isinstance(value, list) else value
                assert exchange.field(name.encode()) == values.encode()
            assert self.remembered() == before

    async def test_rate_limit_endpoint_is_never_stored(self) -> None:
        """Each request is forwarded."""
        for target in ("/rate_limit", "/rate_limit/", "/rate_limit?a=1", "/api/v3/rate_limit"):
            got = await self.home.get(target, token="alice-1")
            assert got.outcome == "fwd=bypass"
        assert (len(self.github.log), self.remembered()) == (4, [])

    async def test_preconditions_of_writes_are_forwarded(self) -> None:
        """Preconditions are removed only where the mirror evaluates them."""
        conditions = {"If-Match": '"x"', "If-None-Match": "*", "If-Modified-Since": WHEN}
        await self.home.send("PATCH", "/thing", token="alice-1", headers=conditions, body=b"{}")
        exchange = self.github.log[-1]
        for name, value in conditions.items():
            assert exchange.field(name.encode()) == value.encode()

    async def test_only_a_200_is_stored(self) -> None:
        """Each other response is forwarded unchanged, and the next request, too."""
        self.github.statistics("/computing", [1], computing=9)
        self.github.yes_no("/yes", ["alice"])
        self.github.redirect("/moved", "/thing")
        self.github.put("/made", {"a": 1}, status=203)
        for target, status in (
            ("/computing", 202),
            ("/yes", 204),
            ("/moved", 302),
            ("/made", 203),
            ("/nowhere", 404),
        ):
            for _ in range(2):
                got = await self.home.get(target, token="alice-1")
                assert (got.status, got.outcome) == (
                    status,
                    f"fwd=uri-miss; fwd-status={status}",
                )
            assert len(self.github.exchanges(target)) == 2
        for method, status in (("POST", 201), ("PUT", 200)):
            got = await self.home.send(method, "/thing", token="alice-1", body=b'{"b":2}')
            assert (got.status, got.field("etag") is None) == (status, False)
        assert self.remembered() == []

    async def test_unstorable_responses(self) -> None:
        """It is passed on, counted by reason, and logged once for each path pattern."""
        home = self.home = await open_home(self, self.github, cache={"max_stored_size": 1000})
        unstorable = {"no-store": "no-store", "no-tag": "no-validator", "page": "not-json"}
        unstorable["large"] = "too-large"
        for name in ("one", "other"):
            base = f"/repos/o/{name}"
            self.github.put(f"{base}/no-store", {"a": 1}, cache_control="private, no-store")
            self.github.put(f"{base}/no-tag", {"a": 1}, etag=False)
            self.github.put(f"{base}/page", b"<html>", content_type="text/html")
            self.github.put(f"{base}/large", {"a": "x" * 1000})
        with capturedLogs() as events:
            for target in (
                f"/repos/o/{name}/{each}" for name in ("one", "other") for each in unstorable
            ):
                for _ in range(2):
                    got = await home.get(target, token="alice-1")
                    assert got.outcome == "fwd=uri-miss; fwd-status=200", target
        assert self.remembered() == []
        text = [line for line in map(formatEvent, events) if "Response not storable" in line]
        assert text == [
            f"Response not storable: path=/repos/*/*/{each} reason={reason}"
            for each, reason in unstorable.items()
        ]
        for reason in unstorable.values():
            assert await home.metric(f'ghmirror_unstorable_total{{reason="{reason}"}}') == 4.0

    async def test_any_vary_may_be_stored(self) -> None:
        """GitHub gets nothing else that could make a difference; `*` is validated each time."""
        home = self.home
        self.github.put("/vary", {"a": 1}, vary="Accept, Origin, X-Odd")
        for origin in ("https://one.test", "https://two.test"):
            got = await home.get("/vary", token="alice-1", headers={"Origin": origin})
            assert self.github.log[-1].field(b"origin") is None
        assert got.outcome.endswith("detail=revalidated")
        self.github.put("/star", {"a": 1}, vary="*")
        await home.get("/star", token="alice-1")
        assert (await home.get("/star", token="alice-1")).outcome.endswith("detail=revalidated")

    async def test_vary_star_is_never_fresh(self) -> None:
        """GitHub decides for each request which representation it is."""
        home = await open_home(self, self.github, cache={"fresh_for": 60.0})
        self.github.put("/star", {"a": 1}, vary="*")
        await home.get("/star", token="alice-1")
        assert (await home.get("/star", token="alice-1")).outcome.endswith("detail=revalidated")

    async def test_head_validates_a_stored_response(self) -> None:
        """It is sent as HEAD with validators; after a 304 the stored response is sent."""
        await self.home.get("/thing", token="alice-1")
        for token, outcome in (("alice-1", "revalidated"), ("bob-1", "shared")):
            got = await self.home.send("HEAD", "/thing", token=token)
            assert got.outcome.endswith(f"fwd-status=304; detail={outcome}")
            assert (got.status, got.field("content-type")) == (
                200,
                "application/json; charset=utf-8",
            )
            exchange = self.github.log[-1]
            assert exchange.method == b"HEAD"
            assert exchange.field(b"if-none-match") is not None

    async def test_head_without_304_stores_nothing(self) -> None:
        """Neither what changed nor what was not known; the next GET brings it."""
        got = await self.home.send("HEAD", "/thing", token="alice-1")
        assert (got.outcome, self.remembered()) == ("fwd=uri-miss; fwd-status=200", [])
        assert self.github.log[-1].field(b"if-none-match") is None
        await self.home.get("/thing", token="alice-1")
        before = self.remembered()
        self.github.put("/thing", {"a": 2})
        got = await self.home.send("HEAD", "/thing", token="alice-1")
        assert (got.status, got.outcome) == (200, "fwd=uri-miss; fwd-status=200")
        assert self.remembered() == before
        assert (await self.home.get("/thing", token="alice-1")).json == {"a": 2}

    async def test_no_cache_permits_validation(self) -> None:
        """A computed tag, the credential's own, and the client's are sent as ever."""
        await self.home.get("/thing", token="alice-1")
        for outcome in ("shared", "revalidated"):
            got = await self.home.get("/thing", token="bob-1", headers=NO_CACHE)
            assert got.outcome.endswith(f"detail={outcome}")
        known = {"If-None-Match": got.field("etag") or "", **NO_CACHE}
        got = await self.home.get("/thing", token="bob-1", headers=known)
        assert (got.status, self.github.total_paid) == (304, 1)

    async def test_no_cache_costs_no_proof(self) -> None:
        """That a list has no further page is seen by the tag of `[]` all the same."""
        self.github.put_list("/issues", [{"id": number} for number in range(30)])
        await self.home.get("/issues", token="alice-1")
        for _ in range(2):
            got = await self.home.get("/issues", token="alice-1", headers=NO_CACHE)
            assert got.outcome.endswith("detail=revalidated")
        assert self.github.total_paid == 1

    async def test_no_cache_forbids_fresh(self) -> None:
        """Within `fresh_for` too, it is validated; for others freshness continues."""
        home = await open_home(self, self.github, cache={"fresh_for": 60.0})
        await home.get("/thing", token="alice-1")
        for headers in (NO_CACHE, {"Pragma": "no-cache"}, {"Cache-Control": "No-Cache, x"}):
            got = await home.get("/thing", token="alice-1", headers=headers)
            assert got.outcome.endswith("detail=revalidated")
        for headers in ({"Cache-Control": "max-age=0"}, {"Pragma": "x"}):
            got = await home.get("/thing", token="alice-1", headers=headers)
            assert got.outcome == "hit; detail=fresh"

    async def test_response_is_fresh_for_fresh_for(self) -> None:
        """By this credential's last validation, not by anybody's; `max-age` plays no part."""
        home = await open_home(self, self.github, cache={"fresh_for": 60.0})
        home.move_on(0.0)
        await home.get("/thing", token="alice-1")
        home.move_on(59.0)
        got = await home.get("/thing", token="alice-1")
        assert (got.outcome, got.field("age")) == ("hit; detail=fresh", "59")
        assert (await home.get("/thing", token="bob-1")).outcome.endswith("detail=shared")
        home.move_on(1.0)
        got = await home.get("/thing", token="alice-1")
        assert (got.outcome.endswith("detail=revalidated"), got.field("age")) == (True, None)

    async def test_max_age_makes_no_response_fresh(self) -> None:
        """GitHub permits a minute without validation; each request is validated."""
        for _ in range(3):
            await self.home.get("/thing", token="alice-1")
        assert len(self.github.exchanges("/thing")) == 3

    async def test_content_without_a_certain_end_is_never_stored(self) -> None:
        """It may have been truncated: it is forwarded, and requested again."""
        port = reactor.listenTCP(0, Factory.forProtocol(Uncertain), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"http://127.0.0.1:{port.getHost().port}"
        home = self.home = await open_home(self, self.github, github={"api_url": url})
        for _ in range(2):
            got = await home.get("/thing", token="alice-1")
            assert (got.content, got.outcome) == (b"half of i", "fwd=uri-miss; fwd-status=200")
        assert self.remembered() == []
