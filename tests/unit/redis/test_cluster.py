"""A real Redis Cluster whose slots move and whose shards fail, under load."""

from __future__ import annotations

import random
import re
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from ghmirror_tw.redis.cluster import Cluster
from ghmirror_tw.redis.cluster_shards import Shards
from ghmirror_tw.redis.cluster_slots import slot_of_tag
from ghmirror_tw.redis.server_endpoint import Address, Credentials
from ghmirror_tw.redis.servers_interface import IServers, Purpose, RedisUnavailableError
from ghmirror_tw.runtime.certificate_authorities import trust_root
from tests.fakes.interposer import interpose
from tests.harness.certificates import Authority
from tests.harness.redis_servers import RedisServer
from tests.harness.redis_sets import ClusterSet, name_of, open_cluster
from tests.unit.redis.command_load import Load, aside, maker, until
from tests.unit.redis.watched_nodes import READ, TIMEOUT_S, WRITE, command

reactor: Any = global_reactor

PATIENT_S = 10.0
"""Longer than any operation here, so that no failure is one by timeout."""


def address(server: RedisServer) -> Address:
    """Return the address of a server."""
    return Address(*server.address)


def cluster_at(case: TestCase, seed: RedisServer, **changes: Any) -> Cluster:
    """Return a cluster that is closed at the end of the test; it is not opened yet."""
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
    """Return a cluster that is available."""
    cluster = cluster_at(case, servers.servers[0], **changes)
    cluster.open()
    await until(lambda: cluster.reading and cluster.writing)
    return cluster


class Orderly(TestCase):
    """A healthy cluster."""

    async def test_all_shards_are_found_from_one_address(self) -> None:
        """All slots can be read and written."""
        servers = await open_cluster(self)
        cluster = cluster_at(self, servers.servers[0])
        verifyObject(IServers, cluster)
        assert (cluster.reading, cluster.writing) == (False, False)
        cluster.open()
        await cluster.settled()
        assert (cluster.reading, cluster.writing) == (True, True)
        load = Load.on(self, cluster, *map(servers.tag, range(3)))
        await load.continues()
        await load.stop()
        assert not load.wrong
        assert not load.failures

    async def test_commands_during_a_migration(self) -> None:
        """Keys are migrated one by one, and each reply is right."""
        servers = await open_cluster(self)
        cluster = await working(self, servers)
        tag = servers.tag(0)
        slot = slot_of_tag(tag.encode())
        load = Load.on(self, cluster, *[tag] * 8, paired=False, timeout_s=PATIENT_S)
        await load.continues()
        for target in servers.servers[1:3]:
            moving = await aside(servers.begin_migration, slot, target)
            await load.continues()
            while await aside(moving.move, 1):
                await load.continues(1)
            await load.continues()
            await aside(moving.finish)
            await load.continues()
        await load.stop()
        assert not load.wrong
        assert not load.failures
        assert cluster.shards.owner(slot) is cluster.shards.node(address(target))

    async def test_scripts_with_two_keys_during_a_migration(self) -> None:
        """They wait until both keys have moved."""
        servers = await open_cluster(self)
        cluster = await working(self, servers)
        tag = servers.tag(0)
        slot = slot_of_tag(tag.encode())
        load = Load.on(self, cluster, *[tag] * 8, timeout_s=PATIENT_S)
        await load.continues()
        for target in (1, 2, 0):
            await aside(servers.migrate, slot, servers.servers[target], 1)
            await load.continues()
        await load.stop()
        assert not load.wrong
        assert not load.failures

    async def test_an_added_shard_is_found_by_a_redirection(self) -> None:
        """It is used at once."""
        servers = await open_cluster(self)
        cluster = await working(self, servers)
        tag = servers.tag(0)
        load = Load.on(self, cluster, *[tag] * 4, timeout_s=PATIENT_S)
        await load.continues()
        added = await aside(servers.add_shard)
        await aside(servers.migrate, slot_of_tag(tag.encode()), added, 1)
        await load.continues()
        await load.stop()
        assert not load.wrong
        assert not load.failures
        assert address(added) in cluster.shards.primaries

    async def test_a_coordinated_failover_is_not_noticed(self) -> None:
        """The replica becomes primary by agreement."""
        servers = await open_cluster(self)
        cluster = await working(self, servers)
        load = Load.on(self, cluster, *[servers.tag(0)] * 4, timeout_s=PATIENT_S)
        await load.continues()
        replica = await aside(servers.replica_of, servers.servers[0])
        await aside(replica.send, "CLUSTER", "FAILOVER")
        await until(lambda: address(replica) in cluster.shards.primaries)
        await load.continues()
        await aside(servers.wait_well)
        await load.continues()
        await load.stop()
        assert not load.wrong
        assert not load.failures

    async def test_password_and_tls(self) -> None:
        """All shards work with both, after a failover as well."""
        authority = Authority.new()
        servers = await open_cluster(self, password="correct-horse", authority=authority)
        cluster = await working(self, servers, trust=trust_root(authority.pem))
        await fails_over(self, servers, cluster)
        assert "correct-horse" not in repr(cluster_at(self, servers.servers[0]))

    async def test_announced_hostnames_are_verified(self) -> None:
        """TLS verifies the hostnames that nodes announce."""
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
        assert {each.host for each in cluster.shards.primaries} == {"localhost"}

    async def test_nodes_without_an_announced_endpoint(self) -> None:
        """The host of the configured address is used."""
        options = [("cluster-preferred-endpoint-type", "unknown-endpoint")]
        servers = await open_cluster(self, replicas=0, options=options)
        cluster = await working(self, servers)
        await moves(self, servers, cluster)

    async def test_cancelling_during_a_migration(self) -> None:
        """No command is sent after it."""
        servers = await open_cluster(self, replicas=0)
        cluster = await working(self, servers)
        tag = servers.tag(0)
        keys = [f"t:{{{tag}}}:{part}" for part in "ab"]
        pair = command("MGET", *keys)
        await cluster.send(tag.encode(), [command("SET", key, "1") for key in keys], WRITE, 1.0)
        slot = slot_of_tag(tag.encode())
        moving = await aside(servers.begin_migration, slot, servers.servers[1])
        await aside(moving.take, keys[0])
        with self.assertRaises(RedisUnavailableError) as raised:
            await cluster.send(tag.encode(), [pair], READ, 1.0)
        assert raised.exception.reason == "tryagain"
        sent = cluster.send(tag.encode(), [pair], READ, PATIENT_S)
        await cluster.send(tag.encode(), [command("PING")], READ, TIMEOUT_S)
        sent.cancel()
        with self.assertRaises(CancelledError):
            await sent
        assert cluster.reading


async def moves(case: TestCase, servers: ClusterSet, cluster: Cluster) -> None:
    """Move a slot under load."""
    tag = servers.tag(0)
    load = Load.on(case, cluster, *map(servers.tag, range(3)), timeout_s=PATIENT_S)
    await load.continues()
    await aside(servers.migrate, slot_of_tag(tag.encode()), servers.servers[1], 1)
    await load.continues()
    await load.stop()
    assert not load.wrong
    assert not load.failures
    assert cluster.shards.owner(slot_of_tag(tag.encode())) is not cluster.shards.owner(0)


async def fails_over(case: TestCase, servers: ClusterSet, cluster: Cluster) -> None:
    """Fail a shard over; assert that only its slots are unavailable, and only meanwhile."""
    failing, *others = map(servers.tag, range(3))
    troubled = Load.on(case, cluster, *[failing] * 4, strict=False)
    spared = Load.on(case, cluster, *others * 2, timeout_s=PATIENT_S)
    await troubled.continues()
    await spared.continues()
    successor = await aside(servers.fail_over, servers.servers[0])
    await until(lambda: cluster.reading and cluster.writing)
    await troubled.continues()
    await spared.continues()
    await troubled.stop()
    await spared.stop()
    assert troubled.failures
    assert not troubled.wrong
    assert not spared.failures
    assert not spared.wrong
    assert cluster.shards.owner(0) is cluster.shards.node(address(successor))


class Troubled(TestCase):
    """A cluster with a failing shard."""

    async def test_a_killed_primary_is_replaced(self) -> None:
        """The other shards are not affected."""
        servers = await open_cluster(self)
        cluster = await working(self, servers)
        await fails_over(self, servers, cluster)
        former = servers.servers[0]
        await aside(former.start)
        await aside(servers.wait_well)
        await until(lambda: cluster.reading and cluster.writing)
        # A server without slots is closed when it has had no commands for a while.
        while address(former) in cluster.shards.nodes:
            await cluster.shards.fetch_from_any()
        assert len(cluster.shards.nodes) == 3

    async def test_a_failover_without_commands_is_noticed(self) -> None:
        """No command was sent to that shard meanwhile."""
        servers = await open_cluster(self)
        cluster = await working(self, servers)
        servers.servers[0].kill()
        await until(lambda: not cluster.reading and not cluster.writing)
        await until(lambda: cluster.reading and cluster.writing)
        load = Load.on(self, cluster, *map(servers.tag, range(3)))
        await load.continues()

    async def test_a_loop_of_redirections_ends(self) -> None:
        """Two nodes name each other as the owner of a slot."""
        servers = await open_cluster(self, replicas=0)
        cluster = await working(self, servers)
        tag = servers.tag(0, least=1000)  # nothing is in its slot, not even what trials write
        slot = slot_of_tag(tag.encode())
        first, second = servers.servers[:2]
        await aside(first.send, "CLUSTER", "SETSLOT", slot, "NODE", name_of(second))
        await aside(second.send, "CLUSTER", "SETSLOT", slot, "NODE", name_of(first))
        with self.assertRaises(RedisUnavailableError) as raised:
            await cluster.send(tag.encode(), [command("GET", f"{{{tag}}}")], READ, PATIENT_S)
        assert raised.exception.reason == "redirections"
        await aside(second.send, "CLUSTER", "SETSLOT", slot, "NODE", name_of(second))
        await aside(second.send, "CLUSTER", "BUMPEPOCH")
        await aside(servers.wait_well)
        load = Load.on(self, cluster, tag)
        await load.continues()

    async def test_a_hanging_primary_is_replaced(self) -> None:
        """Later it continues as a replica."""
        servers = await open_cluster(self)
        cluster = await working(self, servers)
        failing, *others = map(servers.tag, range(3))
        troubled = Load.on(self, cluster, *[failing] * 4, strict=False)
        spared = Load.on(self, cluster, *others * 2, timeout_s=PATIENT_S)
        await troubled.continues()
        former = servers.servers[0]
        former.pause()
        await until(lambda: not cluster.writing)
        await until(lambda: cluster.reading and cluster.writing)
        await troubled.continues()
        former.resume()
        await aside(servers.wait_well)
        await troubled.continues()
        await spared.continues()
        await troubled.stop()
        await spared.stop()
        assert troubled.failures
        assert not troubled.wrong
        assert not spared.failures
        assert not spared.wrong

    async def test_a_start_while_a_shard_is_away(self) -> None:
        """Only its slots are unavailable until it returns."""
        servers = await open_cluster(self, replicas=0)
        away = servers.servers[2]
        away.kill()
        cluster = cluster_at(self, servers.servers[0])
        cluster.open()
        await cluster.settled()
        assert (cluster.reading, cluster.writing) == (False, False)
        fault = cluster.fault
        assert fault is not None
        assert fault.address == str(address(away))
        load = Load.on(self, cluster, servers.tag(0), servers.tag(1), timeout_s=PATIENT_S)
        await load.continues()
        await refused(self, cluster, servers.tag(2))
        await load.stop()
        assert not load.failures
        assert not load.wrong
        await aside(away.start)
        await until(lambda: cluster.reading and cluster.writing)
        load = Load.on(self, cluster, *map(servers.tag, range(3)))
        await load.continues()

    async def test_a_start_while_the_configured_address_is_away(self) -> None:
        """The cluster is available when it returns."""
        servers = await open_cluster(self, replicas=0)
        seed = servers.servers[1]
        seed.kill()
        cluster = cluster_at(self, seed)
        cluster.open()
        await cluster.settled()
        await refused(self, cluster, servers.tag(0))
        fault = cluster.fault
        assert fault is not None
        assert fault.address == str(address(seed))
        await aside(seed.start)
        await until(lambda: cluster.reading and cluster.writing)
        assert cluster.fault is None
        load = Load.on(self, cluster, *map(servers.tag, range(3)))
        await load.continues()

    async def test_the_configured_address_is_the_last_resort(self) -> None:
        """It is queried when no known primary is left."""
        servers = await open_cluster(self, replicas=0)
        between = interpose(self, servers.servers[0].address)
        cluster = cluster_at(self, servers.servers[0], where=Address(*between.address))
        cluster.open()
        await until(lambda: cluster.reading and cluster.writing)
        for server in servers.servers:
            server.kill()
        await until(lambda: not any(node.reading for node in cluster.shards.nodes.values()))
        other = await open_cluster(self, replicas=0)
        between.target = other.servers[0].address
        await until(lambda: cluster.reading and cluster.writing)
        assert cluster.shards.primaries == set(map(address, other.servers))

    async def test_a_slot_without_an_owner(self) -> None:
        """It alone is unavailable, until a shard has it."""
        servers = await open_cluster(self, replicas=0)
        cluster = await working(self, servers)
        second = servers.servers[1]
        tag, slot = servers.tag(0), slot_of_tag(servers.tag(0).encode())
        for server in servers.servers:
            await aside(server.send, "CLUSTER", "DELSLOTS", slot)
        await refused(self, cluster, tag)
        await until(lambda: not cluster.reading and not cluster.writing)
        await refused(self, cluster, tag)
        near = next(
            str(number)
            for number in range(100_000)
            if slot_of_tag(b"%d" % number) in {slot + 1, slot + 2}
        )
        load = Load.on(self, cluster, near, servers.tag(1), timeout_s=PATIENT_S)
        await load.continues()
        await load.stop()
        assert not load.failures
        assert not load.wrong
        await aside(second.send, "CLUSTER", "ADDSLOTS", slot)
        await aside(second.send, "CLUSTER", "BUMPEPOCH")
        await until(lambda: cluster.reading and cluster.writing)
        assert cluster.shards.owner(slot) is cluster.shards.node(address(second))
        load = Load.on(self, cluster, tag)
        await load.continues()

    async def test_the_map_is_fetched_with_backoff(self) -> None:
        """There is one query at a time, during any failures."""
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
    """Return how often the running servers were queried for the map."""
    text = b"".join(server.send("INFO", "commandstats") for server in servers.running())
    return sum(map(int, re.findall(rb"cmdstat_cluster\|slots:calls=(\d+)", text)))


async def refused(case: TestCase, cluster: Cluster, tag: str) -> None:
    """Assert that a slot is unavailable for all purposes."""
    for purpose in Purpose:
        with case.assertRaises(RedisUnavailableError):
            await cluster.send(tag.encode(), [command("GET", f"t:{{{tag}}}")], purpose, TIMEOUT_S)
