"""A real primary under Sentinels, which fails under load."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from ghmirror_tw.redis.sentinel_queries import PrimaryFinder
from ghmirror_tw.redis.sentinel_servers import Sentinels
from ghmirror_tw.redis.server_endpoint import Address, Credentials
from ghmirror_tw.redis.servers_interface import (
    IServers,
    Purpose,
    RedisUnavailableError,
    ServerFault,
)
from ghmirror_tw.runtime.certificate_authorities import trust_root
from tests.fakes.interposer import interpose
from tests.harness.certificates import Authority
from tests.harness.redis_servers import RedisServer
from tests.harness.redis_sets import SERVICE, SentinelSet, open_sentinels
from tests.unit.redis.command_load import aside, maker, until
from tests.unit.redis.watched_nodes import TIMEOUT_S, command

NEVER_S = 1e6
SECRET = "correct-horse"


def watched(case: TestCase, servers: SentinelSet, **changes: Any) -> Sentinels:
    """Return servers that are closed at the end of the test; they are not opened yet."""
    login = Credentials(changes.pop("username", ""), changes.pop("password", None))
    check_s = changes.pop("check_s", NEVER_S)
    service = changes.pop("service", SERVICE)
    places = changes.pop("places", servers.places)
    finder = PrimaryFinder(
        reactor=reactor,
        sentinels=[Address(*place) for place in places],
        service=service,
        credentials=lambda: login,
    )
    sentinels = Sentinels(
        reactor=reactor,
        finder=finder,
        make=maker(login, **changes),
        random=random.random,
        check_s=check_s,
    )
    case.addCleanup(sentinels.close)
    return sentinels


async def working(case: TestCase, servers: SentinelSet, **changes: Any) -> Sentinels:
    """Return servers that are available."""
    sentinels = watched(case, servers, **changes)
    sentinels.open()
    await until(lambda: sentinels.reading and sentinels.writing)
    return sentinels


def state(sentinels: Sentinels) -> tuple[Address | None, bool, bool]:
    """Return the primary, and whether it can be read and written."""
    return sentinels.primary, sentinels.reading, sentinels.writing


def at(server: RedisServer) -> tuple[Address | None, bool, bool]:
    """Return the state in which this server is the primary and available."""
    return Address(*server.address), True, True


@define(eq=False)
class Writer:
    """Writes one key after the other, and notes the successful ones."""

    sentinels: Sentinels
    stopped: bool = False
    number: int = 0
    stored: list[int] = field(factory=list)
    failures: list[str] = field(factory=list)
    wrong: list[BaseException] = field(factory=list)
    ended: Deferred[None] = field(init=False)

    @classmethod
    def on(cls, case: TestCase, sentinels: Sentinels) -> Writer:
        """Begin to write, until the end of the test at the latest."""
        writer = cls(sentinels)
        writer.ended = Deferred.fromCoroutine(writer.run())
        case.addCleanup(writer.stop)
        return writer

    async def run(self) -> None:
        """Write one value after the other."""
        while not self.stopped:
            self.number += 1
            written = command("SET", f"t:{self.number}", "1")
            try:
                await self.sentinels.send(b"t", [written], Purpose.WRITE, TIMEOUT_S)
            except RedisUnavailableError as error:
                self.failures.append(error.reason)
                await deferLater(reactor, 0.002)
            except Exception as error:
                self.wrong.append(error)
                return
            else:
                self.stored.append(self.number)

    async def continues(self, count: int = 50) -> None:
        """Return when so many more are stored, or a reply was wrong."""
        goal = len(self.stored) + count
        await until(lambda: len(self.stored) >= goal or bool(self.wrong))

    def stop(self) -> Deferred[None]:
        """Stop, and fire when no write is under way."""
        self.stopped = True
        ended, self.ended = self.ended, Deferred()
        ended.chainDeferred(self.ended)
        return ended

    async def lost(self, server: RedisServer, since: int) -> Sequence[int]:
        """Return the successful writes since a number that a server does not have."""
        numbers = [number for number in self.stored if number >= since]
        got = await aside(server.send, "MGET", *(f"t:{number}" for number in numbers))
        return [number for number, value in zip(numbers, got, strict=True) if value is None]


class Found(TestCase):
    """How the primary is found."""

    async def test_any_sentinel_names_the_primary(self) -> None:
        """Other Sentinels are away."""
        servers = await open_sentinels(self)
        servers.sentinels[0].pause()
        servers.sentinels[1].kill()
        sentinels = watched(self, servers)
        verifyObject(IServers, sentinels)
        sentinels.open()
        await sentinels.settled()
        assert state(sentinels) == at(servers.servers[0])
        assert await sentinels.send(b"t", [command("PING")], Purpose.READ, TIMEOUT_S) == ["PONG"]

    async def test_commands_fail_while_the_primary_is_unknown(self) -> None:
        """At once, until a Sentinel names it."""
        servers = await open_sentinels(self)
        for sentinel in servers.sentinels:
            sentinel.kill()
        sentinels = watched(self, servers)
        other = watched(self, servers, service="another")
        for each in (sentinels, other):
            each.open()
            await each.settled()
            with self.assertRaises(RedisUnavailableError):
                await each.send(b"t", [command("PING")], Purpose.READ, TIMEOUT_S)
            assert each.fault == ServerFault("", each.finder.reason)
        for sentinel in servers.sentinels:
            await aside(sentinel.start)
        await until(lambda: state(sentinels) == at(servers.servers[0]))
        await until(lambda: "knows no service" in other.finder.reason)
        assert other.primary is None
        await until(lambda: sentinels.fault is None)
        assert other.fault is not None
        assert "knows no service" in other.fault.reason

    async def test_the_majority_of_sentinels_decides(self) -> None:
        """A single one that names another primary is outvoted."""
        servers = await open_sentinels(self)
        other = await aside(RedisServer)
        self.addCleanup(other.remove)
        misled, *rest = servers.sentinels
        await aside(misled.send, "SENTINEL", "REMOVE", SERVICE)
        await aside(misled.send, "SENTINEL", "MONITOR", SERVICE, *other.address, "2")
        for _ in range(5):
            sentinels = watched(self, servers)
            sentinels.open()
            await sentinels.settled()
            assert state(sentinels) == at(servers.servers[0])
        for sentinel in rest:
            sentinel.kill()
        alone = watched(self, servers)
        alone.open()
        await alone.settled()
        assert state(alone) == at(other)

    async def test_sentinels_without_passwords_receive_none(self) -> None:
        """The data servers require one."""
        servers = await open_sentinels(self, password=SECRET)
        between = [interpose(self, place) for place in servers.places]
        places = [each.address for each in between]
        sentinels = await working(self, servers, password=SECRET, places=places)
        assert state(sentinels) == at(servers.servers[0])
        text = b"".join(bytes(each.received) for each in between)
        assert b"SENTINEL" in text
        assert b"AUTH" not in text
        assert SECRET.encode() not in text

    async def test_sentinels_that_require_a_password_receive_it(self) -> None:
        """The user's, or the one of all clients."""
        servers = await open_sentinels(self, password=SECRET, sentinel_password=SECRET)
        user = f"mirror on >{SECRET} ~* &* +@all"
        for server in servers.servers:
            await aside(server.send, "ACL", "SETUSER", *user.split())
        for username in ("", "mirror"):
            sentinels = await working(self, servers, password=SECRET, username=username)
            assert state(sentinels) == at(servers.servers[0])
        writer = Writer.on(self, sentinels)
        await writer.continues()
        former = servers.servers[0]
        await aside(former.kill)
        successor = await aside(servers.wait_other, former)
        await until(lambda: state(sentinels) == at(successor))
        await writer.continues()
        await writer.stop()
        assert not writer.wrong

    async def test_a_wrong_password_is_in_no_message(self) -> None:
        """The Sentinels reject it."""
        servers = await open_sentinels(self, password="right", sentinel_password="right")
        sentinels = watched(self, servers, password="unlikely-to-be-right")
        sentinels.open()
        await sentinels.settled()
        assert sentinels.primary is None
        assert "unlikely" not in repr(sentinels) + sentinels.finder.reason + sentinels.logged_reason
        assert "WRONGPASS" in sentinels.finder.reason

    async def test_tls_is_for_the_data_only(self) -> None:
        """Sentinels are queried without it."""
        authority = Authority.new()
        servers = await open_sentinels(self, authority=authority)
        sentinels = await working(self, servers, trust=trust_root(authority.pem))
        assert state(sentinels) == at(servers.servers[0])
        wary = watched(self, servers, trust=trust_root(Authority.new().pem))
        wary.open()
        await wary.settled()
        assert wary.primary is None
        servers.servers[0].kill()
        successor = await aside(servers.wait_other, servers.servers[0])
        await until(lambda: state(sentinels) == at(successor))


class FailedOver(TestCase):
    """The primary fails, and a replica becomes primary."""

    async def test_a_killed_primary_is_replaced(self) -> None:
        """The former one receives no more commands."""
        servers = await open_sentinels(self, replicas=2)
        former = servers.servers[0]
        sentinels = await working(self, servers)
        writer = Writer.on(self, sentinels)
        await writer.continues()
        former.kill()
        await until(lambda: not sentinels.writing)
        since = writer.number + 1
        successor = await aside(servers.wait_other, former)
        await writer.continues()
        assert state(sentinels) == at(successor)
        await aside(former.start)  # as a primary, until the Sentinels find it
        await writer.continues()
        await writer.stop()
        assert not writer.wrong
        assert state(sentinels) == at(successor)
        assert not await writer.lost(successor, since)
        await until(lambda: not sentinels.closing_nodes)

    async def test_a_hanging_primary_is_replaced(self) -> None:
        """Its late replies are not used when it continues."""
        servers = await open_sentinels(self)
        former = servers.servers[0]
        sentinels = await working(self, servers)
        writer = Writer.on(self, sentinels)
        await writer.continues()
        former.pause()
        since = writer.number + 1
        successor = await aside(servers.wait_other, former)
        await until(lambda: state(sentinels) == at(successor))
        former.resume()
        await writer.continues()
        await writer.stop()
        assert not writer.wrong
        assert set(writer.failures) <= {"timeout", "lost", "open", "unconnected", "closed"}
        assert not await writer.lost(successor, since)

    async def test_a_demoted_primary_that_stays_reachable_is_left(self) -> None:
        """It does not know that it is demoted."""
        servers = await open_sentinels(self)
        former = servers.servers[0]
        sentinels = await working(self, servers, check_s=0.2)
        # By the reply to it, Sentinels end all connections of its clients in the same step.
        await aside(former.send, "ACL", "SETUSER", "default", "-client|kill")
        await aside(servers.sentinels[0].send, "SENTINEL", "FAILOVER", SERVICE)
        successor = await aside(servers.wait_other, former)
        await until(lambda: state(sentinels) == at(successor))
        assert (await aside(former.send, "ROLE"))[0] == b"master"

    async def test_readonly_begins_a_search(self) -> None:
        """Without waiting for the next check."""
        servers = await open_sentinels(self)
        former, successor = servers.servers
        sentinels = await working(self, servers)
        await aside(self.swap, servers)
        written = [command("SET", "t:x", "1")]
        with self.assertRaises(RedisUnavailableError) as raised:
            await sentinels.send(b"t", written, Purpose.WRITE, TIMEOUT_S)
        assert raised.exception.reason == "readonly"
        assert state(sentinels) != at(former)
        await until(lambda: state(sentinels) == at(successor))
        assert await sentinels.send(b"t", written, Purpose.WRITE, TIMEOUT_S) == ["OK"]

    def swap(self, servers: SentinelSet) -> None:
        """Exchange primary and replica by hand; their clients stay connected."""
        former, successor = servers.servers
        for sentinel in servers.sentinels:
            sentinel.send("SENTINEL", "REMOVE", SERVICE)
        successor.send("REPLICAOF", "NO", "ONE")
        former.send("REPLICAOF", *successor.address)
        for sentinel in servers.sentinels:
            sentinel.send("SENTINEL", "MONITOR", SERVICE, *successor.address, "2")

    async def test_a_replica_is_not_used_as_primary(self) -> None:
        """With any address from Sentinels."""
        servers = await open_sentinels(self)
        sentinels = watched(self, servers)
        replica = servers.servers[1]
        for sentinel in servers.sentinels:
            await aside(sentinel.send, "SENTINEL", "REMOVE", SERVICE)
            await aside(sentinel.send, "SENTINEL", "MONITOR", SERVICE, *replica.address, "2")
        sentinels.open()
        await sentinels.settled()
        assert sentinels.primary is None
        assert not sentinels.reading
        await until(lambda: "is not a primary" in sentinels.logged_reason)
        await aside(replica.send, "REPLICAOF", "NO", "ONE")
        await until(lambda: state(sentinels) == at(replica))

    async def test_the_last_primary_is_used_without_sentinels(self) -> None:
        """After its connections broke as well."""
        servers = await open_sentinels(self)
        sentinels = await working(self, servers, check_s=0.05)
        writer = Writer.on(self, sentinels)
        for sentinel in servers.sentinels:
            sentinel.kill()
        await writer.continues()
        await until(lambda: "Connection was refused" in sentinels.logged_reason)
        await aside(servers.servers[0].send, "CLIENT", "KILL", "TYPE", "normal")
        await until(lambda: bool(writer.failures))
        await writer.continues()
        await writer.stop()
        assert not writer.wrong
        assert state(sentinels) == at(servers.servers[0])
