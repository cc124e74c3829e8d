"""The circuit to GitHub is opened by failures or by the status page, and closed by responses."""

from __future__ import annotations

import pytest
from attrs import define, field

from ghmirror_tw.runtime.independent_evidence import Observation
from ghmirror_tw.upstream.github_breaker import (
    FAILURE_THRESHOLD,
    PAGE_VALID_S,
    PROBE_INTERVAL_S,
    GitHubBreaker,
)

OUTAGE, PARTIAL, FINE = "major_outage", "partial_outage", "operational"


@define
class BreakerScene:
    """A breaker, the time, and its changes."""

    now: float = 1000.0
    number: int = 0
    changes: list[bool] = field(factory=list)
    breaker: GitHubBreaker = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.breaker = GitHubBreaker(self.changes.append)

    def respond(self, *, limited: bool = False) -> None:
        self.now += 1
        self.breaker.note_response(limited=limited, now=self.now)

    def fail(self, times: int = 1, *, sent_at: float | None = None) -> None:
        """Report failed requests, each with another path and operation than the one before."""
        for _ in range(times):
            self.now += 1
            self.number += 1
            path = f"/{self.number % 3}"
            self.observe(Observation(path, "alice", f"GET {path}"), sent_at=sent_at)

    def observe(self, *failures: Observation, sent_at: float | None = None) -> None:
        for failure in failures:
            self.now += 1
            self.breaker.note_failure(failure, sent_at or self.now, self.now, 503)

    def report(self, *statuses: str) -> None:
        for status in statuses:
            self.now += 1
            self.breaker.note_page_status(status, self.now)

    def is_open(self) -> bool:
        return self.breaker.is_open


@pytest.fixture
def scene() -> BreakerScene:
    return BreakerScene()


def test_circuit_is_closed_at_first(scene: BreakerScene) -> None:
    """Without a notification."""
    assert not scene.is_open()
    assert not scene.changes


def test_failures_in_a_row_open_circuit(scene: BreakerScene) -> None:
    """Five do, four do not; it is notified once."""
    scene.fail(FAILURE_THRESHOLD - 1)
    assert not scene.is_open()
    scene.fail()
    assert scene.is_open()
    scene.fail(3)
    assert scene.changes == [False]


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
def test_one_broken_endpoint_does_not_open_circuit(
    scene: BreakerScene, failures: list[tuple[str, str, str]], enough: bool
) -> None:
    """It needs three paths, and two operations or credentials."""
    scene.observe(*[Observation(*each) for each in failures])
    assert scene.is_open() is enough


def test_good_response_closes_circuit(scene: BreakerScene) -> None:
    """Five more failures open it again."""
    scene.fail(FAILURE_THRESHOLD)
    scene.respond()
    assert scene.changes == [False, True]
    scene.fail(FAILURE_THRESHOLD - 1)
    assert not scene.is_open()


def test_response_ends_a_row_of_failures(scene: BreakerScene) -> None:
    """A rate limit does, too."""
    for limited in (False, True):
        scene.fail(FAILURE_THRESHOLD - 1)
        scene.respond(limited=limited)
        scene.fail(FAILURE_THRESHOLD - 1)
        assert not scene.is_open()
        scene.respond()


def test_failure_of_an_earlier_request_does_not_count(scene: BreakerScene) -> None:
    """One endpoint is slow and its requests time out together, while others respond."""
    sent_at = scene.now
    scene.respond()
    scene.fail(FAILURE_THRESHOLD, sent_at=sent_at)
    assert not scene.is_open()


def test_major_outage_on_page_opens_circuit(scene: BreakerScene) -> None:
    """As long as the page reports it."""
    scene.report(FINE, "degraded_performance", "partial_outage", "under_maintenance", "")
    assert not scene.is_open()
    scene.report(OUTAGE)
    assert scene.is_open()
    scene.report("partial_outage")
    assert scene.changes == [False, True]


def test_reason_is_the_page_or_the_last_failure(scene: BreakerScene) -> None:
    """It is known while the circuit is open only."""
    reasons = []
    for step in (
        lambda: scene.fail(4),
        scene.fail,
        lambda: scene.report(OUTAGE),
        scene.respond,
    ):
        step()
        reasons.append(scene.breaker.reason)
    assert reasons == [None, "503", f"status-page:{OUTAGE}", None]


def test_partial_outage_counts_with_a_failure(scene: BreakerScene) -> None:
    """The failure follows the report; a good response closes the circuit."""
    scene.fail()
    scene.report(PARTIAL)
    assert not scene.is_open()
    scene.fail()
    assert scene.is_open()
    scene.report(PARTIAL)
    assert scene.is_open()
    scene.respond()
    assert not scene.is_open()
    scene.fail()
    scene.report(PARTIAL)
    assert not scene.is_open()
    scene.report(FINE, PARTIAL)
    assert not scene.is_open()
    scene.fail()
    assert scene.is_open()
    scene.report(FINE)
    assert not scene.is_open()


def test_good_response_overrules_page(scene: BreakerScene) -> None:
    """Until the status of the page changes."""
    scene.respond()
    scene.report(OUTAGE)
    assert scene.is_open()
    scene.respond()
    assert not scene.is_open()
    scene.report(OUTAGE, OUTAGE)
    assert not scene.is_open()
    scene.report("partial_outage", OUTAGE)
    assert scene.is_open()


def test_rate_limit_is_no_good_response(scene: BreakerScene) -> None:
    """It may be sent by a server in front of GitHub; the page still counts."""
    scene.report(OUTAGE)
    scene.respond(limited=True)
    assert scene.is_open()
    scene.respond()
    assert not scene.is_open()


def test_page_does_not_close_circuit_opened_by_failures(scene: BreakerScene) -> None:
    """Pages are late."""
    scene.fail(FAILURE_THRESHOLD)
    scene.report(OUTAGE, FINE)
    assert scene.is_open()


def test_status_outlives_an_unreadable_page_for_a_while(scene: BreakerScene) -> None:
    """Then the status expires."""
    scene.breaker.note_page_unreadable(scene.now)
    assert not scene.is_open()
    scene.report(OUTAGE)
    reported_at = scene.now
    scene.breaker.note_page_unreadable(reported_at + PAGE_VALID_S - 1)
    assert scene.is_open()
    scene.breaker.note_page_unreadable(reported_at + PAGE_VALID_S)
    assert not scene.is_open()
    scene.report(OUTAGE)
    assert scene.is_open()


def test_overruled_page_stays_overruled_while_unreadable(scene: BreakerScene) -> None:
    """Its status has not changed."""
    scene.report(OUTAGE)
    scene.respond()
    scene.breaker.note_page_unreadable(scene.now + 2 * PAGE_VALID_S)
    scene.report(OUTAGE)
    assert not scene.is_open()


def test_open_circuit_admits_probes_at_an_interval(scene: BreakerScene) -> None:
    """Not at once, one at a time, and only while the circuit is open."""
    acquire = scene.breaker.acquire_probe
    assert not acquire(scene.now)
    scene.fail(FAILURE_THRESHOLD)
    assert not acquire(scene.now + PROBE_INTERVAL_S - 1)
    assert acquire(scene.now + PROBE_INTERVAL_S)
    assert not acquire(scene.now + PROBE_INTERVAL_S)
    assert not acquire(scene.now + 2 * PROBE_INTERVAL_S - 1)
    assert acquire(scene.now + 2 * PROBE_INTERVAL_S)
    scene.respond()
    assert not acquire(scene.now + 9 * PROBE_INTERVAL_S)
