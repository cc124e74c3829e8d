"""Who must not ask GitHub now, because GitHub said so."""

from __future__ import annotations

import json
from collections import OrderedDict
from math import ceil
from typing import Final

from attrs import define, evolve, field, frozen

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
#: What was true of the first answer alone, or is never said twice.
_ONCE: Final = frozenset({b"date", b"set-cookie", b"x-github-request-id"})
_MESSAGES: Final = {
    LimitKind.PRIMARY: "API rate limit exceeded",
    LimitKind.SECONDARY: "You have exceeded a secondary rate limit. Please wait a few minutes"
    " before you try again.",
}


@define(eq=False)
class Stop:
    """A limit that was met, and how GitHub said so.

    *on_trial*: somebody here tries whether it ended; *elsewhere_until*: another replica does,
    and may be done by then.
    """

    limit: Limit
    answer: Answer
    on_trial: bool = False
    elsewhere_until: float = 0.0

    def holds(self, now: float) -> bool:
        """Tell whether nobody may ask, or try."""
        return self.on_trial or now < max(self.limit.until, self.elsewhere_until)

    def again(self, now: float) -> Answer:
        """Return GitHub's answer once more, with the time that is left."""
        left_s = max(ceil(self.limit.until - now), _ON_TRIAL_S)
        fields = self.answer.fields.without(_ONCE).with_line(b"retry-after", b"%d" % left_s)
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


def in_words(limit: Limit, answer: Answer) -> Answer:
    """Return *answer* with what GitHub says of such a limit, for when it came without content."""
    content = {"message": _MESSAGES[limit.kind], "documentation_url": _DOCUMENTATION}
    fields = answer.fields.with_line(b"content-type", b"application/json; charset=utf-8")
    whole = Whole(json.dumps(content).encode())
    return evolve(answer, fields=fields, body=whole, coding=b"")


def _told_by_others(limit: Limit) -> Answer:
    """Return what GitHub says of such a limit, where it said so to another replica."""
    return in_words(limit, Answer(403, Fields(), Outcome.ERROR, None))


@frozen(eq=False)
class Entry:
    """Leave to ask once: what was known when it was given.

    *over*: the limits that have ended, and whose end this question tries. *strikes*: how many
    secondary limits in a row the credential had met.
    """

    credential: str
    bucket: str
    strikes: int
    over: tuple[Stop, ...]


@define(eq=False)
class Stops:
    """Limits by credential and bucket, ``""`` for all buckets; and who tries when they end.

    Who asks enters and leaves; in between, what came of it is told.

    Times are seconds since the epoch.
    """

    _stops: OrderedDict[tuple[str, str], Stop] = field(init=False, factory=OrderedDict)
    _strikes: OrderedDict[str, int] = field(init=False, factory=OrderedDict)

    def _of(self, credential: str, bucket: str) -> list[Stop]:
        if not self._stops:
            return []
        names = dict.fromkeys(((credential, ""), (credential, bucket)))
        return [stop for name in names if (stop := self._stops.get(name)) is not None]

    def now_stopped(self, credential: str, bucket: str, now: float) -> Stop | None:
        """Return what keeps a credential from asking now; it is not a trial."""
        for stop in self._of(credential, bucket):
            if stop.holds(now):
                return stop
        return None

    def in_force(self, now: float) -> list[tuple[str, Limit]]:
        """Return the limits that have not ended yet, each with the credential that met it."""
        return [
            (credential, stop.limit)
            for (credential, _), stop in self._stops.items()
            if now < stop.limit.until
        ]

    def is_unsettled(self, credential: str, bucket: str) -> bool:
        """Tell whether a limit was met of which nobody has seen the end."""
        return bool(self._of(credential, bucket))

    @property
    def any_known(self) -> bool:
        """Whether a limit was met, by any credential, of which nobody has seen the end."""
        return bool(self._stops)

    def enter(self, credential: str, bucket: str, now: float) -> Entry:
        """Return leave to ask, or raise `Stopped` if a credential must not ask now.

        After the end of a limit one may, and all others wait until `left` is called.
        """
        stop = self.now_stopped(credential, bucket, now)
        if stop is not None:
            raise Stopped(stop)
        over = tuple(self._of(credential, bucket))
        for each in over:
            each.on_trial = True
        return Entry(credential, bucket, self._strikes.get(credential, 0), over)

    def left(self, entry: Entry) -> None:
        """Take note that a question has ended, whatever came of it: another may be tried."""
        for stop in entry.over:
            stop.on_trial = False

    def lost(self, entry: Entry, now: float) -> None:
        """Take note that another replica tries."""
        for stop in entry.over:
            stop.elsewhere_until = now + _ON_TRIAL_S

    def passed(self, entry: Entry) -> None:
        """Take note of an answer that tells of no limit.

        It says nothing of a limit that was met after its question was put.
        """
        credential = entry.credential
        if self._strikes.get(credential) == entry.strikes:
            del self._strikes[credential]
        for stop in entry.over:
            name = (credential, stop.limit.bucket)
            if self._stops.get(name) is stop:
                del self._stops[name]

    def met(self, entry: Entry, limit: Limit, answer: Answer) -> None:
        """Take note of a limit that GitHub told of in *answer*.

        All that were asked before it was known are one strike, however many they are.
        """
        credential = entry.credential
        if limit.kind is LimitKind.SECONDARY:
            strikes = max(entry.strikes + 1, self._strikes.get(credential, 0))
            self._strikes[credential] = strikes
            self._strikes.move_to_end(credential)
            if len(self._strikes) > _MOST:
                self._strikes.popitem(last=False)
        known = self._stops.get((credential, limit.bucket))
        if known is not None and known.limit.until > limit.until:
            limit = known.limit
        self._put(credential, Stop(limit, answer))

    def newest(self, credential: str, bucket: str) -> Stop | None:
        """Return the limit that lasts longest of those that were met, ended or not."""
        return max(self._of(credential, bucket), key=lambda stop: stop.limit.until, default=None)

    def heard(
        self, credential: str, bucket: str, stopped_until: float, bucket_until: float, now: float
    ) -> None:
        """Take note until when the fleet is stopped: all of a credential, and a bucket of it."""
        if stopped_until > now:
            self.told(credential, Limit(LimitKind.SECONDARY, "", stopped_until), now)
        if bucket_until > now:
            self.told(credential, Limit(LimitKind.PRIMARY, bucket, bucket_until), now)

    def told(self, credential: str, limit: Limit, now: float) -> None:
        """Take note of a limit that another replica has met."""
        known = self._stops.get((credential, limit.bucket))
        if limit.until > now and (known is None or known.limit.until < limit.until):
            answer = _told_by_others(limit) if known is None else known.answer
            self._put(credential, Stop(limit, answer))

    def _put(self, credential: str, stop: Stop) -> None:
        name = (credential, stop.limit.bucket)
        self._stops[name] = stop
        self._stops.move_to_end(name)
        if len(self._stops) > _MOST:
            self._stops.popitem(last=False)
