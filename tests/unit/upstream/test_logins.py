"""The cache of logins, and the check against the allowed users."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ghmirror_tw.upstream.login_responses import (
    VIEWER_QUERY,
    is_app_jwt,
    parse_app,
    parse_login,
    parse_viewer,
)
from ghmirror_tw.upstream.logins import (
    DISPLAYED_S,
    FRESH_S,
    BadCredentialError,
    LoginCache,
    LoginUnknownError,
)

ALLOWED = frozenset({"octocat", "Hubot"})
STALE_LIMIT = 7 * 86_400.0
STALE_AFTER_S = 5.0
#: Stand-ins for GitHub's 401, and for a response without a login.
RESPONSE, OTHER_RESPONSE = object(), object()


class GitHub:
    """Returns a login, at once or when the test decides."""

    def __init__(self, login: str | None = "octocat") -> None:
        self.login = login
        self.error: Exception | None = None
        self.requests = 0
        self.response_held: Deferred[None] | None = None

    async def request_login(self) -> str:
        self.requests += 1
        if self.response_held is not None:
            await self.response_held
        if self.error is not None:
            raise self.error
        if self.login is None:
            raise BadCredentialError(RESPONSE)
        return self.login


def is_rejected(deferred: Deferred[bool]) -> bool:
    """Return whether a Deferred failed with GitHub's 401."""
    error = failure_of(deferred).value
    return isinstance(error, BadCredentialError) and error.response is RESPONSE


def is_unknown(deferred: Deferred[bool], response: object = OTHER_RESPONSE) -> bool:
    """Return whether a Deferred failed with `LoginUnknownError` and a *response*."""
    error = failure_of(deferred).value
    return isinstance(error, LoginUnknownError) and error.response is response


def failure_of(deferred: Deferred[bool]) -> Failure:
    """Return the failure that a Deferred has."""
    failures: list[Failure] = []
    deferred.addErrback(failures.append)
    return failures[0]


class LoginTests(SynchronousTestCase):
    """Logins for display."""

    def test_noted_login_is_returned(self) -> None:
        """By the name of the credential."""
        users = LoginCache()
        users.note_login("c1", "octocat", 1.0)
        assert users.login("c1", 2.0) == "octocat"
        assert users.login("c2", 2.0) is None

    def test_later_result_replaces_earlier_one(self) -> None:
        """A result of an earlier request changes nothing."""
        users = LoginCache()
        users.note_login("c1", "renamed", 5.0)
        users.note_login("c1", "octocat", 4.0)
        assert users.login("c1", 5.0) == "renamed"
        users.note_rejection("c1", 6.0)
        assert users.login("c1", 6.0) is None

    def test_login_is_displayed_while_credential_is_used(self) -> None:
        """However old it is."""
        users = LoginCache()
        users.note_login("c1", "octocat", 0.0)
        for day in range(1, 20):
            assert users.login("c1", day * DISPLAYED_S) == "octocat"
        assert users.login("c1", 21 * DISPLAYED_S) is None

    def test_peeking_is_no_use_of_the_credential(self) -> None:
        """A page that shows logins extends none of them."""
        users = LoginCache(capacity=2)
        users.note_login("c1", "one", 0.0)
        users.note_login("c2", "two", 1.0)
        assert users.peek_login("c1", DISPLAYED_S) == "one"
        assert users.peek_login("c1", DISPLAYED_S + 1.0) is None
        assert users.peek_login("c3", 2.0) is None
        users.note_login("c3", "three", 3.0)
        assert users.peek_login("c1", 3.0) is None
        assert users.peek_login("c2", 3.0) == "two"

    def test_least_recently_used_login_is_evicted(self) -> None:
        """At the capacity."""
        users = LoginCache(capacity=2)
        users.note_login("c1", "one", 0.0)
        users.note_login("c2", "two", 1.0)
        users.login("c1", 2.0)
        users.note_login("c3", "three", 3.0)
        assert [users.login(each, 3.0) for each in ("c1", "c2", "c3")] == ["one", None, "three"]


class MayUseTests(SynchronousTestCase):
    """The check against the allowed users."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.users = LoginCache()
        self.github = GitHub()

    def check(
        self,
        allowed: frozenset[str] = ALLOWED,
        request_login: Callable[[], Awaitable[str]] | None = None,
    ) -> Deferred[bool]:
        return Deferred.fromCoroutine(
            self.users.is_allowed(
                "c1",
                request_login or self.github.request_login,
                allowed,
                self.clock.seconds,
                STALE_LIMIT,
                lambda late: self.clock.callLater(STALE_AFTER_S, late),
            )
        )

    def may_use(self, allowed: frozenset[str] = ALLOWED) -> bool:
        return self.successResultOf(self.check(allowed))

    def test_empty_list_allows_every_credential(self) -> None:
        """Without a request."""
        assert self.may_use(frozenset()) is True
        assert self.github.requests == 0

    def test_listed_user_is_allowed(self) -> None:
        """With any case of the login on either side."""
        for login, listed in (("octocat", "octocat"), ("HUBOT", "Hubot"), ("Mona", "mona")):
            self.users = LoginCache()
            self.github.login = login
            assert self.may_use(frozenset({listed, "other"})) is True

    def test_unlisted_user_is_rejected(self) -> None:
        """The login is stored."""
        self.github.login = "stranger"
        for _ in range(2):
            assert self.may_use() is False
        assert self.github.requests == 1

    def test_login_is_fresh_for_five_minutes(self) -> None:
        """Then it is requested again."""
        self.may_use()
        self.clock.advance(FRESH_S - 1)
        assert self.may_use() is True
        assert self.github.requests == 1
        self.clock.advance(1)
        self.github.login = "stranger"
        assert self.may_use() is False
        assert self.github.requests == 2

    def test_401_is_not_stored(self) -> None:
        """A token that is too new is accepted soon, and clients retry only after a 401."""
        self.github.login = None
        for _ in range(2):
            assert is_rejected(self.check())
        assert self.github.requests == 2
        assert self.users.login("c1", 0.0) is None
        self.github.login = "octocat"
        assert self.may_use() is True

    def test_401_removes_stored_login(self) -> None:
        """Also for the time when no login can be requested."""
        assert self.may_use() is True
        self.clock.advance(FRESH_S)
        self.github.login = None
        assert is_rejected(self.check())
        self.github.error = LoginUnknownError(OTHER_RESPONSE)
        assert is_unknown(self.check())

    def test_401_reaches_all_waiting_callers(self) -> None:
        """Each with GitHub's own response."""
        self.github.login = None
        self.github.response_held = Deferred()
        checks = [self.check(), self.check()]
        self.github.response_held.callback(None)
        assert all(is_rejected(each) for each in checks)
        assert self.github.requests == 1

    def test_401_noted_meanwhile_changes_nothing(self) -> None:
        """The response of the request is GitHub's all the same; a later login replaces it."""
        self.github.login = None
        for login in (None, "octocat"):
            self.github.response_held = Deferred()
            check = self.check()
            self.clock.advance(1)
            if login is None:
                self.users.note_rejection("c1", self.clock.seconds())
            else:
                self.users.note_login("c1", login, self.clock.seconds())
            self.github.response_held.callback(None)
            if login is None:
                assert is_rejected(check)
            else:
                assert self.successResultOf(check) is True

    def test_login_noted_from_another_response_counts(self) -> None:
        """From a client's own `GET /user`; after a 401, the login is requested again."""
        self.users.note_login("c1", "hubot", 0.0)
        assert self.may_use() is True
        assert self.github.requests == 0
        self.users.note_rejection("c1", 0.0)
        assert self.may_use() is True
        assert self.github.requests == 1

    def test_removed_user_is_rejected_at_once(self) -> None:
        """The login is stored, not the decision."""
        assert self.may_use() is True
        assert self.may_use(frozenset({"hubot"})) is False
        assert self.may_use(frozenset({"hubot", "octocat"})) is True
        assert self.github.requests == 1

    def test_stale_login_is_used_while_none_can_be_requested(self) -> None:
        """As long as stale responses are."""
        self.may_use()
        self.github.error = LoginUnknownError(OTHER_RESPONSE)
        self.clock.advance(STALE_LIMIT)
        assert self.may_use() is True
        assert self.may_use(frozenset({"hubot"})) is False
        self.clock.advance(1)
        assert is_unknown(self.check())

    def test_without_a_stored_login_the_error_is_raised(self) -> None:
        """For a new credential, and for one that was rejected earlier."""
        self.github.error = LoginUnknownError(OTHER_RESPONSE)
        assert is_unknown(self.check())
        self.users.note_rejection("c1", 0.0)
        assert is_unknown(self.check())

    def test_concurrent_callers_share_one_request(self) -> None:
        """Each caller gets the result."""
        self.github.response_held = Deferred()
        checks = [self.check(), self.check(), self.check(frozenset({"hubot"}))]
        self.github.response_held.callback(None)
        assert [self.successResultOf(each) for each in checks] == [
            True,
            True,
            False,
        ]
        assert self.github.requests == 1

    def test_stale_login_limits_the_wait(self) -> None:
        """The request continues, and its result counts for later callers."""
        assert self.may_use() is True
        self.clock.advance(FRESH_S)
        self.github.response_held = Deferred()
        self.github.login = "another"
        first = self.check()
        self.clock.advance(STALE_AFTER_S - 0.1)
        second = self.check()
        assert not first.called
        self.clock.advance(0.1)
        assert self.successResultOf(first) is True
        assert not second.called
        self.github.response_held.callback(None)
        assert self.successResultOf(second) is False
        assert self.may_use() is False
        assert self.github.requests == 2

    def test_without_a_usable_login_the_wait_is_unlimited(self) -> None:
        """An expired stale login is not usable."""
        self.github.response_held = Deferred()
        first = self.check()
        self.clock.advance(10 * STALE_AFTER_S)
        assert not first.called
        self.github.response_held.callback(None)
        assert self.successResultOf(first) is True
        self.clock.advance(STALE_LIMIT + FRESH_S)
        self.github.response_held = Deferred()
        later = self.check()
        self.clock.advance(10 * STALE_AFTER_S)
        assert not later.called
        self.github.response_held.callback(None)
        assert self.successResultOf(later) is True

    def test_cancelled_caller_does_not_cancel_the_request(self) -> None:
        """Neither the first caller nor a later one."""
        self.github.response_held = Deferred()
        first, second, third = self.check(), self.check(), self.check()
        first.cancel()
        third.cancel()
        assert failure_of(first).check(CancelledError)
        assert failure_of(third).check(CancelledError)
        assert not second.called
        self.github.response_held.callback(None)
        assert self.successResultOf(second) is True

    def test_result_of_one_caller_may_cancel_another(self) -> None:
        """Each caller gets one result."""
        self.github.response_held = Deferred()
        first, second = self.check(), self.check()
        first.addCallback(lambda _: second.cancel())
        self.github.response_held.callback(None)
        self.successResultOf(first)
        assert failure_of(second).check(CancelledError)

    def test_result_without_callers_is_stored(self) -> None:
        """It serves the next caller."""
        self.github.response_held = Deferred()
        check = self.check()
        check.cancel()
        assert failure_of(check).check(CancelledError)
        self.github.response_held.callback(None)
        assert self.users.login("c1", 0.0) == "octocat"

    def test_unexpected_error_reaches_all_callers(self) -> None:
        """The next caller sends a new request."""
        self.github.response_held = Deferred()
        self.github.error = RuntimeError("bug")
        checks = [self.check(), self.check()]
        self.github.response_held.callback(None)
        for each in checks:
            assert failure_of(each).check(RuntimeError)
        self.github.error = self.github.response_held = None
        assert self.may_use() is True

    def test_unexpected_error_without_callers_is_logged(self) -> None:
        """Rather than lost."""
        self.github.response_held = Deferred()
        self.github.error = RuntimeError("bug")
        check = self.check()
        check.cancel()
        assert failure_of(check).check(CancelledError)
        self.github.response_held.callback(None)
        errors = self.flushLoggedErrors(RuntimeError)
        assert len(errors) == 1

    def test_cancelled_request_leaves_the_login_unknown(self) -> None:
        """To its callers."""
        self.github.response_held = Deferred()
        check = self.check()
        self.github.response_held.cancel()
        assert is_unknown(check, None)

    def test_close_cancels_requests(self) -> None:
        """Those without callers, too; waiting callers get an error."""
        self.github.response_held = Deferred()
        gone, check = self.check(), self.check()
        gone.cancel()
        assert failure_of(gone).check(CancelledError)
        self.users.close()
        assert is_unknown(check, None)
        assert self.github.response_held.called

    def test_401_during_the_request_replaces_its_result(self) -> None:
        """It is later, so the login is requested again."""
        requests: list[int] = []

        async def request_login() -> str:
            requests.append(1)
            self.clock.advance(1)
            if len(requests) == 1:
                self.users.note_rejection("c1", self.clock.seconds())
            return "octocat"

        assert self.successResultOf(self.check(request_login=request_login)) is True
        assert len(requests) == 2

    def test_repeated_401s_leave_the_login_unknown(self) -> None:
        """The number of requests is limited."""

        async def request_login() -> str:
            self.clock.advance(1)
            self.users.note_rejection("c1", self.clock.seconds())
            return "octocat"

        assert is_unknown(self.check(request_login=request_login), None)

    def test_evicted_credential_still_gets_its_result(self) -> None:
        """The caller that waited for it."""
        self.users = LoginCache(capacity=0)
        assert self.may_use() is True


@pytest.mark.parametrize(
    ("content", "login"),
    [
        (b'{"login": "octocat", "id": 1}', "octocat"),
        (b'{"login": "my-app[bot]"}', "my-app[bot]"),
        (b'{"login": "name_company"}', "name_company"),
        (b'{"login": ""}', None),
        (b'{"login": "a b"}', None),
        (b'{"login": "a\\nb"}', None),
        (b'{"login": 5}', None),
        (b'{"message": "Bad credentials"}', None),
        (b'[{"login": "octocat"}]', None),
        (b"<html>", None),
        (b"\xff\xfe", None),
        (b"[" * 100_000, None),
        (b"", None),
    ],
)
def test_the_login_in_a_response(content: bytes, login: str | None) -> None:
    """An invalid login is ignored."""
    assert parse_login(content) == login


@pytest.mark.parametrize(
    ("content", "login"),
    [
        (b'{"data": {"viewer": {"login": "my-app[bot]"}}}', "my-app[bot]"),
        (b'{"data": {"viewer": null}}', None),
        (b'{"data": null, "errors": []}', None),
        (b'{"login": "octocat"}', None),
        (b"no", None),
    ],
)
def test_the_viewer_in_a_response(content: bytes, login: str | None) -> None:
    """It is three levels down in the JSON of GraphQL."""
    assert parse_viewer(content) == login


@pytest.mark.parametrize(
    ("content", "login"),
    [
        (b'{"slug": "octo-app", "owner": {"login": "octocat"}}', "octo-app[bot]"),
        (b'{"slug": "octo-app[bot]"}', None),
        (b'{"slug": ""}', None),
        (b'{"slug": "a b"}', None),
        (b'{"slug": 5}', None),
        (b'{"login": "octocat"}', None),
        (b"no", None),
    ],
)
def test_the_app_in_a_response(content: bytes, login: str | None) -> None:
    """Its login is its slug, marked as a bot's."""
    assert parse_app(content) == login


@pytest.mark.parametrize(
    ("authorization", "is_jwt"),
    [
        (b"Bearer eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiIxIn0.c2ln-_", True),
        (b"bearer  eyJh.eyJp.c2ln ", True),
        (b"token eyJh.eyJp.c2ln", False),
        (b"Bearer eyJh.eyJp", False),
        (b"Bearer eyJh.eyJp.c2ln.more", False),
        (b"Bearer ghs_1_eyJh.eyJp.c2ln", False),
        (b"Bearer ghp_1", False),
        (b"Basic eyJh", False),
        (b"", False),
    ],
)
def test_an_app_signs_for_itself(authorization: bytes, is_jwt: bool) -> None:
    """Which no other credential of GitHub's looks like."""
    assert is_app_jwt(authorization) is is_jwt


def test_the_query_for_the_viewer_is_json() -> None:
    """As GraphQL over HTTP wants it."""
    assert json.loads(VIEWER_QUERY) == {"query": "query{viewer{login}}"}
