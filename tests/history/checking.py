"""Finds wrong responses in a history: a pure function over what was recorded.

A response that is not marked is GitHub's word of now: a version that was current, and visible to
the credential, or a refusal that was in force, at some moment between send and receive. A flight
may be joined for 100 ms (`Rules.joined_s`), but not one that was sent before the own last write.

A response that is marked `stale` or `fresh` needs a grant: GitHub itself sent this version to this
credential, or confirmed it. The grant must be later than the credential's last write that ended
before the request, and later than every refusal that a client had received `Rules.known_s` before
the request was sent. That margin is for a refusal that is on its way to the store. A replica that
alone cannot reach Redis cannot inform the others, so what it received counts for itself, and for
the others when it is back. If it is killed before, that is lost, until another replica receives the
same from GitHub.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from attrs import define, evolve, field, frozen

from tests.history.records import Changes, Exchange, History, Response, State, Trouble

#: Statuses of refusals that a response may have without being wrong in itself.
_REFUSALS: Final = frozenset({401, 403, 404, 410, 451})
#: How many events of one kind a printed history has at most.
_MOST: Final = 4


@frozen
class Rules:
    """Margins in seconds, and the mirror's options that responses depend on."""

    joined_s: float = 0.1
    known_s: float = 0.5
    #: For so long after Redis can be reached again a replica may not have noticed it, or may not
    #: have written yet what it owes.
    back_s: float = 3.5
    #: Two exchanges that GitHub received within so long have no order.
    order_s: float = 0.05
    fresh_for_s: float = 0.0
    negative_for_s: float = 0.0
    #: For so long after GitHub's fault has ended its consequences last: timeouts and limits.
    fallout_s: float = 3.5
    #: For so long others do not know yet what a 200 has brought.
    in_flight_s: float = 0.25
    #: For so long a refusal may be on its way to Redis when its replica is cut off.
    on_its_way_s: float = 0.1


@frozen
class Finding:
    """A wrong response: what is wrong, and the request (a write, one refused) that makes it so."""

    kind: str
    response: Response
    because: int | None = None


@define(eq=False)
class _Index:
    """Exchanges and writes, to be found by credential and target."""

    history: History
    grants: dict[tuple[str, str], list[Exchange]] = field(factory=lambda: defaultdict(list))
    refusals: dict[tuple[str, str], list[Exchange]] = field(factory=lambda: defaultdict(list))
    revocations: dict[str, list[Exchange]] = field(factory=lambda: defaultdict(list))
    writes: dict[str, list[Response]] = field(factory=lambda: defaultdict(list))
    #: With any outcome.
    all_writes: dict[str, list[Response]] = field(factory=lambda: defaultdict(list))
    #: When the client that caused an exchange received its response.
    ended: dict[int, float] = field(factory=dict)
    #: Through which replica each request was sent.
    replicas: dict[int, str] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        for response in self.history.responses:
            self.replicas[response.request] = response.replica
            if response.status is not None:
                self.ended[response.request] = response.received_at
            if response.writes:
                self.all_writes[response.credential].append(response)
            if response.writes and response.status == 200:
                self.writes[response.credential].append(response)
        for each in self.history.exchanges:
            if each.grants:
                self.grants[each.credential, each.target].append(each)
            elif each.status == 401:
                self.revocations[each.credential].append(each)
            elif each.refuses and each.method in {"GET", "HEAD"}:
                self.refusals[each.credential, each.target].append(each)

    def lost(self, replica: str, at: float, rules: Rules) -> Trouble | None:
        """Return the fault by which what *replica* received at a time was lost, or None.

        It was killed before it could reach Redis again.
        """
        troubles = self.history.troubles
        cut_off = [
            each
            for each in troubles
            if each.alone in {"*", replica}
            and each.overlaps(at, at + rules.on_its_way_s, rules.back_s)
        ]
        for killed in troubles:
            if killed.replica == replica and at <= killed.end:
                for each in cut_off:
                    if killed.begin <= each.end + rules.back_s:
                        return killed
        return None

    def can_know(self, replica: str, at: float, response: Response, rules: Rules) -> bool:
        """Return whether the replica of a response can know what *replica* has received."""
        lost, back_s = self.lost(replica, at, rules), rules.back_s
        if lost is not None:
            # The process that received it knew it until its end.
            return replica == response.replica and response.sent_at <= lost.end
        return replica == response.replica or not any(
            each.alone in {"*", replica}
            and each.overlaps(at, at, back_s)
            and response.sent_at <= each.end + back_s
            for each in self.history.troubles
        )

    def own_write(self, response: Response, rules: Rules | None = None) -> Response | None:
        """Return the credential's last write that had ended before the request was sent.

        With *rules*: the last one that can be known to a response without GitHub's word.
        """
        ended = [
            write
            for write in self.writes[response.credential]
            if write.received_at <= response.sent_at
            and (rules is None or self.can_know(write.replica, write.received_at, response, rules))
        ]
        return max(ended, key=lambda write: write.sent_at, default=None)

    def granted(self, response: Response) -> list[Exchange]:
        """Return the exchanges in which GitHub granted what a response shows."""
        return [
            each
            for each in self.grants[response.credential, response.target]
            if each.version == response.version and each.responded_at <= response.received_at
        ]

    def refused(self, response: Response, rules: Rules) -> Iterator[Exchange]:
        """Return the refusals that the fleet had to know of when the request was sent."""
        for each in (
            *self.refusals[response.credential, response.target],
            *self.revocations[response.credential],
        ):
            ended = self.ended.get(each.request)
            if ended is None:
                continue
            replica = self.replicas[each.request]
            known_at = max(ended, each.responded_at) + rules.known_s
            if known_at <= response.sent_at and self.can_know(
                replica, each.responded_at, response, rules
            ):
                yield each


def check(history: History, rules: Rules | None = None) -> list[Finding]:
    """Return all wrong responses of a history."""
    rules = rules or Rules()
    index = _Index(history)
    found = [each for response in history.responses for each in _judge(index, rules, response)]
    return [*found, *_repeated_writes(history)]


def _judge(index: _Index, rules: Rules, response: Response) -> Iterator[Finding]:
    if response.age is not None and response.age < 0:
        yield Finding("Age is negative", response)
    if response.failed or response.status is None:
        return
    if response.status in {200, 304}:
        if response.viewer not in {None, index.history.truth.logins[response.credential]}:
            yield Finding("content of another user", response)
            return
        if response.version is None:
            yield Finding("content that GitHub never sent", response)
            return
        if response.tagged not in {None, response.version}:
            yield Finding("the entity-tag is that of other content", response)
    elif response.status not in _REFUSALS:
        yield Finding("a status that GitHub never sends", response)
        return
    if response.writes:
        judged = _judge_write(index, response)
    elif response.marked == "negative":
        judged = _judge_negative(index, rules, response)
    elif response.marked:
        judged = _judge_marked(index, rules, response)
    else:
        judged = _judge_unmarked(index, rules, response)
    if judged is not None:
        yield judged


def _judge_unmarked(index: _Index, rules: Rules, response: Response) -> Finding | None:
    truth, write = index.history.truth, index.own_write(response)
    begin = response.sent_at - rules.joined_s
    if write is not None:
        begin = max(begin, min(write.received_at, response.sent_at))
    states = truth.states(response.credential, response.target, begin, response.received_at)
    shown = State(
        200 if response.status == 304 else response.status or 0,
        response.version if response.status in {200, 304} else None,
    )
    if shown in states:
        return None
    if response.status not in {200, 304}:
        return Finding(f"{response.status}, which was not in force", response)
    if not any(state.status == 200 for state in states):
        return Finding("unmarked content that was not visible", response)
    if write is not None and write.target == response.target and response.version is not None:
        written = truth.versions[response.target].at(write.received_at, 0)
        if response.version < written:
            kind = "unmarked content from before the own last write"
            return Finding(kind, response, write.request)
    return Finding("unmarked content that was not current", response)


def _judge_marked(index: _Index, rules: Rules, response: Response) -> Finding | None:
    """Judge a response from the store; `fresh` ones are bound by their age besides."""
    grants = index.granted(response)
    if response.status not in {200, 304}:
        return Finding("a refusal that is marked as stale", response)
    if not grants:
        return Finding("stale content that was never granted", response)
    latest = max(each.received_at for each in grants)
    if response.marked == "fresh":
        oldest = response.sent_at - rules.fresh_for_s - rules.joined_s
        if max(each.responded_at for each in grants) < oldest:
            return Finding("content that is no longer fresh", response)
    for refusal in index.refused(response, rules):
        if refusal.received_at > latest + rules.order_s:
            what = "revoked" if refusal.status == 401 else "refused"
            return Finding(
                f"{response.marked} content after it was {what}", response, refusal.request
            )
    write = index.own_write(response, rules)
    if write is not None and latest + rules.order_s < write.sent_at:
        kind = f"{response.marked} content from before the own last write"
        return Finding(kind, response, write.request)
    return None


def _judge_negative(index: _Index, rules: Rules, response: Response) -> Finding | None:
    since = response.sent_at - rules.negative_for_s - rules.joined_s
    refusals = index.refusals[response.credential, response.target]
    if any(each.responded_at >= since and each.status == response.status for each in refusals):
        return None
    return Finding("a refusal that GitHub did not send lately", response)


def _judge_write(index: _Index, response: Response) -> Finding | None:
    truth = index.history.truth
    states = truth.states(
        response.credential, response.target, response.sent_at, response.received_at
    )
    if any(state.status == response.status for state in states):
        return None
    return Finding(f"a write's {response.status}, which was not in force", response)


def _repeated_writes(history: History) -> Iterator[Finding]:
    counted = Counter(
        each.request for each in history.exchanges if each.method not in {"GET", "HEAD"}
    )
    for response in history.responses:
        if response.writes and counted[response.request] > 1:
            yield Finding("a write that GitHub received more than once", response)


# ---------------------------------------------------------------- what failed


@frozen
class Failures:
    """Failed requests: by GitHub's fault, *could_be_stale* though it was GitHub's fault, by ours.

    Requests that were under way through a replica when it was killed are not among them.
    """

    github: list[Response]
    could_be_stale: list[Response]
    ours: list[Response]


def failures(history: History, rules: Rules | None = None) -> Failures:
    """Return the failed requests of a history by whose fault it was."""
    rules = rules or Rules()
    index = _Index(history)
    of_github = [
        trouble for trouble in (*history.earlier, *history.troubles) if trouble.side == "github"
    ]
    found = Failures([], [], [])
    for response in history.responses:
        if not response.failed or _lost_with_replica(history, response):
            continue
        if not _at_fault(of_github, response, rules):
            found.ours.append(response)
        elif not response.writes and _has_grant(index, rules, response):
            found.could_be_stale.append(response)
        else:
            found.github.append(response)
    return found


def _at_fault(troubles: Iterable[Trouble], response: Response, rules: Rules) -> bool:
    return any(
        each.overlaps(response.sent_at, response.received_at, rules.fallout_s) for each in troubles
    )


def _lost_with_replica(history: History, response: Response) -> bool:
    return response.status is None and any(
        each.replica == response.replica and each.overlaps(response.sent_at, response.received_at)
        for each in history.troubles
    )


def _has_grant(index: _Index, rules: Rules, response: Response) -> bool:
    """Return whether a stale response was possible, by all earlier responses of GitHub."""
    # a write that failed may have changed something, too
    since = max(
        (
            write.received_at
            for write in index.all_writes[response.credential]
            if write.sent_at <= response.received_at
        ),
        default=0.0,
    )
    for each in index.refused(response, evolve(rules, known_s=0.0, back_s=0.0)):
        since = max(since, each.received_at)
    return any(
        since < each.received_at and each.responded_at < response.sent_at
        for each in index.grants[response.credential, response.target]
    )


def paid_again(history: History, rules: Rules | None = None) -> int:
    """Return how many 200s brought what GitHub had been paid for before.

    Requests that were in flight at the time of the first 200 are not among them.
    """
    rules = rules or Rules()
    paid: dict[tuple[str, int | None, str], float] = {}
    again = 0
    for each in history.exchanges:
        if each.status == 200 and each.method == "GET":
            own = each.credential if each.target.startswith("/user/") else ""
            first = paid.setdefault((each.target, each.version, own), each.responded_at)
            again += each.received_at > first + rules.in_flight_s
    return again


# ---------------------------------------------------------------- for people


def explain(finding: Finding, history: History) -> str:
    """Return the shortest useful history of a wrong response, as text.

    Times are seconds after the request was sent.
    """
    response = finding.response
    zero = response.sent_at
    lines = {
        event
        for events in _events(finding, history)
        for event in sorted(each for each in events if each[0] <= response.received_at)[-_MOST:]
    }
    version = "" if response.version is None else f" version {response.version}"
    marked = f" {response.marked}" if response.marked else ""
    head = (
        f"{finding.kind}: request {response.request}: {response.method} {response.target} by"
        f" {response.credential} through {response.replica} -> {response.status}{version}{marked}"
        f" after {response.received_at - zero:.3f} s [{response.outcome}] age={response.age}"
    )
    return "\n".join([head, *(f"    {at - zero:+9.3f} {text}" for at, text in sorted(lines))])


def _events(finding: Finding, history: History) -> Iterator[list[tuple[float, str]]]:
    """Return what belongs to a wrong response: a few of each group are printed."""
    response, truth = finding.response, history.truth
    pair = (response.target, response.credential)
    versions = truth.versions.get(response.target, Changes())
    states = [
        (at, f"GitHub: {response.target} has version {version}") for at, version in versions.pairs
    ]
    yield states
    yield [each for each in states if each[1].endswith(f" {response.version}")]
    yield [
        (at, f"GitHub: {response.credential} gets {status} for {response.target}")
        for at, status in truth.access.get(pair, Changes()).pairs
    ]
    yield [
        (at, f"GitHub: {response.credential} is {'valid' if valid else 'revoked'}")
        for at, valid in truth.valid.get(response.credential, Changes()).pairs
    ]
    replicas = {each.request: each.replica for each in history.responses}

    def recent(exchanges: Iterable[Exchange]) -> list[tuple[float, str]]:
        return [(each.received_at, _exchange(each, replicas)) for each in exchanges]

    own = [each for each in history.exchanges if each.credential == response.credential]
    same = [each for each in own if each.target == response.target]
    yield recent(each for each in same if each.refuses)
    yield recent(each for each in same if not each.refuses)
    yield recent(each for each in same if each.version == response.version and each.grants)[-2:]
    yield recent(each for each in own if each.status == 401)
    yield recent(each for each in own if each.request == finding.because)
    yield [
        (each.received_at, f"{each.replica}: the client has {each.method} -> {each.status}")
        for each in history.responses
        if each.request == finding.because
    ]
    yield [
        *((each.begin, f"fault begins: {each.name}") for each in history.troubles),
        *((each.end, f"fault ends: {each.name}") for each in history.troubles),
    ]
    yield history.notes


def _exchange(each: Exchange, replicas: dict[int, str]) -> str:
    version = "" if each.version is None else f" version {each.version}"
    limited = " limited" if each.limited else ""
    took_ms = (each.responded_at - each.received_at) * 1000
    return (
        f"{replicas.get(each.request, '?')} -> GitHub: {each.method} {each.target} ->"
        f" {each.status}{version}{limited} after {took_ms:.0f} ms (request {each.request})"
    )


def first_of_each(findings: Iterable[Finding]) -> list[tuple[Finding, int]]:
    """Return one finding of each kind, and how many there are."""
    by_kind: dict[str, list[Finding]] = defaultdict(list)
    for each in findings:
        by_kind[each.kind].append(each)
    return [(found[0], len(found)) for found in by_kind.values()]
