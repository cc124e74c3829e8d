"""A Redis client for Twisted over txredisapi's protocol: pipelining, failover, cluster.

Other packages use only the names below. `IServers` is the interface of all four kinds of servers.
"""

from ghmirror_tw.redis.cluster import Cluster
from ghmirror_tw.redis.cluster_shards import Shards
from ghmirror_tw.redis.iam_tokens import IamSigner, IamTokens, load_botocore
from ghmirror_tw.redis.redis_node import RedisNode
from ghmirror_tw.redis.sentinel_queries import PrimaryFinder
from ghmirror_tw.redis.sentinel_servers import Sentinels
from ghmirror_tw.redis.server_endpoint import Address, Credentials
from ghmirror_tw.redis.server_statistics import ServerStatistics
from ghmirror_tw.redis.servers_interface import (
    Command,
    IServers,
    Purpose,
    RedisUnavailableError,
    Reply,
)
from ghmirror_tw.redis.unsharded_servers import PrimaryAndReader, SingleServer

__all__ = [
    "Address",
    "Cluster",
    "Command",
    "Credentials",
    "IServers",
    "IamSigner",
    "IamTokens",
    "PrimaryAndReader",
    "PrimaryFinder",
    "Purpose",
    "RedisNode",
    "RedisUnavailableError",
    "Reply",
    "Sentinels",
    "ServerStatistics",
    "Shards",
    "SingleServer",
    "load_botocore",
]
