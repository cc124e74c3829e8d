"""Who a credential belongs to, and who may use the mirror."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from ghmirror_tw.runtime.bounded_tables import CredentialTable
from ghmirror_tw.runtime.patient import CallLate, Patient
from ghmirror_tw.runtime.single_flight import SingleFlight

#: How many credentials are remembered.
CAPACITY: Final = 10_000
#: How long GitHub's word on who a credential belongs to is acted on without asking again.
REMEMBERED_S: Final = 300.0
#: How long an unused credential's login is still shown.
SHOWN_S: Final = 86_400.0

#: Asks GraphQL for the login: installation tokens get no answer from `GET /user`.
VIEWER_QUERY: Final = b'{"query":"query{viewer{login}}"}'

#: The most requests for a login: one is repeated if another request has revoked its result.
_MOST_REQUESTS: Final = 2

_LOGIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}(?:\[bot\])?")
#: A JSON Web Token as GitHub Apps send it (RFC 7519; GitHub: authenticating as a GitHub App).
_APP_JWT: Final = re.compile(rb"(?i:bearer) +eyJ[\w-]*\.[\w-]+\.[\w-]+ *")


class LoginUnknownError(Exception):
    """GitHub did not return the login of a credential.

    *response*: the response for the client if no login is stored: GitHub's own, a `MirrorError`, or
    None.
    """

    def __init__(self, response: Any) -> None:
        super().__init__("GitHub did not return the login of the credential")
        self.response = response


class BadCredentialError(Exception):
    """GitHub does not accept a credential (401); *response* is GitHub's own, for the client."""

    def __init__(self, response: Any) -> None:
        super().__init__("GitHub does not accept the credential")
        self.response = response


@frozen
class _Word:
    """The login of a credential, requested *at* that time; None: GitHub did not accept it.

    *response*: GitHub's 401, for the requests that waited for it. It is not stored.
    """

    login: str | None
    at: float
    response: Any = field(default=None, repr=False)

    def holds(self, now: float) -> bool:
        return self.login is not None and now - self.at < REMEMBERED_S

    def is_of(self, allowed: frozenset[str]) -> bool:
        login = (self.login or "").lower()
        return login in allowed or any(each.lower() == login for each in allowed)


@define(eq=False)
class Users:
    """Remembers who credentials belong to; a *credential* is a name made by ``CredentialNames``.

    Times are seconds since the epoch. Only what GitHub itself has just said may be learned here,
    never what comes from a stale answer.
    """

    capacity: int = CAPACITY
    _words: CredentialTable[str, _Word] = field(init=False)
    _used: dict[str, float] = field(init=False, factory=dict)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.users"))
    _asking: SingleFlight[_Word | LoginUnknownError] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._words = CredentialTable(self.capacity)
        self._asking = SingleFlight(self._unheard)

    def learn(self, credential: str, login: str, now: float) -> None:
        """Remember that GitHub said *credential* belongs to *login*, when asked at *now*."""
        self._settle(credential, _Word(login, now))

    def revoke(self, credential: str, now: float) -> None:
        """Remember that GitHub refused *credential* altogether (401), when asked at *now*."""
        self._settle(credential, _Word(None, now))

    def login(self, credential: str, now: float) -> str | None:
        """Return the login of *credential* for display, or None where it isn't known."""
        if credential not in self._words:
            return None
        word = self._shown(credential, now)
        if word is None:
            return None
        self._touch(credential, now)
        return word.login

    def known(self, credential: str, now: float) -> str | None:
        """Return what `login` does, where looking is no use of the credential."""
        word = self._shown(credential, now)
        return None if word is None else word.login

    def _shown(self, credential: str, now: float) -> _Word | None:
        word = self._words.get(credential)
        return None if word is None or now - self._used[credential] > SHOWN_S else word

    async def may_use(  # noqa: PLR0913, PLR0917 - who asks, whom, and for how long
        self,
        credential: str,
        ask: Callable[[], Awaitable[str]],
        allowed: frozenset[str],
        now_fn: Callable[[], float],
        stale_limit: float,
        call_late: CallLate,
    ) -> bool:
        """Decide whether *credential* belongs to one of the *allowed* logins; empty: anyone may.

        *ask* returns its login. It may raise ``BadCredentialError``, which is passed to all waiting
        requests and is not stored. It may raise ``LoginUnknownError``: then the stored login is
        used for *stale_limit* seconds. The stored login is used as well after the time that
        *call_late* sets. Without one, ``LoginUnknownError`` is passed to all waiting requests.
        Concurrent calls for one credential share one call of *ask*, which outlives each of them.
        """
        if not allowed:
            return True
        word = await self._current(credential, ask, now_fn, stale_limit, call_late)
        self._touch(credential, now_fn())
        return word.is_of(allowed)

    async def _current(
        self,
        credential: str,
        ask: Callable[[], Awaitable[str]],
        now_fn: Callable[[], float],
        stale_limit: float,
        call_late: CallLate,
    ) -> _Word:
        """Return the login that is valid now."""
        for _ in range(_MOST_REQUESTS):
            now = now_fn()
            word = self._words.get(credential)
            if word is not None and word.holds(now):
                return word
            # One that holds is enough for who has waited for long.
            holds = _still_holds(word, now, stale_limit)
            answered = await self._asked(credential, ask, now, call_late if holds else None)
            if not isinstance(answered, _Word):
                word = self._words.get(credential)
                if word is not None and _still_holds(word, now_fn(), stale_limit):
                    return word
                raise LoginUnknownError(None if answered is None else answered.response)
            if answered.response is not None:
                raise BadCredentialError(answered.response)
            if answered.login is not None:
                return answered
        raise LoginUnknownError(None)

    async def _asked(
        self,
        credential: str,
        ask: Callable[[], Awaitable[str]],
        now: float,
        call_late: CallLate | None,
    ) -> _Word | LoginUnknownError | None:
        """Request the login, or join a request under way; None if it takes too long."""
        asked = Patient(self._asking.join(credential, lambda: self._ask(credential, ask, now)))
        self._asking.keep(credential)
        try:
            said = await (asked.end() if call_late is None else asked.within(call_late))
        finally:
            asked.leave()
        return None if said is None else said[0]

    def close(self) -> None:
        """Give up what is being asked."""
        self._asking.close()

    async def _ask(
        self, credential: str, ask: Callable[[], Awaitable[str]], now: float
    ) -> _Word | LoginUnknownError:
        try:
            login = await ask()
        except BadCredentialError as error:
            word = self._settle(credential, _Word(None, now))
            return _Word(None, now, error.response) if word.login is None else word
        except LoginUnknownError as error:
            return error
        except CancelledError:  # at shutdown; no waiting request can cancel it
            return LoginUnknownError(None)
        return self._settle(credential, _Word(login, now))

    def _unheard(self, result: _Word | LoginUnknownError | Failure) -> None:
        if isinstance(result, Failure):
            self._log.failure("Asking who a credential belongs to failed", failure=result)

    def _settle(self, credential: str, word: _Word) -> _Word:
        """Keep the newer of what is known and *word*, and return it."""
        known = self._words.get(credential)
        if known is not None and known.at > word.at:
            return known
        # A made-up credential has no login, and evicts none.
        evicted = self._words.put(credential, word, known=word.login is not None)
        self._used[credential] = word.at
        if evicted is not None:
            del self._used[evicted[0]]
        return word

    def _touch(self, credential: str, now: float) -> None:
        if credential in self._words:
            self._words.touch(credential)
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


def parse_app(content: bytes) -> str | None:
    """Return the login of a GitHub App in the content of a response to `GET /app`, or None."""
    slug = _member(_parse(content), "slug")
    return _login({"login": f"{slug}[bot]"}) if isinstance(slug, str) else None


def is_app_jwt(authorization: bytes) -> bool:
    """Tell whether an `Authorization` value is the JSON Web Token of a GitHub App."""
    return _APP_JWT.fullmatch(authorization) is not None


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
