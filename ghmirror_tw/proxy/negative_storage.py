"""Negative responses, stored and repeated (see `caching.negative_responses`)."""

from __future__ import annotations

from attrs import define

from ghmirror_tw.caching.negative_responses import found_by_others, is_repeatable, repeated_fields
from ghmirror_tw.caching.records import Known, NegativeResponse
from ghmirror_tw.http.outcomes import Outcome
from ghmirror_tw.proxy.epoch_tracking import EpochTracker
from ghmirror_tw.proxy.mirror_options import MirrorOptions
from ghmirror_tw.proxy.mirror_response import CodedContent, Response
from ghmirror_tw.proxy.request_context import Exchange
from ghmirror_tw.proxy.unstored_responses import coding_of
from ghmirror_tw.store.store_interface import IStore
from ghmirror_tw.upstream.credential_registry import CredentialRegistry


@define(eq=False)
class NegativeStorage:
    """Stores responses that may be repeated."""

    store: IStore
    credentials: CredentialRegistry
    epochs: EpochTracker
    options: MirrorOptions

    def note(self, exchange: Exchange, content: bytes) -> None:
        """Store a response with its whole *content*, if it may be repeated.

        It needs an epoch of a credential that GitHub has accepted. The mirror's own requests get
        GitHub's response of now, and theirs are not repeated.
        """
        lookup, response = exchange.lookup, exchange.response
        coding = coding_of(response)
        if (
            self.options.negative_for <= 0
            or lookup.internal
            or not response.content.is_delimited
            or not is_repeatable(response.status, response.fields, content, coding)
            or not self.credentials.is_accepted(lookup.requester.token)
        ):
            return
        epoch = self.epochs.current_or_begun(lookup, exchange.known)
        if epoch is None:
            return
        negative = NegativeResponse(
            exchange.sent_at,
            self.epochs.now(),
            epoch,
            response.status,
            repeated_fields(response.fields),
            content,
            coding,
            found_by_others(exchange.known),
        )
        self.store.store_negative(lookup.key, lookup.requester.credential, negative)


def repeated_response(known: Known, now: float) -> Response | None:
    """Return the stored negative response with its age; None: there is none."""
    negative = known.negative
    if negative is None:
        return None
    return Response(
        negative.status,
        negative.fields,
        Outcome.NEGATIVE,
        CodedContent(negative.content, negative.coding),
        age_s=max(int(now - negative.received_at), 0),
    )
