"""What is being said: one question under way, with what it is validated, and what came."""

from __future__ import annotations

from collections.abc import Hashable
from math import inf

from attrs import evolve, field, frozen

from ghmirror_tw.caching.forwarded_fields import canonical_request_fields
from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Grant, Known, Representation
from ghmirror_tw.caching.validators import Validator, ValidatorKind, condition_fields
from ghmirror_tw.caching.validators import confirmed_validator as confirmed_by_304
from ghmirror_tw.github.page_parameters import page_number
from ghmirror_tw.github.rate_limit_resources import resource_of_path
from ghmirror_tw.github.rate_limits import EVERYTHING
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.link_proofs import Walk
from ghmirror_tw.runtime.single_flight import Departure
from ghmirror_tw.store.store_interface import Deadline
from ghmirror_tw.upstream.outgoing_request import Requester
from ghmirror_tw.upstream.request_queue import Slot
from ghmirror_tw.upstream.upstream_interface import UpstreamResponse


@frozen
class MirrorOptions:
    """How the mirror is set up; durations in seconds, sizes in bytes. See the configuration."""

    allowed_users: frozenset[str] = frozenset()
    share: bool = True
    fresh_for: float = 0.0
    verify_last: bool = True
    api_url: bytes = b"https://api.github.com"
    stale_limit: float = 7 * 86400.0
    max_stored_size: int = 8 * 1024 * 1024
    collapse_wait: float = 10.0
    timeout: float = 30.0
    stale_after: float = 5.0


@frozen
class Lookup:
    """One storable question, under way: what stays the same until it is answered.

    *guess*: what GitHub has not just said may be said. *probing*: we ask for ourselves, for what
    it proves; nothing is proved for it, and nobody waits for others. *deadline*: when the client
    gets an error; *stale_by*: when it gets a stale answer, if there is one for it.
    """

    request: Request
    key: CacheKey
    requester: Requester
    generation: int
    deadline: float
    guess: bool
    store_deadline: Deadline = field(eq=False)
    probing: bool = False
    stale_by: float = inf
    #: When it was received. A flight that began before may not know of the client's last write.
    came_at: float = 0.0
    #: When its flight began and was sent to GitHub, for requests that may join it.
    departure: Departure = field(eq=False, factory=Departure)
    #: The permit that it has already, if any.
    slot: Slot = field(eq=False, factory=Slot)
    #: What makes questions the same that can be answered with the same answer.
    same: Hashable = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        same = (self.key, self.credential, self.generation, self.guess, self.probing)
        object.__setattr__(self, "same", same)

    @property
    def credential(self) -> str:
        """The name of the credential."""
        return self.requester.credential

    @property
    def head(self) -> bool:
        """Whether no content is wanted."""
        return self.request.method == b"HEAD"

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes of the limits that stop it."""
        return EVERYTHING, resource_of_path(b"GET", self.request.path)

    @property
    def first_page(self) -> bool:
        """Whether it is no later page of a list."""
        return page_number(self.request.target) == 1

    def walk(self, known: Known) -> Walk:
        """Return this request as a step of a walk through a list.

        A proof does not count if it is older than the last validation of the page by any replica.
        """
        key, grant = self.key, known.grant
        others = [part for line in key.others for part in line]
        fields = (key.accept, key.api_version, key.requested_with, *others)
        since = 0.0 if grant is None else grant.validated_at
        return Walk(self.credential, fields, self.generation, key.target, since)


@frozen
class ConditionalRequest:
    """The validators of a conditional request: entity-tags or a date, and what they stand for."""

    validators: tuple[Validator, ...] = ()
    dated: Grant | None = None
    stored: dict[str, Representation] = field(factory=dict)

    @property
    def conditional(self) -> bool:
        """Whether there is anything to validate."""
        return bool(self.validators) or self.dated is not None

    def confirmed(self, etag: bytes | None) -> Validator | None:
        """Return what a 304 confirms, or None where it doesn't say."""
        if self.dated is not None:
            return Validator(b"", ValidatorKind.OWN, self.dated.digest)
        return confirmed_by_304(self.validators, etag)

    def narrowed(self) -> ConditionalRequest:
        """Return this plan with one validator, so that a 304 can only mean that; then none."""
        return (
            evolve(self, validators=self.validators[:1])
            if len(self.validators) > 1
            else ConditionalRequest()
        )

    def as_sent(self, request: Request) -> Request:
        """Return a question as GitHub gets it: our preconditions in place of the client's."""
        fields = request.fields.memoised(canonical_request_fields)
        preconditions = condition_fields(self.validators, self.dated)
        return Request(request.method, request.target, fields.plus(preconditions))


@frozen
class Exchange:
    """One question and GitHub's answer to it: what was known, how it was put, what came."""

    asked: Lookup
    known: Known
    plan: ConditionalRequest
    reply: UpstreamResponse
    requested_at: float
