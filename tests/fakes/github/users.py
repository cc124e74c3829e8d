"""Users, their credentials, and their quotas."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TypeAlias

from attrs import Factory, define

MINUTELY = frozenset({"search", "code_search", "dependency_snapshots"})


@define(eq=False)
class User:
    """The user that a credential belongs to."""

    login: str
    id: int
    scopes: str | None = "repo, user"
    limit: int = 5000

    @property
    def is_bot(self) -> bool:
        """An installation of an app, whose tokens are ``ghs_…``."""
        return self.login.endswith("[bot]")


@define(eq=False)
class Credential:
    token: str
    user: User
    expires: str | None = None


@define(eq=False)
class Quota:
    """One bucket of one user or address."""

    resource: str
    limit: int
    used: int = 0
    reset: int = 0

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    def roll(self, now: float) -> None:
        """Begin a new window when the old one has ended."""
        if now >= self.reset:
            self.used = 0
            self.reset = int(now) + (60 if self.resource in MINUTELY else 3600)


@define(eq=False)
class Points:
    """Points spent in the last minute, in slots of a tenth of a second."""

    slots: deque[tuple[float, int]] = Factory(deque)
    total: int = 0

    def spend(self, now: float, points: int) -> int:
        slots = self.slots
        while slots and slots[0][0] <= now - 60:
            self.total -= slots.popleft()[1]
        if slots and now - slots[-1][0] < 0.1:
            start, before = slots[-1]
            slots[-1] = (start, before + points)
        else:
            slots.append((now, points))
        self.total += points
        return self.total


Logins: TypeAlias = Iterable[str] | None


def lower_logins(logins: Logins) -> frozenset[str] | None:
    return None if logins is None else frozenset(login.lower() for login in logins)
