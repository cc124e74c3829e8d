"""The mirrors of a dialogue, in this process, and the Redis server that they share."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, Final

from attrs import define, field, fields, has
from twisted.internet.defer import maybeDeferred

from ghmirror_tw.config.settings import Settings
from ghmirror_tw.runtime.reactor_lag import ReactorLag
from ghmirror_tw.store.failover import FailoverStore
from ghmirror_tw.web.client_connections import MirrorSite
from ghmirror_tw.web.mirror_request import MirrorRequest
from ghmirror_tw.wiring.mirror_parts import MirrorParts, build_mirror_parts
from ghmirror_tw.wiring.store_parts import build_failover_store
from tests.dialogues.clock import Clock
from tests.dialogues.parsing import INDENT
from tests.harness.home import reactor
from tests.harness.redis_servers import Client, RedisServer

_BACKLOG: Final = 100
#: Where parts of a store are that have a reactor.
_PARTS: Final = (
    "ghmirror_tw.store.",
    "ghmirror_tw.redis_store.loss_detection",
    "ghmirror_tw.redis.server_statistics",
    "ghmirror_tw.runtime.restartable_timer",
)
#: Time passes in Redis: keys that begin with ARGV[2] have ARGV[1] ms less to live, but for the
#: history, which mirrors renew meanwhile.
_TIME_PASSES: Final = """
for _, key in ipairs(redis.call('KEYS', ARGV[2] .. '*')) do
    local left = redis.call('PTTL', key)
    if left > 0 and not string.find(key, ':history$') then
        redis.call('PEXPIRE', key, math.max(left - ARGV[1], 0))
    end
end
"""


@define(eq=False)
class SharedRedis:
    """One redis-server for all dialogues, each of which has keys of its own."""

    server: RedisServer
    prefix: str = ""
    _count: int = 0
    _client: Client | None = None

    def begin(self) -> None:
        """Get ready for a dialogue."""
        self._count += 1
        self.prefix = f"dialogue{self._count}"
        self._client = self.server.client()

    def end(self) -> None:
        """Forget the dialogue; the server runs again if it has stopped it."""
        if self._client is None:
            return
        if not self.runs:
            self.start()
        self._client.send("FLUSHALL")
        self._client.close()
        self._client = None

    @property
    def url(self) -> str:
        """The option for this server."""
        host, port = self.server.address
        return f"redis://{host}:{port}/0"

    @property
    def runs(self) -> bool:
        """Whether there is a server."""
        return self.server.life.process.poll() is None

    def stop(self) -> None:
        """Kill the server."""
        if self._client is not None:
            self._client.close()
        self.server.kill()

    def start(self) -> None:
        """Start the server, if it doesn't run."""
        if not self.runs:
            self.server.start()
            self._client = self.server.client()

    def barrier(self) -> None:
        """Return when it has executed earlier commands, and sent the replies."""
        if self._client is not None and self.runs:
            # The first may be done before simultaneous events, the second may not.
            for _ in range(2):
                self._client.send("PING")

    def pass_time(self, seconds: float) -> None:
        """Make all times to live shorter."""
        if self._client is not None and self.runs:
            milliseconds = round(seconds * 1000)
            self._client.send("EVAL", _TIME_PASSES, 0, milliseconds, f"{self.prefix}:")


def _build_redis(clock: Clock, *others: Any) -> FailoverStore:
    """Return a store with the time of the dialogue; the connections to Redis have real time."""
    store = build_failover_store(clock.real, *others)
    for part in parts_of(store):
        if getattr(part, "reactor", None) is clock.real and not isinstance(part, ReactorLag):
            part.reactor = clock
    store.redis.now = clock.seconds
    return store


def parts_of(whole: Any) -> Iterator[Any]:
    """Return an object of the store's room, and those that it is made of."""
    yield whole
    for each in fields(type(whole)):
        part = getattr(whole, each.name, None)
        if has(type(part)) and type(part).__module__.startswith(_PARTS):
            yield from parts_of(part)


@define(eq=False)
class Replica:
    """One mirror, and where it listens."""

    name: str
    settings: Settings
    port: int = 0
    parts: MirrorParts = field(init=False)
    _site: Any = None
    _listening: Any = None

    def reserve(self) -> None:
        """Choose a port."""
        with socket.create_server(("127.0.0.1", self.port)) as probe:
            self.port = probe.getsockname()[1]

    async def open(self, clock: Clock) -> None:
        """Start it."""
        self.parts = parts = build_mirror_parts(clock, self.settings, _build_redis)
        for part in parts.in_closing_order:
            if hasattr(part, "open"):
                part.open()
        if parts.redis is not None:
            await parts.redis.settled()
        parts.readiness.listening = parts.readiness.restored = True
        self._site = MirrorSite(parts.resource, MirrorRequest, clock)
        self._listening = reactor.listenTCP(
            self.port, self._site, backlog=_BACKLOG, interface="127.0.0.1"
        )
        self.port = self._listening.getHost().port

    async def close(self) -> None:
        """Stop it, and close all its connections."""
        if self._listening is None:
            return
        listening, self._listening = self._listening, None
        await listening.stopListening()
        for channel in list(self._site.channels):
            channel.transport.abortConnection()
        for part in self.parts.in_closing_order:
            await maybeDeferred(part.close)

    @property
    def host(self) -> str:
        """The host name that its clients use."""
        return f"127.0.0.1:{self.port}"

    def has_request_of(self, port: int) -> bool:
        """Return whether it has received the fields of a request from a port."""
        return any(each.requests and each.getPeer().port == port for each in self._site.channels)

    @property
    def is_busy(self) -> bool:
        """Whether a thread of its works."""
        if self._listening is None:
            return False
        return bool(self.parts.threads.pool.working)


def ini(sections: dict[str, dict[str, list[str]]]) -> Iterator[str]:
    for section, options in sections.items():
        yield f"[{section}]"
        for name, values in options.items():
            yield f"{name} = " + f"\n{INDENT}".join(values)
