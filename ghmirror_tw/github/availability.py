"""Whether GitHub is available: by its own responses, and by what its status page says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, field

from ghmirror_tw.policy.evidence import Evidence, Observation, Quorum

#: So many failures in a row, of so many paths, in two operations or for two credentials, and
#: GitHub is taken to be unavailable. One endpoint that is broken proves nothing.
MOST_FAILURES: Final = 5
OUTAGE: Final = Quorum(keys=3, credentials=2, observations=MOST_FAILURES, operations=2)
#: While GitHub is unavailable, one request with a stale response is let through so often.
TRIAL_S: Final = 5.0
#: What the status page said is believed for so long after it could be read last.
BELIEVED_S: Final = 600.0

MAJOR_OUTAGE: Final = "major_outage"
PARTIAL_OUTAGE: Final = "partial_outage"


@define(eq=False)
class Availability:
    """Whether GitHub is offline. Times are in seconds; *changed* is told when it comes and goes.

    It is offline when enough independent requests failed (see `OUTAGE`) since GitHub's last good
    response: with a 5xx, no response in time, a connection that was refused or broke. Or when the
    status page reports a major outage, or a partial one and a request has failed since it does,
    and no good response has come since: what GitHub itself says weighs more, and after that the
    page must first say something else.
    A failure counts only if GitHub was asked after its last good response: one endpoint that is
    always slow proves nothing while others respond.
    """

    changed: Callable[[bool], object] = lambda _available: None
    _failures: Evidence = field(init=False, factory=lambda: Evidence(OUTAGE))
    _good_at: float = field(init=False, default=0.0)
    _page: str = field(init=False, default="")
    _page_at: float = field(init=False, default=0.0)
    #: Whether what the page said was read lately.
    _believed: bool = field(init=False, default=False)
    #: Whether GitHub has given a good response, or has failed, since the page says what it says.
    _overruled: bool = field(init=False, default=False)
    _affirmed: bool = field(init=False, default=False)
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
        """Tell whether a request should be sent to GitHub though it is unavailable, just to see.

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
        """Note a 5xx, or that GitHub did not respond, to a request that was sent at *asked_at*.

        A request that was cancelled, or that the mirror itself gave up by a limit of its own, is no
        failure of GitHub's.
        """
        if asked_at >= self._good_at:
            self._failures.add(observation, now)
            self._affirmed = True
        self._weigh(now)

    # What the page says.

    def page_says(self, status: str, now: float) -> None:
        """Note what the status page says of the API now, in the page's own words."""
        if status != self._page:
            self._page = status
            self._overruled = self._affirmed = False
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
        return self._page == MAJOR_OUTAGE or (self._page == PARTIAL_OUTAGE and self._affirmed)

    def _weigh(self, now: float) -> None:
        offline = self._page_counts or self._failures.is_enough(now)
        if offline is self._offline:
            return
        self._offline = offline
        self._trial_at = now + TRIAL_S
        self.changed(not offline)
