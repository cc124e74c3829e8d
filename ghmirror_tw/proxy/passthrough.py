"""Requests that are not storable: forwarded, and their responses streamed to the client.

A write ends what permitted fresh and stale responses to the credential (RFC 9111, section 4.4), in
this replica before the request is sent, and in the fleet before its response is passed on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, evolve
from twisted.internet.defer import Deferred

from ghmirror_tw.caching.token_generations import is_write
from ghmirror_tw.github.graphql import is_graphql, is_mutation
from ghmirror_tw.http.content_codings import accepts_gzip
from ghmirror_tw.http.request import Request
from ghmirror_tw.proxy.credential_check import CredentialChecks
from ghmirror_tw.proxy.epoch_tracking import EpochTracker
from ghmirror_tw.proxy.mirror_options import MirrorOptions
from ghmirror_tw.proxy.mirror_response import Response
from ghmirror_tw.proxy.unstored_responses import passed_on
from ghmirror_tw.upstream.byte_budget import FREE_BYTES, ByteBudgets
from ghmirror_tw.upstream.connection_shares import SMALL_CONTENT_BYTES, ConnectionShares
from ghmirror_tw.upstream.credential_registry import CredentialRegistry
from ghmirror_tw.upstream.limited_sender import Sender
from ghmirror_tw.upstream.request_queues import UNACCEPTED
from ghmirror_tw.upstream.request_to_send import OutgoingRequest, Requester, Upload
from ghmirror_tw.upstream.upstream_interface import UpstreamError, UpstreamResponse

_UNAUTHORIZED: Final = 401
#: The part of a GraphQL request that is searched for a mutation; a longer request counts as one.
_GRAPHQL_BYTES: Final = 1024 * 1024


@define(eq=False)
class Passthrough:
    """Forwards requests that are not storable."""

    sender: Sender
    credentials: CredentialRegistry
    epochs: EpochTracker
    checks: CredentialChecks
    budgets: ByteBudgets
    shares: ConnectionShares
    options: MirrorOptions
    now: Callable[[], float]

    async def forward(
        self,
        request: Request,
        upload: Upload | None,
        requester: Requester,
        reason: str,
        deadline: float,
    ) -> Response:
        """Forward a request; a write only with a credential that is valid.

        *reason*: why it is not storable, for `Cache-Status`.
        """
        if upload is not None or is_write(request):
            # With a credential that is not valid, the content is not received.
            refused = await self.checks.refusal(request, requester, deadline)
            if refused is not None:
                return evolve(refused, storable=False, forward=reason)
        writes = await _mutates(request, upload, self.budgets)
        if upload is not None:
            # While a client sends small content, its request holds no connection to GitHub.
            await upload.whole(SMALL_CONTENT_BYTES)
            # The timeout for GitHub does not include the time that the client takes to send.
            deadline = max(deadline, self.now() + self.options.timeout)
        # Only content that the mirror can unpack can be rewritten.
        coding = b"gzip" if accepts_gzip(request.fields) else b"identity"
        request = evolve(request, fields=request.fields.with_line(b"accept-encoding", coding))
        await self.sender.learn_limits(request, requester.token, writes=writes)
        outgoing = OutgoingRequest(request, requester, deadline, upload, writes)
        response = await self._send_fairly(outgoing)
        return evolve(passed_on(response, response.content), storable=False, forward=reason)

    async def _send_fairly(self, outgoing: OutgoingRequest) -> UpstreamResponse:
        """Send a request; if its content is still incoming, within the share of its credential."""
        upload, token = outgoing.upload, outgoing.requester.token
        if upload is None or upload.complete:
            return await self._send(outgoing)
        acquiring = self.shares.acquire(
            token if self.credentials.is_accepted(token) else UNACCEPTED
        )
        if not acquiring.called:
            self.sender.github.reclaim_stalled()
        with await acquiring as share:
            # The timeout for GitHub does not include the wait for a share.
            deadline = max(outgoing.deadline, self.now() + self.options.timeout)
            return await self._send(
                evolve(outgoing, deadline=deadline, is_contended=share.is_wanted)
            )

    async def _send(self, outgoing: OutgoingRequest) -> UpstreamResponse:
        """Send a request; note a write and a refusal."""
        request, is_sent, token = outgoing.request, False, outgoing.requester.token
        # GitHub accepts no write without a credential. All clients without one share the same name,
        # so none of them may end what permits stale responses to the others.
        writes = outgoing.writes and request.authorization is not None

        def sending(_: float) -> None:
            nonlocal is_sent
            is_sent = True
            if writes:
                self.epochs.begin_generation(token)

        sent_at = self.epochs.tick()
        stored: Deferred[list[None]] | None = None
        # A request that was not sent, or that GitHub has rate limited, changes nothing.
        may_have_written = True
        try:
            response = await self.sender.send(evolve(outgoing, sending=sending))
            may_have_written = not response.limited and response.status != _UNAUTHORIZED
        except UpstreamError as error:
            may_have_written = error.reason != "connect-error"
            if error.status is not None:
                self.epochs.note_refusal(request, outgoing.requester, error.status, sent_at)
            raise
        finally:
            if writes and may_have_written and is_sent:
                older = self.credentials.names.older_tokens_of(request.fields)
                stored = self.epochs.replace(token, older)
        if stored is not None:
            await _until_stored(stored, response)
        if not response.limited:
            self.epochs.note_refusal(request, outgoing.requester, response.status, sent_at)
        return response


async def _until_stored(stored: Deferred[list[None]], response: UpstreamResponse) -> None:
    """Wait until all replicas can know of a write: the next request may reach another one."""
    try:
        await stored
    except BaseException:
        response.content.abort()
        raise


async def _mutates(request: Request, upload: Upload | None, budgets: ByteBudgets) -> bool:
    """Return whether a request may change later responses; for GraphQL, its content is read.

    Where the content is large and there is no room for it, the request counts as a mutation.
    """
    if not is_write(request) or not is_graphql(request) or upload is None:
        return is_write(request)
    # The query of the target may hold the GraphQL document as well.
    if b"?" in request.target:
        return True
    # GitHub takes no GraphQL without a credential.
    if request.authorization is None:
        return True
    size = min(upload.announced or _GRAPHQL_BYTES, _GRAPHQL_BYTES)
    if size > FREE_BYTES and budgets.queries.is_full(size):
        return True
    with budgets.queries.charge(size if size > FREE_BYTES else 0):
        content = await upload.whole(_GRAPHQL_BYTES)
    return content is None or is_mutation(content, request.fields)
