"""Queries to Sentinels: which server is the primary of a service.

https://redis.io/docs/latest/develop/reference/sentinel-clients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.python.failure import Failure

from ghmirror_tw.redis.error_codes import redacted
from ghmirror_tw.redis.redis_connection import ConnectionFactory, RedisConnection
from ghmirror_tw.redis.server_endpoint import (
    Address,
    Credentials,
    ReadCredentials,
    RedisConnectError,
    credentials_from,
)
from ghmirror_tw.runtime.whole_numbers import whole_number

#: The timeout of one query, with its connection, in seconds.
_TIMEOUT_S: Final = 1.0
#: Longer than any query takes.
_IDLE_S: Final = 60.0
_LAST_PORT: Final = 65_535
#: Error codes for missing (NOAUTH) and wrong (WRONGPASS) credentials.
_UNAUTHORIZED: Final = ("NOAUTH", "WRONGPASS")


@define(eq=False, kw_only=True)
class PrimaryFinder:
    """Queries all *sentinels* at once for the primary of *service*.

    Each query has a connection of its own, without TLS. *credentials* are those of the data
    servers. A Sentinel receives them only after it has required authentication.
    """

    reactor: Any
    sentinels: Sequence[Address]
    service: str
    credentials: ReadCredentials
    _faults: dict[Address, str] = field(factory=dict, init=False)

    @property
    def reason(self) -> str:
        """Why Sentinels did not name a primary in the last query: a text without secrets."""
        return "; ".join(sorted(f"Sentinel {at}: {fault}" for at, fault in self._faults.items()))

    def find(self) -> Deferred[Address | None]:
        """Fire with the primary that more than half of the Sentinels name.

        After all replies, the primary that most of them named is enough. None: no Sentinel has
        named one.
        """
        found: Deferred[Address | None] = Deferred()
        queries: list[Deferred[Address | None]] = []
        votes: Counter[Address] = Counter()
        pending = set(self.sentinels)
        self._faults.clear()

        def count(result: Address | Failure | None, sentinel: Address) -> None:
            pending.discard(sentinel)
            if isinstance(result, Address):
                votes[result] += 1
            elif not found.called:
                self._faults[sentinel] = self._fault(result)
            best, votes_of_best = next(iter(votes.most_common(1)), (None, 0))
            if not found.called and (2 * votes_of_best > len(self.sentinels) or not pending):
                found.callback(best)

        def cancel_queries(result: Any) -> Any:
            for query in queries:
                query.cancel()
            return result

        for sentinel in self.sentinels:
            query = Deferred.fromCoroutine(self._query(sentinel))
            queries.append(query.addTimeout(_TIMEOUT_S, self.reactor))
            query.addBoth(count, sentinel)
        return found.addBoth(cancel_queries)

    def _fault(self, result: Failure | None) -> str:
        if result is None:
            return f"knows no service {self.service}"
        if result.check(DeferredTimeoutError):
            return "no reply"
        return redacted(result.value)

    async def _query(self, sentinel: Address) -> Address | None:
        connection = await self._connect(sentinel)
        query = (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self.service.encode())
        try:
            reply = await connection.send(query)
        finally:
            connection.abort("the query has ended")
        if reply is None:
            return None
        host, port = reply
        number = whole_number(port, _LAST_PORT)
        if not number:
            raise ValueError("its reply has no valid port")
        return Address(host.decode(), number)

    async def _connect(self, sentinel: Address) -> RedisConnection:
        """Return a connection: without credentials, or with them if the Sentinel requires that.

        The password may be the user's, or the one of all clients (``requirepass``).
        """
        try:
            return await self._connect_with(sentinel, Credentials())
        except RedisConnectError as error:
            credentials = await credentials_from(self.credentials)
            if credentials.password is None or not _is_unauthorized(error):
                raise
        try:
            return await self._connect_with(sentinel, credentials)
        except RedisConnectError as error:
            if not credentials.username or not _is_unauthorized(error):
                raise
        return await self._connect_with(sentinel, evolve(credentials, username=""))

    async def _connect_with(self, sentinel: Address, credentials: Credentials) -> RedisConnection:
        factory = ConnectionFactory(
            reactor=self.reactor,
            patience_s=_TIMEOUT_S,
            idle_s=_IDLE_S,
            username=credentials.username,
            password=credentials.password,
            server=str(sentinel),
        )
        endpoint = sentinel.endpoint(self.reactor, None, _TIMEOUT_S)
        connection: Any = await endpoint.connect(factory)
        ready: RedisConnection = await connection.ready
        return ready


def _is_unauthorized(error: RedisConnectError) -> bool:
    return any(code in str(error) for code in _UNAUTHORIZED)
