"""Commands that are sent together over one connection, and their replies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from txredisapi import ConnectionError as Lost
from txredisapi import ResponseError

from ghmirror_tw.redis.redis_connection import RedisConnection
from ghmirror_tw.redis.resp import encode_command
from ghmirror_tw.redis.servers_interface import Command, RedisUnavailableError, Reply

#: A timeout passes in so many steps. What the reactor is held up by something else takes one
#: step, however long it is, so that it isn't taken for the slowness of Redis.
_STEPS: Final = 4

_ASKING: Final = encode_command((b"ASKING",))
#: The number of what is said before a command.
_NOBODYS: Final = -1


def exchange(
    connection: RedisConnection,
    commands: Sequence[Command],
    timeout_s: float,
    *,
    asking: bool = False,
) -> Deferred[list[Reply]]:
    """Send *commands* and return their replies in order, errors in place as ``ResponseError``.

    Fails with `RedisUnavailableError` (``timeout`` or ``lost``). A script that the server does not
    know is sent to it. *asking*: each command is one that a cluster's node must carry out although
    the slot is only on its way to it (ASK). Cancelling gives up waiting.
    """
    under_way = _Exchange(connection, commands, timeout_s, asking)
    under_way.begin()
    return under_way.result


@define(eq=False)
class _Exchange:
    connection: RedisConnection
    commands: Sequence[Command]
    timeout_s: float
    asking: bool
    replies: list[Reply] = field(init=False)
    missing: int = field(init=False)
    large: bool = False
    steps: int = _STEPS
    due: float = 0.0
    result: Deferred[list[Reply]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.result = Deferred(self._cancelled)
        self.missing = len(self.commands)
        self.replies = [None] * self.missing

    def begin(self) -> None:
        """Send all in one piece."""
        written_ones, numbers = [], []
        for number, command in enumerate(self.commands):
            written_ones.append(command.written())
            numbers.append(number)
            if command.large:
                self.large = True
        self._post(written_ones, numbers)
        if not self.missing:
            self._end(self.replies)
        elif not self.result.called:
            self.connection.steps.wait(self, self.timeout_s / _STEPS)

    def _post(self, commands: Sequence[bytes], numbers: Iterable[int]) -> None:
        if self.asking:
            commands = [part for each in commands for part in (_ASKING, each)]
            numbers = [part for each in numbers for part in (_NOBODYS, each)]
        try:
            self.connection.post(commands, self._take, numbers, self.timeout_s, large=self.large)
        except Lost:
            self._lost()

    def _take(self, index: int, reply: Reply) -> None:
        if index < 0:
            return
        if isinstance(reply, Exception):
            if not isinstance(reply, ResponseError):
                self._lost()
                return
            if self._send_script(index, reply):
                return
        self.replies[index] = reply
        self.missing -= 1
        if not self.missing:
            self._end(self.replies)

    def _send_script(self, index: int, error: ResponseError) -> bool:
        """Send a script that the server does not know, if that is what it says."""
        script = self.commands[index].script
        if script is None or self.result.called or not str(error).startswith("NOSCRIPT"):
            return False
        name, _hash, *arguments = self.commands[index].parts
        known = name.upper().replace(b"EVALSHA", b"EVAL")
        self._post([encode_command((known, script, *arguments))], (index,))
        return True

    def step(self) -> None:
        """Let a part of the time pass."""
        self.steps -= 1
        # after the last one, a turn for what has come in meanwhile
        if self.steps >= 0:
            wait_s = 0.0 if self.steps == 0 else self.timeout_s / _STEPS
            self.connection.steps.wait(self, wait_s)
        else:
            self._end(
                Failure(RedisUnavailableError("timeout", f"no reply within {self.timeout_s:.3g} s"))
            )

    def _lost(self) -> None:
        self._end(
            Failure(RedisUnavailableError("lost", f"the connection broke: {self.connection.why}"))
        )

    def _end(self, result: list[Reply] | Failure) -> None:
        self.connection.steps.stop(self)
        if not self.result.called:
            self.result.callback(result)

    def _cancelled(self, _: Deferred[list[Reply]]) -> None:
        self.connection.steps.stop(self)
