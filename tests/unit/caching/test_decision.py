"""The decision for a storable request: stored state, request and state of GitHub give the step."""

from __future__ import annotations

from typing import Any, Final

import pytest
from attrs import evolve

from ghmirror_tw.caching import decision
from ghmirror_tw.caching.decision import (
    AVAILABLE,
    UNCONDITIONAL,
    AcquireLock,
    CheckCredential,
    ConditionalRequest,
    DecisionFacts,
    LockScope,
    ReadPrimary,
    Reject,
    ServeFresh,
    ServeStale,
    Step,
    UpstreamState,
    Validate,
    first_rung,
    lock_scope,
    next_step,
    shared_candidates,
)
from ghmirror_tw.caching.records import Entry, Grant, Known, Representation
from ghmirror_tw.caching.timeout_backoff import TimeoutBackoff
from ghmirror_tw.caching.validators import EMPTY_DIGEST, Validator, ValidatorKind
from ghmirror_tw.github.entity_tag_trust import Sharing
from ghmirror_tw.github.rate_limits import LimitKind
from ghmirror_tw.http.content_codings import compress
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request

NOW: Final = 1000.0
FRESH_FOR_S: Final = 60.0
EPOCH: Final = b"12345678"


def grant(age_s: float = 0.0, **more: object) -> Grant:
    """Return a grant that was validated *age_s* seconds ago, in the current epoch."""
    values = {"etag": b'"own"', "last_modified": None, "link": None, "epoch": EPOCH, **more}
    return Grant(
        "own",
        requested_at=NOW - age_s - 1,
        validated_at=NOW - age_s,
        **values,  # type: ignore[arg-type]
    )


def entry(digest: str, **more: object) -> Entry:
    """Return an entry of the recency list, which a 200 has brought."""
    values = {"received_at": NOW, "validated_at": NOW, "shareable": True, "size": 3, **more}
    return Entry(digest, **values)  # type: ignore[arg-type]


# What is stored for the key and the credential.
NOTHING: Final = Known()
RECENT: Final = Known(grant=grant(10.0), epoch=EPOCH)
OLD: Final = Known(grant=grant(100.0), epoch=EPOCH)
FROM_THE_FUTURE: Final = Known(grant=grant(-10.0), epoch=EPOCH)
LAGGING: Final = evolve(RECENT, current=False)
WRITTEN_SINCE: Final = evolve(RECENT, epoch=b"after it")
OF_OTHERS: Final = Known(entries=(entry("theirs"),))
REFUSED: Final = Known(refused_at=NOW - 5)
UNSTORABLE: Final = Known(unstorable=True)

# The request.
GET: Final = DecisionFacts()
HEAD: Final = DecisionFacts(head=True)
NO_CACHE: Final = DecisionFacts(requires_validation=True)
INTERNAL: Final = DecisionFacts(internal=True)
UNKNOWN: Final = DecisionFacts(accepted=False)

# The state of GitHub.
OFFLINE: Final = UpstreamState(offline=True)
LIMITED: Final = UpstreamState(limit=LimitKind.PRIMARY)
LIMITED_OFFLINE: Final = UpstreamState(limit=LimitKind.SECONDARY, offline=True)
SLOW_ONCE: Final = UpstreamState(backoff=TimeoutBackoff(1, NOW - 1, NOW + 9.5))
SLOW: Final = UpstreamState(backoff=TimeoutBackoff(2, NOW - 1, NOW + 4.5))
SLOW_BEFORE: Final = UpstreamState(backoff=TimeoutBackoff(2, NOW - 10, NOW))
SLOW_AND_LIMITED: Final = evolve(SLOW, limit=LimitKind.PRIMARY)
SLOW_AND_OFFLINE: Final = evolve(SLOW, offline=True)

VALIDATE: Final = Validate(stale_if_error=True, stale_while_waiting=True)
VALIDATE_UNGRANTED: Final = Validate(stale_if_error=True)
ONLY_VALIDATE: Final = Validate()

#: What is stored, the request, the state of GitHub, the steps tried before, and the next step.
CASES: Final[list[tuple[Known, DecisionFacts, UpstreamState, tuple[type[Step], ...], Step]]] = [
    # Fresh responses: RFC 9111, section 4.2.
    (RECENT, GET, AVAILABLE, (), ServeFresh()),
    (RECENT, HEAD, AVAILABLE, (), ServeFresh()),
    (RECENT, INTERNAL, AVAILABLE, (), ServeFresh()),
    (RECENT, UNKNOWN, AVAILABLE, (), ServeFresh()),
    (RECENT, GET, OFFLINE, (), ServeFresh()),
    (RECENT, GET, LIMITED, (), ServeFresh()),
    (RECENT, NO_CACHE, AVAILABLE, (), ONLY_VALIDATE),
    (OLD, GET, AVAILABLE, (), VALIDATE),
    (FROM_THE_FUTURE, GET, AVAILABLE, (), VALIDATE),
    (WRITTEN_SINCE, GET, AVAILABLE, (), VALIDATE_UNGRANTED),
    (LAGGING, GET, AVAILABLE, (), ReadPrimary()),
    (LAGGING, GET, AVAILABLE, (ReadPrimary,), VALIDATE),
    (RECENT, GET, AVAILABLE, (ReadPrimary,), ServeFresh()),
    (RECENT, GET, AVAILABLE, (ServeFresh,), VALIDATE),
    # Credentials that GitHub has not accepted yet.
    (NOTHING, UNKNOWN, AVAILABLE, (), CheckCredential()),
    (OLD, UNKNOWN, OFFLINE, (), CheckCredential()),
    (OLD, UNKNOWN, OFFLINE, (CheckCredential,), ServeStale("offline", may_probe=True)),
    (NOTHING, UNKNOWN, AVAILABLE, (CheckCredential,), VALIDATE_UNGRANTED),
    # The lock of the fleet.
    (NOTHING, GET, AVAILABLE, (), AcquireLock(LockScope.KEY)),
    (NOTHING, NO_CACHE, AVAILABLE, (), AcquireLock(LockScope.KEY)),
    (OF_OTHERS, GET, AVAILABLE, (), AcquireLock(LockScope.CREDENTIAL)),
    (NOTHING, GET, AVAILABLE, (AcquireLock,), VALIDATE_UNGRANTED),
    (NOTHING, NO_CACHE, AVAILABLE, (AcquireLock,), ONLY_VALIDATE),
    (NOTHING, GET, LIMITED, (), VALIDATE_UNGRANTED),
    (NOTHING, HEAD, AVAILABLE, (), VALIDATE_UNGRANTED),
    (NOTHING, INTERNAL, AVAILABLE, (), ONLY_VALIDATE),
    (REFUSED, GET, AVAILABLE, (), VALIDATE_UNGRANTED),
    (UNSTORABLE, GET, AVAILABLE, (), VALIDATE_UNGRANTED),
    # Stale responses at once: RFC 9111, section 4.2.4.
    (OLD, GET, OFFLINE, (), ServeStale("offline", may_probe=True)),
    (OLD, GET, LIMITED, (), ServeStale("primary-limit")),
    (OLD, GET, LIMITED_OFFLINE, (), ServeStale("secondary-limit")),
    (OLD, NO_CACHE, OFFLINE, (), ONLY_VALIDATE),
    (OLD, NO_CACHE, LIMITED, (), ONLY_VALIDATE),
    (OLD, INTERNAL, OFFLINE, (), ONLY_VALIDATE),
    (WRITTEN_SINCE, GET, OFFLINE, (), VALIDATE_UNGRANTED),
    (OLD, GET, OFFLINE, (ServeStale,), VALIDATE),
    (OLD, GET, LIMITED, (ServeStale,), VALIDATE),
    # The backoff of a key that times out.
    (OLD, GET, SLOW_ONCE, (), ServeStale("timeout")),
    (OLD, GET, SLOW, (), ServeStale("timeout")),
    (OLD, GET, SLOW_ONCE, (ServeStale,), VALIDATE),
    (OLD, GET, SLOW, (ServeStale,), Reject(5)),
    (OLD, GET, SLOW_BEFORE, (), evolve(VALIDATE, probes_backoff=True)),
    (REFUSED, GET, SLOW_ONCE, (), VALIDATE_UNGRANTED),
    (REFUSED, GET, SLOW, (), Reject(5)),
    (OLD, NO_CACHE, SLOW, (), ONLY_VALIDATE),
    (OLD, GET, SLOW_AND_LIMITED, (), ServeStale("primary-limit")),
    (OLD, GET, SLOW_AND_LIMITED, (ServeStale,), VALIDATE),
    (OLD, GET, SLOW_AND_OFFLINE, (ServeStale,), Reject(5)),
]


@pytest.mark.parametrize(("known", "facts", "upstream", "tried", "step"), CASES)
def test_next_step(
    known: Known,
    facts: DecisionFacts,
    upstream: UpstreamState,
    tried: tuple[type[Step], ...],
    step: Step,
) -> None:
    """Each case gives one step."""
    assert next_step(facts, known, upstream, NOW, fresh_for_s=FRESH_FOR_S, tried=tried) == step


def test_without_fresh_for_every_request_is_validated() -> None:
    """That is the default: only GitHub knows whether a response is current."""
    step = next_step(GET, RECENT, AVAILABLE, NOW, fresh_for_s=0.0)
    assert step == VALIDATE


def test_no_lock_for_a_credential_that_is_not_accepted() -> None:
    """No other request waits for a made-up credential."""
    assert lock_scope(UNKNOWN, NOTHING) is None


# The ladder of validators.

JSON: Final = Fields(((b"content-type", b"application/json"), (b"vary", b"Accept")))
REQUEST: Final = Request(b"GET", b"/x", Fields(()))
LATER_PAGE: Final = Request(b"GET", b"/x?page=2", Fields(()))
RAW: Final = Request(b"GET", b"/x", Fields(((b"accept", b"application/vnd.github.raw"),)))
WITH_TAGS: Final = Request(b"GET", b"/x", Fields(((b"if-none-match", b'"a", "b"'),)))

OWN: Final = Validator(b'"own"', ValidatorKind.OWN, "own")
THEIRS: Final = Validator(b'"theirs"', ValidatorKind.COMPUTED, "theirs")
CLIENT_A: Final = Validator(b'"a"', ValidatorKind.CLIENT, "")
CLIENT_B: Final = Validator(b'"b"', ValidatorKind.CLIENT, "")
COMPUTED: Final = {"theirs": b'"theirs"'}


def representation(digest: str) -> Representation:
    """Return a stored representation."""
    return Representation(digest, JSON, compress(b"{}"), 2)


STORED: Final = {"own": representation("own"), "theirs": representation("theirs")}
DATED: Final = Known(grant=grant(etag=None, last_modified=b"Mon, 01 Jan 2024 00:00:00 GMT"))
UNTAGGED: Final = Known(grant=grant(etag=None))


def rung(
    request: Request, facts: DecisionFacts, known: Known, **more: object
) -> ConditionalRequest:
    """Return the first rung, with nothing stored and computed unless it is said."""
    values: dict[str, object] = {"stored": {}, "computed": {}, "sharing": Sharing(), **more}
    return first_rung(request, facts, known, now=NOW, **values)  # type: ignore[arg-type]


def sent(conditional: ConditionalRequest) -> tuple[bytes, ...]:
    """Return the entity-tags that are sent."""
    return tuple(each.tag for each in conditional.validators)


def test_the_grants_entity_tag_comes_first() -> None:
    """Then those computed for what others brought."""
    conditional = rung(WITH_TAGS, GET, OLD, stored=STORED, computed=COMPUTED)
    assert conditional.validators == (OWN, THEIRS)
    assert conditional.stored is STORED


def test_without_its_content_the_grant_has_no_validator() -> None:
    """A 304 could not be used; nothing is guessed beside a grant."""
    assert rung(REQUEST, GET, OLD, computed=COMPUTED).validators == (THEIRS,)
    assert rung(REQUEST, GET, OLD) == UNCONDITIONAL
    assert rung(REQUEST, GET, DATED) == UNCONDITIONAL


def test_a_date_is_sent_where_there_is_no_entity_tag() -> None:
    """RFC 9110, section 13.1.3."""
    conditional = rung(REQUEST, GET, DATED, stored=STORED)
    assert conditional.dated == DATED.grant
    assert conditional.conditional
    assert conditional.confirmed(None) == Validator(b"", ValidatorKind.DATED, "own")
    request = conditional.as_sent(WITH_TAGS)
    assert request.fields.get(b"if-none-match") is None
    assert request.fields.get(b"if-modified-since") == b"Mon, 01 Jan 2024 00:00:00 GMT"
    assert rung(REQUEST, GET, UNTAGGED, stored=STORED) == UNCONDITIONAL


BY_DATE: Final = DecisionFacts(by_date=True)
#: A minute before the request of a grant that was validated at *NOW*.
LONG_AGO: Final = b"Thu, 01 Jan 1970 00:15:39 GMT"
BOTH: Final = Known(grant=grant(last_modified=LONG_AGO), epoch=EPOCH)


def test_a_date_is_sent_alone_where_options_name_the_path() -> None:
    """Neither the grant's entity-tag nor computed ones are sent beside it."""
    known = evolve(BOTH, entries=(entry("theirs"),))
    conditional = rung(WITH_TAGS, BY_DATE, known, stored=STORED, computed=COMPUTED)
    assert conditional == ConditionalRequest(dated=known.grant, stored=STORED)
    request = conditional.as_sent(WITH_TAGS)
    assert request.fields.get(b"if-none-match") is None
    assert request.fields.get(b"if-modified-since") == LONG_AGO
    assert shared_candidates(BY_DATE, known, Sharing(), lambda: None, NOW) == ()
    assert rung(WITH_TAGS, GET, known, stored=STORED).validators == (OWN,)
    assert rung(REQUEST, BY_DATE, known) == UNCONDITIONAL


@pytest.mark.parametrize(
    "more",
    [
        {"last_modified": None},
        {"last_modified": b"yesterday"},
        {"last_modified": b"Thu, 01 Jan 1970 00:15:40 GMT"},
        {"borrowed_date": True},
        {"epoch": None},
        {"epoch": b"before a write"},
    ],
)
def test_a_date_that_does_not_suffice_is_not_sent(more: dict[str, Any]) -> None:
    """It is missing, wrong, recent, another credential's, or from before a write."""
    of_grant = {"last_modified": LONG_AGO, **more}
    known = Known(grant=evolve(grant(), **of_grant), epoch=EPOCH)
    conditional = rung(WITH_TAGS, BY_DATE, known, stored=STORED, computed=COMPUTED)
    assert conditional.validators == (OWN, THEIRS)
    known = evolve(known, entries=(entry("theirs", supersedes="own"),))
    assert shared_candidates(BY_DATE, known, Sharing(), lambda: None, NOW) == known.entries


def test_without_a_grant_a_path_is_validated_as_all_are() -> None:
    """By computed entity-tags."""
    assert rung(REQUEST, BY_DATE, OF_OTHERS, stored=STORED, computed=COMPUTED).validators == (
        THEIRS,
    )
    assert shared_candidates(BY_DATE, OF_OTHERS, Sharing(), lambda: None, NOW) == OF_OTHERS.entries


def test_the_clients_own_entity_tags() -> None:
    """All of them while lists are on, else the first."""
    assert rung(WITH_TAGS, GET, NOTHING).validators == (CLIENT_A, CLIENT_B)
    off = Sharing()
    off.lists.off_at = NOW
    assert rung(WITH_TAGS, GET, NOTHING, sharing=off).validators == (CLIENT_A,)


@pytest.mark.parametrize(
    ("request_", "facts", "known", "guessed"),
    [
        (REQUEST, GET, NOTHING, True),
        (REQUEST, HEAD, NOTHING, False),
        (REQUEST, NO_CACHE, NOTHING, False),
        (LATER_PAGE, GET, NOTHING, False),
        (LATER_PAGE, INTERNAL, NOTHING, True),
        (RAW, GET, NOTHING, False),
        (REQUEST, GET, OF_OTHERS, False),
        (REQUEST, GET, OLD, False),
    ],
)
def test_the_entity_tag_of_an_empty_list(
    request_: Request, facts: DecisionFacts, known: Known, guessed: bool
) -> None:
    """It is sent where nothing is stored, and the response may be `[]`."""
    conditional = rung(request_, facts, known)
    assert [each.digest for each in conditional.validators] == [EMPTY_DIGEST] * guessed
    off = Sharing()
    off.single.off_at = NOW
    assert rung(request_, facts, known, sharing=off) == UNCONDITIONAL


def test_an_unclear_304_narrows() -> None:
    """Without an entity-tag, a 304 to several validators is unclear; the ladder ends with none."""
    both = ConditionalRequest((OWN, THEIRS), stored=STORED)
    assert both.confirmed(None) is None
    assert both.confirmed(b'W/"theirs"') == THEIRS
    one = both.narrowed()
    assert sent(one) == (b'"own"',)
    assert one.stored is STORED
    assert one.confirmed(None) == OWN
    assert one.narrowed() == UNCONDITIONAL
    assert not UNCONDITIONAL.conditional


def test_preconditions_replace_the_clients() -> None:
    """GitHub's 304 is for the stored response, and not for the client's."""
    conditional = ConditionalRequest((OWN, THEIRS))
    assert conditional.as_sent(WITH_TAGS).fields.get(b"if-none-match") == b'"own", "theirs"'
    assert UNCONDITIONAL.as_sent(WITH_TAGS).fields.get(b"if-none-match") is None


@pytest.mark.parametrize(
    ("facts", "known", "wanted", "digests"),
    [
        (GET, OF_OTHERS, True, ["theirs"]),
        (GET, OF_OTHERS, False, []),
        (UNKNOWN, OF_OTHERS, True, []),
        (GET, NOTHING, True, []),
        (GET, evolve(OLD, entries=(entry("own"),)), True, []),
    ],
)
def test_shared_candidates(
    facts: DecisionFacts, known: Known, wanted: bool, digests: list[str]
) -> None:
    """Entity-tags are computed for an accepted credential only, and with `share` only."""
    found = shared_candidates(facts, known, Sharing(configured=wanted), lambda: None, NOW)
    assert [each.digest for each in found] == digests


def test_candidates_of_the_same_login_come_first() -> None:
    """Another token of the same user is likely to receive the same response."""
    known = Known(entries=(entry("theirs"), entry("mine", principal="alice")))
    found = shared_candidates(GET, known, Sharing(), lambda: "alice", NOW)
    assert [each.digest for each in found] == ["mine", "theirs"]


def test_steps_are_those_of_the_module() -> None:
    """The table has every step."""
    steps = {type(case[-1]) for case in CASES}
    assert steps == set(decision.Step.__args__)
