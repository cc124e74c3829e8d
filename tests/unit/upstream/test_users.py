"""Who a credential belongs to, and who may use the mirror."""

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
from ghmirror_tw.upstream.users import (
    DISPLAYED_S,
    FRESH_S,
    BadCredentialError,
    LoginUnknownError,
    Users,
)

ALLOWED = frozenset({"octocat", "Hubot"})
STALE_LIMIT = 7 * 86_400.0
PATIENCE = 5.0
#: What stands for GitHub's 401, and for what it says where it does not tell.
RESPONSE, SORRY = object(), object()


class GitHub:
    """Answers who somebody is, at once or when the test says so."""

    def __init__(self, login: str | None = "octocat") -> None:
        self.login = login
        self.trouble: Exception | None = None
        self.asked = 0
        self.pending: Deferred[None] | None = None

    async def ask(self) -> str:
        self.asked += 1
        if self.pending is not None:
            await self.pending
        if self.trouble is not None:
            raise self.trouble
        if self.login is None:
            raise BadCredentialError(RESPONSE)
        return self.login


def rejected(deferred: Deferred[bool]) -> bool:
    """Tell whether a Deferred failed with GitHub's 401."""
    error = failure_of(deferred).value
    return isinstance(error, BadCredentialError) and error.response is RESPONSE


def unknown(deferred: Deferred[bool], response: object = SORRY) -> bool:
    """Tell whether a Deferred failed as GitHub does not tell, with a *response*."""
    error = failure_of(deferred).value
    return isinstance(error, LoginUnknownError) and error.response is response


def failure_of(deferred: Deferred[bool]) -> Failure:
    """Return the failure that a Deferred has."""
    failures: list[Failure] = []
    deferred.addErrback(failures.append)
    return failures[0]


class LoginTests(SynchronousTestCase):
    """What is remembered for display."""

    def test_what_was_learned_is_known(self) -> None:
        """By the name of the credential."""
        users = Users()
        users.note_login("c1", "octocat", 1.0)
        assert users.login("c1", 2.0) == "octocat"
        assert users.login("c2", 2.0) is None

    def test_the_later_word_counts(self) -> None:
        """An answer to an earlier question changes nothing."""
        users = Users()
        users.note_login("c1", "renamed", 5.0)
        users.note_login("c1", "octocat", 4.0)
        assert users.login("c1", 5.0) == "renamed"
        users.note_rejection("c1", 6.0)
        assert users.login("c1", 6.0) is None

    def test_a_login_is_known_for_as_long_as_it_is_used(self) -> None:
        """However long ago it was learned."""
        users = Users()
        users.note_login("c1", "octocat", 0.0)
        for day in range(1, 20):
            assert users.login("c1", day * DISPLAYED_S) == "octocat"
        assert users.login("c1", 21 * DISPLAYED_S) is None

    def test_looking_is_no_use(self) -> None:
        """A page that shows logins keeps none of them alive."""
        users = Users(capacity=2)
        users.note_login("c1", "one", 0.0)
        users.note_login("c2", "two", 1.0)
        assert users.peek_login("c1", DISPLAYED_S) == "one"
        assert users.peek_login("c1", DISPLAYED_S + 1.0) is None
        assert users.peek_login("c3", 2.0) is None
        users.note_login("c3", "three", 3.0)
        assert users.peek_login("c1", 3.0) is None
        assert users.peek_login("c2", 3.0) == "two"

    def test_the_least_recently_used_is_forgotten_first(self) -> None:
        """There is room for so many."""
        users = Users(capacity=2)
        users.note_login("c1", "one", 0.0)
        users.note_login("c2", "two", 1.0)
        users.login("c1", 2.0)
        users.note_login("c3", "three", 3.0)
        assert [users.login(each, 3.0) for each in ("c1", "c2", "c3")] == ["one", None, "three"]


class MayUseTests(SynchronousTestCase):
    """Who may use the mirror."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.users = Users()
        self.github = GitHub()

    def check(
        self,
        allowed: frozenset[str] = ALLOWED,
        ask: Callable[[], Awaitable[str]] | None = None,
    ) -> Deferred[bool]:
        return Deferred.fromCoroutine(
            self.users.is_allowed(
                "c1",
                ask or self.github.ask,
                allowed,
                self.clock.seconds,
                STALE_LIMIT,
                lambda late: self.clock.callLater(PATIENCE, late),
            )
        )

    def may_use(self, allowed: frozenset[str] = ALLOWED) -> bool:
        return self.successResultOf(self.check(allowed))

    def test_anyone_may_where_nobody_is_listed(self) -> None:
        """And nobody is asked."""
        assert self.may_use(frozenset()) is True
        assert self.github.asked == 0

    def test_who_is_listed_may(self) -> None:
        """Whatever the case of the login on either side."""
        for login, listed in (("octocat", "octocat"), ("HUBOT", "Hubot"), ("Mona", "mona")):
            self.users = Users()
            self.github.login = login
            assert self.may_use(frozenset({listed, "other"})) is True

    def test_who_is_not_listed_may_not(self) -> None:
        """It is known who they are, and that is remembered."""
        self.github.login = "stranger"
        for _ in range(2):
            assert self.may_use() is False
        assert self.github.asked == 1

    def test_a_word_is_remembered_for_five_minutes(self) -> None:
        """Then GitHub is asked again."""
        self.may_use()
        self.clock.advance(FRESH_S - 1)
        assert self.may_use() is True
        assert self.github.asked == 1
        self.clock.advance(1)
        self.github.login = "stranger"
        assert self.may_use() is False
        assert self.github.asked == 2

    def test_a_401_is_not_remembered(self) -> None:
        """A token that is too new to work soon does, and clients try again on a 401 alone."""
        self.github.login = None
        for _ in range(2):
            assert rejected(self.check())
        assert self.github.asked == 2
        assert self.users.login("c1", 0.0) is None
        self.github.login = "octocat"
        assert self.may_use() is True

    def test_a_401_ends_the_last_yes(self) -> None:
        """Though GitHub cannot be asked afterwards."""
        assert self.may_use() is True
        self.clock.advance(FRESH_S)
        self.github.login = None
        assert rejected(self.check())
        self.github.trouble = LoginUnknownError(SORRY)
        assert unknown(self.check())

    def test_a_401_reaches_all_who_wait(self) -> None:
        """Each with GitHub's own response."""
        self.github.login = None
        self.github.pending = Deferred()
        checks = [self.check(), self.check()]
        self.github.pending.callback(None)
        assert all(rejected(each) for each in checks)
        assert self.github.asked == 1

    def test_a_401_that_the_same_question_left_elsewhere_changes_nothing(self) -> None:
        """The response to it is GitHub's all the same; a later yes outweighs it."""
        self.github.login = None
        for login in (None, "octocat"):
            self.github.pending = Deferred()
            check = self.check()
            self.clock.advance(1)
            if login is None:
                self.users.note_rejection("c1", self.clock.seconds())
            else:
                self.users.note_login("c1", login, self.clock.seconds())
            self.github.pending.callback(None)
            if login is None:
                assert rejected(check)
            else:
                assert self.successResultOf(check) is True

    def test_what_was_learned_elsewhere_counts(self) -> None:
        """From an answer to the client's own `GET /user`; after a 401, GitHub is asked again."""
        self.users.note_login("c1", "hubot", 0.0)
        assert self.may_use() is True
        assert self.github.asked == 0
        self.users.note_rejection("c1", 0.0)
        assert self.may_use() is True
        assert self.github.asked == 1

    def test_another_list_takes_effect_at_once(self) -> None:
        """What is remembered is who somebody is, not what they may."""
        assert self.may_use() is True
        assert self.may_use(frozenset({"hubot"})) is False
        assert self.may_use(frozenset({"hubot", "octocat"})) is True
        assert self.github.asked == 1

    def test_the_last_yes_holds_while_github_cannot_be_asked(self) -> None:
        """For as long as stale answers do."""
        self.may_use()
        self.github.trouble = LoginUnknownError(SORRY)
        self.clock.advance(STALE_LIMIT)
        assert self.may_use() is True
        assert self.may_use(frozenset({"hubot"})) is False
        self.clock.advance(1)
        assert unknown(self.check())

    def test_without_a_yes_nothing_is_known_while_github_cannot_be_asked(self) -> None:
        """Neither of a credential never seen, nor of one that was refused a while ago."""
        self.github.trouble = LoginUnknownError(SORRY)
        assert unknown(self.check())
        self.users.note_rejection("c1", 0.0)
        assert unknown(self.check())

    def test_one_question_serves_all_who_wait(self) -> None:
        """Each of them gets the verdict."""
        self.github.pending = Deferred()
        checks = [self.check(), self.check(), self.check(frozenset({"hubot"}))]
        self.github.pending.callback(None)
        assert [self.successResultOf(each) for each in checks] == [
            True,
            True,
            False,
        ]
        assert self.github.asked == 1

    def test_the_last_yes_ends_the_wait(self) -> None:
        """The question goes on, and its answer counts for who comes next."""
        assert self.may_use() is True
        self.clock.advance(FRESH_S)
        self.github.pending = Deferred()
        self.github.login = "somebody"
        first = self.check()
        self.clock.advance(PATIENCE - 0.1)
        second = self.check()
        assert not first.called
        self.clock.advance(0.1)
        assert self.successResultOf(first) is True
        assert not second.called
        self.github.pending.callback(None)
        assert self.successResultOf(second) is False
        assert self.may_use() is False
        assert self.github.asked == 2

    def test_without_a_yes_there_is_no_end_to_the_wait(self) -> None:
        """Nor with one that is too long ago."""
        self.github.pending = Deferred()
        first = self.check()
        self.clock.advance(10 * PATIENCE)
        assert not first.called
        self.github.pending.callback(None)
        assert self.successResultOf(first) is True
        self.clock.advance(STALE_LIMIT + FRESH_S)
        self.github.pending = Deferred()
        later = self.check()
        self.clock.advance(10 * PATIENCE)
        assert not later.called
        self.github.pending.callback(None)
        assert self.successResultOf(later) is True

    def test_who_goes_away_does_not_take_the_others_along(self) -> None:
        """Neither the first, who made the question be asked, nor a later one."""
        self.github.pending = Deferred()
        first, second, third = self.check(), self.check(), self.check()
        first.cancel()
        third.cancel()
        assert failure_of(first).check(CancelledError)
        assert failure_of(third).check(CancelledError)
        assert not second.called
        self.github.pending.callback(None)
        assert self.successResultOf(second) is True

    def test_one_who_is_told_may_send_another_away(self) -> None:
        """Each of them is told once, or not at all."""
        self.github.pending = Deferred()
        first, second = self.check(), self.check()
        first.addCallback(lambda _: second.cancel())
        self.github.pending.callback(None)
        self.successResultOf(first)
        assert failure_of(second).check(CancelledError)

    def test_an_answer_that_nobody_waits_for_is_kept(self) -> None:
        """It was asked for, and serves the next one."""
        self.github.pending = Deferred()
        check = self.check()
        check.cancel()
        assert failure_of(check).check(CancelledError)
        self.github.pending.callback(None)
        assert self.users.login("c1", 0.0) == "octocat"

    def test_trouble_of_another_kind_reaches_all(self) -> None:
        """It is a fault, and whoever asks next asks anew."""
        self.github.pending = Deferred()
        self.github.trouble = RuntimeError("bug")
        checks = [self.check(), self.check()]
        self.github.pending.callback(None)
        for each in checks:
            assert failure_of(each).check(RuntimeError)
        self.github.trouble = self.github.pending = None
        assert self.may_use() is True

    def test_trouble_that_nobody_waits_for_is_logged(self) -> None:
        """Rather than lost."""
        self.github.pending = Deferred()
        self.github.trouble = RuntimeError("bug")
        check = self.check()
        check.cancel()
        assert failure_of(check).check(CancelledError)
        self.github.pending.callback(None)
        errors = self.flushLoggedErrors(RuntimeError)
        assert len(errors) == 1

    def test_a_question_that_was_cancelled_says_nothing(self) -> None:
        """To who waits for it, it is one that could not be asked."""
        self.github.pending = Deferred()
        check = self.check()
        self.github.pending.cancel()
        assert unknown(check, None)

    def test_closing_gives_up_what_is_asked(self) -> None:
        """Though its answer was to serve who comes next; who waits still gets a verdict."""
        self.github.pending = Deferred()
        gone, check = self.check(), self.check()
        gone.cancel()
        assert failure_of(gone).check(CancelledError)
        self.users.close()
        assert unknown(check, None)
        assert self.github.pending.called

    def test_a_refusal_meanwhile_outweighs_the_answer(self) -> None:
        """A 401 after the question was asked is the later word, so GitHub is asked again."""
        asked: list[int] = []

        async def ask() -> str:
            asked.append(1)
            self.clock.advance(1)
            if len(asked) == 1:
                self.users.note_rejection("c1", self.clock.seconds())
            return "octocat"

        assert self.successResultOf(self.check(ask=ask)) is True
        assert len(asked) == 2

    def test_refusals_meanwhile_again_and_again_leave_it_unknown(self) -> None:
        """GitHub is not asked for ever."""

        async def ask() -> str:
            self.clock.advance(1)
            self.users.note_rejection("c1", self.clock.seconds())
            return "octocat"

        assert unknown(self.check(ask=ask), None)

    def test_a_credential_forgotten_meanwhile_still_gets_its_verdict(self) -> None:
        """Even where there is room for none."""
        self.users = Users(capacity=0)
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
def test_the_login_in_an_answer(content: bytes, login: str | None) -> None:
    """What isn't a login is none."""
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
def test_the_viewer_in_an_answer(content: bytes, login: str | None) -> None:
    """GraphQL says it three levels down."""
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
def test_the_app_in_an_answer(content: bytes, login: str | None) -> None:
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


def test_the_question_for_the_viewer_is_json() -> None:
    """As GraphQL over HTTP wants it."""
    assert json.loads(VIEWER_QUERY) == {"query": "query{viewer{login}}"}
