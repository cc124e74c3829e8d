"""Whether a Redis server can be read and written: a circuit breaker for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from txredisapi import ResponseError

from ghmirror_tw.redis.circuit_breaker import CircuitBreaker
from ghmirror_tw.redis.error_codes import ErrorReplyKind, code_of, kind_of, redacted
from ghmirror_tw.redis.pipeline import send_pipeline
from ghmirror_tw.redis.redis_connection import RedisConnection
from ghmirror_tw.redis.servers_interface import Command, Purpose, RedisUnavailableError, Reply

#: How long Redis stores what a probe writes, in milliseconds.
_PROBE_LIFE_MS: Final = b"1000"


@define(eq=False, kw_only=True)
class ServerHealth:
    """The two circuits of one server, with their probes.

    Writes are probed only on a primary, and only while reads work. *pick* returns a connection, or
    None. *on_change* is called after a circuit opened and after each probe, *on_demoted* whenever
    the server responds with READONLY.
    """

    reactor: Any
    pick: Callable[[], RedisConnection | None]
    timeout_s: float
    probe_key: bytes
    is_primary: bool
    random: Callable[[], float]
    on_change: Callable[[], object]
    on_demoted: Callable[[], object]
    reads: CircuitBreaker = field(init=False)
    writes: CircuitBreaker = field(init=False)
    #: The server responded with READONLY, and was not written since: another one is the primary.
    is_demoted: bool = field(default=False, init=False)
    #: The circuits that have not been probed since the server was unreachable.
    _unprobed: set[CircuitBreaker] = field(factory=set, init=False)
    _closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.reads = CircuitBreaker(
            reactor=self.reactor,
            probe=lambda: self._probe(
                Purpose.READ, Command((b"PING",)), Command((b"GET", self.probe_key))
            ),
            may_probe=lambda: self.pick() is not None,
            on_probed=self._probed,
            random=self.random,
        )
        self.writes = CircuitBreaker(
            reactor=self.reactor,
            probe=lambda: self._probe(
                Purpose.WRITE, Command((b"SET", self.probe_key, b"1", b"PX", _PROBE_LIFE_MS))
            ),
            may_probe=lambda: self.is_primary and self.reads.is_closed and self.pick() is not None,
            on_probed=self._probed,
            random=self.random,
        )
        self._unprobed.update(self._circuits)

    @property
    def _circuits(self) -> tuple[CircuitBreaker, ...]:
        """The circuits that are probed."""
        return (self.reads, self.writes) if self.is_primary else (self.reads,)

    @property
    def is_known(self) -> bool:
        """Whether the server has been probed since it was last unreachable."""
        return not self._unprobed

    def circuit_for(self, purpose: Purpose) -> CircuitBreaker:
        """Return the circuit that commands for *purpose* depend on."""
        return self.writes if purpose is Purpose.WRITE else self.reads

    def note_failure(self, kind: ErrorReplyKind, code: str, reason: str) -> None:
        """Note a failure, with the *code* of the error reply if there was one."""
        if self._closed or kind is ErrorReplyKind.PASSING:
            return
        if code == "READONLY":
            opened = self.writes.trip(reason)  # only another server can end this state
            self._demote()
        else:
            opened = self.writes.note_failure(reason)
        if kind is ErrorReplyKind.BOTH:
            opened = self.reads.note_failure(reason) or opened
        if opened:
            self.on_change()

    def note_unreachable(self, reason: str) -> None:
        """Note that there is no connection."""
        opened = [circuit.trip(reason) for circuit in (self.reads, self.writes)]
        self._unprobed.update(self._circuits)
        if any(opened) and not self._closed:
            self.on_change()

    def note_reachable(self) -> None:
        """Note a new connection: probes need not wait for the backoff."""
        for circuit in self._circuits:
            circuit.resume(at_once=True)

    def close(self) -> None:
        """Open both circuits for good."""
        self._closed = True
        self.note_unreachable("closed")
        self.reads.stop()
        self.writes.stop()

    async def _send(self, commands: tuple[Command, ...]) -> list[Reply]:
        connection = self.pick()
        if connection is None:
            raise RedisUnavailableError("unconnected", "no connection")
        return await send_pipeline(connection, commands, self.timeout_s)

    def _probe(self, purpose: Purpose, *commands: Command) -> Deferred[str | None]:
        replies = Deferred.fromCoroutine(self._send(commands))
        return replies.addCallbacks(self._fault_in, _reason_of, callbackArgs=(purpose,))

    def _fault_in(self, replies: list[Reply], purpose: Purpose) -> str | None:
        """Return the error that concerns the server as a whole, if there is one in *replies*."""
        for reply in replies:
            if isinstance(reply, ResponseError):
                code = code_of(str(reply))
                if kind_of(code, purpose) in {ErrorReplyKind.WRITING, ErrorReplyKind.BOTH}:
                    if code == "READONLY":
                        self._demote()
                    return redacted(reply)
        if purpose is Purpose.WRITE:
            self.is_demoted = False
        return None

    def _probed(self, circuit: CircuitBreaker) -> None:
        self._unprobed.discard(circuit)
        if not circuit.is_closed:
            # Writes are not probed while reads fail, so nothing more becomes known soon.
            self._unprobed.clear()
        elif circuit is self.reads:
            self.writes.resume()
        self.on_change()

    def _demote(self) -> None:
        self.is_demoted = True
        self.on_demoted()


def _reason_of(failure: Failure) -> str:
    error = failure.value
    return error.why if isinstance(error, RedisUnavailableError) else failure.getErrorMessage()
