"""How the archive counts the records that it has restored, by the replies of Redis."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from txredisapi import ResponseError

from ghmirror_tw.redis import Command
from ghmirror_tw.redis_store import redis_archive
from ghmirror_tw.redis_store.redis_archive import RedisArchive
from ghmirror_tw.redis_store.redis_records import RedisRecords
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.store.record_sealing import Codec

#: A reply of each type, and its number of records.
REPLIES: list[tuple[Any, int]] = [
    ("OK", 1),
    (b"OK", 1),
    (1, 1),
    (0, 0),
    (None, 0),
    ([b"a", 1], 0),
    ([], 0),
    (b"", 0),
    (ResponseError("OOM"), 0),
]


class Servers:
    """Servers with fixed replies."""

    sharded = False

    def send(self, _slot: bytes, commands: list[Command], *_: Any) -> Deferred[list[Any]]:
        assert len(commands) == len(REPLIES)
        return succeed([reply for reply, _ in REPLIES])


class Restoring(SynchronousTestCase):
    """Records that are restored."""

    def test_a_reply_of_any_type_is_counted_or_not(self) -> None:
        """A list, which no write returns, is not hashable; it does not end the restoring."""
        clock: Any = Clock()
        records = RedisRecords(
            Servers(), Codec(), ContentThreads(clock), clock.seconds, "t", 1.0, 1.0
        )
        self.patch(redis_archive, "restore_command", lambda *_: Command((b"X",)))
        restoring = RedisArchive(records).admit([(b"{a}r:b", b"")] * len(REPLIES))
        restored = self.successResultOf(Deferred.fromCoroutine(restoring))
        assert restored == sum(count for _, count in REPLIES)
