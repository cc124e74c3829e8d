"""The parts of a history: states of GitHub, exchanges with it, and responses to clients.

All times are seconds of one monotonic clock. States change at an instant; between two changes a
credential sees exactly one state of a target.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Generic, TypeVar

from attrs import define, field, frozen

V = TypeVar("V")

#: A target and a credential.
Pair = tuple[str, str]


@define(eq=False)
class Changes(Generic[V]):
    """The values of one thing, each from its time until the time of the next."""

    times: list[float] = field(factory=list)
    values: list[V] = field(factory=list)

    def change(self, value: V, at: float) -> None:
        """Make *value* current from *at* on."""
        self.times.append(at)
        self.values.append(value)

    def at(self, time: float, before: V) -> V:
        """Return the value that is current at *time*; *before* is that before the first."""
        number = bisect_right(self.times, time)
        return self.values[number - 1] if number else before

    @property
    def pairs(self) -> Iterator[tuple[float, V]]:
        """The times of all changes with the new values."""
        return zip(self.times, self.values, strict=True)

    def between(self, begin: float, end: float) -> Iterator[float]:
        """Return the times of changes after *begin*, up to *end*."""
        first, last = bisect_right(self.times, begin), bisect_right(self.times, end)
        yield from self.times[first:last]


@frozen
class State:
    """The response of GitHub to a credential for a target: 200 with a version, or a refusal."""

    status: int
    version: int | None = None


@define(eq=False)
class Truth:
    """All states of GitHub."""

    versions: dict[str, Changes[int]] = field(factory=dict)
    #: 200, or the status with which access is refused.
    access: dict[Pair, Changes[int]] = field(factory=dict)
    valid: dict[str, Changes[bool]] = field(factory=dict)
    logins: dict[str, str] = field(factory=dict)

    def set_version(self, target: str, version: int, at: float) -> None:
        """Change the content of a target."""
        self.versions.setdefault(target, Changes()).change(version, at)

    def set_access(self, target: str, credential: str, status: int, at: float) -> None:
        """Grant access (200), or withdraw it (403, 404)."""
        self.access.setdefault((target, credential), Changes()).change(status, at)

    def set_valid(self, credential: str, valid: bool, at: float) -> None:
        """Make a credential valid, or revoke it."""
        self.valid.setdefault(credential, Changes()).change(valid, at)

    def state(self, credential: str, target: str, at: float) -> State:
        """Return what the credential sees of the target at a moment."""
        if credential not in self.valid or not self.valid[credential].at(at, before=False):
            return State(401)
        if target not in self.versions:
            return State(404)
        access = self.access.get((target, credential))
        status = 200 if access is None else access.at(at, 200)
        return State(200, self.versions[target].at(at, 0)) if status == 200 else State(status)

    def states(self, credential: str, target: str, begin: float, end: float) -> set[State]:
        """Return all states that the credential sees of the target from *begin* to *end*."""
        changes = (
            self.valid.get(credential),
            self.versions.get(target),
            self.access.get((target, credential)),
        )
        times = {begin}
        for each in changes:
            if each is not None:
                times.update(each.between(begin, end))
        return {self.state(credential, target, time) for time in times}


@frozen
class Exchange:
    """A request that GitHub received and its response; *request* is the client's that caused it.

    *limited*: the response reports a rate limit, and neither grants nor refuses.
    """

    request: int
    credential: str
    method: str
    target: str
    received_at: float
    responded_at: float
    status: int
    version: int | None = None
    limited: bool = False

    @property
    def grants(self) -> bool:
        """Whether GitHub showed, or confirmed, a version to the credential."""
        return self.status in {200, 304} and self.version is not None

    @property
    def refuses(self) -> bool:
        """Whether GitHub refused the target, or the credential (401)."""
        return self.status in {401, 403, 404, 410, 451} and not self.limited


@frozen
class Response:
    """A client's request through a replica, and what the client received.

    *status* None: no whole response came, for the reason in *outcome*. *marked*: `stale`, `fresh`
    or `negative` where the response is marked as one from the store without validation.
    *tagged*: the version of the entity-tag; None without one, 0 where GitHub never sent that tag.
    *limited*: the response reports a rate limit.
    """

    request: int
    replica: str
    credential: str
    method: str
    target: str
    sent_at: float
    received_at: float
    status: int | None
    version: int | None = None
    tagged: int | None = None
    viewer: str | None = None
    marked: str = ""
    age: int | None = None
    limited: bool = False
    outcome: str = ""
    tag: str = ""

    @property
    def failed(self) -> bool:
        """Whether the client did not get what it requested, nor a refusal."""
        return self.status is None or self.status >= 500 or self.limited

    @property
    def writes(self) -> bool:
        """Whether the request changes the target."""
        return self.method not in {"GET", "HEAD"}


@define
class Trouble:
    """A fault, and when it was there; *side* is `github`, `redis`, `replica` or `clock`.

    *replica*: the one that was killed, at the end of the fault at the latest; requests that were
    under way through it are lost.
    """

    name: str
    side: str
    begin: float
    end: float = float("inf")
    replica: str | None = None
    #: The replica that alone cannot reach Redis; `*`: any may be the only one that cannot.
    alone: str | None = None

    def overlaps(self, begin: float, end: float, fallout_s: float = 0.0) -> bool:
        """Return whether the fault, or its consequences, can be seen from *begin* to *end*."""
        return self.begin <= end and self.end + fallout_s >= begin


@define(eq=False)
class History:
    """Everything that happened."""

    truth: Truth = field(factory=Truth)
    exchanges: list[Exchange] = field(factory=list)
    responses: list[Response] = field(factory=list)
    troubles: list[Trouble] = field(factory=list)
    #: GitHub's faults of the episode before: their consequences may last into this one.
    earlier: list[Trouble] = field(factory=list)
    #: Single events, such as a replica's end, for the reader of a finding.
    notes: list[tuple[float, str]] = field(factory=list)
