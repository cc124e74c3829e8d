"""Who may ask GitHub when, in one process, by a clock that stands still."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request
from ghmirror_tw.upstream import points_limit, rate_limiter, request_cost, request_queues
from ghmirror_tw.upstream.points_limit import COUNTED_S
from ghmirror_tw.upstream.rate_limiter import LONGEST_WAIT_S, RateLimiter
from ghmirror_tw.upstream.request_cost import points_of
from ghmirror_tw.upstream.request_queue import Permit
from ghmirror_tw.upstream.request_queues import CHECKS, UNVERIFIED

ALICE, BOB, CAROL = "a" * 32, "b" * 32, "c" * 32


class Queue:
    """A pacing, and those who have asked it for leave."""

    def __init__(self, **more: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000)
        values: dict[str, Any] = {
            "max_connections": 100,
            "max_in_flight": 80,
            "points_per_minute": 0,
            "reserve": 0,
            **more,
        }
        self.limiter = RateLimiter(self.clock, None, **values, chance=lambda: 0.5)
        #: Who went, in this order.
        self.went: list[str] = []
        self.permits: list[Permit] = []
        self.refused: list[Failure] = []

    def enter(
        self,
        who: str,
        *,
        bucket: str = "core",
        points: int = 1,
        spends: bool = False,
        **more: Any,
    ) -> Deferred[Permit]:
        if spends:
            try:
                self.limiter.check_reserve(who, bucket)
            except MirrorError:
                self.refused.append(Failure())
                return Deferred()
        asked = self.limiter.acquire(who, bucket, points, **more)

        def goes(permit: Permit) -> None:
            self.went.append(who)
            self.permits.append(permit)

        def refuse(failure: Failure) -> None:
            self.refused.append(failure)

        asked.addCallbacks(goes, refuse)
        return asked

    def enter_all(self, *who: str, **more: Any) -> None:
        for each in who:
            self.enter(each, **more)

    def release(self, count: int = 1) -> None:
        for _ in range(count):
            self.permits.pop(0).release()

    def errors(self) -> list[MirrorError]:
        """Return how many were refused, and why; each is told once."""
        refused, self.refused = self.refused, []
        errors = []
        for failure in refused:
            assert isinstance(failure.value, MirrorError)
            errors.append(failure.value)
        return errors

    def finish(self) -> None:
        """Let everybody leave; then nothing may be left behind."""
        for _ in range(3):
            self.release(len(self.permits))
            self.clock.advance(60)
        assert all(queue.idle for queue in self.limiter.queues.accepted.values())
        assert not self.limiter.in_flight
        assert not self.limiter.waiting
        assert not self.clock.getDelayedCalls()


def test_it_gives_leave_at_once() -> None:
    """Nobody waits where nobody has to."""
    queue = Queue()
    queue.enter_all(ALICE, BOB, ALICE)
    assert queue.went == [ALICE, BOB, ALICE]
    queue.finish()


def test_so_many_of_a_credential_at_a_time() -> None:
    """The next one goes when one has left, and others are not in its way."""
    queue = Queue(max_in_flight=2)
    queue.enter_all(ALICE, ALICE, ALICE, ALICE, BOB)
    assert queue.went == [ALICE, ALICE, BOB]
    queue.release()
    assert queue.went == [ALICE, ALICE, BOB, ALICE]
    queue.release()
    assert len(queue.went) == 5
    queue.finish()


def test_leaving_twice_is_leaving_once() -> None:
    """Whoever cleans up may do so without asking whether it was done."""
    queue = Queue(max_in_flight=1)
    queue.enter_all(ALICE, ALICE, ALICE)
    first = queue.permits[0]
    first.release()
    first.release()
    assert queue.went == [ALICE, ALICE]
    queue.finish()


def test_credentials_take_turns() -> None:
    """However many questions one has, another's first is next; within one, the first is first."""
    queue = Queue(max_connections=1)
    queue.enter_all(ALICE, ALICE, ALICE, ALICE, BOB, BOB, CAROL)
    for _ in range(6):
        queue.release()
    assert queue.went == [ALICE, ALICE, BOB, CAROL, ALICE, BOB, ALICE]
    queue.finish()


def test_within_a_credential_the_first_is_first() -> None:
    """Whatever they cost, and whether they go to GraphQL or not."""
    queue = Queue(max_in_flight=1)
    order: list[int] = []

    def goes(permit: Permit, number: int) -> None:
        order.append(number)
        queue.permits.append(permit)

    for number, bucket in enumerate(("core", "graphql", "search", "graphql", "core")):
        queue.limiter.acquire(ALICE, bucket, 5 - number).addCallback(goes, number)
    for _ in range(5):
        queue.release()
    assert order == [0, 1, 2, 3, 4]
    queue.finish()


def test_who_goes_away_leaves_the_queue() -> None:
    """And takes nothing from anybody; who has leave already keeps it."""
    queue = Queue(max_in_flight=1)
    first = queue.enter(ALICE)
    second = queue.enter(ALICE)
    queue.enter(ALICE)
    second.cancel()
    first.cancel()
    (gone,) = queue.refused
    assert gone.check(CancelledError)
    assert queue.limiter.waiting == 1
    queue.release()
    assert len(queue.went) == 2
    queue.finish()


def test_nobody_waits_for_ever() -> None:
    """It is a 503 then, that says when to come again; a question may have less time."""
    queue = Queue(max_in_flight=1)
    queue.enter_all(ALICE, ALICE)
    queue.enter(ALICE, timeout_s=3.0)
    queue.clock.advance(3.0)
    (error,) = queue.errors()
    assert (error.status, error.reason, error.retry_after) == (503, "overloaded", 1)
    queue.clock.advance(LONGEST_WAIT_S - 3.0)
    assert len(queue.errors()) == 1
    assert queue.limiter.waiting == 0
    queue.finish()


def test_no_more_wait_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one credential, and of all; who is too many is told at once."""
    monkeypatch.setattr(rate_limiter, "MOST_OF_ONE", 2)
    monkeypatch.setattr(rate_limiter, "MOST_OF_ALL", 3)
    queue = Queue(max_in_flight=1)
    queue.enter_all(ALICE, ALICE, ALICE, ALICE)
    assert len(queue.errors()) == 1
    queue.enter_all(BOB, BOB, BOB)
    assert len(queue.errors()) == 1
    assert queue.limiter.waiting == 3
    queue.finish()


def test_no_more_credentials_are_kept_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are idle go."""
    monkeypatch.setattr(request_queues, "_KEPT", 2)
    queue = Queue()
    queue.enter_all(*(f"{number:032}" for number in range(9)))
    queue.finish()
    assert len(queue.limiter.queues.accepted) == 2


# Points.


def test_so_many_points_in_a_minute() -> None:
    """Whatever was used counts until a minute after it was left: GitHub may have seen it then."""
    queue = Queue(points_per_minute=10)
    queue.enter_all(*[ALICE] * 12)
    assert len(queue.went) == 10
    queue.clock.advance(5.0)
    queue.release(10)
    queue.clock.advance(4.0)
    assert len(queue.went) == 10
    queue.enter(BOB)
    assert queue.went[-1] == BOB
    queue.clock.advance(1.0)
    assert [error.retry_after for error in queue.errors()] == [55, 55]
    queue.clock.advance(54.9)
    queue.enter(ALICE)
    assert len(queue.went) == 11
    queue.clock.advance(0.2)
    assert queue.went[-1] == ALICE
    queue.finish()


def test_a_write_takes_five() -> None:
    """And waits until there are five; nobody overtakes it meanwhile."""
    queue = Queue(points_per_minute=12)
    queue.enter_all(ALICE, ALICE, points=5)
    queue.enter(ALICE, points=5)
    queue.enter(ALICE)
    assert len(queue.went) == 2
    queue.finish()


def test_a_write_that_costs_more_than_there_is_takes_all() -> None:
    """Or it would never go."""
    queue = Queue(points_per_minute=3)
    queue.enter(ALICE, points=5)
    assert queue.went == [ALICE]
    queue.finish()


def test_graphql_has_points_of_its_own() -> None:
    """GitHub's own number, and REST doesn't wait for it."""
    queue = Queue(points_per_minute=1, max_in_flight=10_000, max_connections=10_000)
    for _ in range(points_limit.GRAPHQL_POINTS):
        queue.enter(ALICE, bucket="graphql")
    assert len(queue.went) == points_limit.GRAPHQL_POINTS
    queue.enter(ALICE, bucket="graphql")
    queue.enter(ALICE)
    assert len(queue.went) == points_limit.GRAPHQL_POINTS + 1
    queue.finish()


@pytest.mark.parametrize(
    ("method", "target", "mutates", "points"),
    [
        (b"GET", b"/x", True, 1),
        (b"HEAD", b"/x", True, 1),
        (b"OPTIONS", b"/x", True, 1),
        (b"POST", b"/x", False, 5),
        (b"DELETE", b"/x", False, 5),
        (b"POST", b"/graphql", False, 1),
        (b"POST", b"/graphql", True, 5),
    ],
)
def test_what_takes_how_many_points(
    method: bytes, target: bytes, mutates: bool, points: int
) -> None:
    """Reads one, writes five, GraphQL by what it does."""
    assert points_of(Request(method, target, Fields()), mutates=mutates) == points


def test_points_count_for_an_hour_after_a_complaint() -> None:
    """Those of the credential that GitHub complained of, where nothing else is set."""
    queue = Queue(points_per_minute="auto", max_in_flight=10_000, max_connections=10_000)
    many = points_limit.AUTO_POINTS + 1
    queue.enter_all(*[ALICE] * many)
    assert len(queue.went) == many
    queue.limiter.note_secondary_limit(ALICE)
    queue.enter_all(*[ALICE] * many, *[BOB] * many)
    assert queue.went.count(ALICE) == many + points_limit.AUTO_POINTS
    assert queue.went.count(BOB) == many
    queue.finish()
    queue.errors()
    queue.clock.advance(COUNTED_S)
    queue.enter_all(*[ALICE] * many)
    assert queue.went.count(ALICE) == 2 * many + points_limit.AUTO_POINTS
    queue.finish()


@pytest.mark.parametrize(("points", "limit"), [(0, 10_000), (50, 50)])
def test_a_complaint_changes_nothing_that_was_set(points: int, limit: int) -> None:
    """Neither a number nor that there is to be none."""
    queue = Queue(points_per_minute=points, max_in_flight=10_000, max_connections=10_000)
    queue.limiter.note_secondary_limit(ALICE)
    queue.enter_all(*[ALICE] * 1000)
    assert len(queue.went) == min(limit, 1000)
    queue.finish()


# The reserve.


def test_the_reserve_is_kept_for_writes() -> None:
    """What spends it is refused until the reset, and nothing else is; by credential and bucket."""
    queue = Queue(reserve=100)
    now = queue.clock.seconds()
    queue.limiter.note_quota(ALICE, "core", 100, now + 600.5)
    queue.limiter.note_quota(BOB, "core", 101, now + 600)
    queue.enter(ALICE, spends=True)
    (error,) = queue.errors()
    assert (error.status, error.reason, error.retry_after) == (503, "reserve", 60)
    queue.enter(ALICE)
    queue.enter(ALICE, bucket="search", spends=True)
    queue.enter(BOB, spends=True)
    queue.clock.advance(600.5)
    queue.enter(ALICE, spends=True)
    assert queue.went == [ALICE, ALICE, BOB, ALICE]
    queue.finish()


@pytest.mark.parametrize(
    ("method", "target", "lines", "charged"),
    [
        (b"GET", b"/x", [b"authorization"], True),
        (b"HEAD", b"/x", [b"authorization"], True),
        (b"GET", b"/x", [b"authorization", b"if-none-match"], False),
        (b"GET", b"/x", [b"authorization", b"if-modified-since"], False),
        (b"GET", b"/x", [b"if-none-match"], True),
        (b"POST", b"/x", [b"authorization"], False),
        (b"GET", b"/rate_limit/", [b"authorization"], False),
    ],
)
def test_what_spends(method: bytes, target: bytes, lines: list[bytes], charged: bool) -> None:
    """A read that can't be answered with a free 304."""
    request = Request(method, target, Fields([(name, b"x") for name in lines]))
    assert request_cost.spends(request) is charged


def test_without_a_reserve_nothing_is_kept() -> None:
    """Not even when nothing remains: 304s may still be free."""
    queue = Queue()
    queue.limiter.note_quota(ALICE, "core", 0, queue.clock.seconds() + 600)
    queue.enter(ALICE, spends=True)
    assert queue.went == [ALICE]
    queue.finish()


# Credentials that GitHub has not accepted yet.


def test_unknown_credentials_share_a_lane() -> None:
    """A tenth of the connections; the others have the rest, and wait for none of them."""
    queue = Queue(max_connections=50, max_in_flight=80)
    for number in range(8):
        queue.enter(f"made up {number}", unverified=UNVERIFIED)
    assert len(queue.went) == 5
    assert queue.limiter.unverified_in_flight == 5
    for _ in range(45):
        queue.enter(ALICE)
    assert queue.went[5:] == [ALICE] * 45
    queue.release()
    assert queue.went[50:] == ["made up 5"]
    queue.finish()


def test_checks_have_half_of_what_others_leave() -> None:
    """As it is when they are sent, and a tenth in any case."""
    queue = Queue(max_connections=50, max_in_flight=80)
    queue.enter_all(*[ALICE] * 20)
    queue.enter_all(*[f"made up {number}" for number in range(40)], unverified=CHECKS)
    assert len(queue.went) == 20 + 15
    queue.enter_all(*[BOB] * 15)
    assert queue.went[35:] == [BOB] * 15
    # What others leave, checks get.
    queue.release(20)
    assert queue.limiter.unverified_in_flight == 17
    queue.finish()


def test_a_small_mirror_has_four_for_them() -> None:
    """However few connections there are."""
    queue = Queue(max_connections=10, max_in_flight=80)
    queue.enter_all(*[f"made up {number}" for number in range(9)], unverified=UNVERIFIED)
    assert len(queue.went) == 4
    queue.finish()


def test_what_is_accepted_leaves_the_lane_at_once() -> None:
    """With what it has on its way, and what waits; others move up."""
    queue = Queue(max_connections=50, max_in_flight=80)
    queue.enter_all(*[ALICE] * 7, BOB, unverified=UNVERIFIED)
    assert queue.went == [ALICE] * 5
    queue.limiter.note_accepted(ALICE, queue.permits[0])
    assert sorted(queue.went) == [ALICE] * 7 + [BOB]
    # The others that were on their way are still there, until they end.
    assert queue.limiter.unverified_in_flight == 5
    queue.release(4)
    queue.release(4)
    assert queue.limiter.unverified_in_flight == 0
    assert not queue.limiter.in_flight
    queue.finish()


def test_a_permit_that_was_left_is_not_moved() -> None:
    """Nor is that of a check, which ends soon."""
    queue = Queue(max_connections=50, max_in_flight=80)
    queue.enter(ALICE, unverified=CHECKS)
    queue.enter(ALICE, unverified=UNVERIFIED)
    check, other = queue.permits
    queue.limiter.note_accepted(ALICE, check)
    assert queue.limiter.unverified_in_flight == 2
    other.release()
    queue.limiter.note_accepted(ALICE, other)
    assert queue.limiter.unverified_in_flight == 1
    check.release()
    queue.permits.clear()
    queue.finish()


def test_too_many_unknown_credentials_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, or when they have waited for long; none of the others is."""
    monkeypatch.setattr(rate_limiter, "MOST_UNVERIFIED", 2)
    monkeypatch.setattr(rate_limiter, "MOST_OF_ALL", 1)
    queue = Queue(max_connections=50, max_in_flight=1)
    queue.enter_all(*[f"made up {number}" for number in range(8)], unverified=UNVERIFIED)
    (error,) = queue.errors()
    assert (error.status, error.retry_after) == (503, 1)
    assert "not accepted yet" in error.message
    queue.enter_all(ALICE, ALICE)
    assert not queue.errors()
    queue.clock.advance(rate_limiter.LONGEST_WAIT_S)
    assert [each.reason for each in queue.errors()] == ["overloaded"] * 3
    queue.finish()


def test_unknown_credentials_have_no_budget_of_points() -> None:
    """Nothing is counted for what may be made up; known ones have theirs."""
    queue = Queue(max_connections=50, max_in_flight=80, points_per_minute=5)
    for number in range(5):
        queue.enter(f"made up {number}", unverified=UNVERIFIED, points=5)
    assert len(queue.went) == 5
    assert not queue.limiter.queues.accepted
    queue.finish()


# The end.


def test_at_the_end_nobody_waits() -> None:
    """Who waits is told, and who comes then."""
    queue = Queue(max_in_flight=1)
    queue.enter_all(ALICE, ALICE)
    closed = queue.limiter.close()
    queue.enter(BOB)
    assert [error.reason for error in queue.errors()] == ["shutting-down"] * 2
    assert closed.called
    queue.release()
    assert not queue.clock.getDelayedCalls()
