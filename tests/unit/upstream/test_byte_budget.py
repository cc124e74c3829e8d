"""Budgets of bytes: what fits, what waits, what is refused, and how bytes come back."""

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
    """Let the reactor turn once."""
    clock.advance(0)


def test_what_fits_does_not_wait() -> None:
    """And what is released is there for others."""
    clock = Clock()
    bytes_ = budget(clock)
    with result(bytes_.acquire(60)):
        assert bytes_.held == 60
        with result(bytes_.acquire(40)):
            assert bytes_.held == 100
    assert (bytes_.held, bytes_.waits, bytes_.refusals) == (0, 0, 0)
    assert not clock.getDelayedCalls()


def test_first_come_first_served() -> None:
    """A small request does not pass a larger one of the same budget that came before."""
    clock = Clock()
    bytes_ = budget(clock)
    first = result(bytes_.acquire(90))
    second, third = bytes_.acquire(50), bytes_.acquire(10)
    turn(clock)
    assert bytes_.held == 90
    first.release()
    first.release()
    turn(clock)
    result(second).release()
    result(third).release()
    assert (bytes_.held, bytes_.waits, bytes_.refusals) == (0, 2, 0)
    clock.advance(MAX_QUEUED_S)
    assert not clock.getDelayedCalls()


def test_what_is_passed_on_in_one_turn_is_not_given_to_others() -> None:
    """A flight releases, and a request that joined it counts the same content a moment later."""
    clock = Clock()
    bytes_ = budget(clock)
    flight = result(bytes_.acquire(100))
    waits = bytes_.acquire(100)
    turn(clock)
    flight.release()
    sender = bytes_.charge(100)
    turn(clock)
    assert bytes_.held == 100
    sender.release()
    turn(clock)
    assert result(waits) is not None


def test_a_request_that_waits_for_too_long_is_refused() -> None:
    """With 503, a short Retry-After, the option, and what to do. Those behind it go on."""
    clock = Clock()
    bytes_ = budget(clock)
    result(bytes_.acquire(90))
    large = bytes_.acquire(50)
    clock.advance(1)
    small = bytes_.acquire(10)
    clock.advance(MAX_QUEUED_S - 1)
    refused = result(large)
    error = refused.value
    assert refused.check(MirrorError)
    assert (error.status, error.reason, error.retry_after) == (503, "overloaded", 5)
    assert "[memory] max_content_size = 100" in error.message
    assert result(small) is not None
    assert bytes_.refusals == 1


def test_without_a_limit_of_time_none_is_refused() -> None:
    """What waits for a thread has its turn."""
    clock = Clock()
    bytes_ = budget(clock, wait_s=None)
    first = result(bytes_.acquire(100))
    second = bytes_.acquire(100)
    clock.pump([1.0] * 100)
    first.release()
    turn(clock)
    assert result(second) is not None


def test_a_request_that_goes_away_leaves_the_queue() -> None:
    """And those behind it go on."""
    clock = Clock()
    bytes_ = budget(clock)
    first = result(bytes_.acquire(90))
    large, small = bytes_.acquire(50), bytes_.acquire(10)
    large.cancel()
    assert result(large).check(CancelledError)
    assert result(small) is not None
    first.release()
    clock.advance(MAX_QUEUED_S)
    assert not clock.getDelayedCalls()


def test_more_than_fits_gets_all_there_is() -> None:
    """Alone: it is not refused for good."""
    clock = Clock()
    bytes_ = budget(clock)
    with result(bytes_.acquire(1000)):
        assert bytes_.held == 100


def test_room_is_made_while_requests_wait() -> None:
    """Again and again, and not any more after that."""
    clock, made = Clock(), []
    bytes_ = budget(clock)
    first = result(bytes_.acquire(100))
    bytes_.reclaim = lambda: made.append(clock.seconds())
    waits = bytes_.acquire(1)
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


def test_content_is_counted_once_for_as_long_as_it_is_held() -> None:
    """By any number of owners."""
    bytes_ = budget(Clock())
    content = bytes(70)
    owners = [Owner(content), Owner(content)]
    for owner in owners:
        bytes_.track(owner, owner.content)
    bytes_.track(other := Owner(bytes(5)), other.content)
    assert bytes_.held == 75
    owners.pop()
    assert bytes_.held == 75
    del owner
    owners.pop()
    assert bytes_.held == 5


def test_a_reservation_can_change() -> None:
    """To more, whatever the limit is, and to less."""
    bytes_ = budget(Clock())
    reservation = bytes_.charge(0)
    for size in (500, 20, 20):
        reservation.resize(size)
        assert bytes_.held == size
    reservation.release()
    assert bytes_.held == 0


def test_small_content_never_waits_for_large() -> None:
    """It has a budget of its own."""
    budgets = ByteBudgets.of(Clock(), 64 * MIB)
    result(budgets.large.acquire(budgets.large.limit))
    assert not budgets.of_size(SMALL_BYTES + 1).acquire(1).called
    assert budgets.of_size(SMALL_BYTES).acquire(SMALL_BYTES).called


@pytest.mark.parametrize("length", [None, FREE_BYTES, SMALL_BYTES, SMALL_BYTES + 1])
def test_room_for_what_is_received(length: int | None) -> None:
    """It is reserved at once where the length is known, else in steps; and given back."""
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
