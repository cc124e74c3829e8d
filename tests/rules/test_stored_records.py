"""The rules of stored records, as clients and GitHub observe them."""

from __future__ import annotations

import hashlib
import hmac
import json
import pickle
from typing import Any

from twisted.trial.unittest import TestCase

from ghmirror_tw.caching.records import Representation
from ghmirror_tw.store.memory_records_by_name import NamedRecords
from tests.harness.home import Home, Received, fetch, open_github, open_home, start

NO_CACHE = {"Cache-Control": "no-cache"}
#: All that may be stored of the fields of a response, with its content.
DESCRIBING = {
    b"content-type",
    b"content-language",
    b"content-disposition",
    b"vary",
    b"x-github-media-type",
    b"x-github-api-version-selected",
    b"deprecation",
    b"sunset",
}
#: Fields of GitHub for one credential, each with a recognisable value.
MARK = "for alice alone"
OWN = {
    "X-RateLimit-Mark": MARK,
    "X-OAuth-Client-Id": MARK,
    "X-Accepted-GitHub-Permissions": MARK,
    "X-GitHub-SSO": MARK,
    "X-GitHub-Request-Id": MARK,
    "github-authentication-token-expiration": MARK,
    "Set-Cookie": MARK,
}


def marked(got: Received) -> list[bytes]:
    """Return the fields that have the mark."""
    lines = got.fields.getAllRawHeaders()
    return [name for name, values in lines for value in values if MARK.encode() in value]


class Memory(TestCase):
    """One mirror with `fresh_for`, so that responses from the store can be observed."""

    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self, cache={"fresh_for": 60.0})
        self.github = self.home.github
        self.github.put("/thing", {"a": 1})

    async def test_content_is_stored_unchanged(self) -> None:
        """Byte for byte, and of the fields only those that describe it."""
        text = {"url": f"{self.github.api_url}/thing"}
        fields = {"X-Odd": "1", "Content-Language": "en", "Content-Disposition": "inline", **OWN}
        self.github.put("/thing", text, fields=fields)
        got = await self.home.get("/api/v3/thing", token="alice-1")
        assert got.json == {"url": f"{self.home.url}/api/v3/thing"}
        port = int(self.github.api_url.rpartition(":")[2])
        made = await fetch("GET", port, "/thing", token="alice-1")
        store = self.home.parts.store
        records = NamedRecords(store.records)
        peeked = map(records.peek, records.names())
        held = [record for record in peeked if type(record) is Representation]
        assert [each.content() for each in held] == [made.content]
        assert json.loads(made.content) == text
        names = {name for name, _ in held[0].fields}
        assert {b"content-language", b"content-disposition"} < names <= DESCRIBING

    async def test_fields_of_one_exchange_are_never_stored(self) -> None:
        """They are those of GitHub's response to the present request, or are missing.

        Except scopes and SSO, which belong to the grant, and are sent to no other credential.
        """
        self.github.put("/thing", {"a": 1}, fields=OWN)
        got = await self.home.get("/thing", token="alice-1")
        assert len(marked(got)) == len(OWN) - 1  # a cookie is not passed on at all
        self.github.put("/thing", {"a": 1})
        for token, no_cache, outcome in (
            ("alice-1", False, "fresh"),
            ("alice-1", True, "revalidated"),
            ("bob-1", False, "shared"),
        ):
            headers = NO_CACHE if no_cache else {}
            got = await self.home.get("/thing", token=token, headers=headers)
            assert got.outcome.endswith(f"detail={outcome}")
            assert marked(got) == ([b"X-Github-Sso"] if outcome == "fresh" else [])
            live = {"x-ratelimit-limit", "x-oauth-scopes", "x-github-request-id"}
            shown = {name for name in live if got.field(name) is not None}
            assert shown == ({"x-oauth-scopes"} if outcome == "fresh" else live)

    async def test_no_credential_is_stored(self) -> None:
        """Only its hash is, keyed with the secret where there is one, for any request."""
        token = "ghp_000000000000000000000000000000000000"
        self.github.token(token, "alice")
        url = self.github.api_url.encode()
        hashed = b"origin%d:%s" % (len(url), url)
        hashed += b"credential\0%d:token %s" % (len(token) + 6, token.encode())
        for secret in ("", "a secret"):
            home = await open_home(self, self.github, cache={"credential_secret": secret})
            self.github.put("/own", lambda login, _: {"of": login})
            for target in ("/thing", "/own", "/user", "/nowhere", "/own?per_page=1", "/zen"):
                for value in (token, token + "x"):
                    await home.get(target, token=value)
            await home.send("POST", "/graphql", token=token, body=b'{"query":"mutation{x}"}')
            mirror, store = home.parts.mirror, home.parts.store
            kept: list[Any] = [list(store.records.records.items()), list(store.unstorable)]
            kept += [mirror.proofs.seen, mirror.proofs.last_sent, mirror.proofs.absent]
            kept += [mirror.users.records, mirror.epochs.generations, mirror.sharing]
            found = pickle.dumps(kept)
            assert token.encode() not in found
            name = hashlib.sha256(hashed).hexdigest()
            if secret:
                name = hmac.digest(secret.encode(), hashed, "sha256").hex()
            assert name[:32].encode() in found

    async def test_404_outweighs_earlier_requests(self) -> None:
        """Even if the response to the earlier request is received later."""
        barrier = self.github.hold("/thing", compute_first=True)
        early = start(self.home.get("/thing", token="alice-1"))
        await barrier.arrived(1)
        self.github.gates.remove(barrier)
        self.github.private("/thing", set())
        refused = await self.home.send("HEAD", "/thing", token="alice-1", headers=NO_CACHE)
        assert refused.status == 404
        barrier.open()
        assert (await early).status == 200
        assert (await self.home.get("/thing", token="alice-1")).status == 404

    async def test_401_outweighs_earlier_requests(self) -> None:
        """Of each key, for a request to any target."""
        barrier = self.github.hold("/thing", compute_first=True)
        early = start(self.home.get("/thing", token="alice-1"))
        await barrier.arrived(1)
        self.github.gates.remove(barrier)
        self.github.revoke("alice-1")
        assert (await self.home.get("/zen", token="alice-1")).status == 401
        barrier.open()
        assert (await early).status == 200
        assert (await self.home.get("/thing", token="alice-1")).status == 401

    async def test_401_to_a_bypassing_request_counts(self) -> None:
        """A credential that is refused has no grants, not even fresh ones."""
        for method, target in (("GET", "/rate_limit"), ("POST", "/graphql")):
            self.github.token("alice-1", "alice")
            await self.home.get("/thing", token="alice-1")
            assert (await self.home.get("/thing", token="alice-1")).outcome == "hit; detail=fresh"
            self.github.revoke("alice-1")
            assert (await self.home.send(method, target, token="alice-1")).status == 401
            assert (await self.home.get("/thing", token="alice-1")).status == 401

    async def test_rate_limit_is_no_refusal(self) -> None:
        """A temporary 403 or 429 ends no grant."""
        for kind in ("primary-limit", "secondary-limit", "abuse-limit"):
            for status in (403, 429):
                token = f"{kind}-{status}"
                self.github.token(token, "alice")
                await self.home.get("/thing", token=token)
                self.github.limit_status = self.github.secondary_status = status
                self.github.secondary_retry_after_s = None
                self.github.fault("/thing", kind, times=1)
                limited = await self.home.get("/thing", token=token, headers=NO_CACHE)
                assert limited.status == status
                got = await self.home.get("/thing", token=token)
                assert got.outcome == "hit; detail=fresh", (kind, status)

    async def test_403_is_a_refusal(self) -> None:
        """One that is no rate limit does, for its key and credential alone."""
        self.github.put("/other", {"a": 1})
        for target, token in (("/thing", "alice-1"), ("/other", "alice-1"), ("/thing", "bob-1")):
            await self.home.get(target, token=token)
        self.github.put("/thing", {"message": "Forbidden"}, status=403)
        assert (await self.home.get("/thing", token="alice-1", headers=NO_CACHE)).status == 403
        assert (await self.home.get("/thing", token="alice-1")).status == 403
        for target, token in (("/other", "alice-1"), ("/thing", "bob-1")):
            assert (await self.home.get(target, token=token)).outcome == "hit; detail=fresh"

    async def test_recency_list_has_eight_entries(self) -> None:
        """The most recently validated ones, newest first; what is older is forgotten."""
        github = await open_github(self)
        home = await open_home(self, github)
        for number in range(10):
            github.user(f"user{number}", tokens=[f"user{number}-1"])
        github.put("/own", lambda login, _: {"of": login})
        for number in (*range(9), 3):
            assert (await home.get("/own", token=f"user{number}-1")).status == 200
        await home.get("/own", token="user9-1")
        expected = [
            github.tag({"of": f"user{number}"}, authorization=b"token user9-1")
            for number in (3, 8, 7, 6, 5, 4, 2, 1)
        ]
        assert github.log[-1].field(b"if-none-match") == b", ".join(expected)

    async def test_cache_key_is_the_target_and_three_fields(self) -> None:
        """Each spelling has its own; only the prefix is removed, and no other field counts."""
        target = "/thing?a=1&b=2"
        others = [
            *((spelt, {}) for spelt in ("/thing?b=2&a=1", "/thing?a=1&b=2&", "/thing?a=%31&b=2")),
            ("/%74hing?a=1&b=2", {}),
            (target, {"Accept": "application/json"}),
            (target, {"Accept": ""}),
            (target, {"X-GitHub-Api-Version": "2022-11-28"}),
            (target, {"X-Requested-With": "XMLHttpRequest"}),
        ]
        await self.home.get(target, token="alice-1")
        for spelt, headers in others:
            got = await self.home.get(spelt, token="alice-1", headers=headers)
            assert got.outcome == "fwd=uri-miss; fwd-status=200; stored", (spelt, headers)
        same = {"User-Agent": "other", "Accept-Encoding": "gzip", "Host": "other.test", "X": "1"}
        for spelt in (target, "/api/v3" + target):
            got = await self.home.get(spelt, token="alice-1", headers=same)
            assert got.outcome == "hit; detail=fresh"
