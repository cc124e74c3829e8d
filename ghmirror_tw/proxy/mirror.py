"""The conversation: the one loop that asks the store, asks GitHub, stores and answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial
from math import ceil, inf
from typing import Any, Final, TypeVar
from uuid import uuid4

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ghmirror_tw.caching import staleness
from ghmirror_tw.caching.acceptance import lookup_shows_acceptance
from ghmirror_tw.caching.bypass import bypass_reason
from ghmirror_tw.caching.epochs import new_epoch
from ghmirror_tw.caching.forwarded_fields import canonical_request_fields
from ghmirror_tw.caching.freshness import requires_validation
from ghmirror_tw.caching.hybrid_clock import HybridClock
from ghmirror_tw.caching.invalidation import Generations, is_write
from ghmirror_tw.caching.records import Known, Representation
from ghmirror_tw.caching.refusals import refused_scope
from ghmirror_tw.caching.vary import fields_beyond_key, without_other_variant
from ghmirror_tw.github.credentials import is_validated
from ghmirror_tw.github.graphql import is_graphql, is_mutation
from ghmirror_tw.github.path_patterns import path_pattern
from ghmirror_tw.github.rate_limit_resources import resource_of_path
from ghmirror_tw.github.sharing import Sharing
from ghmirror_tw.http import error_responses
from ghmirror_tw.http.accept_encoding import accepts_gzip
from ghmirror_tw.http.cache_status import Outcome
from ghmirror_tw.http.content_codings import ContentTooLargeError, UndecodableError, decoded
from ghmirror_tw.http.error_responses import MirrorError
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.preconditions import is_not_modified
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.access import AccessControl
from ghmirror_tw.proxy.credential_check import TIMEOUT_S, CredentialChecks
from ghmirror_tw.proxy.exchange import Lookup, MirrorOptions
from ghmirror_tw.proxy.link_proofs import Proofs
from ghmirror_tw.proxy.revalidation import Revalidation, passed_on
from ghmirror_tw.proxy.stored_content import fetched
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.runtime.patient import Patient
from ghmirror_tw.runtime.quantities import duration
from ghmirror_tw.runtime.restore_barrier import RestoreBarrier
from ghmirror_tw.runtime.single_flight import Departure, SingleFlight
from ghmirror_tw.store.store_interface import Deadline, IStore, LockName, LockOutcome
from ghmirror_tw.telemetry.metrics import Metrics
from ghmirror_tw.upstream.byte_budget import FREE_BYTES, ByteBudgets
from ghmirror_tw.upstream.credential_registry import CredentialRegistry
from ghmirror_tw.upstream.github_breaker import GitHubBreaker
from ghmirror_tw.upstream.limits import RateLimitedError
from ghmirror_tw.upstream.login_responses import parse_login
from ghmirror_tw.upstream.outgoing_request import OutgoingRequest, Requester, Upload
from ghmirror_tw.upstream.rate_limiter import RateLimiter
from ghmirror_tw.upstream.request_queue import Slot
from ghmirror_tw.upstream.response import BufferedContent, NoUpstreamResponseError, Response
from ghmirror_tw.upstream.sender import Sender
from ghmirror_tw.upstream.upstream_interface import IUpstream, UpstreamError, UpstreamResponse
from ghmirror_tw.upstream.users import LoginUnknownError, Users

R = TypeVar("R")

_USER: Final = b"/user"
_NO_FIELDS: Final = Fields()
_UNAUTHORIZED: Final = 401
#: How much of a GraphQL request is looked at; one that is longer counts as a write.
_GRAPHQL_LOOK: Final = 1024 * 1024
#: Content of a credential that GitHub may not accept is received in full before it is sent, if it
#: has at most so many bytes.
_SMALL_CONTENT: Final = 16 * 1024
#: The largest number of path patterns and reasons in the log, for responses that are not stored.
_MOST_PATTERNS: Final = 1000
#: Statuses that may tell of a limit.
_LIMITED: Final = frozenset({403, 429})
_READING: Final = frozenset({b"GET", b"HEAD"})
#: GitHub times out after some ten seconds, with one of these statuses.
_TIMED_OUT: Final = frozenset({502, 504})
_TIMED_OUT_S: Final = 8.0
#: Reasons for which GitHub is not asked at all.
_NOT_ASKED: Final = frozenset({"offline", "primary-limit", "secondary-limit"})
#: How a question may fail that nobody has done wrong.
_EXPECTED: Final = (
    CancelledError,
    MirrorError,
    NoUpstreamResponseError,
    RateLimitedError,
    UpstreamError,
)
#: How long after its request was sent a flight may be joined, in seconds.
JOIN_WINDOW_S: Final = 0.1
#: How often one asker tries to go first for the same.
_MOST_CLAIMS: Final = 2
_SAVED: Final = frozenset(
    {Outcome.REVALIDATED, Outcome.SHARED, Outcome.EMPTY, Outcome.FRESH, Outcome.STALE}
)

_log = Logger(namespace="ghmirror.mirror")


@define(eq=False)
class Mirror:
    """Answers questions: from the store where GitHub confirms it, else with what GitHub says."""

    reactor: Any
    store: IStore
    github: IUpstream
    threads: ContentThreads
    credentials: CredentialRegistry
    users: Users
    metrics: Metrics
    options: MirrorOptions
    sharing: Sharing
    barrier: RestoreBarrier
    github_breaker: GitHubBreaker
    limiter: RateLimiter
    budgets: ByteBudgets
    sender: Sender = field(init=False)
    proofs: Proofs = field(init=False)
    _flights: SingleFlight[Response] = field(factory=lambda: SingleFlight(_unwanted))
    _going: SingleFlight[Response] = field(factory=lambda: SingleFlight(_unwanted))
    _generations: Generations = field(factory=Generations)
    #: Path patterns and reasons that the log already has, for responses that are not stored.
    _unstorable: set[tuple[str, str]] = field(factory=set)
    _order: HybridClock = field(init=False)
    _claims: int = 0
    _instance: str = field(factory=lambda: uuid4().hex)
    _admission: AccessControl = field(init=False)
    _validation: Revalidation = field(init=False)
    _checks: CredentialChecks = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._order = HybridClock(self.now)
        self._admission = AccessControl(
            self.users,
            self._ask_self,
            self.now,
            self.call_later,
        )
        self.sender = Sender(
            self.github,
            self.store,
            self.credentials,
            self.limiter,
            self.github_breaker,
            self.metrics,
            self.options.timeout,
            self.login,
            self.now,
            self.call_later,
            self._owner,
        )
        self._checks = CredentialChecks(self.metrics, self.now)
        self.metrics.watch_unknown(lambda: self.limiter.unverified_in_flight)
        self.proofs = Proofs(self.now)
        self._validation = Revalidation(
            self, self.store, self.threads, self.sharing, self.proofs, self.credentials, self.sender
        )

    # Time and names.

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        now: float = self.reactor.seconds()
        return now

    def call_later(self, seconds: float, call: Callable[[], object]) -> IDelayedCall:
        """Call something in so many *seconds*."""
        later: IDelayedCall = self.reactor.callLater(seconds, call)
        return later

    def tick(self) -> float:
        """Return the time, later than every time returned or read before (see `order`)."""
        return self._order.tick()

    def login(self, credential: str) -> str | None:
        """Return whose credential it is, where known."""
        return self.users.login(credential, self.reactor.seconds())

    def credential_of(self, fields: Fields) -> str:
        """Return the name of the credential in a request's *fields*."""
        return self.credentials.names.of(fields)

    # From outside.

    async def respond(self, request: Request, upload: Upload | None = None) -> Response:
        """Return the answer to a client's question. Raises `MirrorError` where there is none."""
        requester = self.credentials.requester(request.fields)
        began = self.now()
        deadline = began + self.options.timeout
        if self.options.allowed_users:
            refused = await self._admission.admit(
                request, requester.credential, self.options, offline=self.github_breaker.is_open
            )
            if refused is not None:
                return refused
        try:
            forward = bypass_reason(request, has_content=upload is not None)
            if forward is not None:
                return await self._pass_by(request, upload, requester, forward, deadline)
            response = await self._answer_storable(
                request,
                requester,
                deadline,
                self.store.store_deadline(),
                stale_by=began + self.options.stale_after,
            )
        except UpstreamError as error:
            raise self._sorry(request, error) from error
        except RateLimitedError as error:
            return error.active.response(self.now())
        except NoUpstreamResponseError as error:
            if isinstance(error.otherwise, Response):
                return error.otherwise
            self._log_unanswered(request, error.reason, str(error.__cause__ or error.status))
            raise error.otherwise from error
        free = response.outcome in _SAVED and not response.charged
        asked_free = free and request.authorization is not None
        if asked_free or response.outcome is Outcome.FRESH or response.collapsed:
            self.metrics.saved(self.login(requester.credential))
        return response

    def _sorry(self, request: Request, error: UpstreamError) -> MirrorError:
        self._log_unanswered(request, error.reason, error.why)
        return self._unanswered(error)

    def _unanswered(self, error: UpstreamError) -> MirrorError:
        """Return the error response for a response that never came, or broke off."""
        limit = error.limit
        if error.reason == "timeout" and not limit:
            limit = f"[github] timeout = {duration(self.options.timeout)}"
        return error_responses.upstream_error(error.reason, limit)

    def _log_unanswered(self, request: Request, reason: str, why: str) -> None:
        _log.warn(
            "GitHub did not answer {method}: {reason}: {why}",
            method=request.method.decode("ascii"),
            reason=reason,
            why=why,
        )

    async def _ask_self(self, request: Request, upload: Upload | None) -> Response:
        """Send a request of the mirror's own, the same way as requests of clients.

        Raises `LoginUnknownError` where GitHub fails or a rate limit is in force.
        """
        requester = self.credentials.requester(request.fields)
        try:
            try:
                if upload is None:
                    response = await self._answer_storable(
                        request,
                        requester,
                        self._deadline(),
                        self.store.store_deadline(),
                        probing=True,
                    )
                else:
                    response = await self._pass_by(
                        request, upload, requester, "method", self._deadline()
                    )
            except NoUpstreamResponseError as error:
                if isinstance(error.otherwise, MirrorError):
                    raise error.otherwise from error
                raise LoginUnknownError(await self._in_full(error.otherwise)) from error
            return await self._in_full(response)
        except RateLimitedError as error:
            raise LoginUnknownError(error.active.response(self.now())) from error
        except UpstreamError as error:
            raise LoginUnknownError(self._sorry(request, error)) from error
        except MirrorError as error:
            raise LoginUnknownError(error) from error

    async def _in_full(self, response: Response) -> Response:
        """Return a small response of GitHub's as a response to GET that can be sent many times."""
        return evolve(
            response,
            body=BufferedContent(await self._plain(response)),
            coding=b"",
            storable=True,
            forward=response.forward and "uri-miss",
            collapsed=False,
        )

    async def _plain(self, response: Response) -> bytes:
        """Return the content of a small answer; nothing of one that is too large or broken."""
        body, limit = response.body, self.options.max_stored_size
        if isinstance(body, Representation):
            return await self.threads.run(body.size, body.content)
        if body is None:
            return b""
        coding = response.coding
        if isinstance(body, BufferedContent):
            content, coding = body.content, body.coding
        else:
            collected = await body.collect(limit)
            if collected is None:
                body.abort()
                return b""
            content = collected
        try:
            return decoded(content, coding, limit)
        except (UndecodableError, ContentTooLargeError):
            return b""

    # What passes by.

    async def _pass_by(
        self,
        request: Request,
        upload: Upload | None,
        requester: Requester,
        forward: str,
        deadline: float,
    ) -> Response:
        """Forward a request that is not storable; a write only with a credential that is valid."""
        if upload is not None or is_write(request):
            # With a credential that is not valid, the content is not received.
            refused = await self._check(request, requester, deadline)
            if refused is not None:
                return evolve(refused, storable=False, forward=forward)
        return await self._forward(request, upload, requester, forward, deadline)

    async def _forward(
        self,
        request: Request,
        upload: Upload | None,
        requester: Requester,
        forward: str,
        deadline: float,
    ) -> Response:
        """Forward a request that is not storable, and pass on what comes, whatever it is."""
        writes = await _mutates(request, upload, self.budgets)
        if upload is not None:
            if not self.credentials.is_accepted(requester.token):
                # It has few slots, with all others like it: none is held for a client that stalls.
                await upload.whole(_SMALL_CONTENT)
            # The timeout for GitHub does not include the time that the client takes to send.
            deadline = max(deadline, self._deadline())
        departure = Departure()
        # GitHub lets nothing be changed without a credential, and all clients without one share it:
        # none may end what permits stale responses to the others.
        changes = writes and request.authorization is not None
        writers = self.credentials.names.writers_of(request.fields) if changes else frozenset()

        def sending() -> None:
            departure.note(self.now())
            if writes:
                known = self.credentials.is_accepted(requester.token)
                for writer in writers:
                    self._generations.begin(writer, known=known)

        # Only what we can unpack can be rewritten.
        coding = b"gzip" if accepts_gzip(request.fields) else b"identity"
        request = evolve(request, fields=request.fields.with_line(b"accept-encoding", coding))
        await self.sender.learn_limits(request, requester.token, writes=writes)
        asked_at = self.tick()
        noted: Deferred[list[None]] | None = None
        # A request that was not sent, or that GitHub has rate limited, changes nothing.
        may_have_written = True
        try:
            reply = await self.sender.send(
                OutgoingRequest(request, requester, deadline, upload, writes, sending)
            )
            may_have_written = not reply.limited and reply.status != _UNAUTHORIZED
        except UpstreamError as error:
            may_have_written = error.reason != "connect-error"
            self._take_refusal(request, requester, error.status, asked_at)
            raise
        finally:
            if writes and may_have_written and departure.sent_at is not None:
                noted = self._advance(writers, known=self.credentials.is_accepted(requester.token))
        if noted is not None:
            await self._until_noted(noted, reply)
        if not reply.limited:
            self._take_refusal(request, requester, reply.status, asked_at)
        return evolve(passed_on(reply, reply.content), storable=False, forward=forward)

    def _take_refusal(
        self, request: Request, requester: Requester, status: int | None, asked_at: float
    ) -> None:
        """Remember what is refused to a request that passed by; it is no less refused."""
        if status is None or (status != 401 and request.method not in _READING):  # noqa: PLR2004
            return
        what = refused_scope(status)
        if what == "credential" and request.authorization is not None:
            self.revoked(request.fields, requester, asked_at)
        elif what == "key":
            self.store.deny(self.credentials.key(request), requester.credential, asked_at)

    @staticmethod
    async def _until_noted(noted: Deferred[list[None]], reply: UpstreamResponse) -> None:
        """Wait until all replicas can know of a write: the next request may reach another one."""
        try:
            await noted
        except BaseException:
            reply.content.abort()
            raise

    def _advance(self, writers: frozenset[str], *, known: bool = True) -> Deferred[list[None]]:
        """Begin a new generation of requests: a write invalidates responses to earlier ones.

        Fires when all replicas can find the new epoch, or when storing it has failed.
        """
        noted = []
        for writer in writers:
            epoch = new_epoch(accepted=known)
            self._generations.begin(writer, known=known)
            noted.append(self.store.replace_epoch(writer, epoch))
            self._generations.note_own_epoch(writer, epoch, known=known)
        return gatherResults(noted)

    def _catch_up(self, requester: Requester, known: Known) -> None:
        """Advance the clock, and begin a generation if another replica has forwarded a write."""
        self._order.read(known.latest_at)
        accepted = self.credentials.is_accepted(requester.token)
        self._generations.note_epoch(requester.credential, known.epoch, known=accepted)

    def epoch(self, asked: Lookup, known: Known) -> bytes | None:
        """Return the epoch for a grant by a request that was sent when this was *known*, or None.

        The first good response to a credential begins an epoch, unless the credential has written
        since the request, or GitHub has responded to it with 401.
        """
        requester = asked.requester
        if known.epoch is not None or asked.generation != self._current_generation(requester):
            return known.epoch
        began = self.store.begin_epoch(asked.credential, new_epoch(), asked.came_at)
        if began is not None:
            accepted = self.credentials.is_accepted(requester.token)
            self._generations.note_own_epoch(asked.credential, began, known=accepted)
        return began

    # Asking GitHub.

    def _deadline(self) -> float:
        return self.now() + self.options.timeout

    async def _check(
        self, request: Request, requester: Requester, deadline: float
    ) -> Response | None:
        """Check a credential that is not accepted yet; return GitHub's 401 where it is not valid.

        Else return None, also where a check could show nothing, so that none is sent.
        """
        authorization = request.authorization
        if (
            authorization is None
            or self.credentials.is_accepted(requester.token)
            or self.github_breaker.is_open
            or request.fields.get(b"x-github-otp") is not None
            or not self._checks.may_check(authorization)
        ):
            return None
        asked_at = self.tick()

        async def send(check: Request) -> UpstreamResponse:
            return await self.sender.send(
                OutgoingRequest(check, requester, deadline, within_s=TIMEOUT_S)
            )

        refused = await self._checks.refusal(requester.credential, request, send)
        if refused is not None and not refused.collapsed:
            self.revoked(request.fields, requester, asked_at)
        return refused

    # What is storable: collapsed, looked up, asked, taken.

    async def _answer_storable(  # noqa: PLR0913 - who asks what, and how long they wait
        self,
        request: Request,
        requester: Requester,
        deadline: float,
        store_deadline: Deadline,
        *,
        probing: bool = False,
        stale_by: float = inf,
    ) -> Response:
        """Answer a storable question, together with all who ask the same now."""
        asked = Lookup(
            request=request,
            key=self.credentials.key(request),
            requester=requester,
            generation=self._current_generation(requester),
            deadline=deadline,
            guess=not requires_validation(request.fields),
            store_deadline=store_deadline,
            probing=probing,
            stale_by=stale_by,
            came_at=self.tick(),
        )
        for last in (False, True):
            response = await self._join(asked, last=last)
            if response is not None:
                return response
        return await self._ask(asked)

    def _current_generation(self, requester: Requester) -> int:
        known = self.credentials.is_accepted(requester.token)
        return self._generations.of(requester.credential, known=known)

    async def page(self, request: Request, asked: Lookup) -> Response:
        """Answer a question of our own, of another page of what is *asked* for."""
        return await self._answer_storable(
            request, asked.requester, asked.deadline, asked.store_deadline, probing=True
        )

    async def _join(self, asked: Lookup, *, last: bool) -> Response | None:
        """Wait for the response of a flight; None where the request has to be sent again.

        After a joined flight broke off, it is sent again, unless this is the *last* attempt.
        """
        current = await self._until_joinable(asked)
        name = self._flight_of(current)
        joins = self._flights.under_way(name)
        if joins:
            self.metrics.collapsed()
        else:
            current.departure.began_at = self.tick()
        try:
            response, first = await self._flights.join(
                name, lambda: self._ask(current), current.departure
            )
        except NoUpstreamResponseError as error:
            if joins and not last and error.reason == "broken-answer":
                return None
            if joins and isinstance(error.otherwise, Response):
                shared = evolve(error.otherwise, collapsed=True)
                raise NoUpstreamResponseError(error.reason, error.status, shared) from error
            raise
        if not first and response.incoming is not None:
            return None
        if joins and _is_not_for(asked, response):
            return None
        return evolve(response, collapsed=True) if joins else response

    def _flight_of(self, asked: Lookup) -> Hashable:
        """Return the name of the flight for what is *asked*; HEAD joins that of a GET."""
        return asked.same, asked.head and not self._flights.under_way((asked.same, False))

    async def _until_joinable(self, asked: Lookup) -> Lookup:
        """Wait while there is a flight that must not be joined; return *asked*, up to date.

        A flight that began after the request was received may be joined. An earlier one may be
        joined under two conditions. It knows of all writes of the credential: a look-up in the
        store shows that, and begins a new generation, with flights of its own, if another replica
        has forwarded a write. And its request was sent `JOIN_WINDOW_S` ago at most. All requests
        that wait for a flight to end share the next one.
        """
        looked = knows = False
        while (departure := self._flights.departure(self._flight_of(asked))) is not None:
            if departure.began_at > asked.came_at:
                break
            if not looked:
                known = await self._look_up(asked, current=True)
                looked, knows = True, known.current
                asked = self._up_to_date(asked)
                continue
            sent_at = departure.sent_at
            if knows and (sent_at is None or asked.came_at - sent_at <= JOIN_WINDOW_S):
                break
            await self._flights.landed(self._flight_of(asked))
        return asked

    async def _ask(self, asked: Lookup) -> Response:
        """Answer a question from the store, or by asking GitHub."""
        known = await self._look_up(asked)
        if self.barrier.is_shut:
            asked, known = await self._until_filled(asked, known)
        if self._is_fresh(asked, known):
            fresh = await self._fresh(asked, known)
            if fresh is not None:
                return fresh
        if known.limits:
            self.sender.limits.merge(asked.requester.token, known.limits, self.now())
        refused = await self._check(asked.request, asked.requester, asked.deadline)
        if refused is not None:
            return refused
        response = await self._ask_first(asked, known)
        if asked.key.target == _USER:
            await self._learn_login(asked, response)
        return response

    async def _ask_first(self, asked: Lookup, known: Known) -> Response:
        """Send a request to GitHub; where nothing is known, as the first one of the fleet."""
        if self._to_claim(asked, known) is None:
            return await self._hear(self._up_to_date(asked), known)
        slot = Slot()
        asked, claimed = evolve(asked, slot=slot), None
        try:
            known, claimed = await self._go_first(asked, known)
            return await self._hear(self._up_to_date(asked), known)
        finally:
            slot.release()
            if claimed is not None:
                self.store.release(*claimed)

    async def _until_filled(self, asked: Lookup, known: Known) -> tuple[Lookup, Known]:
        """Wait for what a store that is being filled may come to know; return what it knows.

        The time for GitHub's answer isn't used up by what is no fault of GitHub's.
        """
        if not self._is_cold(known):
            return asked, known
        asked = evolve(asked, deadline=asked.deadline + self.barrier.longest_s)
        if not asked.probing:
            known = await self.barrier.until_found(
                partial(self._look_up, asked, current=True), lambda known: not self._is_cold(known)
            )
        return asked, known

    # When GitHub doesn't say.

    async def _hear(self, asked: Lookup, known: Known) -> Response:
        """Ask GitHub; where it can't or won't say, give what it said to this credential before."""
        if asked.probing or not asked.guess:
            return await self._said(asked, known)
        has_grant = known.permits
        stale = await self._without_asking(asked, known, has_grant=has_grant)
        if stale is not None:
            return stale
        try:
            if has_grant:
                return await self._in_time(asked, known)
            return await self._said(asked, known)
        except NoUpstreamResponseError as said:
            # Even without a grant before: a lagging reader may not have known it.
            stale = await self._stale(asked, said.reason, said.status)
            if stale is None:
                raise
            return stale

    async def _without_asking(
        self, asked: Lookup, known: Known, *, has_grant: bool
    ) -> Response | None:
        """Return a stale response where no request is sent to GitHub now; None: one is sent."""
        now, stop = self.now(), None
        if self.sender.limits.any_known:
            stop = self.sender.limits.applying(asked.requester.token, asked.scopes, now)
        if has_grant and (stop is not None or self.github_breaker.is_open):
            reason = "offline" if stop is None else stop.limit.kind.reason
            stale = await self._stale(asked, reason, None)
            if stale is not None:
                if stop is None and self.github_breaker.acquire_probe(now):
                    self._ask_aside(asked, known)
                return stale
        if stop is None and self.sender.backoffs.any_known:
            return await self._backed_off(asked, now, has_grant=has_grant)
        return None

    async def _backed_off(self, asked: Lookup, now: float, *, has_grant: bool) -> Response | None:
        """Return a stale response during the backoff of a key; None: the request is sent.

        Without a stale response, raises a `MirrorError` after repeated timeouts.
        """
        backoff = self.sender.backoffs.holds(asked.key.name, asked.requester.token, now)
        if backoff is None:
            return None
        stale = await self._stale(asked, "timeout", None, sent=False) if has_grant else None
        if stale is None and backoff.repeated:
            raise error_responses.backed_off(ceil(backoff.until - now))
        return stale

    async def _said(self, asked: Lookup, known: Known) -> Response:
        """Return what GitHub says, or fail with `NoUpstreamResponseError`."""
        try:
            return await self._validation.validate(asked, known)
        except UpstreamError as error:
            raise NoUpstreamResponseError(
                error.reason, error.status, self._unanswered(error)
            ) from error
        except RateLimitedError as error:
            reason, again = error.active.limit.kind.reason, error.active.response(self.now())
            raise NoUpstreamResponseError(reason, None, again) from error

    async def _in_time(self, asked: Lookup, known: Known) -> Response:
        """Wait for GitHub; not for long, if a stale answer may be given instead.

        The exchange continues then, so that its response is stored. A later request for the same
        waits for its end before it sends its own, since that response would be too old for it.
        """
        name = (asked.same, asked.head)
        if self._going.under_way(name):
            limit_s = max(asked.stale_by - self.now(), 0.0)
            waiting = Patient(self._going.landed(name))
            try:
                landed = await waiting.within(lambda late: self.call_later(limit_s, late))
            finally:
                waiting.leave()
            stale = None if landed else await self._stale(asked, "timeout", None)
            if stale is not None:
                return stale
        going = Patient(Deferred.fromCoroutine(self._said(asked, known)))
        try:
            return await self._said_or_stale(
                asked, going, lambda: self._going.adopt(name, going.leave_to_others())
            )
        finally:
            going.leave(_unwanted)

    async def _said_or_stale(
        self, asked: Lookup, going: Patient[R], go_on: Callable[[], object]
    ) -> R | Response:
        """Return what comes in time, or a stale answer, and let the question *go on*."""
        limit_s = max(asked.stale_by - self.now(), 0.0)
        said = await going.within(lambda late: self.call_later(limit_s, late))
        if said is not None:
            return said
        stale = await self._stale(asked, "timeout", None)
        if stale is not None and not going.has_come:
            go_on()
            return stale
        return await going.end()

    def _ask_aside(self, asked: Lookup, known: Known) -> None:
        """Ask GitHub though nobody waits for it, to see whether it is back."""
        name = (asked.same, asked.head)
        going = self._going.join(name, lambda: self._said(asked, known))
        self._going.keep(name)
        Patient(going).leave()

    def unstorable(self, asked: Lookup, reason: str) -> None:
        """Count a 200 that could not be stored; log it once for each path pattern and reason."""
        self.metrics.unstorable(reason)
        what = path_pattern(asked.request.path), reason
        if what in self._unstorable or len(self._unstorable) >= _MOST_PATTERNS:
            return
        self._unstorable.add(what)
        _log.info(
            "Response not storable: path={path} reason={reason}",
            path=what[0],
            reason=reason,
        )

    def close(self) -> None:
        """Give up what is asked though nobody waits for it."""
        self.users.close()
        self._checks.close()
        self._going.close()

    async def _stale(
        self, asked: Lookup, reason: str, status: int | None, *, sent: bool = True
    ) -> Response | None:
        """Return a stale answer, if this credential may have one."""
        # Patience of its own: it decides between an answer and none.
        store_deadline = self.store.store_deadline()
        known = await self.store.look_up(asked.key, asked.credential, store_deadline, current=True)
        known = without_other_variant(
            asked.request.fields.memoised(canonical_request_fields), known
        )
        grant = staleness.stale_grant(known, self.now(), self.options.stale_limit)
        if grant is None:
            return None
        found = await fetched(
            self.store,
            self.budgets,
            known,
            asked.key,
            (grant.digest,),
            store_deadline,
            current=True,
        )
        stored = found.get(grant.digest)
        if stored is None or not staleness.may_serve_stale(stored):
            return None
        quota = self.sender.accounting.quotas.last(
            asked.requester.token, resource_of_path(b"GET", asked.request.path)
        )
        return Response(
            200,
            staleness.stale_response_fields(stored, grant, quota),
            Outcome.STALE,
            stored,
            asked=status,
            forward="stale" if sent and (status or reason not in _NOT_ASKED) else None,
            detail=reason,
            age_s=max(int(self.now() - grant.validated_at), 0),
            granted=True,
        )

    async def _look_up(self, asked: Lookup, *, current: bool = False) -> Known:
        look_up, (credential, token) = self.store.look_up, asked.requester
        if self.limiter.semaphores is None or not self.credentials.is_accepted(token):
            known = await look_up(
                asked.key, credential, asked.store_deadline, current=current, token=token
            )
        else:
            with self.sender.expecting(token):
                known = await look_up(
                    asked.key, credential, asked.store_deadline, current=current, token=token
                )
        self._catch_up(asked.requester, known)
        if not self.credentials.is_accepted(token) and lookup_shows_acceptance(known):
            authorization = asked.request.authorization
            # What GitHub does not validate is granted what requests without a credential are.
            if authorization is not None and is_validated(authorization):
                self.credentials.accept(token)
        return without_other_variant(asked.request.fields.memoised(canonical_request_fields), known)

    def _up_to_date(self, asked: Lookup) -> Lookup:
        """Return *asked* with the current generation, before it is sent."""
        generation = self._current_generation(asked.requester)
        return asked if generation == asked.generation else evolve(asked, generation=generation)

    @staticmethod
    def _is_cold(known: Known) -> bool:
        return known.grant is None and not known.entries and not known.unstorable

    def _to_claim(self, asked: Lookup, known: Known) -> LockName | None:
        """Return the lock of the fleet that a request needs, or None where it needs none.

        A credential that GitHub has not accepted acquires none: no other request waits for it.
        """
        if not self.credentials.is_accepted(asked.requester.token):
            return None
        if asked.head or asked.probing or known.refused or known.unstorable or known.grant:
            return None
        return LockName(asked.key, asked.credential if known.entries else None)

    def _owner(self) -> str:
        """Return a name under which to claim something, another each time."""
        self._claims += 1
        return f"{self._instance}-{self._claims}"

    async def _go_first(
        self, asked: Lookup, known: Known
    ) -> tuple[Known, tuple[LockName, str] | None]:
        """Acquire the lock of the fleet, or wait for its holder; return what is known then.

        Also return the lock that was acquired. Waiting takes `collapse_wait` at most. If the holder
        stored nothing, one more request acquires the lock; after that each is sent without it. The
        permit to send is acquired before the lock, so that others wait for GitHub, and not for
        other requests of this credential. While another request has the lock, it is released.
        """
        owner, slot = self._owner(), asked.slot
        until = self.now() + self.options.collapse_wait
        tries: Counter[LockName] = Counter()
        while (subject := self._to_claim(asked, known)) is not None and self.now() < until:
            tries[subject] += 1
            if tries[subject] > _MOST_CLAIMS:
                break
            if self.sender.limits.applying(asked.requester.token, asked.scopes, self.now()):
                break  # nothing will be sent
            if slot.permit is None:
                outgoing = OutgoingRequest(asked.request, asked.requester, asked.deadline)
                slot.permit = await self.sender.acquire(outgoing)
            claim = await self.store.try_acquire(subject, owner, asked.store_deadline)
            if claim is LockOutcome.ACQUIRED:
                return known, (subject, owner)
            if claim is LockOutcome.HELD:
                slot.release()
                await self.store.released(subject, max(until - self.now(), 0.0))
            known = await self._look_up(asked, current=True)
        return known, None

    async def _fresh(self, asked: Lookup, known: Known) -> Response | None:
        """Answer without asking, within `fresh_for` of this credential's last validation.

        Only where no refusal and no write can have been missed.
        """
        if not known.current:
            known = await self._look_up(asked, current=True)
        grant = known.grant
        if grant is None or not known.current or not self._is_fresh(asked, known):
            return None
        found = await fetched(
            self.store, self.budgets, known, asked.key, (grant.digest,), asked.store_deadline
        )
        stored = found.get(grant.digest)
        # RFC 9111, section 4.1: what varies with everything is never fresh.
        if stored is None or b"*" in stored.fields.listed(b"vary"):
            return None
        return Response(
            200,
            staleness.stored_response_fields(stored, grant),
            Outcome.FRESH,
            stored,
            age_s=max(int(self.now() - grant.validated_at), 0),
            granted=True,
        )

    def _is_fresh(self, asked: Lookup, known: Known) -> bool:
        grant = known.grant
        return (
            grant is not None
            and asked.guess
            and known.permits
            and 0.0 <= self.now() - grant.validated_at < self.options.fresh_for
        )

    # What it learns.

    def revoked(self, fields: Fields, requester: Requester, asked_at: float) -> None:
        """Remember that GitHub refused a credential altogether, in a request with *fields*.

        It was the token that was refused, and so it is with each scheme that it is sent with.
        """
        credential = requester.credential
        known = self.credentials.is_accepted(requester.token)
        self.credentials.forget(requester.token)
        for name in self.credentials.names.writers_of(fields):
            self._generations.begin(name, known=known)
            self.store.revoke(name, new_epoch(accepted=False))
        # The hybrid clock may be ahead of the machine's, by which later logins are noted.
        self.users.note_rejection(credential, min(asked_at, self.now()))

    async def _learn_login(self, asked: Lookup, response: Response) -> None:
        """Remember whose credential this is, when GitHub has just said so."""
        if not isinstance(response.body, Representation):
            return
        # Of what GitHub said before, nothing is learned now.
        if response.outcome in {Outcome.STALE, Outcome.FRESH}:
            return
        if response.outcome is Outcome.REVALIDATED and self.login(asked.credential) is not None:
            return
        login = parse_login(await self._plain(response))
        if login is not None and not asked.head:
            for name in set(asked.requester):
                self.users.note_login(name, login, self.now())


def _is_not_for(asked: Lookup, response: Response) -> bool:
    """Tell whether the response to another request must not be used for this one.

    It varies by a field in which the two may differ. Or it is a 304 for an entity-tag that the
    client has not sent.
    """
    if fields_beyond_key(response.fields):
        return True
    if response.body is not None or response.status != 304:  # noqa: PLR2004
        return False
    return not is_not_modified(asked.request.fields, response.fields.get(b"etag"), None)


def _unwanted(said: Response | Failure) -> None:
    """Let go of an answer that nobody waits for any more; what shouldn't happen is logged."""
    if isinstance(said, Failure):
        if not said.check(*_EXPECTED):
            _log.failure("A question failed that nobody waits for", failure=said)
    elif said.incoming is not None:
        said.incoming.abort()


async def _mutates(request: Request, upload: Upload | None, budgets: ByteBudgets) -> bool:
    """Tell whether a request may change later responses; for GraphQL, its content is read.

    Not where it is large and there is no room for it: it counts as a mutation then.
    """
    if not is_write(request) or not is_graphql(request) or upload is None:
        return is_write(request)
    # The query of the target may hold the GraphQL document as well.
    if b"?" in request.target:
        return True
    # GitHub takes no GraphQL without a credential.
    if request.authorization is None:
        return True
    size = min(upload.announced or _GRAPHQL_LOOK, _GRAPHQL_LOOK)
    if size > FREE_BYTES and budgets.small.is_full(size):
        return True
    with budgets.small.charge(size if size > FREE_BYTES else 0):
        content = await upload.whole(_GRAPHQL_LOOK)
    return content is None or is_mutation(content)
