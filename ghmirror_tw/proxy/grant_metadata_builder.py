"""Builds the metadata of the grant that a response gives: its times, its login and its epoch."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define

from ghmirror_tw.caching import records_from_responses
from ghmirror_tw.caching.forwarded_fields import canonical_request_fields
from ghmirror_tw.caching.records_from_responses import GrantMetadata
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.proxy.epoch_tracking import EpochTracker
from ghmirror_tw.proxy.mirror_options import MirrorOptions
from ghmirror_tw.proxy.request_context import Exchange
from ghmirror_tw.upstream.request_to_send import Requester


@define(eq=False)
class GrantMetadataBuilder:
    """Makes the metadata of grants; *user* returns a requester's login or App, where known."""

    epochs: EpochTracker
    options: MirrorOptions
    user: Callable[[Requester], str | None]

    def of(self, exchange: Exchange, fields: Fields) -> GrantMetadata:
        """Return the metadata of the grant of an exchange, whose response is sent with *fields*."""
        lookup, now = exchange.lookup, self.epochs.now()
        sent = lookup.request.fields
        return GrantMetadata(
            fields,
            exchange.sent_at,
            now,
            self.user(lookup.requester),
            records_from_responses.grant_expires_at(sent, fields, now, self.options.stale_limit),
            sent.memoised(canonical_request_fields),
            self.epochs.current_or_begun(lookup, exchange.known),
        )
