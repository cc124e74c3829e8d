"""A real Redis Cluster whose slots move and whose shards fail, while it is asked all the time."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from ghmirror_tw.store.redis.address import Address, Credentials
from ghmirror_tw.store.redis.cluster import Cluster
from ghmirror_tw.store.redis.interfaces import IServers
from ghmirror_tw.store.redis.shards import Shards
from ghmirror_tw.store.redis.slots import slot_of_tag
from tests.redis_servers import RedisServer
from tests.redis_sets import ClusterSet, open_cluster
from tests.store.redis.load import Load, aside, maker, until

PATIENT_S = 10.0
"""Longer than anything here takes, so that what fails does not fail by being slow."""


def address(server: RedisServer) -> Address:
    """Give where a server is, as nodes name it."""
    return Address(*server.address)


def cluster_at(case: TestCase, seed: RedisServer, **changes: Any) -> Cluster:
    """Make what asks a cluster; it is closed when the test is over, and not opened yet."""
    make = maker(Credentials(password=seed.password), **changes)
    shards = Shards(reactor=reactor, seed=address(seed), make=make, random=random.random)
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
