"""The mirror against the stand-in itself: any events, in any order.

After every step each response is that of the stand-in to that credential now, or it is
marked as stale and is what was once granted to that very credential, and neither refused to it nor
older than its own last write.
``MODEL_EXAMPLES=500 pytest tests/system/test_model.py`` looks at more than the suite does.
"""

from __future__ import annotations

import os
from collections.abc import Coroutine
from typing import Any, ClassVar, TypeVar

from attrs import frozen
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.trial.unittest import TestCase

from tests.fakes.github import GitHub
from tests.harness.home import Home, MovableReactor, Received, fetch, open_home, reactor
from tests.harness.redis_servers import RedisServer, start_redis
from tests.harness.redis_stores import settled

R = TypeVar("R")

USERS = ("alice", "bob", "carol")
THINGS = ("/thing/0", "/thing/1")
LIST = "/list?per_page=2"
PAGES = (LIST, *(f"{LIST}&page={page}" for page in (2, 3)))
#: A list with cursors; GitHub refuses requests with `page` for it.
ALERTS = "/repos/o/r/dependabot/alerts"
CURSORS = f"{ALERTS}?per_page=2"
PATHS = (*THINGS, *PAGES, CURSORS, "/own", "/user", "/nowhere")
FAULTS = ("500", "503", "504", "refuse", "reset", "malformed", "truncated", "bad-gzip")
LIMITS = ("primary-limit", "secondary-limit")
STALE_LIMIT_S = 86_400.0
#: For so long a page may have the links of a state that other pages of a walk were proved with.
WALK_S = 10.0
LONGEST_LIMIT_S = 3700.0

replicas = st.integers(0, 1)
users = st.integers(0, 5)
paths = st.sampled_from(PATHS)
methods = st.sampled_from(("GET", "GET", "GET", "HEAD"))
logins = st.sets(st.sampled_from(USERS))


@frozen
class Shown:
    """A grant: content, and the time of GitHub's last confirmation."""

    content: Any
    at: float


class Model(RuleBasedStateMachine):
    """Users, resources and events; a subclass chooses the store."""

    case: ClassVar[TestCase]
    redis: ClassVar[RedisServer | None]

    def __init__(self) -> None:
        super().__init__()
        self.tokens: list[str | None] = [None]
        self.number = 0
        self.granted: dict[tuple[str | None, str], list[Shown]] = {}
        self.limited_until: dict[str | None, float] = {}
        self.limits = False
        self.homes: list[Home] = []
        self.clock = MovableReactor(reactor, reactor.seconds())
        self.run(self.begin())
        self.all_send_all(0)

    @staticmethod
    def run(doing: Coroutine[Deferred[Any], Any, R]) -> R:
        """Run a coroutine on the reactor, and wait for its end."""
        call: Any = blockingCallFromThread
        result: R = call(reactor, Deferred.fromCoroutine, doing)
        return result

    async def begin(self) -> None:
        if self.redis is not None:
            self.redis.send("FLUSHALL")
        github = self.github = GitHub(anonymous_limit=10**9)
        for login in USERS:
            self.tokens.append(f"{login}-0")
            github.user(login, tokens=[f"{login}-0"], limit=10**9)
        for thing in THINGS:
            github.put(thing, {"n": 0, "text": thing * 40})
        self.states: list[tuple[float, list[Any]]] = []
        self.responses: dict[tuple[str | None, str], float] = {}
        self.wrote: dict[str | None, float] = {}
        self.put_list([])
        self.put_alerts(0)
        self.own = 0
        github.put("/own", lambda login, _: {"of": login, "n": self.own})
        await github.listen()
        for _ in range(2 if self.redis else 1):
            self.homes.append(await self.another())

    async def another(self) -> Home:
        cache: dict[str, Any] = {"stale_limit": STALE_LIMIT_S}
        more: dict[str, dict[str, Any]] = {"cache": cache}
        if self.redis is not None:
            host, port = self.redis.address
            cache["backend"] = "redis"
            more["redis"] = {"url": f"redis://{host}:{port}", "timeout": 30.0, "pool_size": 2}
        # One time for all of them.
        return await open_home(self.case, self.github, self.clock, **more)

    def teardown(self) -> None:
        async def end() -> None:
            for home in self.homes:
                await home.close()
            await self.github.close()

        self.run(end())

    # Requests of clients.

    @rule(replica=replicas, user=users, path=paths, method=methods, no_cache=st.booleans())
    def send(self, replica: int, user: int, path: str, method: str, no_cache: bool) -> None:
        token = self.tokens[-1 - user % len(self.tokens)]
        self.run(self.check(replica, token, path, method, no_cache=no_cache))

    @rule(replica=replicas, path=paths)
    def all_send(self, replica: int, path: str) -> None:
        for token in self.tokens:
            self.run(self.check(replica, token, path, "GET", no_cache=False))

    @rule(replica=replicas)
    def all_send_all(self, replica: int) -> None:
        for path in PATHS:
            self.all_send(replica, path)

    @rule(replica=replicas, path=paths, kind=st.sampled_from(FAULTS), no_cache=st.booleans())
    def all_send_during_fault(self, replica: int, path: str, kind: str, no_cache: bool) -> None:
        """GitHub fails for this one step; granted content is served stale."""
        wrong = self.github.fault(None, kind)
        for token in self.tokens:
            self.run(self.check(replica, token, path, "GET", no_cache=no_cache))
        wrong.end()

    async def check(
        self, replica: int, token: str | None, path: str, method: str, *, no_cache: bool
    ) -> None:
        home = self.homes[replica % len(self.homes)]
        offline = home.parts.github_breaker.is_open
        excused = bool(self.github.faults) or self.is_limited(token) or offline
        headers = {"Cache-Control": "no-cache"} if no_cache else {}
        self.github.log.clear()
        got: Received | None = None
        try:
            got = await home.send(method, path, token=token, headers=headers)
        except Exception:
            # content that is not stored, such as a 401's, is streamed, and may turn out broken
            assert excused, f"{method} {path} as {token} broke off"
        sent = list(self.github.log)
        now = await self.itself(token, path, method)
        if got is None:
            self.note(token, sent, now, now, path)
            await self.all_written()
            return
        description = f"{method} {path} as {token}: {got.status} {got.outcome} {got.content[:80]!r}"
        if got.field("x-from-cache") is not None:
            assert excused, description
            assert not no_cache, description
            assert self.is_granted(token, path, got, method), description
            assert self.clock.at - self.last_granted(token, path) <= STALE_LIMIT_S + 1, description
        elif (
            got.outcome.startswith("detail=")
            or got.status in {429, 500, 503, 504}
            or (self.limits and got.status == 403)
        ):
            assert excused, description
        else:
            assert got.status == now.status, description
            seen = self.seen(got, home.url)
            if seen != self.seen(now, self.github.api_url):
                assert path in PAGES, description
                assert seen in await self.of_walk(token, path, method), description
        if not excused:
            self.responses[token, path] = self.clock.at
        self.note(token, sent, now, got, path)
        await self.note_proofs(token, sent, path)
        await self.all_written()

    async def note_proofs(self, token: str | None, sent: list[Any], path: str) -> None:
        """Note what GitHub granted of other pages, which the mirror requested itself."""
        for each in sent:
            target = each.target.decode()
            if target != path and target in PAGES and each.status in {200, 304}:
                page = await self.itself(token, target)
                if page.status == 200:
                    shown = Shown(self.neutral(page), self.clock.at)
                    self.granted.setdefault((token, target), []).append(shown)

    async def of_walk(self, token: str | None, path: str, method: str) -> list[tuple[Any, ...]]:
        """Return how a page may be seen: with the links of a state of the walk, and content of now.

        That is a state within the time of a walk, after the page was last responses to the
        credential and after the credential's last write. Without a credential there is none.
        """
        since = max(
            self.clock.at - WALK_S,
            self.responses.get((token, path), 0.0),
            self.wrote.get(token, 0.0),
        )
        seen = []
        for until, items in self.states:
            if until > since and token is not None:
                current = self.github.resources["/list"]
                self.github.put_list("/list", items)
                then = await self.itself(token, path, method)
                self.github.resources["/list"] = current
                now = await self.itself(token, path, method)
                mixed = self.seen(now, self.github.api_url)
                link = self.seen(then, self.github.api_url)[2]
                seen.append((*mixed[:2], link, *mixed[3:]))
        return seen

    @staticmethod
    def seen(got: Received, url: str) -> tuple[Any, ...]:
        etag = (got.field("etag") or "").removeprefix("W/")
        link = (got.field("link") or "").replace(url, "")
        content = got.plain.replace(url.encode(), b"") if got.content else b""
        return content, etag, link, got.field("x-oauth-scopes"), got.field("content-type")

    async def itself(self, token: str | None, path: str, method: str = "GET") -> Received:
        """Send a request to the stand-in without faults; it is not counted."""
        faults, log = list(self.github.faults), list(self.github.log)
        self.github.faults.clear()
        port = int(self.github.api_url.rpartition(":")[2])
        got = await fetch(method, port, path, token=token)
        self.github.faults.extend(faults)
        self.github.log.clear()
        self.github.log.extend(log)
        return got

    # The state of the model.

    def is_limited(self, token: str | None) -> bool:
        return self.clock.at < self.limited_until.get(token, 0.0)

    def is_granted(self, token: str | None, path: str, got: Received, method: str) -> bool:
        if method == "HEAD":
            return bool(self.granted.get((token, path)))
        content = self.neutral(got)
        return any(shown.content == content for shown in self.granted.get((token, path), ()))

    def last_granted(self, token: str | None, path: str) -> float:
        return max((shown.at for shown in self.granted.get((token, path), ())), default=0.0)

    def neutral(self, got: Received) -> bytes:
        """Return content without the URL of its server."""
        content = got.plain
        for url in (self.github.api_url, *(home.url for home in self.homes)):
            content = content.replace(url.encode(), b"")
        return content

    def note(
        self, token: str | None, sent: list[Any], now: Received, got: Received, path: str
    ) -> None:
        """Record GitHub's grants and refusals by its own responses."""
        for each in sent:
            target = each.target.decode()
            if each.status in {401, 404} or (each.status == 403 and not self.limits):
                for name in list(self.granted):
                    of_all = each.status == 401 and token is not None and name[0] == token
                    if of_all or name == (token, target):
                        del self.granted[name]
            elif each.status in {403, 429}:
                self.limited_until[token] = self.clock.at + LONGEST_LIMIT_S
            elif each.status in {200, 304} and target == path and now.status == 200:
                shown = Shown(self.neutral(now), self.clock.at)
                if now.content:
                    self.granted.setdefault((token, path), []).append(shown)
                elif (token, path) in self.granted:
                    last = self.granted[token, path][-1]
                    self.granted[token, path].append(Shown(last.content, self.clock.at))

    async def all_written(self) -> None:
        if self.redis is not None:
            await settled(*(home.parts.store for home in self.homes))

    # Events.

    def put_list(self, items: list[Any]) -> None:
        """Replace the list; note until when it was another one."""
        before: Any = self.github.resources.get("/list")
        if before is not None:
            self.states.append((self.clock.at, before.items))
        self.github.put_list("/list", items)

    def put_alerts(self, count: int) -> None:
        alerts = [{"n": number} for number in range(count)]
        self.github.put_list(ALERTS, alerts, cursor=True, honours_page=False)

    @rule(thing=st.sampled_from(THINGS))
    def change(self, thing: str) -> None:
        self.number += 1
        self.github.resources[thing].content = {"n": self.number}  # type: ignore[attr-defined]
        self.github.resources[thing].rendered.clear()  # type: ignore[attr-defined]

    @rule(back=st.sampled_from(THINGS))
    def change_back(self, back: str) -> None:
        """Restore the original content."""
        content = {"n": 0, "text": back * 40}
        self.github.resources[back].content = content  # type: ignore[attr-defined]
        self.github.resources[back].rendered.clear()  # type: ignore[attr-defined]

    @rule(count=st.integers(0, 5))
    def change_list(self, count: int) -> None:
        self.put_list([{"n": n} for n in range(count)])

    @rule(more=st.integers(1, 2))
    def change_alerts(self, more: int) -> None:
        """It grows, up to three pages: a `next` that leads to an empty page is not proved."""
        alerts: Any = self.github.resources[ALERTS]
        self.put_alerts(min(len(alerts.items) + more, 6))

    @rule(replica=replicas, user=users)
    def walk(self, replica: int, user: int) -> None:
        """A credential requests all pages of the list."""
        for path in PAGES:
            self.send(replica, user, path, "GET", no_cache=False)

    @rule()
    def change_own(self) -> None:
        self.own += 1

    @rule(replica=replicas, user=users, path=st.sampled_from((*THINGS, "/list")))
    def write(self, replica: int, user: int, path: str) -> None:
        token = self.tokens[-1 - user % len(self.tokens)]
        self.run(self.write_now(replica, token, path))

    async def write_now(self, replica: int, token: str | None, path: str) -> None:
        home = self.homes[replica % len(self.homes)]
        self.number += 1
        self.github.log.clear()
        method = "POST" if path == "/list" else "PATCH"
        before: Any = self.github.resources["/list"]
        items = before.items
        body = b'{"n": %d}' % self.number
        excused = bool(self.github.faults)
        try:
            await home.send(method, path, token=token, body=body)
        except Exception:
            assert excused, "a write broke off"
        if before.items is not items:
            self.states.append((self.clock.at, items))
        self.wrote[token] = self.clock.at
        for each in self.github.log:
            # a request without credential has none that could be revoked
            if each.status == 401 and token is not None:
                for name in [name for name in self.granted if name[0] == token]:
                    del self.granted[name]
            if each.status in {403, 429}:
                self.limited_until[token] = self.clock.at + LONGEST_LIMIT_S
            elif each.method.decode() == method and token is not None:
                # With any status, GitHub may have executed the write: grants from before it end.
                # GitHub executes none without a credential, so a shared name has its grants
                # unchanged.
                for name in [name for name in self.granted if name[0] == token]:
                    del self.granted[name]
        await self.all_written()

    @rule(login=st.sampled_from(USERS))
    def rotate(self, login: str) -> None:
        self.number += 1
        token = f"{login}-{self.number}"
        self.github.token(token, login)
        self.tokens.append(token)

    @rule(user=users)
    def revoke(self, user: int) -> None:
        token = self.tokens[-1 - user % len(self.tokens)]
        if token is not None:
            self.github.revoke(token)

    @rule(prefix=st.sampled_from((*THINGS, "/list", "/own")), shown=logins)
    def privacy(self, prefix: str, shown: set[str]) -> None:
        self.github.private(prefix, shown or None)

    @rule(
        kind=st.sampled_from(FAULTS),
        path=st.sampled_from((None, *THINGS, "/list")),
        times=st.integers(1, 6),
    )
    def fail(self, kind: str, path: str | None, times: int) -> None:
        self.github.fault(path, kind, times)

    @rule(kind=st.sampled_from(LIMITS), login=st.sampled_from((None, *USERS)))
    def limit(self, kind: str, login: str | None) -> None:
        self.github.fault(None, kind, times=1, login=login)
        self.limits = True

    @precondition(lambda self: self.github.faults)
    @rule()
    def heal(self) -> None:
        self.github.clear_faults()

    @rule(seconds=st.sampled_from((1.0, 11.0, 60.0, 4000.0, STALE_LIMIT_S + 60.0)))
    def pass_time(self, seconds: float) -> None:
        self.clock.at += seconds

    @rule(replica=replicas)
    def restart(self, replica: int) -> None:
        """The store in Redis is preserved; memory is lost."""

        async def anew() -> None:
            which = replica % len(self.homes)
            await self.homes[which].close()
            self.homes[which] = await self.another()

        self.run(anew())


def _settings() -> settings:
    """Return the extent of the search: constant in the suite, larger on request."""
    sent = int(os.environ.get("MODEL_EXAMPLES", "0"))
    return settings(
        max_examples=sent or 12,
        stateful_step_count=50 if sent else 25,
        derandomize=not sent,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        print_blob=True,
    )


class Against(TestCase):
    """The machine runs in a thread, the mirrors and the stand-in on the reactor."""

    timeout = 3600.0

    async def machine(self, server: RedisServer | None) -> None:
        case = self

        class Machine(Model):
            pass

        Machine.case, Machine.redis = case, server
        Machine.TestCase.settings = _settings()
        await deferToThread(run_state_machine_as_test, Machine, settings=_settings())

    async def test_model_with_memory_store(self) -> None:
        """One mirror, whose memory store is empty after each restart, agrees with the model."""
        await self.machine(None)

    async def test_model_with_redis_store(self) -> None:
        """Two mirrors on one Redis agree with the model."""
        await self.machine(start_redis(self))
