"""Pipelining: several commands sent together over one connection, and their replies.

https://redis.io/docs/latest/develop/using-commands/pipelining.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from txredisapi import ConnectionError as ConnectionClosedError
from txredisapi import ResponseError

from ghmirror_tw.redis.redis_connection import RedisConnection
from ghmirror_tw.redis.resp import encode_command
from ghmirror_tw.redis.servers_interface import Command, RedisUnavailableError, Reply
from ghmirror_tw.runtime.read_before_timeout import ReadBeforeTimeout

#: A timeout passes in so many steps (see `read_before_timeout`).
_STEPS: Final = 4

_ASKING: Final = encode_command((b"ASKING",))
#: The index of a command whose reply is ignored.
_IGNORED: Final = -1


def send_pipeline(
    connection: RedisConnection,
    commands: Sequence[Command],
    timeout_s: float,
    *,
    asking: bool = False,
) -> Deferred[list[Reply]]:
    """Send *commands*; fire with their replies in order, errors in place as ``ResponseError``.

    Fails with `RedisUnavailableError` (``timeout`` or ``lost``). The source of a script that the
    server does not have is sent. Large replies that together exceed the limit of one are None.
    *asking*: send ASKING before each command, for a slot that a cluster is migrating to this node.
    Cancelling ignores late replies.
    """
    pipeline = _Pipeline(connection, commands, timeout_s, asking)
    pipeline.send()
    return pipeline.result


@define(eq=False)
class _Pipeline:
    connection: RedisConnection
    commands: Sequence[Command]
    timeout_s: float
    asking: bool
    replies: list[Reply] = field(init=False)
    missing: int = field(init=False)
    large: bool = False
    #: How many bytes the replies may still have, where they may be large.
    bytes_left: int = field(init=False)
    result: Deferred[list[Reply]] = field(init=False)
    _timeout: ReadBeforeTimeout | None = None

    def __attrs_post_init__(self) -> None:
        self.result = Deferred(self._cancelled)
        self.missing = len(self.commands)
        self.bytes_left = self.connection.factory.largest_bytes
        self.replies = [None] * self.missing

    def send(self) -> None:
        """Send all commands in one write."""
        encoded = []
        for command in self.commands:
            encoded.append(command.encoded())
            self.large = self.large or command.large
        self._write(encoded, range(len(encoded)))
        if not self.missing:
            self._end(self.replies)
        elif not self.result.called:
            call_later = self.connection.factory.reactor.callLater
            self._timeout = ReadBeforeTimeout(call_later, self.timeout_s, self._time_out, _STEPS)

    def _write(self, encoded: Sequence[bytes], indices: Iterable[int]) -> None:
        if self.asking:
            encoded = [part for command in encoded for part in (_ASKING, command)]
            indices = [part for index in indices for part in (_IGNORED, index)]
        try:
            self.connection.write(encoded, self._receive, indices, self.timeout_s, large=self.large)
        except ConnectionClosedError:
            self._connection_lost()

    def _receive(self, index: int, reply: Reply) -> None:
        if index == _IGNORED:
            return
        if isinstance(reply, Exception):
            if not isinstance(reply, ResponseError):
                self._connection_lost()
                return
            if self._send_source(index, reply):
                return
        if self.large:
            self.bytes_left -= _size_of(reply)
            if self.bytes_left < 0:
                self.connection.value_dropped(_size_of(reply))
                reply = None
        self.replies[index] = reply
        self.missing -= 1
        if not self.missing:
            self._end(self.replies)

    def _send_source(self, index: int, error: ResponseError) -> bool:
        """Send the source of a script if *error* is NOSCRIPT; return whether it was sent."""
        script = self.commands[index].script
        if script is None or self.result.called or not str(error).startswith("NOSCRIPT"):
            return False
        name, _hash, *arguments = self.commands[index].parts
        eval_name = name.upper().replace(b"EVALSHA", b"EVAL")
        self._write([encode_command((eval_name, script, *arguments))], (index,))
        return True

    def _time_out(self) -> None:
        self._timeout = None
        text = f"no reply within {self.timeout_s:.3g} s"
        self._end(Failure(RedisUnavailableError("timeout", text)))

    def _connection_lost(self) -> None:
        self._end(Failure(RedisUnavailableError("lost", self.connection.close_reason)))

    def _end(self, result: list[Reply] | Failure) -> None:
        self._stop_timeout()
        if not self.result.called:
            self.result.callback(result)

    def _cancelled(self, _: Deferred[list[Reply]]) -> None:
        self._stop_timeout()

    def _stop_timeout(self) -> None:
        timeout, self._timeout = self._timeout, None
        if timeout is not None:
            timeout.cancel()


def _size_of(reply: Reply) -> int:
    if isinstance(reply, list):
        return sum(map(_size_of, reply))
    return len(reply) if isinstance(reply, bytes) else 0
