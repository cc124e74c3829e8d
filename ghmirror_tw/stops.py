"""Who must not ask GitHub now, because GitHub said so."""

from __future__ import annotations

import json
from collections import OrderedDict
from math import ceil
from typing import Final

from attrs import define, evolve, field

from ghmirror_tw.answers import Answer, Whole
from ghmirror_tw.policy.cache_status import Outcome
from ghmirror_tw.policy.fields import Fields
from ghmirror_tw.policy.limits import Limit, LimitKind

_MOST: Final = 10_000
#: How long others wait while somebody tries whether a limit has ended, in seconds.
_ON_TRIAL_S: Final = 1
_DOCUMENTATION: Final = (
    "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api"
)
_MESSAGES: Final = {
    LimitKind.PRIMARY: "API rate limit exceeded",
    LimitKind.SECONDARY: "You have exceeded a secondary rate limit. Please wait a few minutes"
    " before you try again.",
}


@define(eq=False)
class Stop:
    """A limit that was met, and how GitHub said so; *on_trial*: somebody tries whether it ended."""

    limit: Limit
    answer: Answer
    on_trial: bool = False

    def again(self, now: float) -> Answer:
        """Return GitHub's answer once more, with the time that is left."""
        left_s = max(ceil(self.limit.until - now), _ON_TRIAL_S)
        fields = self.answer.fields.with_line(b"retry-after", b"%d" % left_s)
        return evolve(
            self.answer,
            fields=fields,
            outcome=Outcome.ERROR,
            asked=None,
            forward=None,
            detail=self.limit.kind.reason,
        )


class Stopped(Exception):  # noqa: N818 - it says what is, and is nobody's fault
    """Nothing was sent, because of a limit that was met before."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop.limit.kind.reason)
        self.stop = stop


def _told_by_others(limit: Limit) -> Answer:
    """Return what GitHub says of such a limit, where it said so to another replica."""
    content = {"message": _MESSAGES[limit.kind], "documentation_url": _DOCUMENTATION}
    fields = Fields(((b"content-type", b"application/json; charset=utf-8"),))
    return Answer(403, fields, Outcome.ERROR, Whole(json.dumps(content).encode()))


@define(eq=False)
class Stops:
    """Limits by credential and bucket, ``""`` for all buckets; and who tries when they end.

    Times are seconds since the epoch.
    """

    _stops: OrderedDict[tuple[str, str], Stop] = field(init=False, factory=OrderedDict)
    _strikes: OrderedDict[str, int] = field(init=False, factory=OrderedDict)

    def strikes(self, credential: str) -> int:
        """Return how many secondary limits in a row a credential has met."""
        return self._strikes.get(credential, 0)

    def _of(self, credential: str, bucket: str) -> list[Stop]:
        names = dict.fromkeys(((credential, ""), (credential, bucket)))
        return [stop for name in names if (stop := self._stops.get(name)) is not None]

    def now_stopped(self, credential: str, bucket: str, now: float) -> Stop | None:
        """Return what keeps a credential from asking now; it is not a trial."""
        for stop in self._of(credential, bucket):
            if now < stop.limit.until or stop.on_trial:
                return stop
        return None

    def enter(self, credential: str, bucket: str, now: float) -> None:
        """Raise `Stopped` if a credential must not ask now.

        After the end of a limit one may, and all others wait until `passed` or `failed` is called.
        """
        stop = self.now_stopped(credential, bucket, now)
        if stop is not None:
            raise Stopped(stop)
        for over in self._of(credential, bucket):
            over.on_trial = True

    def passed(self, credential: str, bucket: str) -> None:
        """Take note of an answer that tells of no limit."""
        self._strikes.pop(credential, None)
        for name in ((credential, ""), (credential, bucket)):
            self._stops.pop(name, None)

    def failed(self, credential: str, bucket: str) -> None:
        """Take note that a question had no answer: somebody else tries."""
        for stop in self._of(credential, bucket):
            stop.on_trial = False

    def met(self, credential: str, bucket: str, limit: Limit, answer: Answer) -> Stop:
        """Take note of a limit that GitHub told of in *answer*, to a question of *bucket*."""
        self.failed(credential, bucket)
        if limit.kind is LimitKind.SECONDARY:
            self._strikes[credential] = self.strikes(credential) + 1
            self._strikes.move_to_end(credential)
            if len(self._strikes) > _MOST:
                self._strikes.popitem(last=False)
        return self._put(credential, Stop(limit, answer))

    def told(self, credential: str, limit: Limit, now: float) -> None:
        """Take note of a limit that another replica has met."""
        known = self._stops.get((credential, limit.bucket))
        if limit.until > now and (known is None or known.limit.until < limit.until):
            self._put(credential, Stop(limit, _told_by_others(limit)))

    def _put(self, credential: str, stop: Stop) -> Stop:
        name = (credential, stop.limit.bucket)
        self._stops[name] = stop
        self._stops.move_to_end(name)
        if len(self._stops) > _MOST:
            self._stops.popitem(last=False)
        return stop
