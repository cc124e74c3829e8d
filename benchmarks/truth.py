"""What is true at GitHub's stand-in, and when: what a credential was entitled to see.

Times are seconds of one clock, the harness's. A change takes effect between being sent and being
answered, so for that long both what was and what is to be may be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from attrs import define, field, frozen

#: One proof of where a list ends serves for so long (seconds), and a little more.
PROOF_S: Final = 11.0
#: A request may join one that was sent so long before, in seconds.
JOINED_S: Final = 0.1
NEVER: Final = float("inf")


@define(eq=False)
class State:
    """Something that was so from *since* until *until*; *readers* None: everybody."""

    value: Any
    readers: frozenset[str] | None
    since: float
    until: float = NEVER

    def overlaps(self, begin: float, end: float) -> bool:
        return self.since <= end and self.until >= begin

    def shown_to(self, login: str) -> bool:
        return self.readers is None or login in self.readers


@define(eq=False)
class History:
    """All states of one thing."""

    states: list[State] = field(factory=list)

    def begin(self, value: Any, readers: frozenset[str] | None, now: float) -> State:
        """Say that *value* may be so from now on."""
        state = State(value, readers, now)
        self.states.append(state)
        return state

    def settle(self, state: State, now: float) -> None:
        """Say that *state* is so, and nothing that was before it."""
        for earlier in self.states[: self.states.index(state)]:
            earlier.until = min(earlier.until, now)

    @property
    def last(self) -> State:
        return self.states[-1]

    def within(self, begin: float, end: float) -> list[State]:
        return [state for state in self.states if state.overlaps(begin, end)]


@frozen
class TimedRequest:
    """One request and when it was under way; *page* of a list with *per_page* items a page."""

    method: str
    path: str
    token: str
    begin: float
    end: float
    page: int = 0
    per_page: int = 0

    @property
    def name(self) -> tuple[str, str, int, int]:
        return self.token, self.path, self.page, self.per_page


@define(eq=False)
class Truth:
    """Things by path, tokens by what they are; what was asked and refused."""

    things: dict[str, History] = field(factory=dict)
    tokens: dict[str, History] = field(factory=dict)
    logins: dict[str, str] = field(factory=dict)
    first_requested: dict[tuple[str, str], float] = field(factory=dict)
    refusals: dict[Any, list[tuple[float, float]]] = field(factory=dict)
    writes: dict[str, list[tuple[float, float]]] = field(factory=dict)

    def wrote(self, sent: TimedRequest) -> None:
        """Take note of a write that GitHub has made."""
        self.writes.setdefault(sent.token, []).append((sent.begin, sent.end))

    def own_write(self, sent: TimedRequest) -> float:
        """Return when the last own write began that had ended before; what is older is wrong."""
        writes = self.writes.get(sent.token, ())
        return max((began for began, ended in writes if ended <= sent.begin), default=0.0)

    def seen(self, sent: TimedRequest, state: State) -> Any:
        """Return the content that a state shows to who asks."""
        if not sent.page:
            return state.value(self.logins[sent.token]) if callable(state.value) else state.value
        start = (sent.page - 1) * sent.per_page
        return state.value[start : start + sent.per_page]

    def statuses(self, sent: TimedRequest) -> set[int]:
        """Return with what GitHub may have answered between request and response."""
        return set(self._statuses(sent))

    def _statuses(self, sent: TimedRequest) -> Iterator[int]:
        login = self.logins[sent.token]
        for token in self.tokens[sent.token].within(sent.begin, sent.end):
            if not token.value:
                yield 401
                continue
            for state in self.things[sent.path].within(sent.begin, sent.end):
                yield 200 if state.shown_to(login) else 404

    def is_current(self, sent: TimedRequest, content: Any) -> bool:
        """Tell whether *content* was what GitHub showed at some moment of the request.

        Or just before it, but not before the last own write.
        """
        since = max(sent.begin - JOINED_S, self.own_write(sent))
        return self._shown(sent, content, min(since, sent.begin))

    def may_be_stale(self, sent: TimedRequest, content: Any) -> bool:
        """Tell whether it was granted to this credential once, and not refused to it since.

        Nor may it be older than the last own write.
        """
        since = self.first_requested.get((sent.token, sent.path), sent.begin)
        since = max(since, self.own_write(sent))
        names = (sent.name, (sent.token, None))
        for began, ended in [each for name in names for each in self.refusals.get(name, ())]:
            if ended <= sent.begin:
                since = max(since, began)
        return self._shown(sent, content, since)

    def _shown(self, sent: TimedRequest, content: Any, since: float) -> bool:
        login = self.logins[sent.token]
        if not any(each.value for each in self.tokens[sent.token].within(since, sent.end)):
            return False
        return any(
            state.shown_to(login) and self.seen(sent, state) == content
            for state in self.things[sent.path].within(since, sent.end)
        )

    def may_have_next(self, sent: TimedRequest) -> set[bool]:
        """Return whether a page may say that there is a next one: proofs serve for a while."""
        states = self.things[sent.path].within(sent.begin - PROOF_S, sent.end)
        return {len(state.value) > sent.page * sent.per_page for state in states}

    def refused(self, sent: TimedRequest, status: int) -> None:
        """Take note of GitHub's own refusal."""
        name = (sent.token, None) if status == 401 else sent.name
        self.refusals.setdefault(name, []).append((sent.begin, sent.end))
