"""Epochs and generations of credentials, as this replica learns of writes and refusals.

`caching.epochs` describes epochs, which order requests in the fleet. `caching.invalidation` has the
generations, which order them in this replica.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, gatherResults

from ghmirror_tw.caching.epochs import new_epoch
from ghmirror_tw.caching.hybrid_clock import HybridClock
from ghmirror_tw.caching.invalidation import Generations
from ghmirror_tw.caching.records import Known
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.proxy.request_context import Lookup
from ghmirror_tw.store.store_interface import IStore
from ghmirror_tw.upstream.accepted_credentials import CredentialRegistry
from ghmirror_tw.upstream.logins import Users
from ghmirror_tw.upstream.request_to_send import Requester


@define(eq=False)
class EpochTracker:
    """The hybrid clock, the generations, and the epochs that this replica begins."""

    store: IStore
    credentials: CredentialRegistry
    users: Users
    now: Callable[[], float]
    generations: Generations = field(factory=Generations)
    _clock: HybridClock = field(init=False)
    #: Returns the time, later than every time returned or read before (see `hybrid_clock`).
    tick: Callable[[], float] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._clock = HybridClock(self.now)
        self.tick = self._clock.tick

    def generation(self, requester: Requester) -> int:
        """Return the number of the current generation of a credential."""
        accepted = self.credentials.is_accepted(requester.token)
        return self.generations.of(requester.credential, known=accepted)

    def updated(self, lookup: Lookup) -> Lookup:
        """Return a request with the current generation, before it is sent."""
        generation = self.generation(lookup.requester)
        return lookup if generation == lookup.generation else evolve(lookup, generation=generation)

    def read(self, requester: Requester, known: Known, *, accepted: bool) -> None:
        """Advance the clock, and begin a generation if another replica has forwarded a write.

        *accepted*: GitHub has accepted the credential.
        """
        self._clock.read(known.latest_at)
        self.generations.note_epoch(requester.credential, known.epoch, known=accepted)

    def of_grant(self, lookup: Lookup, known: Known) -> bytes | None:
        """Return the epoch for a grant by a request that was sent when this was *known*, or None.

        The first good response to a credential begins an epoch, unless the credential has written
        since the request, or GitHub has responded to it with 401.
        """
        if known.epoch is not None or lookup.generation != self.generation(lookup.requester):
            return known.epoch
        began = self.store.begin_epoch(lookup.requester.credential, new_epoch(), lookup.received_at)
        if began is not None:
            accepted = self.credentials.is_accepted(lookup.requester.token)
            self.generations.note_own_epoch(lookup.requester.credential, began, known=accepted)
        return began

    def begin_generations(self, credentials: Iterable[str], *, accepted: bool) -> None:
        """Begin a generation of each credential, since its write is sent now."""
        for credential in credentials:
            self.generations.begin(credential, known=accepted)

    def replace(self, credentials: Iterable[str], *, accepted: bool) -> Deferred[list[None]]:
        """Begin a generation and an epoch of each credential, since its write has ended.

        Fires when all replicas can find the new epochs, or when storing them has failed.
        """
        stored = []
        for credential in credentials:
            epoch = new_epoch(accepted=accepted)
            self.generations.begin(credential, known=accepted)
            stored.append(self.store.replace_epoch(credential, epoch))
            self.generations.note_own_epoch(credential, epoch, known=accepted)
        return gatherResults(stored)

    def revoke(self, fields: Fields, requester: Requester, sent_at: float) -> None:
        """Note that GitHub responded with 401 to a request with *fields*.

        It refused the token, and so the token with each scheme that it is sent with.
        """
        accepted = self.credentials.is_accepted(requester.token)
        self.credentials.forget(requester.token)
        for credential in self.credentials.names.writers_of(fields):
            self.generations.begin(credential, known=accepted)
            self.store.revoke(credential, new_epoch(accepted=False))
        # The hybrid clock may be ahead of the machine's, by which later logins are noted.
        self.users.note_rejection(requester.credential, min(sent_at, self.now()))
