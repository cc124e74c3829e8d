"""Epochs and generations of tokens, as this replica learns of writes and refusals.

`caching.epochs` describes epochs, which order requests in the fleet. `caching.invalidation` has the
generations, which order them in this replica.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, gatherResults

from ghmirror_tw.caching.epochs import new_epoch
from ghmirror_tw.caching.hybrid_clock import HybridClock
from ghmirror_tw.caching.records import Known
from ghmirror_tw.caching.refused_scope import RefusedScope, refused_scope
from ghmirror_tw.caching.token_generations import Generations
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.request_context import Lookup
from ghmirror_tw.store.store_interface import IStore
from ghmirror_tw.upstream.credential_registry import CredentialRegistry
from ghmirror_tw.upstream.logins import LoginCache
from ghmirror_tw.upstream.request_to_send import Requester


@define(eq=False)
class EpochTracker:
    """The hybrid clock, the generations, and the epochs that this replica begins."""

    store: IStore
    credentials: CredentialRegistry
    users: LoginCache
    now: Callable[[], float]
    generations: Generations = field(factory=Generations)
    _clock: HybridClock = field(init=False)
    #: Returns the time, later than every time returned or read before (see `hybrid_clock`).
    tick: Callable[[], float] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._clock = HybridClock(self.now)
        self.tick = self._clock.tick

    def generation(self, requester: Requester) -> int:
        """Return the number of the current generation of a token."""
        accepted = self.credentials.is_accepted(requester.token)
        return self.generations.of(requester.token, accepted=accepted)

    def in_current_generation(self, lookup: Lookup) -> Lookup:
        """Return the look-up of a request, in the current generation of its token."""
        generation = self.generation(lookup.requester)
        return lookup if generation == lookup.generation else evolve(lookup, generation=generation)

    def note_look_up(self, requester: Requester, known: Known, *, accepted: bool) -> None:
        """Note the result of a look-up: advance the clock to its times, and note its epoch.

        An epoch that another replica has replaced begins a generation here. *accepted*: GitHub has
        accepted the token.
        """
        self._clock.read(known.latest_at)
        self.generations.note_epoch(requester.token, known.epoch, accepted=accepted)

    def current_or_begun(self, lookup: Lookup, known: Known) -> bytes | None:
        """Return the epoch for a grant: the one that was *known*, or one that begins now, or None.

        The first grant of a token begins an epoch, and stores it. None where the generation has
        changed since the request: after a write of the token, or a 401. While there are older
        secrets, a replica may know the token by another name, and write for it without the
        knowledge of this one (see `replace`). Then an epoch counts only from the next request on.
        """
        token = lookup.requester.token
        if known.epoch is not None or lookup.generation != self.generation(lookup.requester):
            return known.epoch
        began = self.store.begin_epoch(token, new_epoch(), lookup.received_at)
        if began is not None:
            accepted = self.credentials.is_accepted(token)
            self.generations.note_own_epoch(token, began, accepted=accepted)
        return None if self.credentials.names.older else began

    def begin_generation(self, token: str) -> None:
        """Begin a generation of a token: its write is sent now."""
        self.generations.begin(token, accepted=self.credentials.is_accepted(token))

    def replace(self, token: str, older: Iterable[str] = ()) -> Deferred[list[None]]:
        """Begin a generation and an epoch of a token, since its write has ended.

        *older* are its names by older secrets, under which other replicas may still work: there,
        only an epoch that exists is replaced. Fires when all replicas can find the new epochs, or
        when storing them has failed.
        """
        accepted = self.credentials.is_accepted(token)
        epoch = new_epoch(accepted=accepted)
        self.generations.begin(token, accepted=accepted)
        stored = [self.store.replace_epoch(token, epoch)]
        self.generations.note_own_epoch(token, epoch, accepted=accepted)
        for name in older:
            other = new_epoch(accepted=accepted)
            stored.append(self.store.replace_epoch(name, other, if_present=True))
        return gatherResults(stored)

    def note_refusal(
        self, request: Request, requester: Requester, status: int, sent_at: float
    ) -> None:
        """Store what GitHub refuses, so that it outweighs every grant from before.

        *status* is that of a response without a rate limit, to a request sent at *sent_at*.
        """
        refused = refused_scope(request, status)
        if refused is RefusedScope.EVERYTHING:
            older = self.credentials.names.older_tokens_of(request.fields)
            self.revoke(requester, sent_at, older)
        elif refused is RefusedScope.KEY:
            key = self.credentials.key(request)
            self.store.deny(key, requester.credential, sent_at, token=requester.token)

    def revoke(self, requester: Requester, sent_at: float, older: Iterable[str] = ()) -> None:
        """Note that GitHub responded with 401: it refused the token, however it is sent.

        *older* are its names by older secrets.
        """
        token = requester.token
        accepted = self.credentials.is_accepted(token)
        self.credentials.forget(token)
        self.generations.begin(token, accepted=accepted)
        for name in (token, *older):
            self.store.revoke(name, new_epoch(accepted=False))
        # Logins are noted by the clock of this machine, and the hybrid clock may be ahead of it.
        self.users.note_rejection(requester.credential, min(sent_at, self.now()))
