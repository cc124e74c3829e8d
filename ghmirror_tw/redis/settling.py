"""What becomes known once, and is waited for until then."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import Deferred


@define(eq=False)
class Settling:
    """Whether something is known by now; who asks before that waits."""

    done: bool = field(init=False, default=False)
    _waiting: list[Deferred[None]] = field(init=False, factory=list)

    def wait(self) -> Deferred[None]:
        """Fire when it is known."""
        settled: Deferred[None] = Deferred()
        if self.done:
            settled.callback(None)
        else:
            self._waiting.append(settled)
        return settled

    def settle(self) -> None:
        """Let everybody know; nothing the next time."""
        self.done = True
        waiting, self._waiting = self._waiting, []
        for settled in waiting:
            settled.callback(None)
