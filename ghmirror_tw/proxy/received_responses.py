"""Responses of GitHub other than 304: stored where they may be, and passed on."""

from __future__ import annotations

from typing import Final

from attrs import define, field
from twisted.logger import Logger

from ghmirror_tw.caching import records_from_responses
from ghmirror_tw.caching.forwarded_fields import forwarded_response_fields
from ghmirror_tw.caching.records import Representation
from ghmirror_tw.caching.refused_scope import refused_scope
from ghmirror_tw.caching.representation_from_response import representation_of
from ghmirror_tw.caching.storability import (
    Unstorable,
    reason_in_content,
    reason_in_head,
    reason_in_length,
)
from ghmirror_tw.caching.validators import ValidatorKind, computed_tag, was_ignored
from ghmirror_tw.github.operation_paging import most_items_of_page
from ghmirror_tw.github.path_labels import path_pattern
from ghmirror_tw.github.sharing_circuit_breakers import Sharing
from ghmirror_tw.http import entity_tags, error_responses
from ghmirror_tw.http.content_codings import ContentTooLargeError, UndecodableError, estimated_size
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.outcomes import Outcome
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.epoch_tracking import EpochTracker
from ghmirror_tw.proxy.grant_metadata_builder import GrantMetadataBuilder
from ghmirror_tw.proxy.limit_responses import limited_response
from ghmirror_tw.proxy.link_prover import LinkProver
from ghmirror_tw.proxy.mirror_options import MirrorOptions
from ghmirror_tw.proxy.mirror_response import CodedContent, NoUpstreamResponseError, Response
from ghmirror_tw.proxy.negative_storage import NegativeStorage
from ghmirror_tw.proxy.request_context import Exchange
from ghmirror_tw.proxy.unstored_responses import coding_of, passed_on
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.runtime.quantity_formatting import size
from ghmirror_tw.store.store_interface import IStore
from ghmirror_tw.telemetry.metrics import Metrics
from ghmirror_tw.upstream.byte_budget import ByteBudgets, GrowingReservation
from ghmirror_tw.upstream.upstream_interface import IncomingContent, UpstreamError, UpstreamResponse

#: The largest number of path patterns and reasons in the log, for responses that are not stored.
_MOST_PATTERNS: Final = 1000

_log: Final = Logger(namespace="ghmirror.mirror")


@define(eq=False)
class UnstorableReport:
    """Counts each 200 that could not be stored; logs each path pattern with its reason once."""

    metrics: Metrics
    _logged: set[tuple[str, str]] = field(factory=set)

    def note(self, path: bytes, reason: str) -> None:
        """Note a 200 that could not be stored."""
        self.metrics.unstorable(reason)
        case = path_pattern(path), reason
        if case in self._logged or len(self._logged) >= _MOST_PATTERNS:
            return
        self._logged.add(case)
        _log.info("Response not storable: path={path} reason={reason}", path=case[0], reason=reason)


@define(eq=False)
class ReceivedResponses:
    """Stores responses of GitHub, and passes them on."""

    store: IStore
    threads: ContentThreads
    budgets: ByteBudgets
    sharing: Sharing
    options: MirrorOptions
    epochs: EpochTracker
    links: LinkProver
    metadata: GrantMetadataBuilder
    unstorable: UnstorableReport
    repeated: NegativeStorage

    async def take(self, exchange: Exchange) -> Response:
        """Return the response for the client, stored if it may be.

        Raises `NoUpstreamResponseError` for a 5xx and for a rate limit.
        """
        lookup, response = exchange.lookup, exchange.response
        if response.status >= 500:  # noqa: PLR2004
            instead = await self._server_error(exchange)
            raise NoUpstreamResponseError("server-error", response.status, instead)
        if response.limit is not None and response.limited:
            limit = response.limit
            instead = limited_response(response, limit, self.epochs.now())
            raise NoUpstreamResponseError(limit.kind.reason, response.status, instead)
        reason = self._process_head(exchange)
        if lookup.head:
            await response.content.collect(0)
            return passed_on(response, None)
        content, room = await self._collect(response)
        with room:
            if reason is None:
                stored = await self._store(exchange, content)
                if isinstance(stored, Response):
                    return stored
                self.end_grant(exchange)
                reason = stored
            if response.status == 200:  # noqa: PLR2004
                self.store.mark_unstorable(lookup.key)
                self.unstorable.note(lookup.request.path, reason)
            if content is not None:
                self.repeated.note(exchange, content)
            return passed_on(response, self._body(response, content))

    async def _collect(self, response: UpstreamResponse) -> tuple[bytes | None, GrowingReservation]:
        """Return the content and the room it takes; None where it is too large to be held."""
        limit = self.options.max_stored_size
        room = self.budgets.growing_reservation(limit, response.content.length)
        try:
            content = await response.content.collect(limit, coding_of(response), room)
        except UpstreamError as error:
            room.release()
            raise UpstreamError(error.reason, error.why, response.status, error.limit) from error
        except BaseException:
            room.release()
            raise
        return content, (self.budgets.growing_reservation(0, 0) if content is None else room)

    def _body(
        self, response: UpstreamResponse, content: bytes | None
    ) -> CodedContent | IncomingContent:
        """Return the content, counted for as long as a request holds it, or the stream."""
        if content is None:
            return response.content
        whole = CodedContent(content, coding_of(response))
        self.budgets.track(whole, content)
        return whole

    async def _server_error(self, exchange: Exchange) -> Response | MirrorError:
        """Return GitHub's own 5xx, for all waiting requests without a stale response.

        With content that is too large to be held for them, the mirror's own error replaces it.
        """
        response = exchange.response
        if exchange.lookup.head:
            await response.content.collect(0)
            return passed_on(response, None)
        content, room = await self._collect(response)
        with room:
            if content is None:
                response.content.abort()
                limit = f"[cache] max_stored_size = {size(self.options.max_stored_size)}"
                return error_responses.over_own_limit(limit)
            return passed_on(response, self._body(response, content))

    def _process_head(self, exchange: Exchange) -> Unstorable | None:
        """Update refusals, sharing and the grant from status and fields, without the content.

        Return the reason why the response may not be stored; None: it may.
        """
        lookup, response = exchange.lookup, exchange.response
        self.epochs.note_refusal(
            lookup.request, lookup.requester, response.status, exchange.sent_at
        )
        self._note_ignored(exchange)
        reason = reason_in_head(
            lookup.request, response.status, response.fields, self.options.api_url
        )
        if reason is not None:
            self.end_grant(exchange)
        return reason

    def _note_ignored(self, exchange: Exchange) -> None:
        """Count a 200 with an entity-tag that was sent: GitHub seems to ignore validators."""
        lookup, response = exchange.lookup, exchange.response
        sent, etag = exchange.conditional.validators, response.fields.get(b"etag")
        if response.status != 200 or not was_ignored(sent, etag):  # noqa: PLR2004
            return
        if len(sent) == 1 and sent[0].kind not in {ValidatorKind.COMPUTED, ValidatorKind.EMPTY}:
            return
        off = self.sharing.note_ignored(
            len(sent), lookup.key.name, lookup.requester.credential, self.epochs.now()
        )
        if off is not None:
            _log.warn(
                "GitHub ignored validators: {mechanism} off for an hour",
                mechanism="lists of entity-tags" if off == "lists" else "sharing",
            )

    async def _store(self, exchange: Exchange, content: bytes | None) -> Response | Unstorable:
        """Store the content of a 200 and return the response, or the reason not to store it."""
        lookup, known, response = exchange.lookup, exchange.known, exchange.response
        reason = reason_in_length(content, is_delimited=response.content.is_delimited)
        if content is None or reason is not None:
            return reason or Unstorable.TOO_LARGE
        try:
            represented = await self.threads.run(
                estimated_size(content, coding_of(response)),
                _represented,
                lookup.request,
                response.fields,
                content,
                self.options.max_stored_size,
            )
        except ContentTooLargeError:
            return Unstorable.TOO_LARGE
        except UndecodableError as error:
            raise UpstreamError("broken-answer", str(error), response.status) from error
        if isinstance(represented, Unstorable):
            return represented
        stored, shareable = represented
        self.budgets.track(stored, stored.packed)
        fields = forwarded_response_fields(response.fields)
        grant, entry = records_from_responses.from_200(
            known, stored, self.metadata.of(exchange, fields), shareable=shareable
        )
        self.store.store_response(lookup.key, lookup.requester.credential, stored, grant, entry)
        self.links.note_new(lookup, known, stored, grant)
        granted = known.grant is not None
        return Response(
            200,
            fields,
            Outcome.CHANGED if granted or known.entries else Outcome.MISS,
            stored,
            upstream_status=200,
            granted=granted,
            upstream_seconds=response.seconds,
        )

    def end_grant(self, exchange: Exchange) -> None:
        """End the grant, since GitHub's response neither confirms nor replaces it.

        Its representation stays a candidate for validation. Failures and rate limits, which do not
        concern the grant, do not get here. A negative response ends in the same way.
        """
        lookup, known = exchange.lookup, exchange.known
        is_known = known.grant is not None or known.negative is not None
        if is_known and refused_scope(lookup.request, exchange.response.status) is None:
            credential, token, _ = lookup.requester
            self.store.deny(lookup.key, credential, exchange.sent_at, token=token)


def _represented(
    request: Request, fields: Fields, content: bytes, limit: int
) -> tuple[Representation, bool] | Unstorable:
    """Return a representation, and whether its entity-tag is the one that the mirror computes.

    Where it must not be stored, returns the reason.
    """
    coding = b", ".join(fields.listed(b"content-encoding"))
    described = fields.end_to_end()
    stored, plain = representation_of(
        described, content, coding, limit, most_items_of_page(request.target)
    )
    etag = fields.get(b"etag")
    shareable = etag is not None and entity_tags.weakly_equal(
        etag, computed_tag(request, stored, plain)
    )
    return reason_in_content(fields, plain, covered=shareable) or (stored, shareable)
