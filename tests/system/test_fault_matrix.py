"""Every fault, with every stored state and request, with both stores: see `fault_table`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from itertools import product
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from twisted.web.client import ResponseFailed

from tests.fakes.github import GitHub
from tests.harness import fault_table
from tests.harness.fault_table import AWAY, BROKEN, CELLS, HOLDINGS, METHODS, ROWS, kind_of
from tests.harness.home import Home, Received, open_home, turn, until
from tests.harness.redis_servers import RedisServer
from tests.harness.redis_stores import settled
from tests.harness.timers import Timers, with_timers

#: Fields of a credential, and of a response of GitHub.
PERSONAL = ("x-ratelimit-", "x-oauth-", "x-accepted-", "github-authentication-", "x-github-re")


def shown(got: Received) -> str:
    """Return the text of a cell for a response."""
    return f"{got.status} {got.outcome}"


#: Those of them that a stale response has: the last that GitHub sent to this credential.
STALE_TOO = ("x-ratelimit-", "x-oauth-scopes")


def personal(got: Received) -> list[str]:
    """Return the fields of a response that only GitHub itself can send."""
    names = [name.decode().lower() for name, _ in got.fields.getAllRawHeaders()]
    found = [name for name in names if name.startswith(PERSONAL) or name == "set-cookie"]
    stale = got.field("x-from-cache") is not None
    return [name for name in found if not (stale and name.startswith(STALE_TOO))]


class Complete(TestCase):
    """The table itself."""

    def test_each_fault_has_a_row(self) -> None:
        """Each fault of the stand-in has a row, or a reason for its absence."""
        assert fault_table.missing() == set()
        assert not set(fault_table.NO_TROUBLE) & set(ROWS)

    def test_each_combination_has_a_test(self) -> None:
        """Each combination is in the table or has a reason for its absence; each row is a test."""
        every = set(product(ROWS, HOLDINGS, METHODS))
        assert set(CELLS) | set(fault_table.LEFT_OUT) == every
        assert not set(CELLS) & set(fault_table.LEFT_OUT)
        assert len(every) == 20 * 3 * 3
        for case in (InMemory, InRedis):
            tests = {name for name in dir(case) if name.startswith("test_fault_")}
            assert len(tests) == len(ROWS), case


class Matrix:
    """The test of all rows; a subclass chooses the store."""

    home: Home
    github: GitHub
    timers: Timers

    async def another(self, **more: Any) -> Home:
        raise NotImplementedError

    async def begin(self) -> None:
        """Start a mirror whose clocks can be pushed on."""
        self.home = await self.another()
        self.github = self.home.github
        self.timers = with_timers(self.home)

    async def row(self, fault: str) -> None:
        """Go through all cells of one fault."""
        await self.begin()
        for holding, method in product(HOLDINGS, METHODS):
            if (fault, holding, method) in CELLS:
                cell = f"{fault}, {holding}, {method}"
                await self.cell(fault, holding, method, cell)

    async def cell(self, fault: str, holding: str, method: str, cell: str) -> None:
        """Inject one fault, and check everything."""
        github, expected = self.github, CELLS[fault, holding, method]
        path, mine, others = f"/{holding}/{method}", f"me-{cell}", f"bob-{cell}"
        mine, others = mine.replace(", ", "-"), others.replace(", ", "-")
        for token, login in ((mine, "alice"), (others, "bob")):
            github.token(token, login)
            self.home.accept(token)
        content = {"a": 1, "text": " ".join(map(str, range(2000)))}
        github.put(path, content, private_to=["alice", "bob"])
        stored = {"own": mine, "other": others}.get(holding, "")
        if stored:
            assert (await self.home.get(path, token=stored)).json == content, cell
            await self.all_written()
        body = b'{"b": 2}' if method == "PATCH" else None
        send = lambda: self.home.send(method, path, token=mine, body=body)  # noqa: E731

        got, sent = await self.during(fault, path, send, head=method == "HEAD")
        assert (BROKEN if got is None else shown(got)) == expected, cell
        assert sent == self.sent(fault, holding, method), cell
        if got is not None:
            self.look(got, method, content, cell)
        if kind_of(fault)[1] is not None:
            await self.while_limited(fault, path, send, got, cell)
        await self.afterwards(path, mine, others, cell)

    async def during(
        self,
        fault: str,
        path: str,
        send: Callable[[], Coroutine[Deferred[Any], Any, Received]],
        *,
        head: bool,
    ) -> tuple[Received | None, int]:
        """Send a request during a fault; return the response and how many reached GitHub."""
        github, (kind, status) = self.github, kind_of(fault)
        github.log.clear()
        if kind == AWAY:
            await github.go_away()
            got: Received | None = await send()
            await github.come_back()
            return got, len(github.log)
        if status is not None:
            github.limit_status = github.secondary_status = status
        wrong = github.fault(path, kind)
        self.timers.is_idle = False
        pending = Deferred.fromCoroutine(send())
        if kind == "timeout" or (kind == "idle-in-content" and not head):
            await until(lambda: wrong.seen > 0)
            if kind == "idle-in-content":
                # Not before the first half was received.
                await until(lambda: pending.called or self.timers.is_idle)
            self.timers.end_shortest()
        try:
            got = await pending
        except ResponseFailed:
            got = None
        wrong.end()
        # A request that continues after its client has a response ends as well.
        while self.home.parts.mirror.flights.detached:
            self.timers.end_shortest()
            await turn()
        return got, wrong.seen

    @staticmethod
    def sent(fault: str, holding: str, method: str) -> int:
        """Return the number of upstream requests: one, unless a retry is allowed.

        Reading is retried on a new connection, when an idle one is closed at once.
        """
        if fault == AWAY:
            return 0
        return 2 if fault in {"refuse", "reset"} and method != "PATCH" else 1

    def look(self, got: Received, method: str, content: object, cell: str) -> None:
        """Check the fields and the content of a response."""
        if "detail=" not in got.outcome:
            # GitHub's own.
            assert got.field("age") is None, cell
            return
        assert personal(got) == [], cell
        assert got.field("retry-after") is None, cell
        if method == "HEAD":
            assert got.content == b"", cell
        if got.status == 200:
            assert got.field("x-from-cache") == "1", cell
            assert int(got.field("age") or -1) >= 0, cell
            assert got.field("x-cache") == "HIT", cell
            assert got.field("etag"), cell
            assert method == "HEAD" or got.json == content, cell
            return
        assert got.field("x-from-cache") is None, cell
        assert got.field("content-type") == "application/json; charset=utf-8", cell
        if method != "HEAD":
            assert set(got.json) == {"message", "documentation_url", "status"}, cell

    async def while_limited(
        self,
        fault: str,
        path: str,
        send: Callable[[], Coroutine[Deferred[Any], Any, Received]],
        first: Received | None,
        cell: str,
    ) -> None:
        """After a limit no more requests are sent, and the remaining time decreases."""
        assert first is not None
        reason = "primary-limit" if fault.startswith("primary") else "secondary-limit"
        self.github.log.clear()
        again = await send()
        assert len(self.github.log) == 0, cell
        if first.status == 200:
            assert shown(again) == f"200 hit; detail={reason}", cell
            assert personal(again) == [], cell
        else:
            assert shown(again) == f"{first.status} detail={reason}", cell
            left = again.field("retry-after")
            self.home.move_on(10.0)
            later = (await send()).field("retry-after")
            if reason == "primary-limit":
                assert left is later is None, cell
            else:
                assert 0 < int(left or 0) <= 3600, cell
                assert int(left or 0) - 12 <= int(later or 0) <= int(left or 0) - 10, cell
            assert again.plain == first.plain, cell
            assert len(self.github.log) == 0, cell
        self.home.move_on(3600.0)

    async def afterwards(self, path: str, mine: str, others: str, cell: str) -> None:
        """After the fault all users get their own responses, and the stored ones are correct."""
        await self.all_written()
        now = self.github.resources[path].content  # type: ignore[attr-defined]
        for token in (mine, others):
            got = await self.home.get(path, token=token)
            assert (got.status, got.json) == (200, now), cell
            assert "hit" not in got.outcome, cell
            assert "detail=t" not in got.outcome, cell
        for stranger in ("carol-1", None):
            assert (await self.home.get(path, token=stranger)).status == 404, cell
        await self.all_written()
        wrong = self.github.fault(path, "503")
        for token in (mine, others):
            got = await self.home.get(path, token=token)
            assert shown(got) == "200 fwd=stale; fwd-status=503; detail=server-error", cell
            assert got.json == now, cell
        assert (await self.home.get(path, token="carol-1")).status == 503, cell
        wrong.end()
        # One success, so that the faults of other cells are not counted together.
        assert (await self.home.get(path, token=mine)).status == 200, cell

    async def all_written(self) -> None:
        """Return when what was stated is stored."""


class InMemory(Matrix, TestCase):
    """All faults, with the memory store."""

    async def another(self, **more: Any) -> Home:
        return await open_home(self, **more)


class InRedis(Matrix, TestCase):
    """All faults, with a Redis server."""

    server: ClassVar[RedisServer]

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = RedisServer()
        cls.addClassCleanup(cls.server.remove)

    async def another(self, **more: Any) -> Home:
        self.server.send("FLUSHALL")
        host, port = self.server.address
        redis = {"url": f"redis://{host}:{port}", "timeout": 30.0}
        return await open_home(self, cache={"backend": "redis"}, redis=redis, **more)

    async def all_written(self) -> None:
        await settled(self.home.parts.store)


def _row(fault: str) -> Callable[[Matrix], Coroutine[Deferred[Any], Any, None]]:
    async def test(self: Matrix) -> None:
        await self.row(fault)

    test.__doc__ = f"The cells of {fault} in the table."
    return test


def _add_rows(case: type[TestCase]) -> None:
    for fault in ROWS:
        setattr(case, f"test_fault_{fault.replace('-', '_')}", _row(fault))


_add_rows(InMemory)
_add_rows(InRedis)
