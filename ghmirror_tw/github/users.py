"""Who a credential belongs to, and who may use the mirror."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final, TypeAlias

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

#: How many credentials are remembered.
CAPACITY: Final = 10_000
#: How long GitHub's word on who a credential belongs to is acted on without asking again.
REMEMBERED_S: Final = 300.0
#: How long its word that a credential belongs to nobody is: new tokens may be late to work.
REFUSAL_REMEMBERED_S: Final = 60.0
#: How long an unused credential's login is still shown.
SHOWN_S: Final = 86_400.0

#: Asks GraphQL for the login: installation tokens get no answer from `GET /user`.
VIEWER_QUERY: Final = b'{"query":"query{viewer{login}}"}'

_LOGIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}(?:\[bot\])?")


#: Calls something when it has taken too long.
CallLate: TypeAlias = Callable[[Callable[[], object]], IDelayedCall]


class CannotAsk(Exception):  # noqa: N818 - it says what is, and nobody is at fault
    """GitHub cannot be asked now who a credential belongs to."""


class Verdict(Enum):
    """Whether a credential may use the mirror; unknown where GitHub cannot be asked."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@frozen
class _Word:
    """What GitHub said, to a question asked *at* then; no login: the credential is no good."""

    login: str | None
    at: float

    def holds(self, now: float) -> bool:
        return now - self.at < (REFUSAL_REMEMBERED_S if self.login is None else REMEMBERED_S)

    def verdict(self, allowed: frozenset[str]) -> Verdict:
        if self.login is None:
            return Verdict.REFUSED
        login = self.login.lower()
        listed = login in allowed or any(each.lower() == login for each in allowed)
        return Verdict.ALLOWED if listed else Verdict.REFUSED


@define(eq=False)
class Users:
    """Remembers who credentials belong to; a *credential* is a name made by ``CredentialNames``.

    Times are seconds since the epoch. Only what GitHub itself has just said may be learned here,
    never what comes from a stale answer.
    """

    capacity: int = CAPACITY
    _words: OrderedDict[str, _Word] = field(init=False, factory=OrderedDict)
    _used: dict[str, float] = field(init=False, factory=dict)
    _asking: dict[str, list[Deferred[_Word | None]]] = field(init=False, factory=dict)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.users"))

    def learn(self, credential: str, login: str, now: float) -> None:
        """Remember that GitHub said *credential* belongs to *login*, when asked at *now*."""
        self._settle(credential, _Word(login, now))

    def revoke(self, credential: str, now: float) -> None:
        """Remember that GitHub refused *credential* altogether (401), when asked at *now*."""
        self._settle(credential, _Word(None, now))

    def login(self, credential: str, now: float) -> str | None:
        """Return the login of *credential* for display, or None where it isn't known."""
        word = self._words.get(credential)
        if word is None or now - self._used[credential] > SHOWN_S:
            return None
        self._touch(credential, now)
        return word.login

    async def may_use(  # noqa: PLR0913, PLR0917 - who asks, whom, and for how long
        self,
        credential: str,
        ask: Callable[[], Awaitable[str | None]],
        allowed: frozenset[str],
        now_fn: Callable[[], float],
        stale_limit: float,
        call_late: CallLate,
    ) -> Verdict:
        """Decide whether *credential* belongs to one of the *allowed* logins; empty: anyone may.

        *ask* returns its login, or None if GitHub knows no such credential, or raises
        ``CannotAsk``; then the last login holds for *stale_limit* seconds, and for who waits it
        does so too once *call_late* says that it takes too long. One question serves all who wait
        for the same credential, and outlives each of them.
        """
        if not allowed:
            return Verdict.ALLOWED
        now = now_fn()
        word = self._words.get(credential)
        if word is None or not word.holds(now):
            asked = self._asked(credential, ask, now)
            if _still_holds(word, now, stale_limit):
                answered = await self._in_time(credential, asked, call_late)
            else:
                answered = await asked
            if answered is None:
                word = self._words.get(credential)
                if word is None or not _still_holds(word, now_fn(), stale_limit):
                    return Verdict.UNKNOWN
            else:
                word = answered
        self._touch(credential, now)
        return word.verdict(allowed)

    async def _in_time(
        self, credential: str, asked: Deferred[_Word | None], call_late: CallLate
    ) -> _Word | None:
        """Wait for what is *asked*, but not for too long; it goes on, and None is returned."""
        if asked.called:
            return await asked

        def give_up() -> None:
            self._asking[credential].remove(asked)
            asked.callback(None)

        timer = call_late(give_up)
        try:
            return await asked
        finally:
            if timer.active():
                timer.cancel()

    def _asked(
        self, credential: str, ask: Callable[[], Awaitable[str | None]], now: float
    ) -> Deferred[_Word | None]:
        """Ask, or join who is asking; each caller gets a Deferred that it may cancel."""
        first = credential not in self._asking
        waiting = self._asking.setdefault(credential, [])
        waiter: Deferred[_Word | None] = Deferred(waiting.remove)
        waiting.append(waiter)
        if first:
            asked = Deferred.fromCoroutine(self._ask(credential, ask, now))
            asked.addBoth(self._tell, credential)
        return waiter

    async def _ask(
        self, credential: str, ask: Callable[[], Awaitable[str | None]], now: float
    ) -> _Word | None:
        try:
            login = await ask()
        except (CannotAsk, CancelledError):  # none of those who wait has cancelled it
            return None
        return self._settle(credential, _Word(login, now))

    def _tell(self, result: _Word | Failure | None, credential: str) -> None:
        waiting = self._asking.pop(credential)
        if isinstance(result, Failure) and not waiting:
            self._log.failure("Asking who a credential belongs to failed", failure=result)
        while waiting:
            waiter = waiting.pop(0)
            if isinstance(result, Failure):
                waiter.errback(result.value)
            else:
                waiter.callback(result)

    def _settle(self, credential: str, word: _Word) -> _Word:
        """Keep the newer of what is known and *word*, and return it."""
        known = self._words.get(credential)
        if known is not None and known.at > word.at:
            return known
        self._words[credential] = word
        self._touch(credential, word.at)
        if len(self._words) > self.capacity:
            oldest, _ = self._words.popitem(last=False)
            del self._used[oldest]
        return word

    def _touch(self, credential: str, now: float) -> None:
        if credential in self._words:
            self._words.move_to_end(credential)
            self._used[credential] = now


def _still_holds(word: _Word | None, now: float, stale_limit: float) -> bool:
    """Tell whether *word* is a login that holds while GitHub can't be asked."""
    return word is not None and word.login is not None and now - word.at <= stale_limit


def parse_login(content: bytes) -> str | None:
    """Return the login in the content of a `GET /user` answer, or None."""
    return _login(_parse(content))


def parse_viewer(content: bytes) -> str | None:
    """Return the login in the content of an answer to ``VIEWER_QUERY``, or None."""
    return _login(_member(_member(_parse(content), "data"), "viewer"))


def _parse(content: bytes) -> object:
    try:
        parsed: object = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return parsed


def _member(parsed: object, name: str) -> object:
    return parsed.get(name) if isinstance(parsed, dict) else None


def _login(parsed: object) -> str | None:
    login = _member(parsed, "login")
    return login if isinstance(login, str) and _LOGIN.fullmatch(login) else None
