"""GitHub is away when it fails, or when its status page says so, until it answers."""

from __future__ import annotations

import pytest
from attrs import define, field

from ghmirror_tw.runtime.quorum import Observation
from ghmirror_tw.upstream.github_breaker import (
    FAILURE_THRESHOLD,
    PAGE_VALID_S,
    PROBE_INTERVAL_S,
    GitHubBreaker,
)

OUTAGE, PARTIAL, FINE = "major_outage", "partial_outage", "operational"


@define
class Seen:
    """An github_breaker, the time, and what it has told."""

    now: float = 1000.0
    number: int = 0
    told: list[bool] = field(factory=list)
    github_breaker: GitHubBreaker = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.github_breaker = GitHubBreaker(self.told.append)

    def answered(self, *, limited: bool = False) -> None:
        self.now += 1
        self.github_breaker.note_response(limited=limited, now=self.now)

    def failed(self, times: int = 1, *, asked_at: float | None = None) -> None:
        """Let requests fail, each for another path and operation than the one before."""
        for _ in range(times):
            self.now += 1
            self.number += 1
            path = f"/{self.number % 3}"
            self.sees(Observation(path, "alice", f"GET {path}"), asked_at=asked_at)

    def sees(self, *failures: Observation, asked_at: float | None = None) -> None:
        for failure in failures:
            self.now += 1
            self.github_breaker.note_failure(failure, asked_at or self.now, self.now)

    def says(self, *statuses: str) -> None:
        for status in statuses:
            self.now += 1
            self.github_breaker.note_page_status(status, self.now)

    def offline(self) -> bool:
        return self.github_breaker.is_open


@pytest.fixture
def seen() -> Seen:
    return Seen()


def test_it_is_there_until_known_better(seen: Seen) -> None:
    """Nothing has been told at first."""
    assert not seen.offline()
    assert not seen.told


def test_five_failures_in_a_row_are_an_outage(seen: Seen) -> None:
    """Four are not; it is told once."""
    seen.failed(FAILURE_THRESHOLD - 1)
    assert not seen.offline()
    seen.failed()
    assert seen.offline()
    seen.failed(3)
    assert seen.told == [False]


@pytest.mark.parametrize(
    ("failures", "enough"),
    [
        ([("/a", "alice", "GET /*")] * 20, False),
        ([(f"/{n}", "alice", "GET /*") for n in range(20)], False),
        ([("/a", "alice", "GET /a"), ("/b", "bob", "GET /b")] * 20, False),
        ([(f"/{n % 3}", "alice", "GET /*") for n in range(20)], False),
        ([(f"/{n % 3}", "alice", f"GET /{n % 2}") for n in range(5)], True),
        ([(f"/{n % 3}", "alice" if n % 2 else "bob", "GET /*") for n in range(5)], True),
        ([(f"/{n}", "alice" if n % 2 else "bob", "GET /*") for n in range(4)], False),
    ],
)
def test_one_broken_endpoint_proves_nothing(
    seen: Seen, failures: list[tuple[str, str, str]], enough: bool
) -> None:
    """It takes three paths, and two operations or credentials."""
    seen.sees(*[Observation(*each) for each in failures])
    assert seen.offline() is enough


def test_one_good_answer_ends_it(seen: Seen) -> None:
    """Then it takes five failures again."""
    seen.failed(FAILURE_THRESHOLD)
    seen.answered()
    assert seen.told == [False, True]
    seen.failed(FAILURE_THRESHOLD - 1)
    assert not seen.offline()


def test_failures_must_be_in_a_row(seen: Seen) -> None:
    """A good answer in between, and it counts anew; so it does after a limit."""
    for limited in (False, True):
        seen.failed(FAILURE_THRESHOLD - 1)
        seen.answered(limited=limited)
        seen.failed(FAILURE_THRESHOLD - 1)
        assert not seen.offline()
        seen.answered()


def test_what_was_asked_before_the_last_good_answer_proves_nothing(seen: Seen) -> None:
    """One endpoint is slow, and its questions time out together, while others answer."""
    asked_at = seen.now
    seen.answered()
    seen.failed(FAILURE_THRESHOLD, asked_at=asked_at)
    assert not seen.offline()


def test_the_page_can_say_it(seen: Seen) -> None:
    """A major outage, and only while the page says so."""
    seen.says(FINE, "degraded_performance", "partial_outage", "under_maintenance", "")
    assert not seen.offline()
    seen.says(OUTAGE)
    assert seen.offline()
    seen.says("partial_outage")
    assert seen.told == [False, True]


def test_a_partial_outage_counts_once_github_has_failed(seen: Seen) -> None:
    """One failure is enough then, if it comes after the page's word; a good answer ends it."""
    seen.failed()
    seen.says(PARTIAL)
    assert not seen.offline()
    seen.failed()
    assert seen.offline()
    seen.says(PARTIAL)
    assert seen.offline()
    seen.answered()
    assert not seen.offline()
    seen.failed()
    seen.says(PARTIAL)
    assert not seen.offline()
    seen.says(FINE, PARTIAL)
    assert not seen.offline()
    seen.failed()
    assert seen.offline()
    seen.says(FINE)
    assert not seen.offline()


def test_github_weighs_more_than_the_page(seen: Seen) -> None:
    """After a good answer the page must first say something else; an older answer is no answer."""
    seen.answered()
    seen.says(OUTAGE)
    assert seen.offline()
    seen.answered()
    assert not seen.offline()
    seen.says(OUTAGE, OUTAGE)
    assert not seen.offline()
    seen.says("partial_outage", OUTAGE)
    assert seen.offline()


def test_a_limit_is_no_good_answer(seen: Seen) -> None:
    """It may come from what stands before GitHub; the page still counts."""
    seen.says(OUTAGE)
    seen.answered(limited=True)
    assert seen.offline()
    seen.answered()
    assert not seen.offline()


def test_the_page_ends_no_outage_that_is_seen(seen: Seen) -> None:
    """Pages are late."""
    seen.failed(FAILURE_THRESHOLD)
    seen.says(OUTAGE, FINE)
    assert seen.offline()


def test_a_page_that_cannot_be_read_means_nothing(seen: Seen) -> None:
    """Neither an outage nor its end; but what it said long ago is believed no more."""
    seen.github_breaker.note_page_unreadable(seen.now)
    assert not seen.offline()
    seen.says(OUTAGE)
    said_at = seen.now
    seen.github_breaker.note_page_unreadable(said_at + PAGE_VALID_S - 1)
    assert seen.offline()
    seen.github_breaker.note_page_unreadable(said_at + PAGE_VALID_S)
    assert not seen.offline()
    seen.says(OUTAGE)
    assert seen.offline()


def test_an_overruled_page_stays_so_when_it_was_unreadable(seen: Seen) -> None:
    """It has not said anything else meanwhile."""
    seen.says(OUTAGE)
    seen.answered()
    seen.github_breaker.note_page_unreadable(seen.now + 2 * PAGE_VALID_S)
    seen.says(OUTAGE)
    assert not seen.offline()


def test_one_question_at_a_time_is_let_through(seen: Seen) -> None:
    """Though there is a stored answer to it: not at once, not many, and only while it is away."""
    takes = seen.github_breaker.acquire_probe
    assert not takes(seen.now)
    seen.failed(FAILURE_THRESHOLD)
    assert not takes(seen.now + PROBE_INTERVAL_S - 1)
    assert takes(seen.now + PROBE_INTERVAL_S)
    assert not takes(seen.now + PROBE_INTERVAL_S)
    assert not takes(seen.now + 2 * PROBE_INTERVAL_S - 1)
    assert takes(seen.now + 2 * PROBE_INTERVAL_S)
    seen.answered()
    assert not takes(seen.now + 9 * PROBE_INTERVAL_S)
