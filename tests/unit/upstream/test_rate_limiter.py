"""The rate limiter of one process, with a fake clock."""

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
from ghmirror_tw.upstream.request_queues import CHECKS, UNACCEPTED

ALICE, BOB, CAROL = "a" * 32, "b" * 32, "c" * 32


class Queue:
    """A rate limiter, and the permits that were acquired from it."""

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
        #: The credentials of acquired permits, in order.
        self.served: list[str] = []
        self.permits: list[Permit] = []
        self.rejected: list[Failure] = []

    def acquire(
        self,
        credential: str,
        *,
        bucket: str = "core",
        points: int = 1,
        spends: bool = False,
        **more: Any,
    ) -> Deferred[Permit]:
        if spends:
            try:
                self.limiter.quota_reserve.check(credential, bucket)
            except MirrorError:
                self.rejected.append(Failure())
                return Deferred()
        acquiring = self.limiter.acquire(credential, bucket, points, **more)

        def acquired(permit: Permit) -> None:
            self.served.append(credential)
            self.permits.append(permit)

        def reject(failure: Failure) -> None:
            self.rejected.append(failure)

        acquiring.addCallbacks(acquired, reject)
        return acquiring

    def acquire_all(self, *credentials: str, **more: Any) -> None:
        for each in credentials:
            self.acquire(each, **more)

    def release(self, count: int = 1) -> None:
        for _ in range(count):
            self.permits.pop(0).release()

    def errors(self) -> list[MirrorError]:
        """Return the errors since the last call."""
        refused, self.rejected = self.rejected, []
        errors = []
        for failure in refused:
            assert isinstance(failure.value, MirrorError)
            errors.append(failure.value)
        return errors

    def finish(self) -> None:
        """Release all permits; then no state may be left."""
        for _ in range(3):
            self.release(len(self.permits))
            self.clock.advance(60)
        assert all(queue.idle for queue in self.limiter.queues.accepted.values())
        assert not self.limiter.in_flight
        assert not self.limiter.waiting
        assert not self.clock.getDelayedCalls()


def test_permit_is_acquired_at_once_below_all_limits() -> None:
    """No request waits without need."""
    queue = Queue()
    queue.acquire_all(ALICE, BOB, ALICE)
    assert queue.served == [ALICE, BOB, ALICE]
    queue.finish()


def test_requests_of_a_credential_in_flight_are_limited() -> None:
    """A released permit is acquired by the next request; other credentials do not wait."""
    queue = Queue(max_in_flight=2)
    queue.acquire_all(ALICE, ALICE, ALICE, ALICE, BOB)
    assert queue.served == [ALICE, ALICE, BOB]
    queue.release()
    assert queue.served == [ALICE, ALICE, BOB, ALICE]
    queue.release()
    assert len(queue.served) == 5
    queue.finish()


def test_second_release_does_nothing() -> None:
    """A permit may be released by each cleanup."""
    queue = Queue(max_in_flight=1)
    queue.acquire_all(ALICE, ALICE, ALICE)
    first = queue.permits[0]
    first.release()
    first.release()
    assert queue.served == [ALICE, ALICE]
    queue.finish()


def test_credentials_are_served_round_robin() -> None:
    """However many requests one credential has, the first of another one is next."""
    queue = Queue(max_connections=1)
    queue.acquire_all(ALICE, ALICE, ALICE, ALICE, BOB, BOB, CAROL)
    for _ in range(6):
        queue.release()
    assert queue.served == [ALICE, ALICE, BOB, CAROL, ALICE, BOB, ALICE]
    queue.finish()


def test_requests_of_a_credential_are_served_in_order() -> None:
    """With any points, and for REST and GraphQL together."""
    queue = Queue(max_in_flight=1)
    order: list[int] = []

    def acquired(permit: Permit, number: int) -> None:
        order.append(number)
        queue.permits.append(permit)

    for number, bucket in enumerate(("core", "graphql", "search", "graphql", "core")):
        queue.limiter.acquire(ALICE, bucket, 5 - number).addCallback(acquired, number)
    for _ in range(5):
        queue.release()
    assert order == [0, 1, 2, 3, 4]
    queue.finish()


def test_cancelled_request_leaves_the_queue() -> None:
    """It uses no permit; an acquired permit stays acquired."""
    queue = Queue(max_in_flight=1)
    first = queue.acquire(ALICE)
    second = queue.acquire(ALICE)
    queue.acquire(ALICE)
    second.cancel()
    first.cancel()
    (cancelled,) = queue.rejected
    assert cancelled.check(CancelledError)
    assert queue.limiter.waiting == 1
    queue.release()
    assert len(queue.served) == 2
    queue.finish()


def test_wait_has_a_timeout() -> None:
    """The error is a 503 with `Retry-After`; a request may have less time."""
    queue = Queue(max_in_flight=1)
    queue.acquire_all(ALICE, ALICE)
    queue.acquire(ALICE, timeout_s=3.0)
    queue.clock.advance(3.0)
    (error,) = queue.errors()
    assert (error.status, error.reason, error.retry_after) == (503, "overloaded", 1)
    queue.clock.advance(LONGEST_WAIT_S - 3.0)
    assert len(queue.errors()) == 1
    assert queue.limiter.waiting == 0
    queue.finish()


def test_queue_lengths_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one credential, and of all; one request more is rejected at once."""
    monkeypatch.setattr(rate_limiter, "MOST_OF_ONE", 2)
    monkeypatch.setattr(rate_limiter, "MOST_OF_ALL", 3)
    queue = Queue(max_in_flight=1)
    queue.acquire_all(ALICE, ALICE, ALICE, ALICE)
    assert len(queue.errors()) == 1
    queue.acquire_all(BOB, BOB, BOB)
    assert len(queue.errors()) == 1
    assert queue.limiter.waiting == 3
    queue.finish()


def test_idle_queues_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound, queues of idle credentials are dropped."""
    monkeypatch.setattr(request_queues, "_KEPT", 2)
    queue = Queue()
    queue.acquire_all(*(f"{number:032}" for number in range(9)))
    queue.finish()
    assert len(queue.limiter.queues.accepted) == 2


# Points.


def test_points_count_until_a_minute_after_release() -> None:
    """GitHub may have counted them just before the response."""
    queue = Queue(points_per_minute=10)
    queue.acquire_all(*[ALICE] * 12)
    assert len(queue.served) == 10
    queue.clock.advance(5.0)
    queue.release(10)
    queue.clock.advance(4.0)
    assert len(queue.served) == 10
    queue.acquire(BOB)
    assert queue.served[-1] == BOB
    queue.clock.advance(1.0)
    assert [error.retry_after for error in queue.errors()] == [55, 55]
    queue.clock.advance(54.9)
    queue.acquire(ALICE)
    assert len(queue.served) == 11
    queue.clock.advance(0.2)
    assert queue.served[-1] == ALICE
    queue.finish()


def test_write_waits_for_five_points() -> None:
    """No later request overtakes it meanwhile."""
    queue = Queue(points_per_minute=12)
    queue.acquire_all(ALICE, ALICE, points=5)
    queue.acquire(ALICE, points=5)
    queue.acquire(ALICE)
    assert len(queue.served) == 2
    queue.finish()


def test_write_with_more_points_than_the_limit_is_sent() -> None:
    """It uses all points."""
    queue = Queue(points_per_minute=3)
    queue.acquire(ALICE, points=5)
    assert queue.served == [ALICE]
    queue.finish()


def test_graphql_has_points_of_its_own() -> None:
    """The limit is GitHub's, and REST does not wait for it."""
    queue = Queue(points_per_minute=1, max_in_flight=10_000, max_connections=10_000)
    for _ in range(points_limit.GRAPHQL_POINTS):
        queue.acquire(ALICE, bucket="graphql")
    assert len(queue.served) == points_limit.GRAPHQL_POINTS
    queue.acquire(ALICE, bucket="graphql")
    queue.acquire(ALICE)
    assert len(queue.served) == points_limit.GRAPHQL_POINTS + 1
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
def test_points_of_requests(method: bytes, target: bytes, mutates: bool, points: int) -> None:
    """A read has one, a write five, GraphQL by its content."""
    assert points_of(Request(method, target, Fields()), mutates=mutates) == points


def test_auto_counts_points_for_an_hour_after_a_secondary_limit() -> None:
    """Those of the credential that met it."""
    queue = Queue(points_per_minute="auto", max_in_flight=10_000, max_connections=10_000)
    many = points_limit.AUTO_POINTS + 1
    queue.acquire_all(*[ALICE] * many)
    assert len(queue.served) == many
    queue.limiter.note_secondary_limit(ALICE)
    queue.acquire_all(*[ALICE] * many, *[BOB] * many)
    assert queue.served.count(ALICE) == many + points_limit.AUTO_POINTS
    assert queue.served.count(BOB) == many
    queue.finish()
    queue.errors()
    queue.clock.advance(COUNTED_S)
    queue.acquire_all(*[ALICE] * many)
    assert queue.served.count(ALICE) == 2 * many + points_limit.AUTO_POINTS
    queue.finish()


@pytest.mark.parametrize(("points", "limit"), [(0, 10_000), (50, 50)])
def test_secondary_limit_does_not_change_a_configured_limit(points: int, limit: int) -> None:
    """Neither a number nor that there is none."""
    queue = Queue(points_per_minute=points, max_in_flight=10_000, max_connections=10_000)
    queue.limiter.note_secondary_limit(ALICE)
    queue.acquire_all(*[ALICE] * 1000)
    assert len(queue.served) == min(limit, 1000)
    queue.finish()


# The reserve.


def test_read_that_cuts_into_the_reserve_is_rejected() -> None:
    """Until the reset, by credential and bucket; no other request is."""
    queue = Queue(reserve=100)
    now = queue.clock.seconds()
    queue.limiter.quota_reserve.note(ALICE, "core", 100, now + 600.5)
    queue.limiter.quota_reserve.note(BOB, "core", 101, now + 600)
    queue.acquire(ALICE, spends=True)
    (error,) = queue.errors()
    assert (error.status, error.reason, error.retry_after) == (503, "reserve", 60)
    queue.acquire(ALICE)
    queue.acquire(ALICE, bucket="search", spends=True)
    queue.acquire(BOB, spends=True)
    queue.clock.advance(600.5)
    queue.acquire(ALICE, spends=True)
    assert queue.served == [ALICE, ALICE, BOB, ALICE]
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
def test_which_requests_are_charged(
    method: bytes, target: bytes, lines: list[bytes], charged: bool
) -> None:
    """A read that cannot have a free 304."""
    request = Request(method, target, Fields([(name, b"x") for name in lines]))
    assert request_cost.spends(request) is charged


def test_without_a_reserve_no_read_is_rejected() -> None:
    """Not even when nothing remains: 304s may still be free."""
    queue = Queue()
    queue.limiter.quota_reserve.note(ALICE, "core", 0, queue.clock.seconds() + 600)
    queue.acquire(ALICE, spends=True)
    assert queue.served == [ALICE]
    queue.finish()


# Credentials that GitHub has not accepted yet.


def test_unverified_credentials_share_a_tenth_of_the_connections() -> None:
    """Accepted ones have the rest, and wait for none of them."""
    queue = Queue(max_connections=50, max_in_flight=80)
    for number in range(8):
        queue.acquire(f"made up {number}", unaccepted=UNACCEPTED)
    assert len(queue.served) == 5
    assert queue.limiter.unaccepted_in_flight == 5
    for _ in range(45):
        queue.acquire(ALICE)
    assert queue.served[5:] == [ALICE] * 45
    queue.release()
    assert queue.served[50:] == ["made up 5"]
    queue.finish()


def test_checks_have_half_of_the_free_connections() -> None:
    """As many as are free when a check is sent, and a tenth in any case."""
    queue = Queue(max_connections=50, max_in_flight=80)
    queue.acquire_all(*[ALICE] * 20)
    queue.acquire_all(*[f"made up {number}" for number in range(40)], unaccepted=CHECKS)
    assert len(queue.served) == 20 + 15
    queue.acquire_all(*[BOB] * 15)
    assert queue.served[35:] == [BOB] * 15
    # What others leave, checks get.
    queue.release(20)
    assert queue.limiter.unaccepted_in_flight == 17
    queue.finish()


def test_unverified_credentials_have_four_connections_at_least() -> None:
    """However few connections there are."""
    queue = Queue(max_connections=10, max_in_flight=80)
    queue.acquire_all(*[f"made up {number}" for number in range(9)], unaccepted=UNACCEPTED)
    assert len(queue.served) == 4
    queue.finish()


def test_accepted_credential_gets_a_queue_of_its_own() -> None:
    """Its waiting requests move, and the permit of its response; others move up."""
    queue = Queue(max_connections=50, max_in_flight=80)
    queue.acquire_all(*[ALICE] * 7, BOB, unaccepted=UNACCEPTED)
    assert queue.served == [ALICE] * 5
    queue.limiter.note_accepted(ALICE, queue.permits[0])
    assert sorted(queue.served) == [ALICE] * 7 + [BOB]
    # The others that were on their way are still there, until they end.
    assert queue.limiter.unaccepted_in_flight == 5
    queue.release(4)
    queue.release(4)
    assert queue.limiter.unaccepted_in_flight == 0
    assert not queue.limiter.in_flight
    queue.finish()


def test_released_permit_is_not_moved() -> None:
    """Nor is that of a check, which is released soon."""
    queue = Queue(max_connections=50, max_in_flight=80)
    queue.acquire(ALICE, unaccepted=CHECKS)
    queue.acquire(ALICE, unaccepted=UNACCEPTED)
    check, other = queue.permits
    queue.limiter.note_accepted(ALICE, check)
    assert queue.limiter.unaccepted_in_flight == 2
    other.release()
    queue.limiter.note_accepted(ALICE, other)
    assert queue.limiter.unaccepted_in_flight == 1
    check.release()
    queue.permits.clear()
    queue.finish()


def test_queue_of_unverified_credentials_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests beyond are rejected at once, others after a timeout; accepted ones are not."""
    monkeypatch.setattr(rate_limiter, "MOST_UNACCEPTED", 2)
    monkeypatch.setattr(rate_limiter, "MOST_OF_ALL", 1)
    queue = Queue(max_connections=50, max_in_flight=1)
    queue.acquire_all(*[f"made up {number}" for number in range(8)], unaccepted=UNACCEPTED)
    (error,) = queue.errors()
    assert (error.status, error.retry_after) == (503, 1)
    assert "not accepted yet" in error.message
    queue.acquire_all(ALICE, ALICE)
    assert not queue.errors()
    queue.clock.advance(rate_limiter.LONGEST_WAIT_S)
    assert [each.reason for each in queue.errors()] == ["overloaded"] * 3
    queue.finish()


def test_points_of_unverified_credentials_are_not_counted() -> None:
    """A client can make up any number of credentials."""
    queue = Queue(max_connections=50, max_in_flight=80, points_per_minute=5)
    for number in range(5):
        queue.acquire(f"made up {number}", unaccepted=UNACCEPTED, points=5)
    assert len(queue.served) == 5
    assert not queue.limiter.queues.accepted
    queue.finish()


# The end.


def test_closing_rejects_waiting_and_later_requests() -> None:
    """Their error names the shutdown of the process."""
    queue = Queue(max_in_flight=1)
    queue.acquire_all(ALICE, ALICE)
    closed = queue.limiter.close()
    queue.acquire(BOB)
    assert [error.reason for error in queue.errors()] == ["shutting-down"] * 2
    assert closed.called
    queue.release()
    assert not queue.clock.getDelayedCalls()
