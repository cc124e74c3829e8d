"""A real Redis Cluster whose slots move and whose shards fail, while it is asked all the time."""

from __future__ import annotations

import random
import re
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from ghmirror_tw.redis.address import Address, Credentials
from ghmirror_tw.redis.cluster import Cluster
from ghmirror_tw.redis.servers_interface import IServers, Purpose, RedisUnavailableError
from ghmirror_tw.redis.shards import Shards
from ghmirror_tw.redis.slots import slot_of_tag
from ghmirror_tw.runtime.certificate_authorities import trust_root
from tests.fakes.interposer import interpose
from tests.harness.certificates import Authority
from tests.harness.redis_servers import RedisServer
from tests.harness.redis_sets import ClusterSet, name_of, open_cluster
from tests.unit.redis.load import Load, aside, maker, until
from tests.unit.redis.nodes import READ, TIMEOUT_S, WRITE, command

reactor: Any = global_reactor

PATIENT_S = 10.0
"""Longer than anything here takes, so that what fails does not fail by being slow."""


def address(server: RedisServer) -> Address:
    """Give where a server is, as nodes name it."""
    return Address(*server.address)


def cluster_at(case: TestCase, seed: RedisServer, **changes: Any) -> Cluster:
    """Make what asks a cluster; it is closed when the test is over, and not opened yet."""
    where = changes.pop("where", address(seed))
    make = maker(Credentials(password=seed.password), **changes)
    shards = Shards(
        reactor=reactor,
        seed=where,
        make=make,
        random=random.random,
    )
    cluster = Cluster(shards, reactor)
    case.addCleanup(cluster.close)
    return cluster


async def working(case: TestCase, servers: ClusterSet, **changes: Any) -> Cluster:
    """Make what asks a cluster, and works when this returns."""
    cluster = cluster_at(case, servers.servers[0], **changes)
    cluster.open()
    await until(lambda: cluster.reading and cluster.writing)
    return cluster


class Orderly(TestCase):
    """A cluster that is well."""

    async def test_open(self) -> None:
        """From one address all shards are found, and all slots can be read and written."""
        servers = await open_cluster(self)
        cluster = cluster_at(self, servers.servers[0])
        verifyObject(IServers, cluster)
        assert (cluster.reading, cluster.writing) == (False, False)
        cluster.open()
        await cluster.settled()
        assert (cluster.reading, cluster.writing) == (True, True)
        load = Load.on(self, cluster, *map(servers.tag, range(3)))
        await load.goes_on()
        await load.stop()
        assert not load.wrong
        assert not load.failures

    async def test_migration_step_by_step(self) -> None:
        """While a slot moves, key by key, everything is answered at each step, and rightly."""
        servers = await open_cluster(self)
        cluster = await working(self, servers)
        tag = servers.tag(0)
        slot = slot_of_tag(tag.encode())
        load = Load.on(self, cluster, *[tag] * 8, paired=False, timeout_s=PATIENT_S)
        await load.goes_on()
        for target in servers.servers[1:3]:
            moving = await aside(servers.begin_migration, slot, target)
            await load.goes_on()
            while await aside(moving.move, 1):
                await load.goes_on(1)
            await load.goes_on()
            await aside(moving.finish)
            await load.goes_on()
        await load.stop()
        assert not load.wrong
        assert not load.failures
        assert cluster.shards.owner(slot) is cluster.shards.node(address(target))

    async def test_migration_of_pairs(self) -> None:
        """Scripts that need two keys wait until both have moved."""
        servers = await open_cluster(self)
        cluster = await working(self, servers)
        tag = servers.tag(0)
        slot = slot_of_tag(tag.encode())
        load = Load.on(self, cluster, *[tag] * 8, timeout_s=PATIENT_S)
        await load.goes_on()
        for target in (1, 2, 0):
            await aside(servers.migrate, slot, servers.servers[target], 1)
            await load.goes_on()
        await load.stop()
        assert not load.wrong
        assert not load.failures

    async def test_another_shard(self) -> None:
        """A shard that is added is found as soon as one is sent there, and is asked at once."""
        servers = await open_cluster(self)
        cluster = await working(self, servers)
        tag = servers.tag(0)
        load = Load.on(self, cluster, *[tag] * 4, timeout_s=PATIENT_S)
        await load.goes_on()
        added = await aside(servers.add_shard)
        await aside(servers.migrate, slot_of_tag(tag.encode()), added, 1)
        await load.goes_on()
        await load.stop()
        assert not load.wrong
        assert not load.failures
        assert address(added) in cluster.shards._primaries

    async def test_orderly_failover(self) -> None:
        """A replica that takes over by agreement is asked without a word about it."""
        servers = await open_cluster(self)
        cluster = await working(self, servers)
        load = Load.on(self, cluster, *[servers.tag(0)] * 4, timeout_s=PATIENT_S)
        await load.goes_on()
        replica = await aside(servers.replica_of, servers.servers[0])
        await aside(replica.ask, "CLUSTER", "FAILOVER")
        await until(lambda: address(replica) in cluster.shards._primaries)
        await load.goes_on()
        await aside(servers.wait_well)
        await load.goes_on()
        await load.stop()
        assert not load.wrong
        assert not load.failures

    async def test_access(self) -> None:
        """With a password, and TLS that is verified, all shards work, and fail over."""
        authority = Authority.new()
        servers = await open_cluster(self, password="correct-horse", authority=authority)
        cluster = await working(self, servers, trust=trust_root(authority.pem))
        await fails_over(self, servers, cluster)
        assert "correct-horse" not in repr(cluster_at(self, servers.servers[0]))

    async def test_hostnames(self) -> None:
        """Where nodes announce hostnames, TLS is verified by these."""
        authority = Authority.new()
        options = [
            ("cluster-announce-hostname", "localhost"),
            ("cluster-preferred-endpoint-type", "hostname"),
        ]
        servers = await open_cluster(
            self, replicas=0, authority=authority, names=("localhost",), options=options
        )
        seed = Address("localhost", servers.servers[0].port)
        cluster = await working(self, servers, where=seed, trust=trust_root(authority.pem))
        await moves(self, servers, cluster)
        assert {each.host for each in cluster.shards._primaries} == {"localhost"}

    async def test_unknown_endpoints(self) -> None:
        """Where nodes don't say how they are reached, it is where they were reached before."""
        options = [("cluster-preferred-endpoint-type", "unknown-endpoint")]
        servers = await open_cluster(self, replicas=0, options=options)
        cluster = await working(self, servers)
        await moves(self, servers, cluster)

    async def test_cancelled(self) -> None:
        """Who gives up waiting, on keys that are on their way, is not waited for any more."""
        servers = await open_cluster(self, replicas=0)
        cluster = await working(self, servers)
        tag = servers.tag(0)
        keys = [f"t:{{{tag}}}:{part}" for part in "ab"]
        pair = command("MGET", *keys)
        await cluster.ask(tag.encode(), [command("SET", key, "1") for key in keys], WRITE, 1.0)
        slot = slot_of_tag(tag.encode())
        moving = await aside(servers.begin_migration, slot, servers.servers[1])
        await aside(moving.take, keys[0])
        with self.assertRaises(RedisUnavailableError) as raised:
            await cluster.ask(tag.encode(), [pair], READ, 1.0)
        assert raised.exception.reason == "tryagain"
        asked = cluster.ask(tag.encode(), [pair], READ, PATIENT_S)
        await cluster.ask(tag.encode(), [command("PING")], READ, TIMEOUT_S)
        asked.cancel()
        with self.assertRaises(CancelledError):
            await asked
        assert cluster.reading


async def moves(case: TestCase, servers: ClusterSet, cluster: Cluster) -> None:
    """Move a slot while it is asked for."""
    tag = servers.tag(0)
    load = Load.on(case, cluster, *map(servers.tag, range(3)), timeout_s=PATIENT_S)
    await load.goes_on()
    await aside(servers.migrate, slot_of_tag(tag.encode()), servers.servers[1], 1)
    await load.goes_on()
    await load.stop()
    assert not load.wrong
    assert not load.failures
    assert cluster.shards.owner(slot_of_tag(tag.encode())) is not cluster.shards.owner(0)


async def fails_over(case: TestCase, servers: ClusterSet, cluster: Cluster) -> None:
    """Have a shard fail over, and see to it that only that shard suffers, and only meanwhile."""
    failing, *others = map(servers.tag, range(3))
    troubled = Load.on(case, cluster, *[failing] * 4, strict=False)
    spared = Load.on(case, cluster, *others * 2, timeout_s=PATIENT_S)
    await troubled.goes_on()
    await spared.goes_on()
    successor = await aside(servers.fail_over, servers.servers[0])
    await until(lambda: cluster.reading and cluster.writing)
    await troubled.goes_on()
    await spared.goes_on()
    await troubled.stop()
    await spared.stop()
    assert troubled.failures
    assert not troubled.wrong
    assert not spared.failures
    assert not spared.wrong
    assert cluster.shards.owner(0) is cluster.shards.node(address(successor))


class Troubled(TestCase):
    """A cluster with a shard in trouble."""

    async def test_killed(self) -> None:
        """A shard fails over: the others don't notice, and then all works again by itself."""
        servers = await open_cluster(self)
        cluster = await working(self, servers)
        await fails_over(self, servers, cluster)
        former = servers.servers[0]
        await aside(former.start)
        await aside(servers.wait_well)
        await until(lambda: cluster.reading and cluster.writing)
        # Whoever has no slots any more is closed when nobody has asked it for a while.
        while address(former) in cluster.shards._nodes:
            await cluster.shards._fetch_from_any()
        assert len(cluster.shards._nodes) == 3

    async def test_unnoticed(self) -> None:
        """A shard that fails over while nobody asks for it is found all the same."""
        servers = await open_cluster(self)
        cluster = await working(self, servers)
        servers.servers[0].kill()
        await until(lambda: not cluster.reading and not cluster.writing)
        await until(lambda: cluster.reading and cluster.writing)
        load = Load.on(self, cluster, *map(servers.tag, range(3)))
        await load.goes_on()

    async def test_in_circles(self) -> None:
        """Nodes that each say the other one has a slot are not asked for ever."""
        servers = await open_cluster(self, replicas=0)
        cluster = await working(self, servers)
        tag = servers.tag(0, least=1000)  # nothing is in its slot, not even what trials write
        slot = slot_of_tag(tag.encode())
        first, second = servers.servers[:2]
        await aside(first.ask, "CLUSTER", "SETSLOT", slot, "NODE", name_of(second))
        await aside(second.ask, "CLUSTER", "SETSLOT", slot, "NODE", name_of(first))
        with self.assertRaises(RedisUnavailableError) as raised:
            await cluster.ask(tag.encode(), [command("GET", f"{{{tag}}}")], READ, PATIENT_S)
        assert raised.exception.reason == "redirections"
        await aside(second.ask, "CLUSTER", "SETSLOT", slot, "NODE", name_of(second))
        await aside(second.ask, "CLUSTER", "BUMPEPOCH")
        await aside(servers.wait_well)
        load = Load.on(self, cluster, tag)
        await load.goes_on()

    async def test_paused(self) -> None:
        """A shard that hangs fails over, and goes on as a replica later."""
        servers = await open_cluster(self)
        cluster = await working(self, servers)
        failing, *others = map(servers.tag, range(3))
        troubled = Load.on(self, cluster, *[failing] * 4, strict=False)
        spared = Load.on(self, cluster, *others * 2, timeout_s=PATIENT_S)
        await troubled.goes_on()
        former = servers.servers[0]
        former.pause()
        await until(lambda: not cluster.writing)
        await until(lambda: cluster.reading and cluster.writing)
        await troubled.goes_on()
        former.resume()
        await aside(servers.wait_well)
        await troubled.goes_on()
        await spared.goes_on()
        await troubled.stop()
        await spared.stop()
        assert troubled.failures
        assert not troubled.wrong
        assert not spared.failures
        assert not spared.wrong

    async def test_cold_start(self) -> None:
        """Starting while a shard is away, only its slots are unavailable, and only until then."""
        servers = await open_cluster(self, replicas=0)
        away = servers.servers[2]
        away.kill()
        cluster = cluster_at(self, servers.servers[0])
        cluster.open()
        await cluster.settled()
        assert (cluster.reading, cluster.writing) == (False, False)
        load = Load.on(self, cluster, servers.tag(0), servers.tag(1), timeout_s=PATIENT_S)
        await load.goes_on()
        await refused(self, cluster, servers.tag(2))
        await load.stop()
        assert not load.failures
        assert not load.wrong
        await aside(away.start)
        await until(lambda: cluster.reading and cluster.writing)
        load = Load.on(self, cluster, *map(servers.tag, range(3)))
        await load.goes_on()

    async def test_seed_away(self) -> None:
        """Starting while the configured address is away, it works when that is back."""
        servers = await open_cluster(self, replicas=0)
        seed = servers.servers[1]
        seed.kill()
        cluster = cluster_at(self, seed)
        cluster.open()
        await cluster.settled()
        await refused(self, cluster, servers.tag(0))
        await aside(seed.start)
        await until(lambda: cluster.reading and cluster.writing)
        load = Load.on(self, cluster, *map(servers.tag, range(3)))
        await load.goes_on()

    async def test_seed_as_last_resort(self) -> None:
        """When no primary is left that is known, the configured address is asked again."""
        servers = await open_cluster(self, replicas=0)
        between = interpose(self, servers.servers[0].address)
        cluster = cluster_at(self, servers.servers[0], where=Address(*between.address))
        cluster.open()
        await until(lambda: cluster.reading and cluster.writing)
        for server in servers.servers:
            server.kill()
        await until(lambda: not any(node.reading for node in cluster.shards._nodes.values()))
        other = await open_cluster(self, replicas=0)
        between.target = other.servers[0].address
        await until(lambda: cluster.reading and cluster.writing)
        assert cluster.shards._primaries == set(map(address, other.servers))

    async def test_slot_without_owner(self) -> None:
        """A slot that nobody has is unavailable alone, and found when somebody has it."""
        servers = await open_cluster(self, replicas=0)
        cluster = await working(self, servers)
        second = servers.servers[1]
        tag, slot = servers.tag(0), slot_of_tag(servers.tag(0).encode())
        for server in servers.servers:
            await aside(server.ask, "CLUSTER", "DELSLOTS", slot)
        await refused(self, cluster, tag)
        await until(lambda: not cluster.reading and not cluster.writing)
        await refused(self, cluster, tag)
        near = next(
            str(number)
            for number in range(100_000)
            if slot_of_tag(b"%d" % number) in {slot + 1, slot + 2}
        )
        load = Load.on(self, cluster, near, servers.tag(1), timeout_s=PATIENT_S)
        await load.goes_on()
        await load.stop()
        assert not load.failures
        assert not load.wrong
        await aside(second.ask, "CLUSTER", "ADDSLOTS", slot)
        await aside(second.ask, "CLUSTER", "BUMPEPOCH")
        await until(lambda: cluster.reading and cluster.writing)
        assert cluster.shards.owner(slot) is cluster.shards.node(address(second))
        load = Load.on(self, cluster, tag)
        await load.goes_on()

    async def test_no_storm(self) -> None:
        """However much fails, the map is fetched one at a time, and less and less often."""
        servers = await open_cluster(self, replicas=0)
        cluster = await working(self, servers)
        servers.servers[2].kill()
        await until(lambda: not cluster.writing)
        load = Load.on(self, cluster, *[servers.tag(2)] * 50, strict=False)
        before, began = await aside(fetched, servers), reactor.seconds()
        await until(lambda: sum(load.failures.values()) > 20_000)
        await load.stop()
        passed_s = reactor.seconds() - began
        # pauses of 0.05, 0.1, 0.2, 0.4, 0.8, then 1.25 seconds at least
        assert await aside(fetched, servers) - before <= 6 + passed_s / 1.25


def fetched(servers: ClusterSet) -> int:
    """Give how often the map was fetched from the servers that run."""
    said = b"".join(server.ask("INFO", "commandstats") for server in servers.running())
    return sum(map(int, re.findall(rb"cmdstat_cluster\|slots:calls=(\d+)", said)))


async def refused(case: TestCase, cluster: Cluster, tag: str) -> None:
    """See to it that a slot is unavailable, whatever is asked."""
    for purpose in Purpose:
        with case.assertRaises(RedisUnavailableError):
            await cluster.ask(tag.encode(), [command("GET", f"t:{{{tag}}}")], purpose, TIMEOUT_S)
