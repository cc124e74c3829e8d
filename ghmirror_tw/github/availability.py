"""Whether GitHub is there: by its own answers, and by what its status page says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, field

#: So many questions that failed in a row, and GitHub is taken to be away.
MOST_FAILURES: Final = 5
#: While GitHub is away, one question for which there is a stored answer is let through so often.
TRIAL_S: Final = 5.0
#: What the status page said is believed for so long after it could be read last.
BELIEVED_S: Final = 600.0

MAJOR_OUTAGE: Final = "major_outage"


@define(eq=False)
class Availability:
    """Whether GitHub is offline. Times are in seconds; *changed* is told when it comes and goes.

    It is offline when the last questions failed: with a 5xx, no answer in time, a connection that
    was refused or broke. Or when the status page says so and no good answer has come since: what
    GitHub itself says weighs more, and after that the page must first say something else.
    A failure counts only if GitHub was asked after its last good answer: one endpoint that is
    always slow proves nothing while others answer.
    """

    changed: Callable[[bool], object] = lambda _available: None
    _failures: int = field(init=False, default=0)
    _good_at: float = field(init=False, default=0.0)
    _page: str = field(init=False, default="")
    _page_at: float = field(init=False, default=0.0)
    _page_counts: bool = field(init=False, default=False)
    _overruled: bool = field(init=False, default=False)
    _offline: bool = field(init=False, default=False)
    _trial_at: float = field(init=False, default=0.0)

    @property
    def offline(self) -> bool:
        """Whether GitHub is taken to be away."""
        return self._offline

    @property
    def failures(self) -> int:
        """How many questions in a row have failed."""
        return self._failures

    @property
    def page(self) -> tuple[str, float] | None:
        """What the status page said last, and when; None: nothing yet."""
        return (self._page, self._page_at) if self._page else None

    def takes_trial(self, now: float) -> bool:
        """Tell whether a question should be put to GitHub though it is away, just to see.

        Otherwise nobody would notice its return where there is a stored answer to everything.
        """
        if not self._offline or now < self._trial_at:
            return False
        self._trial_at = now + TRIAL_S
        return True

    # What GitHub does.

    def answered(self, status: int, *, limited: bool, asked_at: float, now: float) -> None:
        """Note an answer to a question that was put at *asked_at*.

        A limit is neither good nor a failure, but it does end a row of failures.
        """
        if status >= 500:  # noqa: PLR2004
            self.failed(asked_at, now)
            return
        self._failures = 0
        if not limited:
            self._good_at = now
            self._overruled = True
            self._page_counts = False
        self._weigh(now)

    def failed(self, asked_at: float, now: float) -> None:
        """Note a question that was put at *asked_at*, and that GitHub left unanswered.

        One that was cancelled isn't.
        """
        if asked_at >= self._good_at:
            self._failures += 1
        self._weigh(now)

    # What the page says.

    def page_says(self, status: str, now: float) -> None:
        """Note what the status page says of the API now, in the page's own words."""
        if status != self._page:
            self._page, self._overruled = status, False
        self._page_at = now
        self._page_counts = status == MAJOR_OUTAGE and not self._overruled
        self._weigh(now)

    def page_unreadable(self, now: float) -> None:
        """Note that the status page can't be read, which means nothing; but it ages."""
        if now - self._page_at >= BELIEVED_S:
            self._page_counts = False
            self._weigh(now)

    def _weigh(self, now: float) -> None:
        offline = self._failures >= MOST_FAILURES or self._page_counts
        if offline is self._offline:
            return
        self._offline = offline
        self._trial_at = now + TRIAL_S
        self.changed(not offline)
