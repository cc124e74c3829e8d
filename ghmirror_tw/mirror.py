"""The conversation: the one loop that asks the store, asks GitHub, stores and answers."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any, Final
from uuid import uuid4

from attrs import define, evolve, field
from twisted.logger import Logger

from ghmirror_tw.admission import Admission
from ghmirror_tw.answers import Answer, Whole
from ghmirror_tw.collapse import Collapser
from ghmirror_tw.conversation import Asked, Terms, Upload
from ghmirror_tw.github.interfaces import IGitHub, Reply, Unanswered
from ghmirror_tw.github.users import Users, parse_login
from ghmirror_tw.metrics import Metrics
from ghmirror_tw.policy import errors, reuse, tags
from ghmirror_tw.policy.cache_status import Outcome
from ghmirror_tw.policy.coding import accepts_gzip
from ghmirror_tw.policy.content import (
    TooLarge,
    Undecodable,
    identity,
    pack,
)
from ghmirror_tw.policy.errors import MirrorError
from ghmirror_tw.policy.fields import Fields
from ghmirror_tw.policy.key import CacheKey, CredentialNames
from ghmirror_tw.policy.messages import Question
from ghmirror_tw.policy.preconditions import not_modified
from ghmirror_tw.policy.records import Known, Representation
from ghmirror_tw.policy.reuse import EMPTY_DIGEST, EMPTY_FIELDS, Kind
from ghmirror_tw.policy.sharing import Sharing
from ghmirror_tw.policy.storing import (
    forbids_guessing,
    is_graphql,
    is_mutation,
    is_write,
    why_not_storable,
)
from ghmirror_tw.proving import Proofs
from ghmirror_tw.store.gate import Gate
from ghmirror_tw.store.interfaces import Claim, IStore, Patience, Subject
from ghmirror_tw.threads import Workshop
from ghmirror_tw.validation import Validation, passed_on

_EMPTY: Final = Representation(EMPTY_DIGEST, EMPTY_FIELDS, pack(tags.EMPTY_LIST), 2, 0)
_USER: Final = b"/user"
#: How much of a GraphQL request is looked at; one that is longer counts as a write.
_GRAPHQL_LOOK: Final = 1024 * 1024
_MOST_WRITERS: Final = 10_000
#: While the store is filled from a copy, what nothing is known of is looked up again so often.
_RESTORE_LOOK_S: Final = 0.25
#: How often one asker tries to go first for the same.
_MOST_CLAIMS: Final = 2
_CONFIRMED: Final = {
    Kind.OWN: Outcome.REVALIDATED,
    Kind.COMPUTED: Outcome.SHARED,
    Kind.EMPTY: Outcome.EMPTY,
}
_SAVED: Final = frozenset(
    {Outcome.REVALIDATED, Outcome.SHARED, Outcome.EMPTY, Outcome.FRESH, Outcome.STALE}
)


@define(eq=False)
class Mirror:
    """Answers questions: from the store where GitHub confirms it, else with what GitHub says."""

    reactor: Any
    store: IStore
    github: IGitHub
    workshop: Workshop
    names: CredentialNames
    users: Users
    metrics: Metrics
    terms: Terms
    sharing: Sharing
    gate: Gate
    proofs: Proofs = field(factory=Proofs)
    _flights: Collapser[Answer] = field(factory=Collapser)
    _generations: OrderedDict[str, int] = field(factory=OrderedDict)
    _writes: int = 0
    _last_tick: float = 0.0
    _claims: int = 0
    _instance: str = field(factory=lambda: uuid4().hex)
    _admission: Admission = field(init=False)
    _validation: Validation = field(init=False)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.mirror"))

    def __attrs_post_init__(self) -> None:
        self._admission = Admission(self.users, self._ask_self, self.now)
        self._validation = Validation(
            self, self.store, self.workshop, self.metrics, self.sharing, self.proofs
        )

    # Time and names.

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        now: float = self.reactor.seconds()
        return now

    def tick(self) -> float:
        """Return the time, later than every time returned before: questions have an order."""
        self._last_tick = max(self.now(), self._last_tick + 1e-6)
        return self._last_tick

    def login(self, credential: str) -> str | None:
        """Return whose credential it is, where known."""
        return self.users.login(credential, self.now())

    def login_of(self, authorization: bytes | None) -> str | None:
        """Return whose credential this is, where known, for the log."""
        return self.login(self.names.name(authorization))

    # From outside.

    async def answer(self, question: Question, upload: Upload | None = None) -> Answer:
        """Return the answer to a client's question. Raises `MirrorError` where there is none."""
        credential = self.names.name(question.authorization)
        terms = self.terms
        await self._admission.admit(question, credential, terms.allowed_users, terms.stale_limit)
        try:
            forward = why_not_storable(question, has_content=upload is not None)
            if forward is not None:
                return await self._pass_by(question, upload, credential, forward)
            answer = await self._answer_storable(
                question, credential, self._deadline(), self.store.patience()
            )
        except Unanswered as error:
            raise self._sorry(question, error) from error
        asked_free = answer.outcome in _SAVED and question.authorization is not None
        if asked_free or answer.outcome is Outcome.FRESH or answer.collapsed:
            self.metrics.saved(self.login(credential))
        return answer

    def _sorry(self, question: Question, error: Unanswered) -> MirrorError:
        self._log.warn(
            "GitHub did not answer {method}: {reason}: {why}",
            method=question.method.decode("ascii"),
            reason=error.reason,
            why=error.why,
        )
        return errors.unanswered(error.reason)

    async def _ask_self(self, question: Question, upload: Upload | None) -> tuple[int, bytes]:
        """Put a question of our own to GitHub, through the same path as everybody's."""
        credential = self.names.name(question.authorization)
        if upload is None:
            answer = await self._answer_storable(
                question, credential, self._deadline(), self.store.patience(), probing=True
            )
        else:
            answer = await self._pass_by(question, upload, credential, "method")
        return answer.status, await self._plain(answer)

    async def _plain(self, answer: Answer) -> bytes:
        """Return the content of a small answer; nothing of one that is too large or broken."""
        body, limit = answer.body, self.terms.max_stored_size
        if isinstance(body, Representation):
            return await self.workshop.run(body.size, body.content)
        if body is None:
            return b""
        coding = answer.coding
        if isinstance(body, Whole):
            content, coding = body.content, body.coding
        else:
            collected = await body.collect(limit)
            if collected is None:
                body.abort()
                return b""
            content = collected
        try:
            return identity(content, coding, limit)
        except (Undecodable, TooLarge):
            return b""

    # What passes by.

    async def _pass_by(
        self, question: Question, upload: Upload | None, credential: str, forward: str
    ) -> Answer:
        """Forward a request that is not storable, and pass on what comes, whatever it is."""
        writes = is_write(question)
        if writes and is_graphql(question) and upload is not None:
            look = upload.head(_GRAPHQL_LOOK)
            writes = upload.size > _GRAPHQL_LOOK or is_mutation(look)
        if writes:
            self._advance(credential)
        # Only what we can unpack can be rewritten.
        coding = b"gzip" if accepts_gzip(question.fields) else b"identity"
        question = evolve(question, fields=question.fields.with_line(b"accept-encoding", coding))
        asked_at = self.tick()
        try:
            reply = await self.put(question, credential, upload, self._deadline())
        finally:
            if writes:
                self._advance(credential)
        if reply.status == 401 and question.authorization is not None:  # noqa: PLR2004
            self.revoked(credential, asked_at)
        return evolve(passed_on(reply, reply.content), storable=False, forward=forward)

    def _advance(self, credential: str) -> None:
        """Begin a new generation of questions: what was asked before a write is not its answer."""
        self._writes += 1
        self._generations[credential] = self._writes
        self._generations.move_to_end(credential)
        if len(self._generations) > _MOST_WRITERS:
            self._generations.popitem(last=False)
        self.store.wrote(credential, self.tick())

    # Asking GitHub.

    def _deadline(self) -> float:
        return self.now() + self.terms.timeout

    async def put(
        self, question: Question, credential: str, upload: Upload | None, deadline: float
    ) -> Reply:
        """Put one question to GitHub, and account for its answer."""
        began = self.now()
        producer = None if upload is None else upload.producer()
        status: int | str = "cancelled"
        try:
            reply = await self.github.ask(question, producer, deadline - began)
            status = reply.status
        except Unanswered as error:
            status = error.reason
            raise
        finally:
            self.metrics.upstream(question.method, status, self.now() - began)
        self._account(question, credential, reply)
        return reply

    def _account(self, question: Question, credential: str, reply: Reply) -> None:
        """Count what a question cost, and show what is left (GitHub: rate limits)."""
        remaining = reply.fields.get(b"x-ratelimit-remaining")
        reset = reply.fields.get(b"x-ratelimit-reset")
        if not (remaining or b"").isdigit() or not (reset or b"").isdigit():
            return
        assert remaining is not None
        assert reset is not None
        login = self.login(credential)
        resource = reply.fields.get(b"x-ratelimit-resource") or b"core"
        self.metrics.quota(login, resource.decode("latin-1"), int(remaining), int(reset))
        free = reply.status == 304 and question.authorization is not None  # noqa: PLR2004
        if not free and question.path.rstrip(b"/") != b"/rate_limit":
            self.metrics.spent(login)

    # What is storable: collapsed, looked up, asked, taken.

    async def _answer_storable(
        self,
        question: Question,
        credential: str,
        deadline: float,
        patience: Patience,
        *,
        probing: bool = False,
    ) -> Answer:
        """Answer a storable question, together with all who ask the same now."""
        asked = Asked(
            question=question,
            key=CacheKey.of(question.target, question.fields),
            credential=credential,
            generation=self._generations.get(credential, 0),
            deadline=deadline,
            guess=not forbids_guessing(question.fields),
            patience=patience,
            probing=probing,
        )
        for _ in range(2):
            answer = await self._join(asked)
            if answer is not None:
                return answer
        return await self._ask(asked)

    async def page(self, question: Question, asked: Asked) -> Answer:
        """Answer a question of our own, of another page of what is *asked* for."""
        return await self._answer_storable(
            question, asked.credential, asked.deadline, asked.patience, probing=True
        )

    async def _join(self, asked: Asked) -> Answer | None:
        """Wait for the answer to this question; None where it has to be asked again."""
        same = (asked.key, asked.credential, asked.generation, asked.guess, asked.probing)
        head = asked.head and not self._flights.under_way((*same, False))
        name = (*same, head)
        joins = self._flights.under_way(name)
        if joins:
            self.metrics.collapsed()
        try:
            answer, first = await self._flights.join(name, lambda: self._ask(asked))
        except Unanswered as error:
            if joins and error.reason == "broken-answer":
                return None
            raise
        bare = answer.body is None and answer.status == 304  # noqa: PLR2004
        etag = answer.fields.get(b"etag")
        if not first and answer.incoming is not None:
            return None
        if joins and bare and not not_modified(asked.question.fields, etag, None):
            return None
        return evolve(answer, collapsed=True) if joins else answer

    async def _ask(self, asked: Asked) -> Answer:
        """Answer a question from the store, or by asking GitHub."""
        known = await self._look_up(asked)
        while self.gate.is_shut and self._is_cold(known) and not asked.probing:
            await self.gate.opened(_RESTORE_LOOK_S)
            known = await self._look_up(asked, current=True)
        fresh = await self._fresh(asked, known)
        if fresh is not None:
            return fresh
        known, claimed = await self._go_first(asked, known)
        try:
            answer = await self._validation.validate(asked, known)
        finally:
            if claimed is not None:
                self.store.release(*claimed)
        await self._learn_login(asked, answer)
        return answer

    async def _look_up(self, asked: Asked, *, current: bool = False) -> Known:
        return await self.store.look_up(
            asked.key, asked.credential, asked.patience, current=current
        )

    @staticmethod
    def _is_cold(known: Known) -> bool:
        return known.grant is None and not known.entries and not known.unstorable

    @staticmethod
    def _to_claim(asked: Asked, known: Known) -> Subject | None:
        """Return for what only one in the fleet should ask, or None where nobody has to wait."""
        if asked.head or asked.probing or known.refused or known.unstorable or known.grant:
            return None
        return Subject(asked.key, asked.credential if known.entries else None)

    async def _go_first(
        self, asked: Asked, known: Known
    ) -> tuple[Known, tuple[Subject, str] | None]:
        """Let one asker in the fleet go first; return what was learned, and what was claimed.

        Who waits does so for `collapse_wait` in all. If the one who went first brought nothing,
        one more goes first; after that everybody asks.
        """
        self._claims += 1
        owner = f"{self._instance}-{self._claims}"
        until = self.now() + self.terms.collapse_wait
        tries: Counter[Subject] = Counter()
        while (subject := self._to_claim(asked, known)) is not None and self.now() < until:
            tries[subject] += 1
            if tries[subject] > _MOST_CLAIMS:
                break
            claim = await self.store.claim(subject, owner, asked.patience)
            if claim is Claim.GO:
                return known, (subject, owner)
            if claim is Claim.WAIT:
                await self.store.wait(subject, max(until - self.now(), 0.0))
            known = await self._look_up(asked, current=True)
        return known, None

    async def _fresh(self, asked: Asked, known: Known) -> Answer | None:
        """Answer without asking, within `fresh_for` of this credential's last validation.

        Only where no refusal and no write can have been missed.
        """
        if not self._is_fresh(asked, known):
            return None
        if not known.current:
            known = await self._look_up(asked, current=True)
        grant = known.grant
        if grant is None or not known.current or not self._is_fresh(asked, known):
            return None
        found = await self.store.fetch(asked.key, (grant.digest,), asked.patience)
        stored = found.get(grant.digest)
        # RFC 9111, section 4.1: what varies with everything is never fresh.
        if stored is None or b"*" in stored.fields.listed(b"vary"):
            return None
        return Answer(
            200,
            reuse.freshen(stored.fields, grant, Fields()),
            Outcome.FRESH,
            stored,
            age_s=int(self.now() - grant.validated_at),
        )

    def _is_fresh(self, asked: Asked, known: Known) -> bool:
        grant = known.grant
        return (
            grant is not None
            and asked.guess
            and not grant.restored
            and grant.asked_at > known.written_at
            and 0.0 <= self.now() - grant.validated_at < self.terms.fresh_for
        )

    # What it learns.

    def revoked(self, credential: str, asked_at: float) -> None:
        """Remember that GitHub refused a credential altogether."""
        self.store.revoke(credential, asked_at)
        self.users.revoke(credential, asked_at)

    async def _learn_login(self, asked: Asked, answer: Answer) -> None:
        """Remember whose credential this is, when GitHub has just said so."""
        if asked.key.target != _USER or not isinstance(answer.body, Representation):
            return
        if answer.asked is None:
            return
        if answer.outcome is Outcome.REVALIDATED and self.login(asked.credential) is not None:
            return
        login = parse_login(await self._plain(answer))
        if login is not None and not asked.head:
            self.users.learn(asked.credential, login, self.now())
