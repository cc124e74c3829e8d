"""The names of the records for one credential at one key, and the commands of a look-up."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Known
from ghmirror_tw.github.rate_limit_resources import scopes_of_read
from ghmirror_tw.redis import Command
from ghmirror_tw.redis_store import scripts
from ghmirror_tw.store import record_names


@define(eq=False)
class PreparedLookup:
    """The names, keys and commands of one look-up, built once for many requests.

    *hash_tag* is that of the records of the cache key. *grant*, *refusal* and *recency_list* are
    names; *keys* are the Redis keys of these three, and *unstorable* is one. Each of *commands* has
    its hash tag. The first reads the records of the cache key, the second the epoch and the rate
    limits of the token, which may be on another server.
    """

    hash_tag: bytes
    grant: bytes
    refusal: bytes
    recency_list: bytes
    keys: tuple[bytes, ...]
    unstorable: bytes
    token: str
    commands: tuple[tuple[bytes, Command], tuple[bytes, Command]]
    negative: bytes
    #: The result of the last look-up; None after this process has written one of these records.
    known: Known | None = None

    @classmethod
    def build(
        cls,
        key: CacheKey,
        credential: str,
        token: str,
        *,
        key_of: Callable[[bytes], bytes],
        negatives: bool,
    ) -> PreparedLookup:
        """Build the names and commands; *key_of* returns the key of a record in Redis.

        *negatives*: negative responses are stored, and looked up.
        """
        negative = record_names.negative(key, credential)
        grant, refusal = record_names.grant(key, credential), record_names.refusal(key, credential)
        recency_list, unstorable = (
            record_names.recency_list(key),
            key_of(record_names.unstorable(key)),
        )
        keys = key_of(grant), key_of(refusal), key_of(recency_list)
        epoch = key_of(record_names.epoch(token))
        scopes = scopes_of_read(key.path)
        limits = [key_of(record_names.limit(token, scope)) for scope in scopes]
        hash_tag = record_names.hash_tag_of_key(key)
        more = (key_of(negative),) if negatives else ()
        commands = (
            (hash_tag, scripts.LOOK_UP.call((*keys[:2], unstorable, keys[2], *more))),
            (record_names.hash_tag_of_credential(token), Command((b"MGET", epoch, *limits))),
        )
        names = grant, refusal, recency_list
        return cls(hash_tag, *names, keys, unstorable, token, commands, negative)
