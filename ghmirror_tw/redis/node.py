"""One Redis server: asked while it answers, left alone while it does not, tried meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import define, field
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from txredisapi import ResponseError

from ghmirror_tw.redis.address import Address, Credentials
from ghmirror_tw.redis.error_replies import ErrorReplyKind, code_of, trouble
from ghmirror_tw.redis.pipeline import exchange
from ghmirror_tw.redis.redis_connection import RedisConnection, plain
from ghmirror_tw.redis.redis_pool import RedisPool
from ghmirror_tw.redis.server_trials import Trials
from ghmirror_tw.redis.servers_interface import Command, Purpose, RedisUnavailableError, Reply
from ghmirror_tw.redis.settling import Settling

#: A connection without a reply for this long is given up: seconds at least, and timeouts.
_PATIENCE_S: Final = 1.0
_PATIENCE_TIMEOUTS: Final = 4
#: More than this is not put into a connection that has replies to come.
_FULL_BYTES: Final = 16 << 20


@define(eq=False, kw_only=True)
class Node:
    """The server at *address*.

    *timeout_s*: what a trial may take; connections are given up by it too. *credentials* is
    called at each attempt to connect, and may raise. *trust*: whom to trust for TLS; None: no TLS.
    *primary*: whether it is written to; of one that is not, writing is not tried. *probe_key*:
    the key that trials read and write, to be changed by `probe` (a cluster's node must have it).
    *changed* is called with the node after a breaker opened or closed. *random* gives numbers from
    0 to 1.
    """

    reactor: Any
    address: Address
    pool_size: int
    timeout_s: float
    credentials: Callable[[], Credentials]
    trust: IOpenSSLTrustRoot | None
    database: int
    probe_key: bytes
    changed: Callable[[Node], object]
    random: Callable[[], float]
    primary: bool = True
    clustered: bool = False
    lifetime_s: float = 600.0
    idle_s: float = 15.0
    #: Called when there is a new connection, which may lead to another server.
    connected: Callable[[], object] = lambda: None
    #: How often it has come back.
    returns: int = field(default=0, init=False)
    _pool: RedisPool = field(init=False)
    _trials: Trials = field(init=False)
    _closing: bool = field(default=False, init=False)
    _settling: Settling = field(factory=Settling, init=False)
    _said: str | None = field(default=None, init=False)
    _told: tuple[bool, bool] = field(default=(False, False), init=False)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"), init=False)

    def __attrs_post_init__(self) -> None:
        patience_s = max(_PATIENCE_S, _PATIENCE_TIMEOUTS * self.timeout_s)
        self._pool = RedisPool(
            reactor=self.reactor,
            endpoint=self.address.endpoint(self.reactor, self.trust, patience_s),
            size=self.pool_size,
            patience_s=patience_s,
            lifetime_s=self.lifetime_s,
            idle_s=self.idle_s,
            credentials=self.credentials,
            database=self.database,
            random=self.random,
            gained=self._gained,
            missed=self._missed,
        )
        self._trials = Trials(
            reactor=self.reactor,
            pick=self._pool.pick,
            timeout_s=self.timeout_s,
            key=self.probe_key,
            primary=self.primary,
            random=self.random,
            turned=self._turned,
            not_primary=self._pool.renew,
        )

    @property
    def reading(self) -> bool:
        """Whether it answers questions now, as far as is known."""
        return self._trials.reading.closed

    @property
    def writing(self) -> bool:
        """Whether it takes changes now, as far as is known."""
        return self._trials.writing.closed

    @property
    def why(self) -> str:
        """Why it can't be read, or else written, in a sentence without secrets."""
        return (self._trials.writing if self.reading else self._trials.reading).why

    @property
    def mark_key(self) -> bytes:
        """A key of this server's own, for the mark that it has been filled."""
        return self.own_key(b"filled")

    def own_key(self, name: bytes) -> bytes:
        """Return a key of this server's own, for what concerns it as a whole."""
        return b"%s:%s" % (self._trials.key, name)

    def open(self) -> None:
        """Begin to connect, and go on until `close`; never fails."""
        self._pool.open()

    def settled(self) -> Deferred[None]:
        """Fire when it is known for the first time whether the server can be asked."""
        return self._settling.wait()

    def ask(
        self,
        commands: Sequence[Command],
        purpose: Purpose,
        timeout_s: float,
        *,
        asking: bool = False,
    ) -> Deferred[list[Reply]]:
        """Send *commands* together, and return a reply to each; see ``IServers.ask``.

        MOVED and ASK stand in their place as ``ResponseError`` and count as answers; in a cluster
        (*clustered*) so does what else is said of a slot, since only those commands may be sent
        again that were put off. *asking*: say ASKING before each command. A server that said
        READONLY is not the primary any more, so it is not asked for what is CURRENT until it can
        be written again.

        The reason of `RedisUnavailableError` is ``open`` (it did not answer before, and is left
        alone), ``unconnected``, ``full`` (too much is on its way), ``timeout``, ``lost``,
        ``closed``, or the code of the server's error in lower case.
        """
        connection = self._pool.pick()
        refusal = self._refusal(connection, purpose, timeout_s)
        if refusal is not None or connection is None:
            return fail(refusal)
        replies = exchange(connection, commands, timeout_s, asking=asking)
        return replies.addCallbacks(self._judge, self._failed, callbackArgs=(purpose,))

    def _refusal(
        self, connection: RedisConnection | None, purpose: Purpose, timeout_s: float
    ) -> RedisUnavailableError | None:
        """Return why nothing is sent at all."""
        breaker = self._trials.of(purpose)
        refusal = None
        if self._closing:
            refusal = "closed", "closed"
        elif not breaker.closed:
            refusal = "open", breaker.why
        elif purpose is Purpose.CURRENT and self._trials.demoted:
            refusal = "readonly", "it is not the primary any more"
        elif connection is None:
            refusal = "unconnected", "no connection"
        elif connection.outstanding_bytes > _FULL_BYTES:
            refusal = "full", "too much is on its way"
        elif timeout_s <= 0:
            refusal = "timeout", "no time is left"
        if refusal is None:
            return None
        reason, why = refusal
        return RedisUnavailableError(reason, f"Redis at {self.address}: {why}")

    def renew(self) -> None:
        """Make all connections anew, to wherever the address leads now; none is missed for it."""
        self._pool.renew()

    def probe(self, key: bytes) -> None:
        """Let trials read and write *key* from now on."""
        self._trials.key = key

    def close(self) -> Deferred[None]:
        """Close all connections; what has been sent is waited for, but not for long."""
        self._closing = True
        self._trials.close()
        self._settling.settle()
        return self._pool.close()

    def _judge(self, replies: list[Reply], purpose: Purpose) -> list[Reply]:
        """Give the replies, unless one of them speaks of the server."""
        for reply in replies:
            if isinstance(reply, ResponseError):
                code = code_of(str(reply))
                what = trouble(code, purpose)
                if what is ErrorReplyKind.PASSING and self.clustered:
                    continue
                if what is not None:
                    why = plain(reply)
                    self._trials.bad(what, code, why)
                    raise RedisUnavailableError(code.lower(), f"Redis at {self.address} says {why}")
        self._trials.of(purpose).good()
        return replies

    def _failed(self, failure: Failure) -> Failure:
        # a lost connection is told of by the pool, once, however many waited for it
        error = failure.value
        if isinstance(error, RedisUnavailableError) and error.reason == "timeout":
            self._trials.bad(ErrorReplyKind.BOTH, "", error.why)
        return failure

    def _gained(self) -> None:
        self._trials.reached()
        self.connected()

    def _missed(self, why: str) -> None:
        if self._closing or self._pool.connections:
            return
        self._trials.unreachable(why)
        self._say(f"can't be reached: {why}")
        self._settling.settle()

    def _turned(self) -> None:
        """Tell that a breaker opened or closed, or was tried."""
        (read, written), self._told = self._told, (self.reading, self.writing)
        turned = self._told != (read, written)
        self.returns += (self.reading and not read) or (self.writing and not written)
        if not self._trials.untried:
            self._settling.settle()
            if self.reading and (self.writing or not self.primary):
                self._say("")
            else:
                self._say(f"can't be {'written' if self.reading else 'read'}: {self.why}")
        if turned:
            self.changed(self)

    def _say(self, fault: str) -> None:
        """Log what is wrong with it, or that nothing is; once for as long as it stays like that."""
        if fault == self._said:
            return
        self._said = fault
        if fault:
            self._log.warn("Redis at {address} {fault}", address=self.address, fault=fault)
        else:
            self._log.info("Redis at {address} works", address=self.address)
