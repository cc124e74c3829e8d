"""The ladder of validators: the preconditions of a validation."""

from __future__ import annotations

from typing import Any, Final

import pytest
from attrs import evolve

from ghmirror_tw.caching.decision import DecisionFacts
from ghmirror_tw.caching.records import Known, Representation
from ghmirror_tw.caching.validator_ladder import (
    UNCONDITIONAL,
    ConditionalRequest,
    first_rung,
    shared_candidates,
)
from ghmirror_tw.caching.validators import EMPTY_DIGEST, Validator, ValidatorKind
from ghmirror_tw.github.sharing_circuit_breakers import Sharing
from ghmirror_tw.http.content_codings import compress
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request
from tests.unit.caching.decision_inputs import (
    EPOCH,
    GET,
    HEAD,
    INTERNAL,
    NO_CACHE,
    NOTHING,
    NOW,
    OF_OTHERS,
    OLD,
    UNKNOWN,
    entry,
    grant,
)

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
    """Return the first rung, by default without stored and computed tags."""
    values: dict[str, object] = {"stored": {}, "computed": {}, "sharing": Sharing(), **more}
    return first_rung(request, facts, known, now=NOW, **values)  # type: ignore[arg-type]


def sent(conditional: ConditionalRequest) -> tuple[bytes, ...]:
    """Return the entity-tags that are sent."""
    return tuple(each.tag for each in conditional.validators)


def test_the_grants_entity_tag_is_first() -> None:
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
    assert conditional.has_validator
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
    assert not UNCONDITIONAL.has_validator


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


def test_candidates_of_the_same_login_are_first() -> None:
    """Another token of the same user is likely to receive the same response."""
    known = Known(entries=(entry("theirs"), entry("mine", principal="alice")))
    found = shared_candidates(GET, known, Sharing(), lambda: "alice", NOW)
    assert [each.digest for each in found] == ["mine", "theirs"]
