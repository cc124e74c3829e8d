"""Made-up credentials cost others nothing: no permits, no table entries, no records in Redis."""

from __future__ import annotations

import gc
import re
import sys
from base64 import b64encode
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Final

from twisted.internet.defer import DeferredList, DeferredSemaphore
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.trial.unittest import TestCase

import ghmirror_tw
from ghmirror_tw.runtime.bounded_tables import MAX_UNACCEPTED, CredentialTable
from ghmirror_tw.upstream import rate_limiter
from ghmirror_tw.upstream.request_queues import CHECKS, UNACCEPTED
from tests.harness.home import Home, Raw, open_github, open_home, reactor, start, until
from tests.harness.redis_servers import RedisServer, start_redis
from tests.harness.redis_stores import settled

#: More than a table may hold of them, and than it may hold of others here.
MADE_UP: Final = 1200
MOST: Final = 300
#: It has the shape of the token of an App, which is not checked beforehand.
JWT: Final = "Bearer eyJhbGciOiJSUzI1NiJ9.{}.c2lnbmVk"
_CONTAINERS: Final = (dict, OrderedDict, set, frozenset, list, deque, tuple, CredentialTable)
_HEX: Final = re.compile("[0-9a-f]{32}")
_LONGEST: Final = 1000
#: What is memoized of pure functions: the names of records. An eviction costs a microsecond.
_MEMOS: Final = frozenset({"_lru_list_elem", "PreparedLookup"})
_OUTSIDE: Final = (type, ModuleType, FunctionType, BuiltinFunctionType)


def authorization(number: int) -> str:
    """Return a made-up credential, in each shape that clients send."""
    name = f"made-up-{number}"
    return (
        f"token {name}",
        f"Bearer {name}",
        "Basic " + b64encode(f"{name}:x-oauth-basic".encode()).decode(),
        JWT.format(name),
        f"Unheard-of {name}",
    )[number % 5]


def requests() -> Iterator[tuple[str, str, dict[str, str], bytes | None]]:
    """Return what is sent with made-up credentials, over and over."""
    yield from (
        ("GET", "/thing", {}, None),
        ("GET", "/private", {}, None),
        ("GET", "/nowhere", {}, None),
        ("HEAD", "/thing", {}, None),
        ("GET", "/limited", {}, None),
        ("GET", "/broken", {}, None),
        ("GET", "/thing", {"Range": "bytes=0-1"}, None),
        ("GET", "/rate_limit", {}, None),
        ("DELETE", "/thing", {}, None),
        ("POST", "/thing", {"Content-Type": "application/json"}, b"{}"),
        ("POST", "/graphql", {}, b'{"query":"mutation{x}"}'),
    )


def reachable(roots: Iterable[object], *without: object) -> list[Any]:
    """Return all containers that can be reached from *roots*, but for code and *without* some."""
    seen: dict[int, Any] = {id(each): None for each in without}
    todo = list(roots)
    while todo:
        each = todo.pop()
        if id(each) in seen or isinstance(each, _OUTSIDE):
            continue
        seen[id(each)] = each
        todo += gc.get_referents(each)
    return [each for each in seen.values() if isinstance(each, _CONTAINERS) and not _is_memo(each)]


def _is_memo(container: Any) -> bool:
    values = container.values() if isinstance(container, dict) else ()
    return type(next(iter(values), None)).__name__ in _MEMOS


def parts_of(container: Any) -> Iterator[object]:
    """Return the members of a container, and those of tuples among them."""
    for each in container.items() if isinstance(container, dict) else container:
        if isinstance(each, tuple):
            for part in each:
                yield from part if isinstance(part, tuple) else (part,)
        else:
            yield each


class Names:
    """Finds where the names of credentials are stored."""

    def __init__(self, home: Home, values: Iterable[str]) -> None:
        self.home = home
        names = home.parts.mirror.credentials.names
        self.wanted: set[object] = set()
        for value in values:
            raw = value.encode()
            name = names.name(raw)
            self.wanted |= {raw, value, name, bytes.fromhex(name)}

    def has(self, part: object) -> bool:
        """Return whether a member of a container is one of the names, or is made of one."""
        if isinstance(part, bytes):
            hexes = _HEX.findall(part.decode("latin-1")) if len(part) < _LONGEST else []
            return any(each in self.wanted for each in (part, part[-16:], part[1:17], *hexes))
        if isinstance(part, str):
            return any(each in self.wanted for each in (part, *_HEX.findall(part[:_LONGEST])))
        return False

    def tables(self, most: int = 0) -> dict[int, tuple[int, str]]:
        """Return the containers with more than *most* of the names, by identity."""
        roots: list[object] = [self.home.parts]
        for name, module in sys.modules.items():
            if name.split(".")[0] == ghmirror_tw.__name__:
                roots += [each for each in vars(module).values() if not isinstance(each, _OUTSIDE)]
        found = {}
        for container in reachable(roots, reactor, self.home.github):
            count = sum(map(self.has, parts_of(container)))
            if count > most:
                found[id(container)] = count, repr(container)[:200]
        return found


class Flood(TestCase):
    """One mirror with a Redis, a client with a token, and clients with made-up ones."""

    timeout = 120
    redis: RedisServer
    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.github = await open_github(self)
        self.github.anonymous_limit = 1_000_000
        self.github.put("/thing", {"a": 1})
        self.github.put("/private", {"b": 2}, private_to=("alice",))
        self.redis = start_redis(self)
        host, port = self.redis.address
        self.home = await open_home(
            self,
            self.github,
            server={"allowed_users": frozenset()},
            cache={"backend": "redis"},
            redis={"url": f"redis://{host}:{port}", "timeout": 60.0},
        )

    async def as_alice(self) -> list[int]:
        """Send requests of a client with a token, of each kind; return the statuses."""
        sent = [
            await self.home.send(method, target, token="alice-1", headers=headers, body=body)
            for method, target, headers, body in requests()
            if target not in {"/limited", "/broken"}
        ]
        await self.home.get("/user", token="alice-1")
        await settled(self.home.parts.store)
        return [got.status for got in sent]

    async def flood(self) -> Counter[int]:
        """Send requests with made-up credentials; return how often there was each status."""
        self.github.fault("/limited", "secondary-limit")
        self.github.fault("/broken", "500")
        kinds, at_once = list(requests()), DeferredSemaphore(40)
        responses = []
        for number in range(MADE_UP):
            method, target, headers, body = kinds[number % len(kinds)]
            headers = {**headers, "Authorization": authorization(number)}
            responses.append(
                at_once.run(self.home.send, method, target, headers=headers, body=body)
            )
        replies = await DeferredList(responses, fireOnOneErrback=True, consumeErrors=True)
        await settled(self.home.parts.store)
        self.github.clear_faults()
        return Counter(got.status for _, got in replies)

    def keys(self) -> set[bytes]:
        """Return the names of what is in Redis, but for what lasts some seconds."""
        keys: set[bytes] = set(self.redis.send("KEYS", "*"))
        return {key for key in keys if b"}:b:" not in key}

    async def test_made_up_credentials_are_in_no_table_and_no_store(self) -> None:
        """No entry of another credential is evicted, however many there are."""
        await self.as_alice()
        mirror = self.home.parts.mirror
        alice = Names(self.home, ["token alice-1"])
        before, stored = alice.tables(), self.keys()
        for container in reachable([self.home.parts]):
            if isinstance(container, CredentialTable):
                container.most = MOST
        statuses = await self.flood()
        assert set(statuses) <= {401, 403, 500}
        assert statuses[401] > MADE_UP // 2

        made_up = Names(self.home, map(authorization, range(MADE_UP)))
        assert made_up.tables(most=MAX_UNACCEPTED) == {}
        assert self.keys() <= stored
        kept = alice.tables()
        # Its slots were not in use, and are not held for it.
        lanes = id(self.home.parts.limiter.queues.accepted)
        gone = [shown for each, shown in before.items() if each not in kept and each != lanes]
        assert gone == []
        name = mirror.credentials.names.name(b"token alice-1")
        assert mirror.users.login(name, mirror.now()) == "alice"

    async def test_search_finds_a_table_without_the_rule(self) -> None:
        """The search sees each kind of container, wherever it is reached from."""
        mirror = self.home.parts.mirror
        names = [
            mirror.credentials.names.name(authorization(each).encode()) for each in range(MADE_UP)
        ]
        made_up = Names(self.home, map(authorization, range(MADE_UP)))
        assert made_up.tables(most=MAX_UNACCEPTED) == {}
        mirror.sender.backoffs.by_key.update({(name, "x"): 1 for name in names})  # type: ignore[misc]
        assert len(made_up.tables(most=MAX_UNACCEPTED)) == 1
        mirror.sender.backoffs.by_key.clear()
        mirror.credentials.tokens.update(dict.fromkeys(names, ""))
        assert len(made_up.tables(most=MAX_UNACCEPTED)) == 1


class Slots(TestCase):
    """The share of connections to GitHub for made-up credentials, and the remaining one."""

    timeout = 60
    home: Home

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.home = await open_home(self)
        self.github = self.home.github
        for number in range(3):
            self.github.put(f"/things/{number}", {"number": number})
        await self.home.get("/things/0", token="alice-1")

    def made_up(self, count: int, *, shape: str = "token {}", target: str = "/things/0") -> Any:
        """Start so many requests, each with a credential of its own."""
        responses = [
            start(self.home.get(target, headers={"Authorization": shape.format(f"m{number}")}))
            for number in range(count)
        ]
        return DeferredList(responses, fireOnOneErrback=True, consumeErrors=True)

    async def test_checks_have_half_of_the_free_connections(self) -> None:
        """A client with an accepted token waits for none of them."""
        barrier = self.github.hold("/rate_limit")
        responses = self.made_up(120)
        await barrier.arrived(50)
        queues = self.home.parts.limiter.queues.unaccepted
        await until(lambda: queues[CHECKS].length == 70)
        assert barrier.waiting == 50
        assert (await self.home.get("/things/1", token="alice-1")).status == 200
        assert (await self.home.get("/things/1")).status == 200
        assert await self.home.metric("ghmirror_unknown_in_flight") == 50
        barrier.open()
        assert {got.status for _, got in await responses} == {401}
        assert await self.home.metric("ghmirror_unknown_in_flight") == 0
        assert await self.home.metric('ghmirror_credential_checks_total{result="refused"}') == 120

    async def test_uncheckable_credentials_have_a_tenth(self) -> None:
        """They delay none of the others."""
        barrier = self.github.hold("/things/2")
        responses = self.made_up(30, shape=JWT, target="/things/2")
        await barrier.arrived(10)
        queues = self.home.parts.limiter.queues.unaccepted
        await until(lambda: queues[UNACCEPTED].length == 20)
        assert barrier.waiting == 10
        assert (await self.home.get("/things/1", token="alice-1")).status == 200
        assert (await self.home.get("/things/1", token="bob-1")).status == 200
        barrier.open()
        assert {got.status for _, got in await responses} == {401}

    async def test_clients_that_send_no_content_hold_no_permit(self) -> None:
        """For more content than is received before it is sent, they hold half of them."""
        held, closed = [], []
        for number in range(24):
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.home.port)
            connection = await connectProtocol(endpoint, Raw())
            size = 100 if number % 2 else 1_000_000
            fields = f"Authorization: {JWT.format(number)}\r\nContent-Length: {size}\r\n\r\n"
            connection.transport.write(f"POST /things/0 HTTP/1.1\r\nHost: x\r\n{fields}".encode())
            held.append(connection)
            closed.append(connection.ended.addErrback(lambda _: None))
        await until(lambda: self.home.parts.resource.in_flight == 24)
        await until(lambda: self.home.parts.limiter.unaccepted_in_flight == 5)
        headers = {"Authorization": JWT.format("another")}
        assert (
            await self.home.send("POST", "/things/0", headers=headers, body=b"{}")
        ).status == 401
        for connection in held:
            connection.transport.abortConnection()
        await DeferredList(closed)
        await until(lambda: not self.home.parts.resource.in_flight)

    async def test_too_many_unverified_requests_get_a_503(self) -> None:
        """With `Retry-After`; an accepted credential waits in its own queue."""
        self.patch(rate_limiter, "MOST_UNACCEPTED", 5)
        barrier = self.github.hold("/rate_limit")
        responses = self.made_up(60)
        await barrier.arrived(50)
        queues = self.home.parts.limiter.queues.unaccepted
        await until(lambda: queues[CHECKS].length == 5)
        got = await self.home.get("/things/1", token="bob-1")
        assert (got.status, got.field("retry-after")) == (503, "1")
        assert b"not accepted yet" in got.content
        assert (await self.home.get("/things/1", token="alice-1")).status == 200
        barrier.open()
        statuses = Counter(got.status for _, got in await responses)
        assert statuses == {401: 55, 503: 5}
        assert await self.home.metric("ghmirror_unknown_overloaded_total") == 6
        assert (await self.home.get("/things/1", token="bob-1")).status == 200

    async def test_which_requests_are_not_checked(self) -> None:
        """Passed reads; what a check cannot show; and accepted or no credentials."""
        before = len(self.github.checks)
        for headers in (
            {"Authorization": "token m1", "Range": "bytes=0-1"},
            {"Authorization": "Basic bTp4", "X-GitHub-OTP": "123456"},
            {"Authorization": JWT.format("m2")},
            {"Authorization": "Unheard-of m3"},
            {},
            {"Authorization": "token alice-1"},
            {"Authorization": "Bearer alice-1"},
        ):
            await self.home.get("/things/0", headers=headers)
        await self.home.get("/rate_limit", token="bob-1")
        await self.home.get("/things/0", token="bob-1")
        assert len(self.github.checks) == before
        await self.home.get("/things/0", token="carol-1")
        assert self.github.checks[before:] == [b"token carol-1"]

    async def test_one_check_for_all_requests_of_a_credential(self) -> None:
        """With any scheme, and for any target."""
        barrier = self.github.hold("/rate_limit")
        responses = [
            start(self.home.get(f"/things/{number}", token="bob-1")) for number in (0, 1, 2, 0)
        ]
        body = b'{"query":"query{x}"}'
        responses.append(start(self.home.send("POST", "/graphql", token="bob-1", body=body)))
        await barrier.arrived(1)
        await until(lambda: self.home.parts.resource.in_flight == 5)
        barrier.open()
        replies = await DeferredList(responses, fireOnOneErrback=True, consumeErrors=True)
        assert {got.status for _, got in replies} == {200}
        assert self.github.checks[1:] == [b"token bob-1"]

    async def test_a_401_ends_acceptance(self) -> None:
        """A revoked token is checked again, and so is one that is valid again."""
        self.github.revoke("alice-1")
        assert (await self.home.get("/things/0", token="alice-1")).status == 401
        assert len(self.github.checks) == 1
        assert (await self.home.get("/things/0", token="alice-1")).status == 401
        assert len(self.github.checks) == 2
        self.github.token("alice-1", "alice")
        for _ in range(2):
            assert (await self.home.get("/things/0", token="alice-1")).status == 200
        assert len(self.github.checks) == 3

    async def test_thousands_of_new_tokens_are_accepted(self) -> None:
        """After a cold start: each is checked once, and none is rejected."""
        self.patch(rate_limiter, "LONGEST_WAIT_S", 60.0)  # however busy this machine is
        count = 1200
        tokens = [f"new-{number}" for number in range(count)]
        self.github.user("many", tokens=tokens)
        responses = [
            start(self.home.get(f"/things/{number % 3}", token=token))
            for number, token in enumerate(tokens)
        ]
        replies = await DeferredList(responses, fireOnOneErrback=True, consumeErrors=True)
        assert Counter(got.status for _, got in replies) == {200: count}
        assert len(self.github.checks) == count + 1
        assert self.github.total_paid == 3


class Unproven(TestCase):
    """A credential is accepted by a good response to it, and by nothing else that is stored."""

    timeout = 60

    async def homes(self) -> tuple[Home, Home]:
        """Return two replicas that share a Redis, where alice has read something."""
        redis = start_redis(self)
        host, port = redis.address
        options: dict[str, Any] = {
            "cache": {"backend": "redis"},
            "redis": {"url": f"redis://{host}:{port}", "timeout": 60.0},
        }
        github = await open_github(self)
        github.put("/thing", {"a": 1})
        github.put("/other", {"a": 2})
        home = await open_home(self, github, **options)
        await home.get("/thing", token="alice-1")
        await home.get("/other", token="alice-1")
        return home, await open_home(self, github, **options)

    async def is_checked(self, home: Home, target: str) -> None:
        """Check that a made-up token is checked, and not considered known to the fleet."""
        await settled(home.parts.store)
        checks = home.github.checks
        before = len(checks)
        assert (await home.get(target, token="made-up")).status == 401
        assert checks[before:] == [b"token made-up"]

    async def test_write_without_a_response_shows_no_acceptance(self) -> None:
        """It is sent unchecked with a one-time password, and the client disconnects."""
        home, other = await self.homes()
        barrier = home.github.hold("/thing")
        headers = {"X-GitHub-OTP": "123456"}
        post = home.send("POST", "/thing", token="made-up", headers=headers, body=b"{}")
        posting = start(post)
        posting.addErrback(lambda _: None)
        await barrier.arrived(1)
        for channel in list(home.site.channels):
            channel.transport.abortConnection()
        await until(lambda: not home.parts.resource.in_flight)
        barrier.open()
        await self.is_checked(home, "/thing")
        await self.is_checked(home, "/other")
        await self.is_checked(other, "/thing")

    async def test_revoked_token_is_checked(self) -> None:
        """For any target, in each replica: the epoch after a 401 permits no response."""
        home, other = await self.homes()
        home.github.token("made-up", "alice")
        await home.get("/thing", token="made-up")
        home.github.revoke("made-up")
        assert (await home.get("/thing", token="made-up")).status == 401
        await self.is_checked(home, "/other")
        await self.is_checked(other, "/other")
