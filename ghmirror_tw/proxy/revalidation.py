"""Validation of a stored response with GitHub (RFC 9111, section 4.3).

A conditional request is sent with the chosen validators, and with fewer of them each time that the
304 is of no use.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from attrs import define
from twisted.internet.defer import Deferred

from ghmirror_tw.caching import records_from_responses, validators
from ghmirror_tw.caching.forwarded_fields import forwarded_response_fields
from ghmirror_tw.caching.records import Entry, Grant, Known, Representation
from ghmirror_tw.caching.validator_ladder import (
    UNCONDITIONAL,
    ConditionalRequest,
    first_rung,
    shared_candidates,
)
from ghmirror_tw.caching.validators import EMPTY_DIGEST, EMPTY_FIELDS, Validator, ValidatorKind
from ghmirror_tw.github import entity_tag_rule
from ghmirror_tw.github.link_conditions import NO_CONDITIONS, LinkConditions
from ghmirror_tw.github.page_parameters import page_number
from ghmirror_tw.github.sharing_circuit_breakers import Sharing
from ghmirror_tw.http.content_codings import compress
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.links import has_foreign_page
from ghmirror_tw.http.outcomes import Outcome
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.grant_metadata_builder import GrantMetadataBuilder
from ghmirror_tw.proxy.limit_responses import usual_limit_response
from ghmirror_tw.proxy.link_prover import LinkProver, cancel_proof
from ghmirror_tw.proxy.mirror_response import NoUpstreamResponseError, Response
from ghmirror_tw.proxy.received_responses import ReceivedResponses
from ghmirror_tw.proxy.request_context import Exchange, Lookup
from ghmirror_tw.proxy.stored_responses import StoredResponses
from ghmirror_tw.proxy.upstream_failures import error_response
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.runtime.restore_barrier import RestoreBarrier
from ghmirror_tw.store.store_interface import IStore
from ghmirror_tw.upstream.limited_sender import Sender
from ghmirror_tw.upstream.limits_in_force import RateLimitedError
from ghmirror_tw.upstream.request_to_send import OutgoingRequest, Requester
from ghmirror_tw.upstream.upstream_interface import UpstreamError

_NOT_MODIFIED: Final = 304
_EMPTY: Final = Representation(
    EMPTY_DIGEST, EMPTY_FIELDS, compress(entity_tag_rule.EMPTY_LIST), 2, 0
)
_OUTCOMES: Final = {
    ValidatorKind.OWN: Outcome.REVALIDATED,
    ValidatorKind.DATED: Outcome.REVALIDATED,
    ValidatorKind.COMPUTED: Outcome.SHARED,
    ValidatorKind.EMPTY: Outcome.EMPTY,
}


@define(eq=False)
class ValidatorChoice:
    """Chooses the validators of a request; *user* returns a requester's known login or App."""

    stored: StoredResponses
    threads: ContentThreads
    sharing: Sharing
    barrier: RestoreBarrier
    user: Callable[[Requester], str | None]

    async def choose(self, lookup: Lookup, known: Known) -> ConditionalRequest:
        """Return the first conditional request that is sent for a look-up."""
        now, request, grant = self.stored.now(), lookup.request, known.grant
        accepted = self.stored.credentials.is_accepted(lookup.requester.token)
        facts = lookup.facts(accepted=accepted)
        entries = shared_candidates(
            facts, known, self.sharing, lambda: self.user(lookup.requester), now
        )
        digests = (() if grant is None else (grant.digest,)) + tuple([e.digest for e in entries])
        stored = await self._fetch(lookup, known, digests) if digests else {}
        tags: dict[str, bytes] = {}
        for entry in entries:
            candidate = stored.get(entry.digest)
            if candidate is not None:
                tag = await self.threads.run(candidate.size, _computed, request, candidate)
                tags[entry.digest] = tag
        return first_rung(request, facts, known, stored, tags, self.sharing, now)

    def _fetch(
        self, lookup: Lookup, known: Known, digests: tuple[str, ...]
    ) -> Deferred[dict[str, Representation]]:
        """Return those of the representations that are in the store.

        While the store is being restored, a record may be there before its content.
        """
        grant = known.grant
        fetch = partial(self.stored.fetch, known, lookup.key, digests, lookup.store_deadline)

        def is_found(stored: dict[str, Representation]) -> bool:
            return lookup.internal or (bool(stored) if grant is None else grant.digest in stored)

        if self.barrier.is_shut:
            return Deferred.fromCoroutine(self.barrier.until_found(fetch, is_found))
        return fetch()


def _computed(request: Request, candidate: Representation) -> bytes:
    return validators.computed_tag(request, candidate, candidate.content())


@define(eq=False)
class Revalidation:
    """Sends conditional requests; uses stored responses that a 304 confirms."""

    sender: Sender
    store: IStore
    sharing: Sharing
    choice: ValidatorChoice
    links: LinkProver
    received: ReceivedResponses
    metadata: GrantMetadataBuilder

    async def run(self, lookup: Lookup, known: Known) -> Response:
        """Return the response to a request, after an exchange with GitHub or several.

        Raises `NoUpstreamResponseError` where GitHub sends no usable one.
        """
        conditional = await self.choice.choose(lookup, known)
        now = self.metadata.epochs.now()
        conditional, proof = self.links.prepare(lookup, known, conditional, now)
        try:
            while True:
                sent_at = self.metadata.epochs.tick()
                try:
                    response = await self.sender.send(_outgoing(lookup, conditional))
                except UpstreamError as error:
                    self._note_refusal(lookup, error, sent_at)
                    raise
                exchange = Exchange(lookup, known, conditional, response, sent_at)
                if response.status != _NOT_MODIFIED:
                    return await self.received.take(exchange)
                if response.content.length != 0:
                    await response.content.collect(0)
                confirmed, conditional = await self._confirm(exchange, proof)
                if confirmed is not None:
                    return confirmed
        except UpstreamError as error:
            instead = error_response(error, self.links.options.timeout)
            raise NoUpstreamResponseError(error.reason, error.status, instead) from error
        except RateLimitedError as error:
            limit = error.active.limit
            again = usual_limit_response(limit, self.metadata.epochs.now())
            raise NoUpstreamResponseError(limit.kind.reason, None, again) from error
        finally:
            if proof is not None:
                cancel_proof(proof)

    def _note_refusal(self, lookup: Lookup, error: UpstreamError, sent_at: float) -> None:
        """Note what GitHub has refused, where the head of its response was received."""
        if error.status is not None:
            self.metadata.epochs.note_refusal(
                lookup.request, lookup.requester, error.status, sent_at
            )

    async def _confirm(
        self, exchange: Exchange, proof: Deferred[bool | None] | None
    ) -> tuple[Response | None, ConditionalRequest]:
        """Return the stored response that a 304 confirms, or the next conditional request."""
        conditional, lookup, known = exchange.conditional, exchange.lookup, exchange.known
        if not conditional.has_validator:
            raise UpstreamError("broken-answer", "304 to an unconditional request")
        fields = forwarded_response_fields(exchange.response.fields)
        etag = fields.get(b"etag")
        validator = conditional.confirmed(etag)
        if validator is None:
            return None, conditional.narrowed()
        self.sharing.note_confirmed(len(conditional.validators))
        if validator.kind is ValidatorKind.CLIENT:
            if known.negative is not None:
                self.received.end_grant(exchange)
            fields = fields.with_line(b"etag", etag or validator.tag)
            return Response(304, fields, Outcome.REVALIDATED, None), conditional
        stored = conditional.stored.get(validator.digest)
        if validator.kind is ValidatorKind.EMPTY:
            stored = _EMPTY
        api_url = self.links.options.api_url
        link = fields.combined(b"link")
        if stored is None or (link is not None and has_foreign_page(link, api_url)):
            return None, UNCONDITIONAL
        metadata = self.metadata.of(exchange, fields)
        grant, entry = records_from_responses.from_304(known, validator, stored, metadata)
        conditions = self.links.conditions(lookup, known, stored, grant.link, validator.kind)
        if conditions is not NO_CONDITIONS:
            if not await self._holds(exchange, validator, conditions, proof):
                return None, UNCONDITIONAL
            self.links.note_proved(lookup, known)
        self.links.note_items(lookup, known, stored)
        self._store(lookup, validator, stored, grant, entry)
        fields = records_from_responses.freshened(stored.fields, grant, fields)
        return _response(exchange, validator, stored, fields), conditional

    def _store(
        self,
        lookup: Lookup,
        validator: Validator,
        stored: Representation,
        grant: Grant,
        entry: Entry,
    ) -> None:
        """Store a grant that a 304 confirms.

        `[]` of a later page shows nothing of its `Link`: it is not stored.
        """
        if validator.kind is not ValidatorKind.EMPTY:
            self.store.freshen(lookup.key, lookup.requester.credential, grant, entry)
        elif page_number(lookup.request.target) == 1:
            self.store.store_response(lookup.key, lookup.requester.credential, stored, grant, entry)

    async def _holds(
        self,
        exchange: Exchange,
        validator: Validator,
        conditions: LinkConditions,
        proof: Deferred[bool | None] | None,
    ) -> bool:
        """Return whether the stored `Link` is proved current, by *proof* or by another one."""
        if proof is not None and validator.kind in {ValidatorKind.OWN, ValidatorKind.DATED}:
            return bool(await proof)
        return bool(await self.links.prove(exchange.lookup, exchange.known, conditions))


def _outgoing(lookup: Lookup, conditional: ConditionalRequest) -> OutgoingRequest:
    return OutgoingRequest(
        conditional.as_sent(lookup.request),
        lookup.requester,
        lookup.deadline,
        sending=lookup.flight.note_sent,
        permit_holder=lookup.permit_holder,
    )


def _response(
    exchange: Exchange, validator: Validator, stored: Representation, fields: Fields
) -> Response:
    return Response(
        200,
        fields,
        _OUTCOMES[validator.kind],
        stored,
        upstream_status=304,
        detail="dated" if validator.kind is ValidatorKind.DATED else None,
        granted=exchange.known.grant is not None,
        charged=exchange.response.charged,
        upstream_seconds=exchange.response.seconds,
    )
