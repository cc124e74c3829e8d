"""Stored responses: look-ups in the store, content within its budget, fresh and stale responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, evolve
from twisted.internet.defer import Deferred

from ghmirror_tw.caching import staleness
from ghmirror_tw.caching.acceptance_evidence import lookup_shows_acceptance
from ghmirror_tw.caching.forwarded_fields import canonical_request_fields
from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Known, Representation
from ghmirror_tw.caching.vary import may_be_reused, without_other_variant
from ghmirror_tw.github.credentials import is_validated
from ghmirror_tw.github.rate_limit_resources import resource_of_path
from ghmirror_tw.http.outcomes import Outcome
from ghmirror_tw.proxy.epoch_tracking import EpochTracker
from ghmirror_tw.proxy.mirror_options import MirrorOptions
from ghmirror_tw.proxy.mirror_response import Response
from ghmirror_tw.proxy.request_context import Lookup
from ghmirror_tw.store.store_interface import Deadline, IStore
from ghmirror_tw.telemetry.metrics import Metrics
from ghmirror_tw.upstream.byte_budget import FREE_BYTES, ByteBudgets
from ghmirror_tw.upstream.credential_registry import CredentialRegistry
from ghmirror_tw.upstream.limited_sender import Sender

#: Reasons for which no request is sent to GitHub.
_NOT_SENT: Final = frozenset({"offline", "primary-limit", "secondary-limit"})


@define(eq=False)
class StoredResponses:
    """Reads responses from the store."""

    store: IStore
    budgets: ByteBudgets
    credentials: CredentialRegistry
    epochs: EpochTracker
    sender: Sender
    options: MirrorOptions
    metrics: Metrics
    now: Callable[[], float]

    async def look_up(self, lookup: Lookup, *, current: bool = False) -> Known:
        """Return the records for a request; *current*: no record that was stored may be missing.

        A credential that the fleet knows counts as accepted from then on.
        """
        look_up, (credential, token, _) = self.store.look_up, lookup.requester
        with self.sender.expecting(token):
            known = await look_up(
                lookup.key, credential, lookup.store_deadline, current=current, token=token
            )
        self._note(lookup, known)
        if self.credentials.names.older and not (known.grant or known.refused or known.negative):
            known = await self._with_older(lookup, known)
        return without_other_variant(
            lookup.request.fields.memoised(canonical_request_fields), known
        )

    def _note(self, lookup: Lookup, known: Known) -> None:
        """Note what a look-up shows: times, a write elsewhere, an accepted credential."""
        token, app = lookup.requester.token, lookup.requester.app
        accepted = self.credentials.is_accepted(token)
        self.epochs.note_look_up(lookup.requester, known, accepted=accepted)
        if not accepted and lookup_shows_acceptance(known):
            authorization = lookup.request.authorization
            # What GitHub does not validate is granted what requests without a credential are.
            if authorization is not None and is_validated(authorization):
                self.credentials.accept(token, app)

    async def _with_older(self, lookup: Lookup, known: Known) -> Known:
        """Return *known* with what is stored for the credential under its name by an older secret.

        That permits nothing before GitHub has confirmed it: refusals and writes under the current
        name do not end it. The confirmed grant is stored under the current name.
        """
        fields = lookup.request.fields
        for names in self.credentials.names.older:
            older = await self.store.look_up(
                lookup.key,
                names.of(fields),
                lookup.store_deadline,
                current=True,
                token=names.token_of(fields),
            )
            if older.grant is not None or older.refused:
                self.metrics.former_secret()
                # The epoch is the one under the current name.
                self._note(lookup, evolve(older, epoch=known.epoch))
                older = evolve(older.unvalidated(), negative=None, unstorable=False)
                return known.merged(older).effective(self.now())
        return known

    def fetch(
        self,
        known: Known,
        key: CacheKey,
        digests: tuple[str, ...],
        store_deadline: Deadline,
        *,
        current: bool = False,
    ) -> Deferred[dict[str, Representation]]:
        """Return those of the representations that are in the store, by digest.

        Large ones, by their size in *known*, are fetched once the budget has room for them. Fails
        with `MirrorError` (503) if it has none in time.

        A fetch has a deadline of its own, if *store_deadline* has not passed in the look-up before
        it. With the time left, it would fail wherever Redis takes more than half of its timeout.
        """
        if store_deadline.left_s > 0:
            store_deadline = self.store.store_deadline()
        sizes = [e.size for e in known.entries if e.size > FREE_BYTES and e.digest in digests]
        if not sizes:
            return self.store.fetch(key, digests, store_deadline, current=current)
        return Deferred.fromCoroutine(
            self._fetch_large(sum(sizes), key, digests, store_deadline, current=current)
        )

    async def _fetch_large(
        self,
        size: int,
        key: CacheKey,
        digests: tuple[str, ...],
        store_deadline: Deadline,
        *,
        current: bool,
    ) -> dict[str, Representation]:
        room = self.budgets.of_size(size).acquire(size)
        if not room.called:
            # The deadline of the request would pass while it waits for room.
            store_deadline = self.store.store_deadline()
        with await room:
            found = await self.store.fetch(key, digests, store_deadline, current=current)
            # The reservation was for the size without gzip.
            for representation in found.values():
                self.budgets.track(representation, representation.packed)
            return found

    async def fresh(self, lookup: Lookup, known: Known) -> Response | None:
        """Return the fresh response of the grant, without a request; None: its content is gone."""
        grant = known.grant
        if grant is None:
            return None
        found = await self.fetch(known, lookup.key, (grant.digest,), lookup.store_deadline)
        stored = found.get(grant.digest)
        if stored is None or not may_be_reused(stored):
            return None
        return Response(
            200,
            staleness.stored_response_fields(stored, grant),
            Outcome.FRESH,
            stored,
            age_s=max(int(self.now() - grant.validated_at), 0),
            granted=True,
        )

    async def stale(
        self, lookup: Lookup, reason: str, status: int | None = None, *, sent: bool = True
    ) -> Response | None:
        """Return a stale response, if this credential may have one.

        *reason* and *status* are those of the failure. *sent*: a request was sent to GitHub.
        """
        # A deadline of its own: this look-up decides between a response and an error.
        store_deadline = self.store.store_deadline()
        credential, token, _ = lookup.requester
        known = await self.store.look_up(
            lookup.key, credential, store_deadline, current=True, token=token
        )
        known = without_other_variant(
            lookup.request.fields.memoised(canonical_request_fields), known
        )
        grant = staleness.stale_grant(known, self.now(), self.options.stale_limit)
        if grant is None:
            return None
        found = await self.fetch(known, lookup.key, (grant.digest,), store_deadline, current=True)
        stored = found.get(grant.digest)
        if stored is None or not may_be_reused(stored):
            return None
        bucket = resource_of_path(lookup.request.path, b"GET")
        quota = self.sender.accounting.quotas.last(lookup.requester.token, bucket)
        return Response(
            200,
            staleness.stale_response_fields(stored, grant, quota),
            Outcome.STALE,
            stored,
            upstream_status=status,
            forward="stale" if sent and (status or reason not in _NOT_SENT) else None,
            detail=reason,
            age_s=max(int(self.now() - grant.validated_at), 0),
            granted=True,
        )
