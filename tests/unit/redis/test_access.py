"""How one gets in: TLS, passwords, users, databases, sockets, names."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from attrs import define
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IHostnameResolver
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from ghmirror_tw.redis.address import Address, Credentials
from ghmirror_tw.redis.circuit_breaker import CircuitState
from ghmirror_tw.runtime.certificate_authorities import ReplaceableTrust, trust_root
from tests.harness.certificates import Authority
from tests.harness.redis_servers import free_port, start_redis
from tests.unit.redis.nodes import GET, SET, SOON_S, WRITE, command, watched_node, working_node


def logged(test: TestCase) -> list[str]:
    """Give what is logged from now on."""
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        lines.append(f"{formatEvent(event)} {event}")

    globalLogPublisher.addObserver(observe)
    test.addCleanup(globalLogPublisher.removeObserver, observe)
    return lines


class Tls(TestCase):
    """A server's certificate is looked at."""

    async def test_trusted(self) -> None:
        """By whom is trusted, for the name or the IP address that is asked."""
        authority = Authority.new()
        server = start_redis(self, authority=authority, password="s")
        for host in ("127.0.0.1", "localhost"):
            watched = await working_node(
                self,
                (host, server.port),
                trust=trust_root(authority.pem),
                credentials=lambda: Credentials("", "s"),
            )
            assert await watched.outcome(SET, GET, purpose=WRITE) == ["OK", b"1"]
            big = "x" * 3_000_000
            replies = await watched.ask(command("SET", "t:b", big), command("GET", "t:b"))
            assert replies == ["OK", big.encode()]

    async def test_replaced(self) -> None:
        """Who is trusted may change: connections that are made before stay, later ones heed it."""
        authority = Authority.new()
        server = start_redis(self, authority=authority)
        trust = ReplaceableTrust(trust_root(authority.pem))
        watched = await working_node(self, server.address, trust=trust)
        trust.current = trust_root(Authority.new().pem)
        assert await watched.outcome(GET) == [None]
        assert not watched.failures
        server.restart()
        await watched.until(
            lambda: any("certificate verify failed" in why for why in watched.failures)
        )
        trust.current = trust_root(authority.pem)
        await watched.works()

    async def refused(self, address: tuple[str, int], authority: Authority) -> str:
        """See that nothing is said to a server, and return why."""
        watched = watched_node(
            self,
            address,
            trust=trust_root(authority.pem),
            credentials=lambda: Credentials("", "hunter2"),
            timeout_s=SOON_S,
        )
        watched.node.open()
        await watched.node.settled()
        assert not watched.node.reading
        assert await watched.outcome(GET) == "open"
        await watched.node.close()
        return watched.failures[0]

    async def test_unknown_authority(self) -> None:
        """Whom nobody knows is told nothing, not even the password."""
        server = start_redis(self, authority=Authority.new())
        why = await self.refused(server.address, Authority.new())
        assert "certificate verify failed" in why

    async def test_another_name(self) -> None:
        """A good certificate for another host is none for this one."""
        authority = Authority.new()
        server = start_redis(self, authority=authority, names=("redis.example", "10.0.0.1"))
        for host in ("127.0.0.1", "localhost"):
            assert await self.refused((host, server.port), authority)

    async def test_no_tls(self) -> None:
        """Whoever does not speak TLS is not spoken to without it."""
        server = start_redis(self)
        await self.refused(server.address, Authority.new())
        assert "hunter2" not in server.log_text


class Passwords(TestCase):
    """A password is asked for again at each attempt, and seen nowhere."""

    async def test_wrong_at_first(self) -> None:
        """A wrong one ends the attempt and not the attempts; the right one is taken when there."""
        lines = logged(self)
        server = start_redis(self, password="right-one")
        current = ["wrong-one"]
        watched = watched_node(
            self, server.address, credentials=lambda: Credentials("", current[0])
        )
        watched.node.open()
        await watched.until(lambda: len(watched.failures) >= 3)
        assert all("WRONGPASS" in why for why in watched.failures)
        assert sum("Redis unreachable" in line for line in lines) == 1
        current[0] = "right-one"
        await watched.works()
        assert await watched.outcome(GET) == [None]
        assert not [line for line in lines if "wrong-one" in line or "right-one" in line]

    async def test_none_where_one_is_needed(self) -> None:
        """It can't be used, and says why."""
        server = start_redis(self, password="s")
        watched = watched_node(self, server.address)
        watched.node.open()
        await watched.node.settled()
        assert "NOAUTH" in watched.node.reason

    async def test_changed(self) -> None:
        """One that is changed is used as soon as there is a new connection."""
        server = start_redis(self, password="old")
        current = ["old"]
        watched = await working_node(
            self, server.address, credentials=lambda: Credentials("", current[0])
        )
        server.ask("CONFIG", "SET", "requirepass", "new")
        server.password = current[0] = "new"
        server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await watched.fails()
        await watched.works()

    async def test_can_not_be_had(self) -> None:
        """A file that can't be read is a failed attempt; what was in it is not told."""
        lines = logged(self)
        server = start_redis(self, password="s")
        files = [False, False, True]

        def credentials() -> Credentials:
            if files and not files.pop(0):
                raise ValueError("hunter2 is no password")
            return Credentials("", "s")

        watched = watched_node(self, server.address, credentials=credentials)
        watched.node.open()
        await watched.works()
        assert watched.failures == ["the password cannot be read (ValueError)"] * 2
        assert not [line for line in lines if "hunter2" in line]
        assert "hunter2" not in repr(Credentials("", "hunter2"))

    async def test_repeated_by_the_server(self) -> None:
        """A server without AUTH repeats what it was told; it is not told on."""
        lines = logged(self)
        server = start_redis(self, options=[("rename-command", 'AUTH ""')])
        watched = watched_node(
            self, server.address, credentials=lambda: Credentials("m", "hunter2")
        )
        watched.node.open()
        await watched.node.settled()
        assert "unknown command" in watched.node.reason
        assert "hunter2" not in watched.node.reason
        assert not [line for line in lines if "hunter2" in line]


class Users(TestCase):
    """Users who may do some things."""

    async def test_enough(self) -> None:
        """Keys under the prefix, and the commands that are needed."""
        server = start_redis(self, users=["m on >s ~t:* +@read +@write +@connection"])
        watched = await working_node(
            self, server.address, credentials=lambda: Credentials("m", "s")
        )
        assert await watched.outcome(SET, GET, purpose=WRITE) == ["OK", b"1"]

    async def test_who_may_not_write(self) -> None:
        """May still read; a script is told the same."""
        server = start_redis(self, users=["m on >s ~t:* +@read +@connection +@scripting"])
        watched = watched_node(self, server.address, credentials=lambda: Credentials("m", "s"))
        watched.node.open()
        await watched.node.settled()
        assert watched.node.reading
        assert not watched.node.writing
        assert "NOPERM" in watched.node.reason
        script = command("EVAL", "return redis.call('SET', KEYS[1], 'x')", "1", "t:a")
        watched.node._health.writes.state = CircuitState.CLOSED
        assert await watched.outcome(script, purpose=WRITE) == "noperm"
        assert await watched.outcome(GET) == [None]

    async def test_who_may_not_read(self) -> None:
        """Is known not to at once, though writing is not even tried then."""
        server = start_redis(self, users=["m on >s ~t:* +@all -get"])
        watched = watched_node(self, server.address, credentials=lambda: Credentials("m", "s"))
        watched.node.open()
        await watched.node.settled()
        assert not watched.node.reading
        assert not watched.node.writing
        assert "NOPERM" in watched.node.reason

    async def test_who_may_not_select(self) -> None:
        """The attempt fails and not those after it: when it is allowed, it works."""
        server = start_redis(self, users=["m on >s ~t:* +@all -select"])
        watched = watched_node(
            self, server.address, credentials=lambda: Credentials("m", "s"), database=3
        )
        watched.node.open()
        await watched.until(lambda: len(watched.failures) >= 3)
        assert all("NOPERM" in why for why in watched.failures)
        server.ask("ACL", "SETUSER", "m", "+select")
        await watched.works()
        assert await watched.outcome(SET, purpose=WRITE) == ["OK"]
        with server.client() as client:
            client.ask("SELECT", 3)
            assert client.ask("GET", "t:a") == b"1"

    async def test_who_may_not_ping(self) -> None:
        """Needs to be told."""
        server = start_redis(self, users=["m on >s ~t:* +@all -ping"])
        watched = watched_node(self, server.address, credentials=lambda: Credentials("m", "s"))
        watched.node.open()
        await watched.node.settled()
        assert "'ping'" in watched.node.reason


class Sockets(TestCase):
    """A UNIX socket does as well."""

    async def test_socket(self) -> None:
        """It works, and again after a restart; without one, it says so."""
        server = start_redis(self)
        watched = await working_node(self, Address(path=str(server.socket)))
        assert await watched.outcome(SET, GET, purpose=WRITE) == ["OK", b"1"]
        server.kill()
        await watched.fails()
        server.start()
        await watched.works()
        missing = Path(tempfile.mkdtemp()) / "missing"
        nowhere = watched_node(self, Address(path=str(missing)))
        nowhere.node.open()
        await nowhere.node.settled()
        assert not nowhere.node.reading


@implementer(IHostnameResolver)
@define(eq=False)
class Names:
    """Knows one name, which may lead elsewhere any time."""

    addresses: list[str]
    asked: int = 0

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[Any] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        self.asked += 1
        resolutionReceiver.resolutionBegan(cast("Any", self))
        if hostName == "redis.example":
            for address in self.addresses:
                resolutionReceiver.addressResolved(IPv4Address("TCP", address, portNumber))
        resolutionReceiver.resolutionComplete()
        return self


class Resolving(TestCase):
    """Where a name leads is looked up again."""

    def names(self, *addresses: str) -> Names:
        """Have our name lead there, until the test is over."""
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        names = Names(list(addresses))
        before = cast("Any", reactor).installNameResolver(names)
        self.addCleanup(cast("Any", reactor).installNameResolver, before)
        return names

    async def test_moved(self) -> None:
        """At each attempt: a server that comes back elsewhere is found by its name."""
        port = free_port()
        one = start_redis(self, host="127.0.0.1", port=port)
        other = start_redis(self, host="127.0.0.2", port=port)
        other.ask("SET", "t:a", "other")
        names = self.names("127.0.0.1")
        watched = await working_node(self, ("redis.example", port))
        assert await watched.outcome(GET) == [None]
        names.addresses = ["127.0.0.2"]
        one.kill()
        await watched.fails()
        await watched.works()
        assert await watched.outcome(GET) == [b"other"]

    async def test_failed_over(self) -> None:
        """A primary that became a replica is left for whom the name leads to by now."""
        port = free_port()
        one = start_redis(self, host="127.0.0.1", port=port)
        other = start_redis(self, host="127.0.0.2", port=port)
        names = self.names("127.0.0.1")
        watched = await working_node(self, ("redis.example", port))
        one.ask("REPLICAOF", *other.address)
        names.addresses = ["127.0.0.2"]
        assert await watched.outcome(SET, purpose=WRITE) == "readonly"
        await watched.works()
        await watched.full()
        assert await watched.outcome(SET, purpose=WRITE) == ["OK"]
        assert other.ask("GET", "t:a") == b"1"
        assert (False, False) not in watched.changes

    async def test_unknown(self) -> None:
        """A name that leads nowhere is tried again."""
        server = start_redis(self)
        names = self.names()
        watched = watched_node(self, ("redis.example", server.port))
        watched.node.open()
        await watched.until(lambda: len(watched.failures) >= 2)
        assert "redis.example" in watched.node.reason
        names.addresses = ["127.0.0.1"]
        await watched.works()
