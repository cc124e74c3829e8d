"""Faults of responses, and gates that hold requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import Factory, define
from twisted.internet.defer import Deferred

if TYPE_CHECKING:
    from tests.fakes.github.messages import Request
    from tests.fakes.github.server import GitHub

CONTENT_FAULTS = frozenset(
    {"reset-in-content", "truncated", "bad-gzip", "idle-in-content", "no-etag"}
)
"""Faults of the content; preconditions are ignored, so that there is some."""


FAULTS = CONTENT_FAULTS | {
    *("500", "502", "503", "504", "timeout", "refuse", "reset", "malformed", "slow"),
    *("no-store", "huge-field", "primary-limit", "secondary-limit", "abuse-limit"),
    *("creation-limit", "login-limit", "unmetered-limit"),
}


@define(eq=False)
class Fault:
    """A fault that occurs `times` times, or until `end` is called."""

    path: str | None
    kind: str
    times: int | None
    delay_s: float
    size_bytes: int
    login: str | None
    _faults: list[Fault]
    seen: int = 0

    def end(self) -> None:
        """Remove this fault."""
        if self in self._faults:
            self._faults.remove(self)


@define(eq=False)
class Gate:
    """A gate that holds requests until it opens."""

    path: str | None
    compute_first: bool
    _github: GitHub
    _waiting: list[tuple[Request, Callable[[], None]]] = Factory(list)
    _watchers: list[tuple[int, Deferred[None]]] = Factory(list)

    @property
    def waiting(self) -> int:
        """The number of requests that wait now."""
        return len(self._waiting)

    def arrived(self, n: int = 1) -> Deferred[None]:
        """Fire when `n` requests are waiting."""
        done: Deferred[None] = Deferred()
        self._watchers.append((n, done))
        self._look()
        return done

    def release(self, n: int = 1) -> None:
        """Release the first `n` requests; hold the others and later ones."""
        for _ in range(min(n, len(self._waiting))):
            request, proceed = self._waiting.pop(0)
            request.barrier = None
            proceed()

    def open(self) -> None:
        """Release all requests, and hold no others."""
        if self in self._github.gates:
            self._github.gates.remove(self)
        self.release(len(self._waiting))

    def wait(self, request: Request, proceed: Callable[[], None]) -> None:
        request.barrier = self
        self._waiting.append((request, proceed))
        self._look()

    def leave(self, request: Request) -> None:
        self._waiting = [waiting for waiting in self._waiting if waiting[0] is not request]

    def _look(self) -> None:
        watchers, self._watchers = self._watchers, []
        for n, done in watchers:
            if done.called:
                continue
            if len(self._waiting) >= n:
                done.callback(None)
            else:
                self._watchers.append((n, done))
