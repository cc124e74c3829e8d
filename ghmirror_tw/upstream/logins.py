"""A cache of the logins of credentials, and the check against the allowed users."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from ghmirror_tw.runtime.bounded_tables import CredentialTable
from ghmirror_tw.runtime.single_flight import CallLate, SingleFlight, Wait

#: The largest number of logins.
CAPACITY: Final = 10_000
#: How long a login is fresh: it decides about requests without another request for it.
FRESH_S: Final = 300.0
#: How long the login of an unused credential is displayed.
DISPLAYED_S: Final = 86_400.0

#: The most requests for a login: one is repeated if another request has revoked its result.
_MAX_REQUESTS: Final = 2


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
class _LoginRecord:
    """The login of a credential, requested *at* that time; None: GitHub did not accept it.

    *response*: GitHub's 401, for the requests that waited for it. It is not stored.
    """

    login: str | None
    at: float
    response: Any = field(default=None, repr=False)

    def is_fresh(self, now: float) -> bool:
        return self.login is not None and now - self.at < FRESH_S

    def is_in(self, allowed: frozenset[str]) -> bool:
        login = (self.login or "").lower()
        return login in allowed or any(each.lower() == login for each in allowed)


@define(eq=False)
class LoginCache:
    """The logins of credentials; a *credential* is a name made by ``CredentialNames``.

    Times are seconds since the epoch. Only fresh responses from GitHub may be noted here, never
    stored ones.
    """

    capacity: int = CAPACITY
    records: CredentialTable[str, _LoginRecord] = field(init=False)
    #: When each credential was used last.
    _used_at: dict[str, float] = field(init=False, factory=dict)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.users"))
    requests: SingleFlight[_LoginRecord | LoginUnknownError] = field(init=False)
    #: Returns whether the login of a credential was requested.
    was_requested: Callable[[str], bool] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.records = CredentialTable(self.capacity)
        self.was_requested = self._used_at.__contains__
        self.requests = SingleFlight(self._log_failure)

    def note_login(self, credential: str, login: str, now: float) -> None:
        """Store the *login* of a credential, as requested at *now*."""
        self._store(credential, _LoginRecord(login, now))

    def note_rejection(self, credential: str, now: float) -> None:
        """Store that GitHub rejected a credential (401), as requested at *now*."""
        self._store(credential, _LoginRecord(None, now))

    def login(self, credential: str, now: float) -> str | None:
        """Return the login of *credential* for display, or None where it isn't known."""
        record = self._displayed(credential, now)
        if record is None:
            return None
        self._touch(credential, now)
        return record.login

    def peek_login(self, credential: str, now: float) -> str | None:
        """Return the login as `login` does, but do not count that as a use of the credential."""
        record = self._displayed(credential, now)
        return None if record is None else record.login

    def _displayed(self, credential: str, now: float) -> _LoginRecord | None:
        record = self.records.get(credential)
        return None if record is None or now - self._used_at[credential] > DISPLAYED_S else record

    async def is_allowed(  # noqa: PLR0913, PLR0917 - the credential, the users, and the times
        self,
        credential: str,
        request: Callable[[], Awaitable[str]],
        allowed: frozenset[str],
        now_fn: Callable[[], float],
        stale_limit: float,
        call_late: CallLate,
    ) -> bool:
        """Return whether *credential* belongs to one of the *allowed* logins; empty: any may.

        *request* returns its login. It may raise ``BadCredentialError``, which is passed to all
        waiting callers and is not stored. It may raise ``LoginUnknownError``: then the stored login
        is used for *stale_limit* seconds. The stored login is used as well after the time that
        *call_late* sets. Without one, ``LoginUnknownError`` is passed to all waiting callers.
        Concurrent calls for one credential share one *request*, which outlives each of them.
        """
        if not allowed:
            return True
        record = await self._current(credential, request, now_fn, stale_limit, call_late)
        self._touch(credential, now_fn())
        return record.is_in(allowed)

    async def _current(
        self,
        credential: str,
        request: Callable[[], Awaitable[str]],
        now_fn: Callable[[], float],
        stale_limit: float,
        call_late: CallLate,
    ) -> _LoginRecord:
        """Return the login that is valid now."""
        for _ in range(_MAX_REQUESTS):
            now = now_fn()
            record = self.records.get(credential)
            if record is not None and record.is_fresh(now):
                return record
            # With a stale login, the wait for a new one is limited.
            usable = _is_usable_stale(record, now, stale_limit)
            result = await self._requested(credential, request, now, call_late if usable else None)
            if not isinstance(result, _LoginRecord):
                record = self.records.get(credential)
                if record is not None and _is_usable_stale(record, now_fn(), stale_limit):
                    return record
                raise LoginUnknownError(None if result is None else result.response)
            if result.response is not None:
                raise BadCredentialError(result.response)
            if result.login is not None:
                return result
        raise LoginUnknownError(None)

    async def _requested(
        self,
        credential: str,
        request: Callable[[], Awaitable[str]],
        now: float,
        call_late: CallLate | None,
    ) -> _LoginRecord | LoginUnknownError | None:
        """Request the login, or join a request under way; None if it takes too long."""
        flight = self.requests.join(credential, lambda: self._request(credential, request, now))
        self.requests.detach(credential)
        with Wait(flight) as waiting:
            if call_late is not None and not await waiting.within(call_late):
                return None
            login, _ = await waiting.result()
        return login

    def close(self) -> None:
        """Cancel the requests under way."""
        self.requests.close()

    async def _request(
        self, credential: str, request: Callable[[], Awaitable[str]], now: float
    ) -> _LoginRecord | LoginUnknownError:
        try:
            login = await request()
        except BadCredentialError as error:
            record = self._store(credential, _LoginRecord(None, now))
            return _LoginRecord(None, now, error.response) if record.login is None else record
        except LoginUnknownError as error:
            return error
        except CancelledError:  # at shutdown; no waiting caller can cancel it
            return LoginUnknownError(None)
        return self._store(credential, _LoginRecord(login, now))

    def _log_failure(self, result: _LoginRecord | LoginUnknownError | Failure) -> None:
        if isinstance(result, Failure):
            self._log.failure("Requesting the login of a credential failed", failure=result)

    def _store(self, credential: str, record: _LoginRecord) -> _LoginRecord:
        """Store *record* unless a newer one is stored; return the newer one."""
        stored = self.records.get(credential)
        if stored is not None and stored.at > record.at:
            return stored
        # A made-up credential has no login, and evicts none.
        evicted = self.records.put(credential, record, accepted=record.login is not None)
        self._used_at[credential] = record.at
        if evicted is not None:
            del self._used_at[evicted[0]]
        return record

    def _touch(self, credential: str, now: float) -> None:
        if credential in self.records:
            self.records.touch(credential)
            self._used_at[credential] = now


def _is_usable_stale(record: _LoginRecord | None, now: float, stale_limit: float) -> bool:
    """Return whether *record* has a login that may be used while no login can be requested."""
    return record is not None and record.login is not None and now - record.at <= stale_limit
