"""Who may use the mirror: only known users of GitHub, where the configuration names them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from io import BytesIO

from attrs import define, frozen
from twisted.internet.interfaces import IDelayedCall
from twisted.web.client import FileBodyProducer
from twisted.web.iweb import IBodyProducer

from ghmirror_tw.conversation import Terms, Upload
from ghmirror_tw.github.interfaces import Unanswered
from ghmirror_tw.github.users import (
    VIEWER_QUERY,
    CannotAsk,
    Users,
    Verdict,
    parse_login,
    parse_viewer,
)
from ghmirror_tw.policy import errors
from ghmirror_tw.policy.errors import MirrorError
from ghmirror_tw.policy.fields import Fields
from ghmirror_tw.policy.messages import Question

#: Puts a question of our own, and returns the status and the content of the answer.
AskSelf = Callable[[Question, Upload | None], Awaitable[tuple[int, bytes]]]

_UNKNOWN = frozenset({200, 401})


@frozen
class _Text:
    """A small request content of our own."""

    content: bytes

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self.content)

    def head(self, size: int) -> bytes:
        """Return its first *size* bytes."""
        return self.content[:size]

    def producer(self) -> IBodyProducer:
        """Return what sends it."""
        return FileBodyProducer(BytesIO(self.content))


@define(eq=False)
class Admission:
    """Decides who may ask, by GitHub's own word on whose credential it is."""

    users: Users
    ask: AskSelf
    now: Callable[[], float]
    call_later: Callable[[float, Callable[[], object]], IDelayedCall]

    async def admit(
        self, question: Question, credential: str, terms: Terms, *, offline: bool
    ) -> None:
        """Raise a `MirrorError` unless the credential belongs to an allowed user.

        While GitHub cannot be asked, the last yes holds as long as stale answers do, and nobody
        waits longer to see it than for them; while it is *offline*, not at all. The refusal is
        the same whatever is asked for, and whatever is stored.
        """
        allowed = terms.allowed_users
        if not allowed:
            return
        if question.authorization is None:
            raise errors.no_credential()
        verdict = await self.users.may_use(
            credential,
            lambda: self._who(question),
            allowed,
            self.now,
            terms.stale_limit,
            lambda late: self.call_later(0.0 if offline else terms.stale_after, late),
        )
        if verdict is Verdict.REFUSED:
            raise errors.not_allowed()
        if verdict is Verdict.UNKNOWN:
            raise errors.upstream_failed("connect-error")

    async def _who(self, question: Question) -> str | None:
        """Return the login of who asks, as GitHub says now; None: it knows no such credential.

        An installation has no user; GraphQL tells who it is. Raises `CannotAsk`.
        """
        fields = Fields(
            (
                (b"authorization", question.authorization or b""),
                (b"accept", b"application/vnd.github+json"),
                (b"user-agent", b"ghmirror"),
                (b"cache-control", b"no-cache"),
            )
        )
        try:
            status, content = await self.ask(Question(b"GET", b"/user", fields), None)
            login = parse_login(content)
            if status == 403:  # noqa: PLR2004
                fields = fields.with_line(b"content-type", b"application/json")
                asked = Question(b"POST", b"/graphql", fields)
                status, content = await self.ask(asked, _Text(VIEWER_QUERY))
                login = parse_viewer(content)
                if login is None and status != 401:  # noqa: PLR2004 - GraphQL's limits are 200
                    raise CannotAsk
        except (Unanswered, MirrorError) as error:
            raise CannotAsk from error
        if login is None and status not in _UNKNOWN:
            raise CannotAsk
        return login
