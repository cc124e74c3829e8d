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

from ghmirror_tw.store.redis.address import Address, Credentials
from ghmirror_tw.store.redis.breaker import Breaker
from ghmirror_tw.store.redis.connection import plain
from ghmirror_tw.store.redis.exchange import exchange
from ghmirror_tw.store.redis.interfaces import Command, Purpose, Reply, Unavailable
from ghmirror_tw.store.redis.pool import Pool
from ghmirror_tw.store.redis.replies import Trouble, code_of, trouble

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
    the key that trials read and write; it may be changed (in a cluster the node must have it).
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
    lifetime_s: float = 600.0
    idle_s: float = 15.0
    _pool: Pool = field(init=False)
    _reading: Breaker = field(init=False)
    _writing: Breaker = field(init=False)
    _trial: Deferred[Any] | None = field(default=None, init=False)
    _timer: Any = field(default=None, init=False)
    _untried: set[Breaker] = field(init=False)
    _unsettled: list[Deferred[None]] | None = field(factory=list, init=False)
    _said: str = field(default="", init=False)
    _closing: bool = field(default=False, init=False)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"), init=False)

    def __attrs_post_init__(self) -> None:
        patience_s = max(_PATIENCE_S, _PATIENCE_TIMEOUTS * self.timeout_s)
        self._reading, self._writing = Breaker(self.random), Breaker(self.random)
        self._untried = set(self._tried_breakers)
        self._pool = Pool(
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

    @property
    def reading(self) -> bool:
        """Whether it answers questions now, as far as is known."""
        return self._reading.closed

    @property
    def writing(self) -> bool:
        """Whether it takes changes now, as far as is known."""
        return self._writing.closed

    @property
    def why(self) -> str:
        """Why it can't be read, or else written, in a sentence without secrets."""
        return self._writing.why if self._reading.closed else self._reading.why

    def open(self) -> None:
        """Begin to connect, and go on until `close`; never fails."""
        self._pool.open()

    def settled(self) -> Deferred[None]:
        """Fire when it is known for the first time whether the server can be asked."""
        settled: Deferred[None] = Deferred()
        if self._unsettled is None:
            settled.callback(None)
        else:
            self._unsettled.append(settled)
        return settled

    def ask(
        self,
        commands: Sequence[Command],
        purpose: Purpose,
        timeout_s: float,
        *,
        asking: bool = False,
    ) -> Deferred[list[Reply]]:
        """Send *commands* together, and return a reply to each; see ``IServers.ask``.

        MOVED and ASK stand in their place as ``ResponseError`` and count as answers. *asking*:
        say ASKING before each command. The reason of `Unavailable` is ``open`` (it did not answer
        before, and is left alone), ``unconnected``, ``full`` (too much is on its way), ``timeout``,
        ``lost``, ``closed``, or the code of the server's error in lower case.
        """
        breaker = self._writing if purpose is Purpose.WRITE else self._reading
        if self._closing:
            return self._unavailable("closed", "closed")
        if not breaker.closed:
            return self._unavailable("open", breaker.why)
        connection = self._pool.pick()
        if connection is None:
            return self._unavailable("unconnected", "no connection")
        if connection.outstanding_bytes > _FULL_BYTES:
            return self._unavailable("full", "too much is on its way")
        if timeout_s <= 0:
            return self._unavailable("timeout", "no time left")
        replies = exchange(connection, commands, timeout_s, self.reactor, asking=asking)
        return replies.addCallbacks(
            self._judge, self._failed, callbackArgs=(purpose,), errbackArgs=()
        )

    def renew(self) -> None:
        """Make all connections anew, to wherever the address leads now; none is missed for it."""
        self._pool.renew()

    def close(self) -> Deferred[None]:
        """Close all connections; what has been sent is waited for, but not for long."""
        self._closing = True
        self._stop_timer()
        if self._trial is not None:
            self._trial.cancel()
        now = self.reactor.seconds()
        self._reading.trip(now, "closed")
        self._writing.trip(now, "closed")
        self._settle()
        return self._pool.close()

    def _unavailable(self, reason: str, why: str) -> Deferred[list[Reply]]:
        return fail(Unavailable(reason, f"Redis at {self.address}: {why}"))

    # What replies say about the server

    def _judge(self, replies: list[Reply], purpose: Purpose) -> list[Reply]:
        for reply in replies:
            if isinstance(reply, ResponseError):
                code = code_of(str(reply))
                what = trouble(code, purpose)
                if what is not None:
                    why = plain(reply)
                    self._bad(what, code, why)
                    raise Unavailable(code.lower(), f"Redis at {self.address} says {why}")
        (self._writing if purpose is Purpose.WRITE else self._reading).good()
        return replies

    def _failed(self, failure: Failure) -> Failure:
        # a lost connection is told of by the pool, once, however many waited for it
        error = failure.value
        if isinstance(error, Unavailable) and error.reason == "timeout":
            self._bad(Trouble.BOTH, "", error.why)
        return failure

    def _bad(self, what: Trouble, code: str, why: str) -> None:
        if self._closing:
            return
        now = self.reactor.seconds()
        if code == "READONLY":
            # It will be no better next time, and the primary is somewhere else by now.
            opened = self._writing.trip(now, why)
            self._pool.renew()
        else:
            opened = self._writing.bad(now, why)
        if what is Trouble.BOTH:
            opened = self._reading.bad(now, why) or opened
        if opened:
            self._turned()

    # What the pool tells

    def _gained(self) -> None:
        now = self.reactor.seconds()
        for breaker in self._tried_breakers:
            breaker.reached(now)
        self._try_later()

    def _missed(self, why: str) -> None:
        if self._closing or self._pool.connections:
            return
        now = self.reactor.seconds()
        opened = [breaker.trip(now, why) for breaker in (self._reading, self._writing)]
        if any(opened):
            self._turned()
        elif why != self._said:
            self._said = why
            self._log.warn(
                "Redis at {address} can't be reached: {why}", address=self.address, why=why
            )
        self._settle()

    # Trials

    @property
    def _tried_breakers(self) -> tuple[Breaker, ...]:
        return (self._reading, self._writing) if self.primary else (self._reading,)

    def _try_later(self) -> None:
        """See to it that what is open is tried when it is due, one at a time."""
        waiting = [breaker for breaker in self._tried_breakers if not breaker.closed]
        self._stop_timer()
        if not waiting or self._trial is not None or self._closing or self._pool.pick() is None:
            return
        breaker = min(waiting, key=lambda one: one.trial_at)
        wait_s = max(0.0, breaker.trial_at - self.reactor.seconds())
        self._timer = self.reactor.callLater(wait_s, self._try, breaker)

    def _try(self, breaker: Breaker) -> None:
        self._timer = None
        connection = self._pool.pick()
        if connection is None:
            return
        parts: tuple[tuple[bytes, ...], ...] = ((b"PING",), (b"GET", self.probe_key))
        if breaker is self._writing:
            parts = ((b"SET", self.probe_key, b"1", b"PX", b"1000"),)
        commands = [Command(each) for each in parts]
        self._trial = trial = exchange(connection, commands, self.timeout_s, self.reactor)
        trial.addBoth(self._tried, breaker)
        trial.addErrback(lambda failure: self._log.failure("A trial failed", failure))

    def _tried(self, result: list[Reply] | Failure, breaker: Breaker) -> None:
        self._trial = None
        if self._closing:
            return
        purpose = Purpose.WRITE if breaker is self._writing else Purpose.READ
        why = None
        if isinstance(result, Failure):
            why = result.getErrorMessage()
            if isinstance(result.value, Unavailable):
                why = result.value.why
        else:
            for reply in result:
                code = code_of(str(reply)) if isinstance(reply, ResponseError) else ""
                if trouble(code, purpose) is not None:
                    why = plain(reply)
                    if code == "READONLY":
                        self._pool.renew()
        breaker.tried(self.reactor.seconds(), why)
        self._untried.discard(breaker)
        if why is None:
            self._turned()
        if not self._untried:
            self._settle()
        self._try_later()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What is told to others

    def _turned(self) -> None:
        """Tell that a breaker opened or closed."""
        if self.reading and (self.writing or not self.primary):
            self._said = ""
            self._log.info("Redis at {address} works", address=self.address)
        elif not self._untried and self.why != self._said:
            self._said = self.why
            self._log.warn(
                "Redis at {address} can't be {what}: {why}",
                address=self.address,
                what="written" if self.reading else "read",
                why=self.why,
            )
        self._try_later()
        self.changed(self)

    def _settle(self) -> None:
        unsettled, self._unsettled = self._unsettled, None
        for settled in unsettled or ():
            settled.callback(None)
