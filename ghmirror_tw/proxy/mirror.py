"""The way of one request, from top to bottom.

`Mirror.respond` checks access, and passes requests that are not storable through
(`passthrough`). Storable ones are collapsed (`collapsed_requests`), looked up (`stored_responses`),
decided (`caching.decision`), and validated with GitHub (`stale_fallback`, `revalidation`). Each
part calls only parts below it; `upstream.limited_sender` is the lowest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import define, field
from attrs.setters import frozen
from twisted.internet.interfaces import IDelayedCall

from ghmirror_tw.caching.bypass import bypass_reason
from ghmirror_tw.github.sharing_circuit_breakers import Sharing
from ghmirror_tw.http.outcomes import Outcome
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.allowed_users import AccessControl
from ghmirror_tw.proxy.collapsed_requests import CollapsedRequests
from ghmirror_tw.proxy.credential_check import CredentialChecks
from ghmirror_tw.proxy.epoch_tracking import EpochTracker
from ghmirror_tw.proxy.first_request_lock import unique_names
from ghmirror_tw.proxy.grant_metadata_builder import GrantMetadataBuilder
from ghmirror_tw.proxy.limit_responses import usual_limit_response
from ghmirror_tw.proxy.link_currency_proofs import LinkProofs
from ghmirror_tw.proxy.link_prover import LinkProver, RequestPage
from ghmirror_tw.proxy.login_requests import LoginRequests
from ghmirror_tw.proxy.mirror_options import MirrorOptions
from ghmirror_tw.proxy.mirror_response import NoUpstreamResponseError, Response
from ghmirror_tw.proxy.negative_storage import NegativeStorage
from ghmirror_tw.proxy.passthrough import Passthrough
from ghmirror_tw.proxy.received_responses import ReceivedResponses, UnstorableReport
from ghmirror_tw.proxy.revalidation import Revalidation, ValidatorChoice
from ghmirror_tw.proxy.stale_fallback import StaleFallback
from ghmirror_tw.proxy.storable_requests import StorableRequests
from ghmirror_tw.proxy.stored_responses import StoredResponses
from ghmirror_tw.proxy.upstream_failures import error_response, log_failure
from ghmirror_tw.runtime.content_threads import ContentThreads
from ghmirror_tw.runtime.restore_barrier import RestoreBarrier
from ghmirror_tw.runtime.single_flight import SingleFlight
from ghmirror_tw.store.store_interface import IStore
from ghmirror_tw.telemetry.metrics import Metrics
from ghmirror_tw.upstream.byte_budget import ByteBudgets
from ghmirror_tw.upstream.connection_shares import ConnectionShares
from ghmirror_tw.upstream.credential_registry import CredentialRegistry
from ghmirror_tw.upstream.github_breaker import GitHubBreaker
from ghmirror_tw.upstream.limited_sender import Sender
from ghmirror_tw.upstream.limits_in_force import RateLimitedError
from ghmirror_tw.upstream.logins import LoginCache
from ghmirror_tw.upstream.rate_limiter import RateLimiter
from ghmirror_tw.upstream.request_to_send import Requester, Upload
from ghmirror_tw.upstream.upstream_interface import IUpstream, UpstreamError

_SAVED: Final = frozenset({Outcome.REVALIDATED, Outcome.SHARED, Outcome.EMPTY, Outcome.FRESH})
#: Outcomes without a request to GitHub, which would have cost quota without a credential as well.
_NOT_SENT: Final = frozenset({Outcome.FRESH, Outcome.NEGATIVE})


@define(eq=False)
class Mirror:
    """Responds to requests of clients: from the store where GitHub confirms it, else by GitHub."""

    reactor: Any
    store: IStore
    github: IUpstream
    threads: ContentThreads
    credentials: CredentialRegistry
    users: LoginCache
    metrics: Metrics
    options: MirrorOptions = field(on_setattr=frozen)
    sharing: Sharing
    barrier: RestoreBarrier
    github_breaker: GitHubBreaker
    limiter: RateLimiter
    budgets: ByteBudgets
    #: Returns the time, in seconds since the epoch.
    now: Callable[[], float] = field(init=False)
    sender: Sender = field(init=False)
    epochs: EpochTracker = field(init=False)
    proofs: LinkProofs = field(init=False)
    _stored: StoredResponses = field(init=False)
    _checks: CredentialChecks = field(init=False)
    _access: AccessControl = field(init=False)
    passthrough: Passthrough = field(init=False)
    _storable: StorableRequests = field(init=False)

    def __attrs_post_init__(self) -> None:
        owner = unique_names()
        self.now = self.reactor.seconds
        self.sender = self._new_sender(owner)
        self.metrics.watch_unaccepted(lambda: self.limiter.unaccepted_in_flight)
        self.proofs = LinkProofs(self.now)
        self.epochs = EpochTracker(self.store, self.credentials, self.users, self.now)
        self._stored = StoredResponses(
            self.store,
            self.budgets,
            self.credentials,
            self.epochs,
            self.sender,
            self.options,
            self.metrics,
            self.now,
        )
        self._checks = CredentialChecks(
            self.sender, self.credentials, self.github_breaker, self.epochs, self.metrics
        )
        unstorable = UnstorableReport(self.metrics)
        internal = self._storable_requests(owner, unstorable, None)
        self._storable = self._storable_requests(owner, unstorable, internal.respond_with_page)
        self.passthrough = Passthrough(
            self.sender,
            self.credentials,
            self.epochs,
            self._checks,
            self.budgets,
            ConnectionShares(self.limiter.max_connections, self.reactor),
            self.options,
            self.now,
        )
        logins = LoginRequests(
            internal, self.passthrough, self.credentials, self.threads, self.options, self.now
        )
        self._access = AccessControl(
            self.users, logins.login, self.options, self.github_breaker, self.now, self.call_later
        )

    def _new_sender(self, owner: Callable[[], str]) -> Sender:
        return Sender(
            self.github,
            self.store,
            self.credentials,
            self.limiter,
            self.github_breaker,
            self.metrics,
            self.options.timeout,
            self.user,
            self.now,
            self.call_later,
            owner,
        )

    def _storable_requests(
        self,
        owner: Callable[[], str],
        unstorable: UnstorableReport,
        request_page: RequestPage | None,
    ) -> StorableRequests:
        """Return the parts for storable requests; without *request_page*, for the mirror's own."""
        links = LinkProver(self.proofs, self.sender.limits, self.options, request_page)
        metadata = GrantMetadataBuilder(self.epochs, self.options, self.user)
        received = ReceivedResponses(
            self.store,
            self.threads,
            self.budgets,
            self.sharing,
            self.options,
            self.epochs,
            links,
            metadata,
            unstorable,
            NegativeStorage(self.store, self.credentials, self.epochs, self.options),
        )
        choice = ValidatorChoice(self._stored, self.threads, self.sharing, self.barrier, self.user)
        revalidation = Revalidation(
            self.sender, self.store, self.sharing, choice, links, received, metadata
        )
        collapsed = CollapsedRequests(self._stored, self.metrics)
        fallback = StaleFallback(self._stored, revalidation, collapsed.flights, self.call_later)
        return StorableRequests(
            self._stored,
            self.barrier,
            self._checks,
            collapsed,
            fallback,
            self.threads,
            self.options,
            owner,
            internal=request_page is None,
        )

    # Timers and names.

    def call_later(self, seconds: float, call: Callable[[], object]) -> IDelayedCall:
        """Call a function in so many *seconds*."""
        later: IDelayedCall = self.reactor.callLater(seconds, call)
        return later

    def user(self, requester: Requester) -> str | None:
        """Return the login of a requester, or else the App of its token, where known."""
        login = None
        if self.users.was_requested(requester.credential):
            login = self.users.login(requester.credential, self.now())
        return login or self.credentials.app(requester.token)

    @property
    def flights(self) -> SingleFlight[Response]:
        """The flights of clients' requests, some of them detached."""
        return self._storable.collapsed.flights

    # Requests.

    async def respond(
        self, request: Request, requester: Requester, upload: Upload | None = None
    ) -> Response:
        """Return the response to a client's request. Raises `MirrorError` where there is none."""
        began = self.now()
        if self.options.allowed_users:
            refused = await self._access.check(request, requester.credential)
            if refused is not None:
                return refused
        try:
            reason = bypass_reason(request, has_content=upload is not None)
            if reason is not None:
                deadline = began + self.options.timeout
                return await self.passthrough.forward(request, upload, requester, reason, deadline)
            response = await self._storable.respond(
                request,
                requester,
                began + self.options.timeout,
                self.store.store_deadline(),
                stale_at=began + self.options.stale_after,
            )
        except UpstreamError as error:
            log_failure(request, error.reason, error.why)
            raise error_response(error, self.options.timeout) from error
        except RateLimitedError as error:
            return usual_limit_response(error.active.limit, self.now())
        except NoUpstreamResponseError as error:
            if isinstance(error.fallback, Response):
                return error.fallback
            log_failure(request, error.reason, str(error.__cause__ or error.status))
            raise error.fallback from error
        self._count_saved(request, requester, response)
        return response

    def _count_saved(self, request: Request, requester: Requester, response: Response) -> None:
        """Count a request that cost nothing of the quota; a stale response saves nothing."""
        if response.outcome is Outcome.STALE:
            return
        free = response.outcome in _SAVED and not response.charged
        saved = free and request.authorization is not None
        if saved or response.outcome in _NOT_SENT or response.collapsed:
            self.metrics.saved(self.user(requester))

    def close(self) -> None:
        """Cancel the requests that no client waits for."""
        self.users.close()
        self._checks.close()
        self.flights.cancel_detached()
