"""Asking Sentinels where the primary is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as Late
from twisted.python.failure import Failure

from ghmirror_tw.redis.address import Address, Credentials
from ghmirror_tw.redis.redis_connection import (
    ConnectionFactory,
    RedisConnectError,
    RedisConnection,
    plain,
)
from ghmirror_tw.runtime.numbers import whole_number

#: What a Sentinel may take, from connecting to its answer.
_TIMEOUT_S: Final = 1.0
#: Longer than any question takes.
_IDLE_S: Final = 60.0
_LAST_PORT: Final = 65_535
#: These mean that one has to say who one is, or somebody else.
_REFUSALS: Final = ("NOAUTH", "WRONGPASS")


@define(eq=False, kw_only=True)
class Finder:
    """Asks all *sentinels* at the same time for the primary of *service*.

    Each question has a connection of its own, without TLS. *credentials* are those of the data;
    they are told to a Sentinel only when it has said that it wants some.
    """

    reactor: Any
    sentinels: Sequence[Address]
    service: str
    credentials: Callable[[], Credentials]
    _faults: dict[Address, str] = field(factory=dict, init=False)

    @property
    def why(self) -> str:
        """Why somebody did not say the last time, in a sentence without secrets."""
        return "; ".join(sorted(f"the Sentinel at {at} {why}" for at, why in self._faults.items()))

    def find(self) -> Deferred[Address | None]:
        """Return what more than half of the Sentinels say, or else most of those that answer.

        None: nobody knows.
        """
        found: Deferred[Address | None] = Deferred()
        questions: list[Deferred[Address | None]] = []
        votes: Counter[Address] = Counter()
        waiting = set(self.sentinels)
        self._faults.clear()

        def answered(result: Address | Failure | None, sentinel: Address) -> None:
            waiting.discard(sentinel)
            if isinstance(result, Address):
                votes[result] += 1
            elif not found.called:
                self._faults[sentinel] = self._fault(result)
            best, count = next(iter(votes.most_common(1)), (None, 0))
            if not found.called and (2 * count > len(self.sentinels) or not waiting):
                found.callback(best)

        def end(result: Any) -> Any:
            for question in questions:
                question.cancel()
            return result

        for sentinel in self.sentinels:
            question = Deferred.fromCoroutine(self._ask(sentinel))
            questions.append(question.addTimeout(_TIMEOUT_S, self.reactor))
            question.addBoth(answered, sentinel)
        return found.addBoth(end)

    def _fault(self, result: Failure | None) -> str:
        if result is None:
            return f"knows no service {self.service}"
        if result.check(Late):
            return "does not answer"
        return f"can't be asked: {plain(result.value)}"

    async def _ask(self, sentinel: Address) -> Address | None:
        connection = await self._connect(sentinel)
        asked = connection.send((b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self.service.encode()))
        try:
            reply = await asked
        finally:
            connection.abort("it has been asked")
        if reply is None:
            return None
        host, port = reply
        number = whole_number(port, _LAST_PORT)
        if not number:
            raise ValueError("the port in its reply can't be read")
        return Address(host.decode(), number)

    async def _connect(self, sentinel: Address) -> RedisConnection:
        """Return a connection as nobody, or as somebody if that is not enough.

        The password may be that of the user, or the one of all who connect (``requirepass``).
        """
        try:
            return await self._connect_as(sentinel, Credentials())
        except RedisConnectError as error:
            given = self._given()
            if given.password is None or not _is_refusal(error):
                raise
        try:
            return await self._connect_as(sentinel, given)
        except RedisConnectError as error:
            if not given.username or not _is_refusal(error):
                raise
        return await self._connect_as(sentinel, evolve(given, username=""))

    def _given(self) -> Credentials:
        try:
            return self.credentials()
        except Exception as error:  # noqa: BLE001 - see below
            # its text may have the secret in it
            raise RedisConnectError(f"the password can't be had ({type(error).__name__})") from None

    async def _connect_as(self, sentinel: Address, who: Credentials) -> RedisConnection:
        factory = ConnectionFactory(
            reactor=self.reactor,
            patience_s=_TIMEOUT_S,
            idle_s=_IDLE_S,
            username=who.username,
            password=who.password,
        )
        endpoint = sentinel.endpoint(self.reactor, None, _TIMEOUT_S)
        connection: Any = await endpoint.connect(factory)
        ready: RedisConnection = await connection.ready
        return ready


def _is_refusal(error: RedisConnectError) -> bool:
    return any(word in str(error) for word in _REFUSALS)
