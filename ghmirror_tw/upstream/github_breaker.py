"""A circuit breaker for GitHub: opened by failed requests, or by GitHub's status page.

See https://martinfowler.com/bliki/CircuitBreaker.html. Requests without a stored response are sent
all the same. So are probes, which close the circuit once GitHub responds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, field

from ghmirror_tw.runtime.independent_evidence import Evidence, Observation, Quorum

#: The circuit opens after this many failures in a row, of several paths, and of several operations
#: or credentials. One broken endpoint is no evidence.
FAILURE_THRESHOLD: Final = 5
OUTAGE: Final = Quorum(keys=3, credentials=2, observations=FAILURE_THRESHOLD, operations=2)
#: While the circuit is open, one request with a stale response is a probe, at this interval.
PROBE_INTERVAL_S: Final = 5.0
#: The last status of the page is valid for so long while the page is unreadable.
PAGE_VALID_S: Final = 600.0

MAJOR_OUTAGE: Final = "major_outage"
PARTIAL_OUTAGE: Final = "partial_outage"


@define(eq=False)
class GitHubBreaker:
    """Whether the circuit to GitHub is open. Times are in seconds.

    It opens after enough independent failures since the last good response (see `OUTAGE`). A
    failure is a 5xx, no response in time, or a connection that was refused or lost. A failure
    counts only if its request was sent after the last good response: an endpoint that is always
    slow is no evidence while others respond.

    It is also open while the status page reports a major outage, or a partial one that a failed
    request has confirmed. A good response overrules the page until its status changes.

    *on_change* is called with whether GitHub is available, each time that this changes.
    """

    on_change: Callable[[bool], object] = lambda _available: None
    _last_failure: str | None = field(init=False, default=None)
    _failures: Evidence = field(init=False, factory=lambda: Evidence(OUTAGE))
    _last_good_at: float = field(init=False, default=0.0)
    _page_status: str = field(init=False, default="")
    _page_read_at: float = field(init=False, default=0.0)
    _page_is_valid: bool = field(init=False, default=False)
    #: Whether a good response was received since the status of the page last changed.
    _page_is_overruled: bool = field(init=False, default=False)
    #: Whether a request has failed since the status of the page last changed.
    _page_is_confirmed: bool = field(init=False, default=False)
    #: Whether the circuit is open: GitHub counts as unavailable.
    is_open: bool = field(init=False, default=False)
    _next_probe_at: float = field(init=False, default=0.0)

    @property
    def reason(self) -> str | None:
        """Why the circuit is open: the status page, or the last failure; None: it is closed."""
        if not self.is_open:
            return None
        return (
            f"status-page:{self._page_status}" if self._page_opens_circuit else self._last_failure
        )

    @property
    def failures(self) -> int:
        """How many requests in a row have failed."""
        return self._failures.count

    @property
    def page_status(self) -> tuple[str, float] | None:
        """The last status of the page, and when it was read; None: not yet."""
        return (self._page_status, self._page_read_at) if self._page_status else None

    def acquire_probe(self, now: float) -> bool:
        """Return whether the caller's request is to be sent as a probe, though the circuit is open.

        Without probes, the circuit would stay open where each request has a stored response.
        """
        if not self.is_open or now < self._next_probe_at:
            return False
        self._next_probe_at = now + PROBE_INTERVAL_S
        return True

    def note_response(self, *, limited: bool, now: float) -> None:
        """Note a response that is no 5xx.

        A rate limit is neither good nor a failure, but it does end a row of failures.
        """
        self._failures.clear()
        if not limited:
            self._last_good_at = now
            self._page_is_overruled = True
        if self.is_open:  # no response opens it
            self._update(now)

    def note_failure(
        self, observation: Observation, sent_at: float, now: float, reason: int | str
    ) -> None:
        """Note the failure of a request that was sent at *sent_at*: a 5xx, or no response.

        *reason* is the status, or a word such as ``timeout``.
        Requests that were cancelled, or that exceeded a limit of the mirror, are not counted.
        """
        if sent_at >= self._last_good_at:
            self._last_failure = str(reason)
            self._failures.add(observation, now)
            self._page_is_confirmed = True
        self._update(now)

    def note_page_status(self, status: str, now: float) -> None:
        """Note the status of the API that the page reports, in the page's own words."""
        if status != self._page_status:
            self._page_status = status
            self._page_is_overruled = self._page_is_confirmed = False
        self._page_read_at = now
        self._page_is_valid = True
        self._update(now)

    def note_page_unreadable(self, now: float) -> None:
        """Note that the status page is unreadable: its last status expires after a while."""
        if now - self._page_read_at >= PAGE_VALID_S:
            self._page_is_valid = False
            self._update(now)

    @property
    def _page_opens_circuit(self) -> bool:
        if not self._page_is_valid or self._page_is_overruled:
            return False
        return self._page_status == MAJOR_OUTAGE or (
            self._page_status == PARTIAL_OUTAGE and self._page_is_confirmed
        )

    def _update(self, now: float) -> None:
        is_open = self._page_opens_circuit or self._failures.is_enough(now)
        if is_open is self.is_open:
            return
        self.is_open = is_open
        self._next_probe_at = now + PROBE_INTERVAL_S
        self.on_change(not is_open)
