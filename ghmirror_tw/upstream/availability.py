"""A circuit breaker for GitHub: opened by failures of requests, or by GitHub's status page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, field

from ghmirror_tw.runtime.evidence import Evidence, Observation, Quorum

#: GitHub counts as unavailable after this many failures in a row, of several paths, and of several
#: operations or credentials. One broken endpoint is no evidence.
MOST_FAILURES: Final = 5
OUTAGE: Final = Quorum(keys=3, credentials=2, observations=MOST_FAILURES, operations=2)
#: While GitHub is unavailable, one request with a stale response is a probe, at this interval.
TRIAL_S: Final = 5.0
#: What the status page said is believed for so long after it could be read last.
BELIEVED_S: Final = 600.0

MAJOR_OUTAGE: Final = "major_outage"
PARTIAL_OUTAGE: Final = "partial_outage"


@define(eq=False)
class Availability:
    """Whether GitHub is offline. Times are in seconds; *changed* is told when it comes and goes.

    It is offline after enough independent failures since the last good response (see `OUTAGE`). A
    failure is a 5xx, no response in time, or a connection that was refused or lost.

    It is also offline while the status page reports a major outage, or a partial one that a failed
    request has confirmed. A good response overrules the page until its status changes.

    A failure counts only if its request was sent after the last good response: an endpoint that is
    always slow is no evidence while others respond.
    """

    changed: Callable[[bool], object] = lambda _available: None
    _failures: Evidence = field(init=False, factory=lambda: Evidence(OUTAGE))
    _good_at: float = field(init=False, default=0.0)
    _page: str = field(init=False, default="")
    _page_at: float = field(init=False, default=0.0)
    #: Whether the status of the page is recent.
    _believed: bool = field(init=False, default=False)
    #: Whether a good response has come since the status of the page last changed.
    _overruled: bool = field(init=False, default=False)
    #: Whether a request has failed since the status of the page last changed.
    _confirmed: bool = field(init=False, default=False)
    _offline: bool = field(init=False, default=False)
    _trial_at: float = field(init=False, default=0.0)

    @property
    def offline(self) -> bool:
        """Whether GitHub is taken to be away."""
        return self._offline

    @property
    def failures(self) -> int:
        """How many requests in a row have failed."""
        return self._failures.count

    @property
    def page(self) -> tuple[str, float] | None:
        """What the status page said last, and when; None: nothing yet."""
        return (self._page, self._page_at) if self._page else None

    def takes_trial(self, now: float) -> bool:
        """Tell whether a request should be sent as a probe, though GitHub is unavailable.

        Otherwise nobody would notice its return where there is a stored answer to everything.
        """
        if not self._offline or now < self._trial_at:
            return False
        self._trial_at = now + TRIAL_S
        return True

    # What GitHub does.

    def answered(self, *, limited: bool, now: float) -> None:
        """Note a response that is no 5xx.

        A limit is neither good nor a failure, but it does end a row of failures.
        """
        self._failures.clear()
        if not limited:
            self._good_at = now
            self._overruled = True
        self._weigh(now)

    def failed(self, observation: Observation, asked_at: float, now: float) -> None:
        """Note the failure of a request that was sent at *asked_at*: a 5xx, or no response.

        Requests that were cancelled, or that exceeded a limit of the mirror, are not counted.
        """
        if asked_at >= self._good_at:
            self._failures.add(observation, now)
            self._confirmed = True
        self._weigh(now)

    # What the page says.

    def page_says(self, status: str, now: float) -> None:
        """Note what the status page says of the API now, in the page's own words."""
        if status != self._page:
            self._page = status
            self._overruled = self._confirmed = False
        self._page_at = now
        self._believed = True
        self._weigh(now)

    def page_unreadable(self, now: float) -> None:
        """Note that the status page can't be read, which means nothing; but it ages."""
        if now - self._page_at >= BELIEVED_S:
            self._believed = False
            self._weigh(now)

    @property
    def _page_counts(self) -> bool:
        if not self._believed or self._overruled:
            return False
        return self._page == MAJOR_OUTAGE or (self._page == PARTIAL_OUTAGE and self._confirmed)

    def _weigh(self, now: float) -> None:
        offline = self._page_counts or self._failures.is_enough(now)
        if offline is self._offline:
            return
        self._offline = offline
        self._trial_at = now + TRIAL_S
        self.changed(not offline)
