"""Commands that are sent together over one connection, and their replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from txredisapi import ConnectionError as Lost
from txredisapi import ResponseError

from ghmirror_tw.store.redis.connection import Connection
from ghmirror_tw.store.redis.interfaces import Command, Reply, Unavailable

#: A timeout passes in so many steps. What the reactor is held up by something else takes one
#: step, however long it is, so that it isn't taken for the slowness of Redis.
_STEPS: Final = 4

_ASKING: Final = (b"ASKING",)


def exchange(
    connection: Connection,
    commands: Sequence[Command],
    timeout_s: float,
    reactor: Any,
    *,
    asking: bool = False,
) -> Deferred[list[Reply]]:
    """Send *commands* and return their replies in order, errors in place as ``ResponseError``.

    Fails with `Unavailable` (``timeout`` or ``lost``). A script that the server does not know is
    sent to it. *asking*: each command is one that a cluster's node must carry out although the
    slot is only on its way to it (ASK). Cancelling gives up waiting.
    """
    under_way = _Exchange(connection, commands, timeout_s, reactor, asking)
    under_way.begin()
    return under_way.result


@define(eq=False)
class _Exchange:
    connection: Connection
    commands: Sequence[Command]
    timeout_s: float
    reactor: Any
    asking: bool
    result: Deferred[list[Reply]] = field(init=False)
    replies: list[Reply] = field(init=False)
    missing: int = field(init=False)
    steps: int = _STEPS
    timer: Any = None

    def __attrs_post_init__(self) -> None:
        self.result = Deferred(lambda _: self._stop())
        self.replies = [None] * len(self.commands)
        self.missing = len(self.commands)

    def begin(self) -> None:
        """Send all; the transport makes one piece of them."""
        self.timer = self.reactor.callLater(self.timeout_s / _STEPS, self._step)
        for index, command in enumerate(self.commands):
            self._send(index, command.parts)
        if not self.commands:
            self._end(self.replies)

    def _send(self, index: int, parts: Sequence[bytes]) -> None:
        try:
            if self.asking:
                self.connection.send(_ASKING).addErrback(lambda _: None)
            sent = self.connection.send(parts, self.timeout_s)
        except Lost:
            self._lost()
        else:
            sent.addCallbacks(
                self._replied, self._failed, callbackArgs=(index,), errbackArgs=(index,)
            )

    def _replied(self, reply: Reply, index: int) -> None:
        self.replies[index] = reply
        self.missing -= 1
        if not self.missing and not self.result.called:
            self._end(self.replies)

    def _failed(self, failure: Failure, index: int) -> None:
        error = failure.value
        if not isinstance(error, ResponseError):
            self._lost()
            return
        script = self.commands[index].script
        if script is None or self.result.called or not str(error).startswith("NOSCRIPT"):
            self._replied(error, index)
            return
        name, _hash, *arguments = self.commands[index].parts
        known = name.upper().replace(b"EVALSHA", b"EVAL")
        self._send(index, (known, script, *arguments))

    def _step(self) -> None:
        self.steps -= 1
        # after the last one, a turn for what has come in meanwhile
        wait_s = 0.0 if self.steps == 0 else self.timeout_s / _STEPS
        if self.steps >= 0:
            self.timer = self.reactor.callLater(wait_s, self._step)
        else:
            self.timer = None
            self._end(Failure(Unavailable("timeout", f"no reply within {self.timeout_s:.3g} s")))

    def _lost(self) -> None:
        self._end(Failure(Unavailable("lost", f"the connection broke: {self.connection.why}")))

    def _end(self, result: list[Reply] | Failure) -> None:
        self._stop()
        if not self.result.called:
            self.result.callback(result)

    def _stop(self) -> None:
        if self.timer is not None:
            timer, self.timer = self.timer, None
            timer.cancel()
