"""Byte budgets admit, queue and refuse requests, and count content while it is held."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.upstream.byte_budget import (
    FREE_BYTES,
    MAX_QUEUED_S,
    SMALL_BYTES,
    ByteBudget,
    ByteBudgets,
    Reservation,
)

MIB = 1024 * 1024


def budget(clock: Clock, limit: int = 100, wait_s: float | None = MAX_QUEUED_S) -> ByteBudget:
    return ByteBudget(clock, "small", limit, wait_s, "[memory] max_content_size")


def result(turn: Deferred[Reservation]) -> Any:
    """Return what a Deferred has, or None."""
    got: list[Any] = []
    turn.addBoth(got.append)
    return got[0] if got else None


def turn(clock: Clock) -> None:
    """Wait for one turn of the reactor."""
    clock.advance(0)


def test_fitting_request_is_admitted_at_once() -> None:
    """Released bytes are available to others."""
    clock = Clock()
    semaphore = budget(clock)
    with result(semaphore.acquire(60)):
        assert semaphore.held == 60
        with result(semaphore.acquire(40)):
            assert semaphore.held == 100
    assert (semaphore.held, semaphore.waits, semaphore.refusals) == (0, 0, 0)
    assert not clock.getDelayedCalls()


def test_queue_is_first_in_first_out() -> None:
    """A small request does not overtake a larger one of the same budget."""
    clock = Clock()
    semaphore = budget(clock)
    first = result(semaphore.acquire(90))
    second, third = semaphore.acquire(50), semaphore.acquire(10)
    turn(clock)
    assert semaphore.held == 90
    first.release()
    first.release()
    turn(clock)
    result(second).release()
    result(third).release()
    assert (semaphore.held, semaphore.waits, semaphore.refusals) == (0, 2, 0)
    clock.advance(MAX_QUEUED_S)
    assert not clock.getDelayedCalls()


def test_bytes_passed_on_in_one_turn_admit_no_other_request() -> None:
    """A flight releases, and a request that joined it counts the same content a moment later."""
    clock = Clock()
    semaphore = budget(clock)
    flight = result(semaphore.acquire(100))
    waits = semaphore.acquire(100)
    turn(clock)
    flight.release()
    sender = semaphore.charge(100)
    turn(clock)
    assert semaphore.held == 100
    sender.release()
    turn(clock)
    assert result(waits) is not None


def test_request_queued_for_too_long_is_refused() -> None:
    """With 503, a short Retry-After, the option, and a hint. Requests behind it are admitted."""
    clock = Clock()
    semaphore = budget(clock)
    result(semaphore.acquire(90))
    large = semaphore.acquire(50)
    clock.advance(1)
    small = semaphore.acquire(10)
    clock.advance(MAX_QUEUED_S - 1)
    refused = result(large)
    error = refused.value
    assert refused.check(MirrorError)
    assert (error.status, error.reason, error.retry_after) == (503, "overloaded", 5)
    assert "[memory] max_content_size = 100" in error.message
    assert result(small) is not None
    assert semaphore.refusals == 1


def test_without_a_time_limit_no_request_is_refused() -> None:
    """Content that waits for a thread is admitted in the end."""
    clock = Clock()
    semaphore = budget(clock, wait_s=None)
    first = result(semaphore.acquire(100))
    second = semaphore.acquire(100)
    clock.pump([1.0] * 100)
    first.release()
    turn(clock)
    assert result(second) is not None


def test_cancelled_request_leaves_the_queue() -> None:
    """Requests behind it are admitted."""
    clock = Clock()
    semaphore = budget(clock)
    first = result(semaphore.acquire(90))
    large, small = semaphore.acquire(50), semaphore.acquire(10)
    large.cancel()
    assert result(large).check(CancelledError)
    assert result(small) is not None
    first.release()
    clock.advance(MAX_QUEUED_S)
    assert not clock.getDelayedCalls()


def test_request_above_the_limit_gets_the_whole_limit() -> None:
    """Alone: it is not refused for good."""
    clock = Clock()
    semaphore = budget(clock)
    with result(semaphore.acquire(1000)):
        assert semaphore.held == 100


def test_bytes_are_reclaimed_while_requests_are_queued() -> None:
    """At an interval, and not afterwards."""
    clock, made = Clock(), []
    semaphore = budget(clock)
    first = result(semaphore.acquire(100))
    semaphore.reclaim = lambda: made.append(clock.seconds())
    waits = semaphore.acquire(1)
    clock.pump([0, 0.5, 0.5])
    assert made == [0, 0.5, 1.0]
    first.release()
    clock.pump([0, 0.5, 0.5])
    assert result(waits) is not None
    assert len(made) == 3


@define(eq=False)
class Owner:
    """Holds content."""

    content: bytes


def test_content_is_counted_once_while_it_has_owners() -> None:
    """For any number of owners."""
    semaphore = budget(Clock())
    content = bytes(70)
    owners = [Owner(content), Owner(content)]
    for owner in owners:
        semaphore.track(owner, owner.content)
    semaphore.track(other := Owner(bytes(5)), other.content)
    assert semaphore.held == 75
    owners.pop()
    assert semaphore.held == 75
    del owner
    owners.pop()
    assert semaphore.held == 5


def test_reservation_is_resized() -> None:
    """To more, at any limit, and to less."""
    semaphore = budget(Clock())
    reservation = semaphore.charge(0)
    for size in (500, 20, 20):
        reservation.resize(size)
        assert semaphore.held == size
    reservation.release()
    assert semaphore.held == 0


def test_small_content_never_waits_for_large_content() -> None:
    """It has a budget of its own."""
    budgets = ByteBudgets.of(Clock(), 64 * MIB)
    result(budgets.large.acquire(budgets.large.limit))
    assert not budgets.of_size(SMALL_BYTES + 1).acquire(1).called
    assert budgets.of_size(SMALL_BYTES).acquire(SMALL_BYTES).called


@pytest.mark.parametrize("length", [None, FREE_BYTES, SMALL_BYTES, SMALL_BYTES + 1])
def test_growing_reservation(length: int | None) -> None:
    """All at once where the length is known, else in steps; it is released at the end."""
    budgets = ByteBudgets.of(Clock(), 64 * MIB)
    with budgets.growing_reservation(8 * MIB, length) as room:
        steps = []
        while room.size <= 8 * MIB:
            result(Deferred.fromCoroutine(room.grow()))  # type: ignore[arg-type]
            steps.append((budgets.small.held, budgets.large.held))
    assert (
        steps
        == {
            None: [(SMALL_BYTES, 0), (0, 8 * MIB)],
            FREE_BYTES: [(FREE_BYTES, 0)],
            SMALL_BYTES: [(SMALL_BYTES, 0)],
            SMALL_BYTES + 1: [(0, SMALL_BYTES + 1)],
        }[length]
    )
    assert budgets.small.held == budgets.large.held == 0
