"""The states of GitHub's stand-in over time, and which of them a credential may see.

Times are seconds of the harness's clock. A change has its effect between its request and its
response; meanwhile both the earlier and the new state may be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from attrs import define, field, frozen

#: A proof of the end of a list is valid for so many seconds, with a margin.
PROOF_S: Final = 11.0
#: A request may be collapsed into one that was sent so many seconds before.
JOINED_S: Final = 0.1
NEVER: Final = float("inf")


@define(eq=False)
class State:
    """A value from *since* until *until*, visible to *readers*; None: to all users."""

    value: Any
    readers: frozenset[str] | None
    since: float
    until: float = NEVER

    def overlaps(self, begin: float, end: float) -> bool:
        return self.since <= end and self.until >= begin

    def is_visible_to(self, login: str) -> bool:
        return self.readers is None or login in self.readers


@define(eq=False)
class History:
    """All states of one resource."""

    states: list[State] = field(factory=list)

    def begin(self, value: Any, readers: frozenset[str] | None, now: float) -> State:
        """Add a state that may be in effect from now on."""
        state = State(value, readers, now)
        self.states.append(state)
        return state

    def settle(self, state: State, now: float) -> None:
        """Note that *state* is in effect; earlier ones end."""
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
class GitHubStates:
    """The histories of resources and tokens, and the requests, refusals and writes so far."""

    resources: dict[str, History] = field(factory=dict)
    tokens: dict[str, History] = field(factory=dict)
    logins: dict[str, str] = field(factory=dict)
    first_requested: dict[tuple[str, str], float] = field(factory=dict)
    refusals: dict[Any, list[tuple[float, float]]] = field(factory=dict)
    writes: dict[str, list[tuple[float, float]]] = field(factory=dict)

    def note_write(self, sent: TimedRequest) -> None:
        """Record a successful write."""
        self.writes.setdefault(sent.token, []).append((sent.begin, sent.end))

    def last_write(self, sent: TimedRequest) -> float:
        """Return the begin of the last own write that ended before; older content is wrong."""
        writes = self.writes.get(sent.token, ())
        return max((began for began, ended in writes if ended <= sent.begin), default=0.0)

    def content_for(self, sent: TimedRequest, state: State) -> Any:
        """Return the content of a state for the user of a request."""
        if not sent.page:
            return state.value(self.logins[sent.token]) if callable(state.value) else state.value
        start = (sent.page - 1) * sent.per_page
        return state.value[start : start + sent.per_page]

    def statuses(self, sent: TimedRequest) -> set[int]:
        """Return the statuses that GitHub may have sent between request and response."""
        return set(self._statuses(sent))

    def _statuses(self, sent: TimedRequest) -> Iterator[int]:
        login = self.logins[sent.token]
        for token in self.tokens[sent.token].within(sent.begin, sent.end):
            if not token.value:
                yield 401
                continue
            for state in self.resources[sent.path].within(sent.begin, sent.end):
                yield 200 if state.is_visible_to(login) else 404

    def is_current(self, sent: TimedRequest, content: Any) -> bool:
        """Return whether *content* was current at some moment of the request.

        Or just before it, but not before the last write of the credential.
        """
        since = max(sent.begin - JOINED_S, self.last_write(sent))
        return self._was_visible(sent, content, min(since, sent.begin))

    def may_be_stale(self, sent: TimedRequest, content: Any) -> bool:
        """Return whether *content* was granted to this credential once, and not refused since.

        It must not be older than the last write of the credential.
        """
        since = self.first_requested.get((sent.token, sent.path), sent.begin)
        since = max(since, self.last_write(sent))
        names = (sent.name, (sent.token, None))
        for began, ended in [each for name in names for each in self.refusals.get(name, ())]:
            if ended <= sent.begin:
                since = max(since, began)
        return self._was_visible(sent, content, since)

    def _was_visible(self, sent: TimedRequest, content: Any, since: float) -> bool:
        login = self.logins[sent.token]
        if not any(each.value for each in self.tokens[sent.token].within(since, sent.end)):
            return False
        return any(
            state.is_visible_to(login) and self.content_for(sent, state) == content
            for state in self.resources[sent.path].within(since, sent.end)
        )

    def may_have_next(self, sent: TimedRequest) -> set[bool]:
        """Return whether a page may have a link to a next one; proofs are valid for a while."""
        states = self.resources[sent.path].within(sent.begin - PROOF_S, sent.end)
        return {len(state.value) > sent.page * sent.per_page for state in states}

    def note_refusal(self, sent: TimedRequest, status: int) -> None:
        """Record a refusal by GitHub."""
        name = (sent.token, None) if status == 401 else sent.name
        self.refusals.setdefault(name, []).append((sent.begin, sent.end))
