"""Validating a question with GitHub: with what it is asked, and what becomes of its answer."""

from __future__ import annotations

from functools import partial
from typing import Final, Protocol

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from ghmirror_tw.caching import grant_lifetime, update
from ghmirror_tw.caching import validators as reuse
from ghmirror_tw.caching.forwarded_fields import canonical_request_fields, forwarded_response_fields
from ghmirror_tw.caching.records import Entry, Known, Representation
from ghmirror_tw.caching.refusals import refused_scope
from ghmirror_tw.caching.representations import representation_of
from ghmirror_tw.caching.storability import has_short_lived_urls, reason_not_to_store
from ghmirror_tw.caching.update import ResponseMetadata
from ghmirror_tw.caching.validators import EMPTY_DIGEST, EMPTY_FIELDS, Validator, ValidatorKind
from ghmirror_tw.github import entity_tag_rule
from ghmirror_tw.github.link_conditions import (
    NO_CONDITIONS,
    UNPROVABLE,
    LinkConditions,
    conditions_of_link,
)
from ghmirror_tw.github.media_types import is_json
from ghmirror_tw.github.operations import most_items_of_page
from ghmirror_tw.github.rate_limits import Limit
from ghmirror_tw.github.sharing import Sharing
from ghmirror_tw.http import entity_tags, error_responses
from ghmirror_tw.http.cache_status import Outcome
from ghmirror_tw.http.content_codings import (
    ContentTooLargeError,
    UndecodableError,
    compress,
    decoded,
    estimated_size,
)
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.links import has_foreign_page
from ghmirror_tw.http.preconditions import PRECONDITIONS
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.exchange import (
    ConditionalRequest,
    Exchange,
    Lookup,
    MirrorOptions,
)
from ghmirror_tw.proxy.link_proofs import NoPagesError, NoSuchPageError, Proofs
from ghmirror_tw.proxy.stored_content import fetched
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.runtime.quantities import size
from ghmirror_tw.runtime.restore_barrier import RestoreBarrier
from ghmirror_tw.store.store_interface import IStore
from ghmirror_tw.upstream.byte_budget import ByteBudgets, GrowingReservation
from ghmirror_tw.upstream.credential_registry import CredentialRegistry
from ghmirror_tw.upstream.limit_detection import LIMIT_CONTENT_BYTES
from ghmirror_tw.upstream.limits import RateLimitedError, limited
from ghmirror_tw.upstream.outgoing_request import OutgoingRequest, Requester
from ghmirror_tw.upstream.received_content import ReceivedContent
from ghmirror_tw.upstream.response import BufferedContent, NoUpstreamResponseError, Response
from ghmirror_tw.upstream.sender import Sender
from ghmirror_tw.upstream.upstream_interface import IncomingContent, UpstreamError, UpstreamResponse

_EMPTY: Final = Representation(
    EMPTY_DIGEST, EMPTY_FIELDS, compress(entity_tag_rule.EMPTY_LIST), 2, 0
)
#: GitHub's statuses for a page of a list that has no numbered pages.
_NO_PAGES: Final = frozenset({400, 404})
_CONFIRMED: Final = {
    ValidatorKind.OWN: Outcome.REVALIDATED,
    ValidatorKind.COMPUTED: Outcome.SHARED,
    ValidatorKind.EMPTY: Outcome.EMPTY,
}


class RevalidationContext(Protocol):
    """What validating needs of the mirror around it."""

    @property
    def options(self) -> MirrorOptions:
        """How it is set up now."""

    @property
    def barrier(self) -> RestoreBarrier:
        """Whether the store is being filled."""

    @property
    def budgets(self) -> ByteBudgets:
        """How many bytes of content may be held."""

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""

    def tick(self) -> float:
        """Return the time, later than every time returned or read before."""

    def login(self, credential: str) -> str | None:
        """Return whose credential it is, where known."""

    async def page(self, request: Request, asked: Lookup) -> Response:
        """Answer a question of our own, of another page of what is *asked* for."""

    def revoked(self, fields: Fields, requester: Requester, requested_at: float) -> None:
        """Remember that GitHub refused a credential altogether, in a request with *fields*."""

    def epoch(self, asked: Lookup, known: Known) -> bytes | None:
        """Return the epoch in which a request was sent, after what was *known*; None: unknown."""

    def unstorable(self, asked: Lookup, reason: str) -> None:
        """Note that a 200 could not be stored, and the reason."""


@define(eq=False)
class Revalidation:
    """Asks GitHub, and takes its answer."""

    world: RevalidationContext
    store: IStore
    threads: ContentThreads
    sharing: Sharing
    proofs: Proofs
    credentials: CredentialRegistry
    sender: Sender
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.mirror"))

    async def _plan(self, asked: Lookup, known: Known) -> ConditionalRequest:
        """Choose the validators: the grant's own, and those computed for what others brought."""
        now = self.world.now()
        request, grant = asked.request, known.grant
        entries: tuple[Entry, ...] = ()
        if (
            reuse.may_have_candidates(known)
            and self.sharing.enabled(now)
            # Else the time of the response would show whether something is stored.
            and self.credentials.is_accepted(asked.requester.token)
        ):
            entries = reuse.candidates(
                known,
                self.world.login(asked.credential),
                lists=self.sharing.lists_enabled(now),
                proven=self.sharing.proven,
            )
        wanted = (() if grant is None else (grant.digest,)) + tuple([e.digest for e in entries])
        stored = await self._fetch(asked, known, wanted) if wanted else {}
        validators = []
        if grant is not None and grant.etag is not None and grant.digest in stored:
            validators.append(Validator(grant.etag, ValidatorKind.OWN, grant.digest))
        for entry in entries:
            candidate = stored.get(entry.digest)
            if candidate is not None:
                tag = await self.threads.run(candidate.size, _computed, request, candidate)
                validators.append(Validator(tag, ValidatorKind.COMPUTED, entry.digest))
        if validators:
            return ConditionalRequest(tuple(validators), stored=stored)
        if grant is not None and grant.digest in stored and grant.last_modified is not None:
            return ConditionalRequest(dated=grant, stored=stored)
        return ConditionalRequest(self._guesses(asked, known, now))

    async def _fetch(
        self, asked: Lookup, known: Known, wanted: tuple[str, ...]
    ) -> dict[str, Representation]:
        """Return those of the representations that are there.

        While a store is being filled, what is listed may come before its content does.
        """
        grant = known.grant

        def is_found(stored: dict[str, Representation]) -> bool:
            return asked.probing or (bool(stored) if grant is None else grant.digest in stored)

        budgets, deadline = self.world.budgets, asked.store_deadline
        fetch = partial(fetched, self.store, budgets, known, asked.key, wanted, deadline)
        return await self.world.barrier.until_found(fetch, is_found)

    def _guesses(self, asked: Lookup, known: Known, now: float) -> tuple[Validator, ...]:
        """Return validators where there is nothing to validate: the client's own, or `[]`."""
        own = reuse.client_validators(asked.request)
        if own:
            return own if self.sharing.lists_enabled(now) else own[:1]
        if known.grant is not None or known.entries:
            return ()
        if (
            # A proof is GitHub's word on the list, not a guess at the client's answer.
            (asked.probing or (asked.guess and asked.first_page and not asked.head))
            and self.sharing.single.is_on(now)
            and reuse.may_be_empty_list(asked.request)
        ):
            return (
                Validator(reuse.empty_list_tag(asked.request), ValidatorKind.EMPTY, EMPTY_DIGEST),
            )
        return ()

    def _note_departure(self, asked: Lookup) -> None:
        asked.departure.note(self.world.now())

    async def validate(self, asked: Lookup, known: Known) -> Response:
        """Ask GitHub, with fewer validators each time that its answer cannot be used."""
        plan = await self._plan(asked, known)
        own = self._own_demand(asked, known, plan)
        if self._is_unprovable(asked, known, plan, own):
            plan, own = ConditionalRequest(), NO_CONDITIONS
        beside = self._prove_beside(asked, known, own)
        sending = partial(self._note_departure, asked)
        try:
            while True:
                requested_at = self.world.tick()
                request = plan.as_sent(asked.request)
                try:
                    reply = await self.sender.send(
                        OutgoingRequest(
                            request,
                            asked.requester,
                            asked.deadline,
                            sending=sending,
                            slot=asked.slot,
                        )
                    )
                except UpstreamError as error:
                    if error.status is not None:
                        self._refused(asked, error.status, requested_at)
                    raise
                turn = Exchange(asked, known, plan, reply, requested_at)
                if reply.status != 304:  # noqa: PLR2004
                    return await self._take(turn)
                if reply.content.length != 0:
                    await reply.content.collect(0)
                if not plan.conditional:
                    raise UpstreamError("broken-answer", "304 to an unconditional request")
                response, plan = await self._confirm(turn, beside)
                if response is not None:
                    return response
        finally:
            if beside is not None:
                # If something else ended it, nobody looks at this one any more.
                beside.addErrback(lambda failure: failure.trap(CancelledError) and None)
                beside.cancel()

    def _word(self, turn: Exchange) -> ResponseMetadata:
        asked, fields = turn.asked, turn.reply.fields
        authorization, limit_s = asked.request.authorization, self.world.options.stale_limit
        now = self.world.now()
        expires_at = grant_lifetime.grant_expires_at(authorization, fields, now, limit_s)
        login = self.world.login(asked.credential)
        sent = asked.request.fields.memoised(canonical_request_fields)
        epoch = self.world.epoch(asked, turn.known)
        return ResponseMetadata(fields, turn.requested_at, now, login, expires_at, sent, epoch)

    async def _confirm(
        self, turn: Exchange, beside: Deferred[bool | None] | None
    ) -> tuple[Response | None, ConditionalRequest]:
        """Take a 304: return the answer that it confirms, or how to ask again."""
        asked, plan, own = turn.asked, turn.plan, forwarded_response_fields(turn.reply.fields)
        etag = own.get(b"etag")
        validator = plan.confirmed(etag)
        if validator is None:
            return None, plan.narrowed()
        self.sharing.note_confirmed(len(plan.validators))
        if validator.kind is ValidatorKind.CLIENT:
            fields = own.with_line(b"etag", etag or validator.tag)
            return Response(304, fields, Outcome.REVALIDATED, None), plan
        stored = (
            _EMPTY if validator.kind is ValidatorKind.EMPTY else plan.stored.get(validator.digest)
        )
        if stored is None or has_foreign_page(own.combined(b"link"), self.world.options.api_url):
            return None, ConditionalRequest()
        grant, entry = update.from_304(turn.known, validator, stored, self._word(turn))
        demand = self._demand(asked, turn.known, stored, grant.link, validator.kind)
        if demand is not NO_CONDITIONS:
            if beside is not None and validator.kind is ValidatorKind.OWN:
                held = await beside
            else:
                held = await self._prove(asked, turn.known, demand)
            if not held:
                return None, ConditionalRequest()
            self.proofs.answered(asked.walk(turn.known))
        if stored.items is not None and not asked.probing:
            self.proofs.received(asked.walk(turn.known), stored.items)
        # Of a page beyond the first, `[]` says nothing about its `Link`: it is not remembered.
        if validator.kind is not ValidatorKind.EMPTY:
            self.store.freshen(asked.key, asked.credential, grant, entry)
        elif asked.first_page:
            self.store.store_response(asked.key, asked.credential, stored, grant, entry)
        fields = update.freshened(stored.fields, grant, own)
        outcome, granted = _CONFIRMED[validator.kind], turn.known.grant is not None
        response = Response(200, fields, outcome, stored, asked=304, granted=granted)
        return (evolve(response, charged=True) if turn.reply.charged else response), plan

    # Links.

    def _demand(
        self,
        asked: Lookup,
        known: Known,
        stored: Representation,
        link: bytes | None,
        kind: ValidatorKind,
    ) -> LinkConditions:
        if asked.probing or kind is ValidatorKind.EMPTY:
            return NO_CONDITIONS
        demand = conditions_of_link(
            asked.request.target,
            stored.items,
            link,
            shared=kind is ValidatorKind.COMPUTED,
            verify_last=self.world.options.verify_last,
            authorised=asked.request.authorization is not None,
            api_url=self.world.options.api_url,
        )
        if demand is not NO_CONDITIONS and self.proofs.has_no_pages(asked.walk(known)):
            return UNPROVABLE
        if self.proofs.leads_nowhere(asked.walk(known), link, self.world.options.api_url):
            return UNPROVABLE
        return demand

    def _own_demand(self, asked: Lookup, known: Known, plan: ConditionalRequest) -> LinkConditions:
        """Return what must be proved if the grant's own validator is confirmed."""
        grant = known.grant
        stored = plan.stored.get(grant.digest) if grant is not None else None
        if grant is None or stored is None or not plan.conditional:
            return NO_CONDITIONS
        return self._demand(asked, known, stored, grant.link, ValidatorKind.OWN)

    def _is_unprovable(
        self, asked: Lookup, known: Known, plan: ConditionalRequest, own: LinkConditions
    ) -> bool:
        """Tell whether what GitHub is likely to confirm could not be used anyway.

        Then it is asked without validators at once, rather than twice.
        """
        if known.grant is not None or asked.request.authorization is not None:
            return own.unprovable
        return any(
            self._demand(asked, known, stored, e.link, ValidatorKind.COMPUTED).unprovable
            for e in known.entries
            if (stored := plan.stored.get(e.digest)) is not None
        )

    def _prove_beside(
        self, asked: Lookup, known: Known, own: LinkConditions
    ) -> Deferred[bool | None] | None:
        """Prove beside the main question what must hold if the grant's own tag is confirmed."""
        if own is NO_CONDITIONS or own.unprovable:
            return None
        # It would be one question more than the one that may try whether a limit has ended.
        if self.sender.limits.has_any(asked.requester.token, asked.scopes):
            return None
        # The proof may be older than the main request, which may have to wait for a connection.
        self._note_departure(asked)
        return Deferred.fromCoroutine(self._prove(asked, known, own))

    async def _request_page(self, asked: Lookup, target: bytes) -> int | None:
        """Return the number of items on another page; None where no response shows it."""
        fields = asked.request.fields.without(PRECONDITIONS)
        try:
            response = await self.world.page(Request(b"GET", target, fields), asked)
        except (UpstreamError, MirrorError, NoUpstreamResponseError, RateLimitedError):
            return None
        if response.incoming is not None:
            response.incoming.abort()
        if response.status == 422:  # noqa: PLR2004 - GitHub does not count that far
            raise NoSuchPageError
        if response.status in _NO_PAGES:
            raise NoPagesError
        return response.body.items if isinstance(response.body, Representation) else None

    async def _prove(self, asked: Lookup, known: Known, demand: LinkConditions) -> bool | None:
        return await self.proofs.prove(
            asked.walk(known), demand, lambda target: self._request_page(asked, target)
        )

    # Taking what is new.

    async def _take(self, turn: Exchange) -> Response:
        """Take an answer that is no 304: store it if it may be, and pass it on."""
        asked, reply = turn.asked, turn.reply
        if reply.status >= 500:  # noqa: PLR2004
            raise NoUpstreamResponseError(
                "server-error", reply.status, await self._server_error(turn)
            )
        if reply.limit is not None and reply.limited:
            response = limited_answer(reply, reply.limit, self.world.now())
            raise NoUpstreamResponseError(reply.limit.kind.reason, reply.status, response)
        why = self._process_head(turn)
        if asked.head:
            await reply.content.collect(0)
            return passed_on(reply, None)
        try:
            content, room = await self._collect(reply)
        except UpstreamError as error:
            raise UpstreamError(error.reason, error.why, reply.status, error.limit) from error
        with room:
            if why is None:
                stored = await self._store_whole(turn, content)
                if isinstance(stored, Response):
                    return stored
                self._ends_grant(turn)
                why = stored
            if reply.status == 200:  # noqa: PLR2004
                self.store.mark_unstorable(asked.key)
                self.world.unstorable(asked, why)
            return passed_on(reply, self._body(reply, content))

    async def _collect(self, reply: UpstreamResponse) -> tuple[bytes | None, GrowingReservation]:
        """Return the content, or None where it is too large to be held, and the room it takes."""
        limit, budgets = self.world.options.max_stored_size, self.world.budgets
        room = budgets.growing_reservation(limit, reply.content.length)
        try:
            content = await reply.content.collect(limit, _coding(reply), room)
        except BaseException:
            room.release()
            raise
        return content, (budgets.growing_reservation(0, 0) if content is None else room)

    def _body(
        self, reply: UpstreamResponse, content: bytes | None
    ) -> BufferedContent | IncomingContent:
        """Return what was collected, counted for as long as a request holds it, or the stream."""
        if content is None:
            return reply.content
        whole = BufferedContent(content, _coding(reply))
        self.world.budgets.track(whole, content)
        return whole

    async def _server_error(self, turn: Exchange) -> Response | MirrorError:
        """Return GitHub's own 5xx, for all waiting requests without a stale response.

        With content that is too large to be held for them, the mirror's own error replaces it.
        """
        reply, limit_bytes = turn.reply, self.world.options.max_stored_size
        if turn.asked.head:
            await reply.content.collect(0)
            return passed_on(reply, None)
        try:
            content, room = await self._collect(reply)
        except UpstreamError as error:
            raise UpstreamError(error.reason, error.why, reply.status, error.limit) from error
        with room:
            if content is None:
                reply.content.abort()
                limit = f"[cache] max_stored_size = {size(limit_bytes)}"
                return error_responses.over_own_limit(limit)
            return passed_on(reply, self._body(reply, content))

    def _process_head(self, turn: Exchange) -> str | None:
        """Update refusals, sharing and the grant from status and fields, without the content.

        Return the reason why the response may not be stored; None: it may.
        """
        self._refused(turn.asked, turn.reply.status, turn.requested_at)
        self._weigh(turn)
        api_url = self.world.options.api_url
        why = reason_not_to_store(turn.asked.request, turn.reply.status, turn.reply.fields, api_url)
        if why is not None:
            self._ends_grant(turn)
        return why

    def _weigh(self, turn: Exchange) -> None:
        """Take a 200 with a tag that was sent as evidence that validators are ignored."""
        sent, etag = turn.plan.validators, turn.reply.fields.get(b"etag")
        if turn.reply.status != 200 or not reuse.was_ignored(sent, etag):  # noqa: PLR2004
            return
        if len(sent) == 1 and sent[0].kind not in {ValidatorKind.COMPUTED, ValidatorKind.EMPTY}:
            return
        now = self.world.now()
        off = self.sharing.note_ignored(len(sent), turn.asked.key.name, turn.asked.credential, now)
        if off is not None:
            self._log.warn(
                "GitHub ignores validators that it should honour; {what} off for an hour",
                what="lists of entity-tags" if off == "lists" else "sharing",
            )

    async def _store_whole(self, turn: Exchange, content: bytes | None) -> Response | str:
        """Store the content of a 200, if it is complete and not too large; else return why not."""
        if content is None:
            return "too-large"
        if not turn.reply.content.is_delimited:
            return "uncertain-end"
        return await self._store(turn, content)

    async def _store(self, turn: Exchange, content: bytes) -> Response | str:
        """Store the content of a 200 and return the response, or return why it is not storable."""
        asked, known, fields = turn.asked, turn.known, turn.reply.fields
        try:
            represented = await self.threads.run(
                estimated_size(content, _coding(turn.reply)),
                _represented,
                asked.request,
                fields,
                content,
                self.world.options.max_stored_size,
            )
        except ContentTooLargeError:
            return "too-large"
        except UndecodableError as error:
            raise UpstreamError("broken-answer", str(error), turn.reply.status) from error
        if represented is None:
            return "short-lived-urls"
        stored, shareable = represented
        self.world.budgets.track(stored, stored.packed)
        grant, entry = update.from_200(known, stored, self._word(turn), shareable=shareable)
        self.store.store_response(asked.key, asked.credential, stored, grant, entry)
        if stored.items is not None and not asked.probing:
            self.proofs.answered(asked.walk(known))
            self.proofs.link_received(asked.walk(known), grant.link, self.world.options.api_url)
            self.proofs.received(asked.walk(known), stored.items)
        cold = known.grant is None and not known.entries
        outcome = Outcome.MISS if cold else Outcome.CHANGED
        granted = known.grant is not None
        return Response(
            200, forwarded_response_fields(fields), outcome, stored, asked=200, granted=granted
        )

    def _ends_grant(self, turn: Exchange) -> None:
        """End the grant, since GitHub's response neither confirms nor replaces it.

        Its representation stays a candidate for validation. Failures and rate limits, which do not
        concern the grant, do not get here.
        """
        asked, grant = turn.asked, turn.known.grant
        if grant is not None and refused_scope(turn.reply.status) is None:
            self.store.deny(asked.key, asked.credential, turn.requested_at)

    def _refused(self, asked: Lookup, status: int, requested_at: float) -> None:
        """Remember a refusal, so that it outweighs every grant from before.

        *status* is that of a response without a rate limit.
        """
        what = refused_scope(status)
        if what == "credential" and asked.request.authorization is not None:
            self.world.revoked(asked.request.fields, asked.requester, requested_at)
        elif what is not None:
            self.store.deny(asked.key, asked.credential, requested_at)


def _coding(reply: UpstreamResponse) -> bytes:
    codings = reply.fields.listed(b"content-encoding")
    return b", ".join([coding for coding in codings if coding != b"identity"])


def _computed(request: Request, candidate: Representation) -> bytes:
    return reuse.computed_tag(request, candidate, candidate.content())


def _represented(
    request: Request, fields: Fields, content: bytes, limit: int
) -> tuple[Representation, bool] | None:
    """Return a representation, and whether its entity-tag is the one that we compute.

    None where it must not be stored: it contains URLs that expire before the tag changes.
    """
    coding = b", ".join(fields.listed(b"content-encoding"))
    stored, plain = representation_of(
        fields, content, coding, limit, most_items_of_page(request.target)
    )
    etag = fields.get(b"etag")
    shareable = etag is not None and entity_tags.weakly_equal(
        etag, reuse.computed_tag(request, stored, plain)
    )
    if not shareable and is_json(fields.get(b"content-type")) and has_short_lived_urls(plain):
        return None
    return stored, shareable


def limited_answer(reply: UpstreamResponse, limit: Limit, now: float) -> Response:
    """Return a rate limited response of GitHub's, for all requests of a flight.

    Where its content is missing (HEAD), or does not unpack, GitHub's usual content replaces it.
    """
    content = reply.content.content if isinstance(reply.content, ReceivedContent) else b""
    response = passed_on(reply, BufferedContent(content, _coding(reply)))
    try:
        readable = bool(decoded(content, _coding(reply), LIMIT_CONTENT_BYTES))
    except (UndecodableError, ContentTooLargeError):
        readable = False
    if readable:
        return response
    usual = limited(limit, now)
    fields = response.fields.with_line(b"content-type", usual.fields.get(b"content-type"))
    return evolve(response, fields=fields, body=usual.body, coding=b"")


def passed_on(reply: UpstreamResponse, body: BufferedContent | IncomingContent | None) -> Response:
    """Return GitHub's answer as it is."""
    return Response(
        reply.status,
        forwarded_response_fields(reply.fields),
        Outcome.PASS,
        body,
        coding=_coding(reply),
        forward="uri-miss",
        asked=reply.status,
    )
