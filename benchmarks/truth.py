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
class Asked:
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
    first_asked: dict[tuple[str, str], float] = field(factory=dict)
    refusals: dict[Any, list[tuple[float, float]]] = field(factory=dict)
    writes: dict[str, list[tuple[float, float]]] = field(factory=dict)

    def wrote(self, asked: Asked) -> None:
        """Take note of a write that GitHub has made."""
        self.writes.setdefault(asked.token, []).append((asked.begin, asked.end))

    def own_write(self, asked: Asked) -> float:
        """Return when the last own write began that had ended before; what is older is wrong."""
        writes = self.writes.get(asked.token, ())
        return max((began for began, ended in writes if ended <= asked.begin), default=0.0)

    def seen(self, asked: Asked, state: State) -> Any:
        """Return the content that a state shows to who asks."""
        if not asked.page:
            return state.value(self.logins[asked.token]) if callable(state.value) else state.value
        start = (asked.page - 1) * asked.per_page
        return state.value[start : start + asked.per_page]

    def statuses(self, asked: Asked) -> set[int]:
        """Return with what GitHub may have answered between request and response."""
        return set(self._statuses(asked))

    def _statuses(self, asked: Asked) -> Iterator[int]:
        login = self.logins[asked.token]
        for token in self.tokens[asked.token].within(asked.begin, asked.end):
            if not token.value:
                yield 401
                continue
            for state in self.things[asked.path].within(asked.begin, asked.end):
                yield 200 if state.shown_to(login) else 404

    def is_current(self, asked: Asked, content: Any) -> bool:
        """Tell whether *content* was what GitHub showed at some moment of the request.

        Or just before it, but not before the last own write.
        """
        since = max(asked.begin - JOINED_S, self.own_write(asked))
        return self._shown(asked, content, min(since, asked.begin))

    def may_be_stale(self, asked: Asked, content: Any) -> bool:
        """Tell whether it was granted to this credential once, and not refused to it since.

        Nor may it be older than the last own write.
        """
        since = self.first_asked.get((asked.token, asked.path), asked.begin)
        since = max(since, self.own_write(asked))
        names = (asked.name, (asked.token, None))
        for began, ended in [each for name in names for each in self.refusals.get(name, ())]:
            if ended <= asked.begin:
                since = max(since, began)
        return self._shown(asked, content, since)

    def _shown(self, asked: Asked, content: Any, since: float) -> bool:
        login = self.logins[asked.token]
        if not any(each.value for each in self.tokens[asked.token].within(since, asked.end)):
            return False
        return any(
            state.shown_to(login) and self.seen(asked, state) == content
            for state in self.things[asked.path].within(since, asked.end)
        )

    def may_go_on(self, asked: Asked) -> set[bool]:
        """Return whether a page may say that there is a next one: proofs serve for a while."""
        states = self.things[asked.path].within(asked.begin - PROOF_S, asked.end)
        return {len(state.value) > asked.page * asked.per_page for state in states}

    def refused(self, asked: Asked, status: int) -> None:
        """Take note of GitHub's own refusal."""
        name = (asked.token, None) if status == 401 else asked.name
        self.refusals.setdefault(name, []).append((asked.begin, asked.end))
