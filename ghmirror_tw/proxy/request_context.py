"""The look-up of a storable request, with all that is known of it, and one exchange for it."""

from __future__ import annotations

from collections.abc import Hashable
from math import inf

from attrs import field

from ghmirror_tw.caching.decision import DecisionFacts
from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Known
from ghmirror_tw.caching.validator_ladder import ConditionalRequest
from ghmirror_tw.github.rate_limit_resources import scopes_of_read
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.link_currency_proofs import Walk
from ghmirror_tw.proxy.mirror_response import Response
from ghmirror_tw.runtime.frozen_values import frozen_value
from ghmirror_tw.runtime.single_flight import Flight
from ghmirror_tw.store.store_interface import Deadline
from ghmirror_tw.upstream.request_queue import PermitHolder
from ghmirror_tw.upstream.request_to_send import Requester
from ghmirror_tw.upstream.upstream_interface import UpstreamResponse


@frozen_value
class Lookup:
    """A storable request: what does not change until its response.

    *requires_validation*: only GitHub's confirmation will do (RFC 9111, section 5.2.1.4).
    *internal*: the mirror's own request, as a proof of `Link`; it waits for no other request.
    *by_date*: its path is validated by date. Times are in seconds since the epoch. *deadline*: when
    the client receives an error. *stale_at*: when it receives a stale response, if it may.
    """

    request: Request
    key: CacheKey
    requester: Requester
    generation: int
    deadline: float
    requires_validation: bool
    store_deadline: Deadline = field(eq=False)
    internal: bool = False
    by_date: bool = False
    stale_at: float = inf
    #: When it was received. A flight that began before may not know of the client's last write.
    received_at: float = 0.0
    #: Its flight, which later requests may join, unless it joins that of an earlier one.
    flight: Flight[Response] = field(eq=False, repr=False, factory=Flight)
    #: Holds the permit that it has acquired in advance, if any.
    permit_holder: PermitHolder = field(eq=False, factory=PermitHolder)
    #: Requests with the same identity can have the same response.
    identity: Hashable = field(init=False, repr=False)
    #: Whether its method is HEAD.
    head: bool = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        identity = (
            self.key.name,
            self.requester.credential,
            self.generation,
            self.requires_validation,
            self.internal,
        )
        object.__setattr__(self, "identity", identity)
        object.__setattr__(self, "head", self.request.method == b"HEAD")

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes of the rate limits that apply to it."""
        return scopes_of_read(self.request.path)

    def facts(self, *, accepted: bool) -> DecisionFacts:
        """Return what `next_step` needs; *accepted*: GitHub has accepted the credential."""
        return DecisionFacts(
            self.requires_validation, self.internal, self.head, accepted, self.by_date
        )

    def walk(self, known: Known) -> Walk:
        """Return this request as a step of a walk through a list.

        A proof does not count if it is older than the last validation of the page by any replica.
        """
        key, grant = self.key, known.grant
        others = [part for line in key.others for part in line]
        fields = (key.accept, key.api_version, key.requested_with, *others)
        since = 0.0 if grant is None else grant.validated_at
        return Walk(self.requester.credential, fields, self.generation, key.target, since)


@frozen_value
class Exchange:
    """One request to GitHub, sent at *sent_at*, the records known before it, and the response."""

    lookup: Lookup
    known: Known
    conditional: ConditionalRequest
    response: UpstreamResponse
    sent_at: float
