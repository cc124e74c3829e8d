"""How a node gets access: TLS, passwords, users, databases, sockets, names."""

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

from ghmirror_tw.redis.circuit_breaker import CircuitState
from ghmirror_tw.redis.server_endpoint import Address, Credentials
from ghmirror_tw.runtime.certificate_authorities import ReplaceableTrust, trust_root
from tests.harness.certificates import Authority
from tests.harness.redis_servers import free_port, start_redis
from tests.unit.redis.watched_nodes import (
    GET,
    SET,
    SOON_S,
    WRITE,
    command,
    watched_node,
    working_node,
)


def logged(test: TestCase) -> list[str]:
    """Return a list of all later log messages."""
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        lines.append(f"{formatEvent(event)} {event}")

    globalLogPublisher.addObserver(observe)
    test.addCleanup(globalLogPublisher.removeObserver, observe)
    return lines


class Tls(TestCase):
    """The certificate of a server is verified."""

    async def test_trusted_certificates(self) -> None:
        """A trusted authority has signed for the name or the IP address."""
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
            replies = await watched.execute(command("SET", "t:b", big), command("GET", "t:b"))
            assert replies == ["OK", big.encode()]

    async def test_replaced_authorities(self) -> None:
        """Connections made before stay; later ones are verified by the new authorities."""
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
        """Assert that no command reaches a server, and return why."""
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

    async def test_an_unknown_authority_is_rejected(self) -> None:
        """The server receives nothing, not even the password."""
        server = start_redis(self, authority=Authority.new())
        why = await self.refused(server.address, Authority.new())
        assert "certificate verify failed" in why

    async def test_a_certificate_for_another_host_is_rejected(self) -> None:
        """Its authority is trusted."""
        authority = Authority.new()
        server = start_redis(self, authority=authority, names=("redis.example", "10.0.0.1"))
        for host in ("127.0.0.1", "localhost"):
            assert await self.refused((host, server.port), authority)

    async def test_a_server_without_tls_is_rejected(self) -> None:
        """No command is sent without TLS."""
        server = start_redis(self)
        await self.refused(server.address, Authority.new())
        assert "hunter2" not in server.log_text


class Passwords(TestCase):
    """The password is read at each attempt, and appears nowhere."""

    async def test_a_wrong_password_fails_one_attempt(self) -> None:
        """A later attempt uses the right one as soon as it is in the file."""
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

    async def test_a_missing_password(self) -> None:
        """The node is unavailable, with the reason."""
        server = start_redis(self, password="s")
        watched = watched_node(self, server.address)
        watched.node.open()
        await watched.node.settled()
        assert "NOAUTH" in watched.node.reason

    async def test_a_changed_password_is_used_by_new_connections(self) -> None:
        """Earlier connections stay."""
        server = start_redis(self, password="old")
        current = ["old"]
        watched = await working_node(
            self, server.address, credentials=lambda: Credentials("", current[0])
        )
        server.send("CONFIG", "SET", "requirepass", "new")
        server.password = current[0] = "new"
        server.send("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await watched.fails()
        await watched.works()

    async def test_an_unreadable_password_file(self) -> None:
        """The attempt fails, and the file's content is not in the message."""
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

    async def test_the_server_repeats_the_password(self) -> None:
        """A server without AUTH does; the message is redacted."""
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
    """Users with some permissions."""

    async def test_sufficient_permissions(self) -> None:
        """Keys under the prefix, and the commands that are used."""
        server = start_redis(self, users=["m on >s ~t:* +@read +@write +@connection"])
        watched = await working_node(
            self, server.address, credentials=lambda: Credentials("m", "s")
        )
        assert await watched.outcome(SET, GET, purpose=WRITE) == ["OK", b"1"]

    async def test_a_user_with_permission_to_read_only(self) -> None:
        """Reads work; writes fail, in scripts as well."""
        server = start_redis(self, users=["m on >s ~t:* +@read +@connection +@scripting"])
        watched = watched_node(self, server.address, credentials=lambda: Credentials("m", "s"))
        watched.node.open()
        await watched.node.settled()
        assert watched.node.reading
        assert not watched.node.writing
        assert "NOPERM" in watched.node.reason
        script = command("EVAL", "return redis.call('SET', KEYS[1], 'x')", "1", "t:a")
        watched.node.health.writes.state = CircuitState.CLOSED
        assert await watched.outcome(script, purpose=WRITE) == "noperm"
        assert await watched.outcome(GET) == [None]

    async def test_a_user_without_permission_to_read(self) -> None:
        """This is known at once; writes are not even probed."""
        server = start_redis(self, users=["m on >s ~t:* +@all -get"])
        watched = watched_node(self, server.address, credentials=lambda: Credentials("m", "s"))
        watched.node.open()
        await watched.node.settled()
        assert not watched.node.reading
        assert not watched.node.writing
        assert "NOPERM" in watched.node.reason

    async def test_a_user_without_permission_to_select(self) -> None:
        """The attempt fails; a later one succeeds with the permission."""
        server = start_redis(self, users=["m on >s ~t:* +@all -select"])
        watched = watched_node(
            self, server.address, credentials=lambda: Credentials("m", "s"), database=3
        )
        watched.node.open()
        await watched.until(lambda: len(watched.failures) >= 3)
        assert all("NOPERM" in why for why in watched.failures)
        server.send("ACL", "SETUSER", "m", "+select")
        await watched.works()
        assert await watched.outcome(SET, purpose=WRITE) == ["OK"]
        with server.client() as client:
            client.send("SELECT", 3)
            assert client.send("GET", "t:a") == b"1"

    async def test_a_user_without_permission_to_ping(self) -> None:
        """The reason names the command."""
        server = start_redis(self, users=["m on >s ~t:* +@all -ping"])
        watched = watched_node(self, server.address, credentials=lambda: Credentials("m", "s"))
        watched.node.open()
        await watched.node.settled()
        assert "'ping'" in watched.node.reason


class Sockets(TestCase):
    """UNIX sockets."""

    async def test_a_unix_socket(self) -> None:
        """It works, after a restart as well; without the socket, the reason is known."""
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
    """Resolves one name, to an address that may change at any time."""

    addresses: list[str]

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[Any] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        resolutionReceiver.resolutionBegan(cast("Any", self))
        if hostName == "redis.example":
            for address in self.addresses:
                resolutionReceiver.addressResolved(IPv4Address("TCP", address, portNumber))
        resolutionReceiver.resolutionComplete()
        return self


class Resolving(TestCase):
    """Names are resolved at each attempt."""

    def names(self, *addresses: str) -> Names:
        """Resolve the name to *addresses* until the end of the test."""
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        names = Names(list(addresses))
        before = cast("Any", reactor).installNameResolver(names)
        self.addCleanup(cast("Any", reactor).installNameResolver, before)
        return names

    async def test_a_server_with_a_new_address_is_found(self) -> None:
        """The name is resolved at each attempt."""
        port = free_port()
        one = start_redis(self, host="127.0.0.1", port=port)
        other = start_redis(self, host="127.0.0.2", port=port)
        other.send("SET", "t:a", "other")
        names = self.names("127.0.0.1")
        watched = await working_node(self, ("redis.example", port))
        assert await watched.outcome(GET) == [None]
        names.addresses = ["127.0.0.2"]
        one.kill()
        await watched.fails()
        await watched.works()
        assert await watched.outcome(GET) == [b"other"]

    async def test_connections_leave_a_demoted_primary(self) -> None:
        """They are replaced, by the address that the name has by then."""
        port = free_port()
        one = start_redis(self, host="127.0.0.1", port=port)
        other = start_redis(self, host="127.0.0.2", port=port)
        names = self.names("127.0.0.1")
        watched = await working_node(self, ("redis.example", port))
        one.send("REPLICAOF", *other.address)
        names.addresses = ["127.0.0.2"]
        assert await watched.outcome(SET, purpose=WRITE) == "readonly"
        await watched.works()
        await watched.full()
        assert await watched.outcome(SET, purpose=WRITE) == ["OK"]
        assert other.send("GET", "t:a") == b"1"
        assert (False, False) not in watched.changes

    async def test_a_name_that_cannot_be_resolved(self) -> None:
        """It is tried again."""
        server = start_redis(self)
        names = self.names()
        watched = watched_node(self, ("redis.example", server.port))
        watched.node.open()
        await watched.until(lambda: len(watched.failures) >= 2)
        assert "redis.example" in watched.node.reason
        names.addresses = ["127.0.0.1"]
        await watched.works()
