"""One Redis server: its connections, its health, and the commands sent to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import define, field
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from txredisapi import ResponseError

from ghmirror_tw.redis.error_codes import ErrorReplyKind, code_of, kind_of, redacted
from ghmirror_tw.redis.pipeline import send_pipeline
from ghmirror_tw.redis.redis_connection import RedisConnection
from ghmirror_tw.redis.redis_pool import RedisPool
from ghmirror_tw.redis.resp import LARGEST_BYTES
from ghmirror_tw.redis.server_endpoint import Address, ReadCredentials
from ghmirror_tw.redis.server_health import ServerHealth
from ghmirror_tw.redis.servers_interface import (
    Command,
    Purpose,
    RedisUnavailableError,
    Reply,
    ServerFault,
)
from ghmirror_tw.runtime.event import Event

#: A connection without a reply is aborted after so many seconds at least, and so many timeouts.
_PATIENCE_S: Final = 1.0
_PATIENCE_TIMEOUTS: Final = 4
#: A connection with more bytes outstanding accepts no more commands.
_FULL_BYTES: Final = 16 << 20
#: What is logged while a server is unavailable.
_UNREACHABLE: Final = "Redis unreachable, {effect}: address={address} reason={reason}"
_UNWRITABLE: Final = "Redis cannot be written, {effect}: address={address} reason={reason}"
_UNREADABLE: Final = "Redis cannot be read, {effect}: address={address} reason={reason}"
#: The beginning of a reason that a server has sent.
_ERROR_REPLY: Final = "error reply"


@define(eq=False, kw_only=True)
class RedisNode:
    """The server at *address*.

    *timeout_s* limits probes, and sets when connections without replies are aborted. *credentials*
    is called at each attempt to connect, and may raise. *trust*: the certificate authorities for
    TLS; None: no TLS. *primary*: whether it accepts writes; else writes are not probed.
    *clustered*: it belongs to a Redis Cluster. *probe_key*: the key that probes read and write
    (see `probe`). *changed* is called with the node after its health has changed, *connected* after
    each new connection, which may lead to another server. *random* gives numbers from 0 to 1.
    *effect*: what it means that the server is unavailable, for the log. *largest_bytes*: a reply
    with more content counts as missing (see `ReplyParser`), and so do replies of one pipeline.
    """

    reactor: Any
    address: Address
    pool_size: int
    timeout_s: float
    credentials: ReadCredentials
    trust: IOpenSSLTrustRoot | None
    database: int
    probe_key: bytes
    changed: Callable[[RedisNode], object]
    random: Callable[[], float]
    primary: bool = True
    clustered: bool = False
    lifetime_s: float = 600.0
    idle_s: float = 15.0
    connected: Callable[[], object] = lambda: None
    effect: str = "nothing replaces it"
    largest_bytes: int = LARGEST_BYTES
    #: How often it could be read or written again after a failure.
    return_count: int = field(default=0, init=False)
    pool: RedisPool = field(init=False)
    health: ServerHealth = field(init=False)
    _closing: bool = field(default=False, init=False)
    _settled: Event = field(factory=Event, init=False)
    _logged: tuple[str, str] | None = field(default=None, init=False)
    #: Reading and writing, as of the last call of *changed*.
    _notified: tuple[bool, bool] = field(default=(False, False), init=False)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"), init=False)

    def __attrs_post_init__(self) -> None:
        patience_s = max(_PATIENCE_S, _PATIENCE_TIMEOUTS * self.timeout_s)
        self.pool = RedisPool(
            reactor=self.reactor,
            endpoint=self.address.endpoint(self.reactor, self.trust, patience_s),
            size=self.pool_size,
            patience_s=patience_s,
            lifetime_s=self.lifetime_s,
            idle_s=self.idle_s,
            credentials=self.credentials,
            database=self.database,
            random=self.random,
            on_connected=self._connected,
            on_missing=self._missing,
            largest_bytes=self.largest_bytes,
            server=str(self.address),
        )
        self.health = ServerHealth(
            reactor=self.reactor,
            pick=self.pool.pick,
            timeout_s=self.timeout_s,
            probe_key=self.probe_key,
            is_primary=self.primary,
            random=self.random,
            on_change=self._health_changed,
            on_demoted=self.pool.renew,
        )

    @property
    def reading(self) -> bool:
        """Whether it can be read, by its last probes."""
        return self.health.reads.is_closed

    @property
    def writing(self) -> bool:
        """Whether it can be written, by its last probes."""
        return self.health.writes.is_closed

    @property
    def reason(self) -> str:
        """Why it cannot be read, or else not written: a sentence without secrets."""
        return (self.health.writes if self.reading else self.health.reads).reason

    @property
    def fault(self) -> ServerFault | None:
        """Why it cannot be read or, if it accepts writes, not written; None: it can."""
        if self.reading and (self.writing or not self.primary):
            return None
        return ServerFault(str(self.address), self.reason.rstrip("."))

    def own_key(self, name: bytes) -> bytes:
        """Return a key for data about this server as a whole."""
        return b"%s:%s" % (self.health.probe_key, name)

    def open(self) -> None:
        """Begin to connect, and to reconnect until `close`; never fails."""
        self.pool.open()

    def settled(self) -> Deferred[None]:
        """Fire when it is known for the first time whether the server can be read and written."""
        return self._settled.wait()

    def send(
        self,
        commands: Sequence[Command],
        purpose: Purpose,
        timeout_s: float,
        *,
        asking: bool = False,
    ) -> Deferred[list[Reply]]:
        """Send *commands* together; fire with a reply to each (see ``IServers.send``).

        Redirections (MOVED, ASK) are replies, in place as ``ResponseError``. In a cluster, so are
        all errors that concern one slot: only the commands that failed may be sent again. *asking*:
        send ASKING before each command. CURRENT fails on a server that has responded with READONLY,
        until it has been written again.

        The reason of `RedisUnavailableError` is ``open`` (the circuit is open), ``unconnected``,
        ``full`` (too many bytes are outstanding), ``timeout``, ``lost``, ``closed``, or the code of
        the error reply in lower case.
        """
        connection = self.pool.pick()
        unavailable = self._unavailable(connection, purpose, timeout_s)
        if unavailable is not None or connection is None:
            return fail(unavailable)
        replies = send_pipeline(connection, commands, timeout_s, asking=asking)
        return replies.addCallbacks(self._check, self._failed, callbackArgs=(purpose,))

    def _unavailable(
        self, connection: RedisConnection | None, purpose: Purpose, timeout_s: float
    ) -> RedisUnavailableError | None:
        """Return why no commands are sent; None: they are."""
        circuit = self.health.circuit_for(purpose)
        if self._closing:
            found = "closed", "closed"
        elif not circuit.is_closed:
            found = "open", circuit.reason
        elif purpose is Purpose.CURRENT and self.health.is_demoted:
            found = "readonly", "it is no longer the primary"
        elif connection is None:
            found = "unconnected", "no connection"
        elif connection.outstanding_bytes > _FULL_BYTES:
            found = "full", "too many bytes are outstanding"
        elif timeout_s <= 0:
            found = "timeout", "no time is left"
        else:
            return None
        reason, why = found
        return RedisUnavailableError(reason, f"Redis at {self.address}: {why}")

    def renew(self) -> None:
        """Replace all connections one by one, by an address that is resolved anew."""
        self.pool.renew()

    def probe(self, key: bytes) -> None:
        """Let probes read and write *key* from now on."""
        self.health.probe_key = key

    def close(self) -> Deferred[None]:
        """Close all connections, after a short time for outstanding replies."""
        self._closing = True
        self.health.close()
        self._settled.set()
        return self.pool.close()

    def _check(self, replies: list[Reply], purpose: Purpose) -> list[Reply]:
        """Return *replies*. Raises `RedisUnavailableError` for an error of the whole server."""
        for reply in replies:
            if isinstance(reply, ResponseError):
                code = code_of(str(reply))
                kind = kind_of(code, purpose)
                if kind is ErrorReplyKind.PASSING and self.clustered:
                    continue
                if kind is not None:
                    why = redacted(reply)
                    self.health.note_failure(kind, code, why)
                    raise RedisUnavailableError(code.lower(), f"Redis at {self.address}: {why}")
        self.health.circuit_for(purpose).note_success()
        return replies

    def _failed(self, failure: Failure) -> Failure:
        # The pool reports a lost connection once, however many commands were outstanding.
        error = failure.value
        if isinstance(error, RedisUnavailableError) and error.reason == "timeout":
            self.health.note_failure(ErrorReplyKind.BOTH, "", error.why)
        return failure

    def _connected(self) -> None:
        self.health.note_reachable()
        self.connected()

    def _missing(self, reason: str) -> None:
        if self._closing or self.pool.connections:
            return
        self.health.note_unreachable(reason)
        self._log_once(_UNREACHABLE, reason)
        self._settled.set()

    def _health_changed(self) -> None:
        (read, written), now = self._notified, (self.reading, self.writing)
        self._notified = now
        self.return_count += (self.reading and not read) or (self.writing and not written)
        if self.health.is_known:
            self._settled.set()
            if self.reading and (self.writing or not self.primary):
                self._log_once("Redis available: address={address}")
            elif self.reading:
                self._log_once(_UNWRITABLE, self.reason)
            else:
                self._log_once(_UNREADABLE, self.reason)
        if now != (read, written):
            self.changed(self)

    def _log_once(self, message: str, reason: str = "") -> None:
        """Log a change of the server's health; not again while it stays the same.

        An unreachable server has another reason soon: the connection was lost, then refused. Only a
        server that responds with an error is in another state.
        """
        if self._logged is not None and message == self._logged[0]:
            responds = reason.startswith(_ERROR_REPLY)
            if reason == self._logged[1] or (message == _UNREACHABLE and not responds):
                return
        self._logged = message, reason
        log = self._log.warn if reason else self._log.info
        log(message, address=self.address, reason=reason, effect=self.effect)
