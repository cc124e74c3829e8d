"""The conversation: the one loop that asks the store, asks GitHub, stores and answers."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any, Final
from uuid import uuid4

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from ghmirror_tw.admission import Admission
from ghmirror_tw.answers import Answer, Whole
from ghmirror_tw.collapse import Collapser
from ghmirror_tw.conversation import Asked, Plan, Terms, Turn, Upload
from ghmirror_tw.github.interfaces import IGitHub, IncomingContent, Reply, Unanswered
from ghmirror_tw.github.users import Users, parse_login
from ghmirror_tw.metrics import Metrics
from ghmirror_tw.policy import errors, granting, reuse, tags
from ghmirror_tw.policy.cache_status import Outcome
from ghmirror_tw.policy.coding import accepts_gzip
from ghmirror_tw.policy.content import (
    TooLarge,
    Undecodable,
    identity,
    pack,
    represent,
    unpacked_size,
)
from ghmirror_tw.policy.errors import MirrorError
from ghmirror_tw.policy.fields import Fields
from ghmirror_tw.policy.granting import Word
from ghmirror_tw.policy.key import CacheKey, CredentialNames
from ghmirror_tw.policy.messages import Question
from ghmirror_tw.policy.pagination import Demand, what_must_hold
from ghmirror_tw.policy.preconditions import PRECONDITIONS, not_modified
from ghmirror_tw.policy.records import Entry, Known, Representation
from ghmirror_tw.policy.reuse import EMPTY_DIGEST, EMPTY_FIELDS, Kind, Validator
from ghmirror_tw.policy.sharing import Sharing
from ghmirror_tw.policy.storing import (
    forbids_guessing,
    is_graphql,
    is_mutation,
    is_write,
    may_store,
    of_this_answer,
    refuses,
    why_not_storable,
)
from ghmirror_tw.proving import Proofs
from ghmirror_tw.store.gate import Gate
from ghmirror_tw.store.interfaces import Claim, IStore, Patience, Subject
from ghmirror_tw.threads import Workshop

_EMPTY: Final = Representation(EMPTY_DIGEST, EMPTY_FIELDS, pack(tags.EMPTY_LIST), 2, 0)
_USER: Final = b"/user"
#: How much of a GraphQL request is looked at; one that is longer counts as a write.
_GRAPHQL_LOOK: Final = 1024 * 1024
#: How much of a refusal is looked at, to tell it from a rate limit.
_REFUSAL_LOOK: Final = 256 * 1024
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
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.mirror"))

    def __attrs_post_init__(self) -> None:
        self._admission = Admission(self.users, self._ask_self, self._now)

    # Time and names.

    def _now(self) -> float:
        now: float = self.reactor.seconds()
        return now

    def _tick(self) -> float:
        """Return the time, later than every time returned before: questions have an order."""
        self._last_tick = max(self._now(), self._last_tick + 1e-6)
        return self._last_tick

    def _login(self, credential: str) -> str | None:
        return self.users.login(credential, self._now())

    def login_of(self, authorization: bytes | None) -> str | None:
        """Return whose credential this is, where known, for the log."""
        return self._login(self.names.name(authorization))

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
            self.metrics.saved(self._login(credential))
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
        asked_at = self._tick()
        try:
            reply = await self._put(question, credential, upload, self._deadline())
        finally:
            if writes:
                self._advance(credential)
        if reply.status == 401 and question.authorization is not None:  # noqa: PLR2004
            self._revoked(credential, asked_at)
        return evolve(_passed_on(reply, reply.content), storable=False, forward=forward)

    def _advance(self, credential: str) -> None:
        """Begin a new generation of questions: what was asked before a write is not its answer."""
        self._writes += 1
        self._generations[credential] = self._writes
        self._generations.move_to_end(credential)
        if len(self._generations) > _MOST_WRITERS:
            self._generations.popitem(last=False)
        self.store.wrote(credential, self._tick())

    # Asking GitHub.

    def _deadline(self) -> float:
        return self._now() + self.terms.timeout

    async def _put(
        self, question: Question, credential: str, upload: Upload | None, deadline: float
    ) -> Reply:
        """Put one question to GitHub, and account for its answer."""
        began = self._now()
        producer = None if upload is None else upload.producer()
        status: int | str = "cancelled"
        try:
            reply = await self.github.ask(question, producer, deadline - began)
            status = reply.status
        except Unanswered as error:
            status = error.reason
            raise
        finally:
            self.metrics.upstream(question.method, status, self._now() - began)
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
        login = self._login(credential)
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
            answer = await self._validate(asked, known)
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
        until = self._now() + self.terms.collapse_wait
        tries: Counter[Subject] = Counter()
        while (subject := self._to_claim(asked, known)) is not None and self._now() < until:
            tries[subject] += 1
            if tries[subject] > _MOST_CLAIMS:
                break
            claim = await self.store.claim(subject, owner, asked.patience)
            if claim is Claim.GO:
                return known, (subject, owner)
            if claim is Claim.WAIT:
                await self.store.wait(subject, max(until - self._now(), 0.0))
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
            age_s=int(self._now() - grant.validated_at),
        )

    def _is_fresh(self, asked: Asked, known: Known) -> bool:
        grant = known.grant
        return (
            grant is not None
            and asked.guess
            and not grant.restored
            and grant.asked_at > known.written_at
            and 0.0 <= self._now() - grant.validated_at < self.terms.fresh_for
        )

    # Validating.

    async def _plan(self, asked: Asked, known: Known) -> Plan:
        """Choose the validators: the grant's own, and those computed for what others brought."""
        now = self._now()
        question, grant = asked.question, known.grant
        entries: tuple[Entry, ...] = ()
        enabled = self.sharing.enabled(now)
        self.metrics.sharing_enabled(enabled)
        if enabled:
            entries = reuse.candidates(
                known,
                self._login(asked.credential),
                lists=self.sharing.lists_enabled(now),
                proven=self.sharing.proven,
            )
        wanted = (() if grant is None else (grant.digest,)) + tuple(e.digest for e in entries)
        stored = await self.store.fetch(asked.key, wanted, asked.patience) if wanted else {}
        validators = []
        if grant is not None and grant.etag is not None and grant.digest in stored:
            validators.append(Validator(grant.etag, Kind.OWN, grant.digest))
        for entry in entries:
            candidate = stored.get(entry.digest)
            if candidate is not None:
                tag = await self.workshop.run(candidate.size, _computed, question, candidate)
                validators.append(Validator(tag, Kind.COMPUTED, entry.digest))
        if validators:
            return Plan(tuple(validators), stored=stored)
        if grant is not None and grant.digest in stored and grant.last_modified is not None:
            return Plan(dated=grant, stored=stored)
        return Plan(self._guesses(asked, known, now))

    def _guesses(self, asked: Asked, known: Known, now: float) -> tuple[Validator, ...]:
        """Return validators where there is nothing to validate: the client's own, or `[]`."""
        own = reuse.of_client(asked.question)
        if own:
            return own if self.sharing.lists_enabled(now) else own[:1]
        if known.grant is not None or known.entries:
            return ()
        if (
            # A proof is GitHub's word on the list, not a guess at the client's answer.
            (asked.probing or (asked.guess and asked.first_page and not asked.head))
            and self.sharing.single.is_on(now)
            and reuse.may_be_empty(asked.question)
        ):
            return (Validator(reuse.empty_tag(asked.question), Kind.EMPTY, EMPTY_DIGEST),)
        return ()

    async def _validate(self, asked: Asked, known: Known) -> Answer:
        """Ask GitHub, with fewer validators each time that its answer cannot be used."""
        plan = await self._plan(asked, known)
        if self._is_unprovable(asked, known, plan):
            plan = Plan()
        beside = self._prove_beside(asked, known, plan)
        try:
            while True:
                asked_at = self._tick()
                question = plan.as_sent(asked.question)
                reply = await self._put(question, asked.credential, None, asked.deadline)
                turn = Turn(asked, known, plan, reply, asked_at)
                if reply.status != 304:  # noqa: PLR2004
                    return await self._take(turn)
                await reply.content.collect(0)
                if not plan.conditional:
                    raise Unanswered("broken-answer", "304 to an unconditional request")
                answer, plan = await self._confirm(turn, beside)
                if answer is not None:
                    return answer
        finally:
            if beside is not None:
                # If something else ended it, nobody looks at this one any more.
                beside.addErrback(lambda failure: failure.trap(CancelledError) and None)
                beside.cancel()

    def _word(self, turn: Turn) -> Word:
        asked, fields = turn.asked, turn.reply.fields
        authorization, limit_s = asked.question.authorization, self.terms.stale_limit
        expires_at = granting.expires_at(authorization, fields, turn.asked_at, limit_s)
        login = self._login(asked.credential)
        return Word(fields, turn.asked_at, self._now(), login, expires_at)

    async def _confirm(
        self, turn: Turn, beside: Deferred[bool | None] | None
    ) -> tuple[Answer | None, Plan]:
        """Take a 304: return the answer that it confirms, or how to ask again."""
        asked, plan, own = turn.asked, turn.plan, of_this_answer(turn.reply.fields)
        etag = own.get(b"etag")
        validator = plan.confirmed(etag)
        if validator is None:
            return None, plan.narrowed()
        self.sharing.honoured(len(plan.validators))
        if validator.kind is Kind.CLIENT:
            fields = own.with_line(b"etag", etag or validator.tag)
            return Answer(304, fields, Outcome.REVALIDATED, None), plan
        stored = _EMPTY if validator.kind is Kind.EMPTY else plan.stored.get(validator.digest)
        if stored is None:
            return None, Plan()
        grant, entry = granting.confirmed(turn.known, validator, stored, self._word(turn))
        demand = self._demand(asked, stored, grant.link, entry.complete, validator.kind)
        if demand != Demand():
            if beside is not None and validator.kind is Kind.OWN:
                held = await beside
            else:
                held = await self._prove(asked, demand)
            if not held:
                return None, Plan(goes_on=held is False and not demand.unprovable)
        # Of a page beyond the first, `[]` says nothing about its `Link`: it is not remembered.
        if validator.kind is not Kind.EMPTY:
            self.store.freshen(asked.key, asked.credential, grant, entry)
        elif asked.first_page:
            self.store.remember(asked.key, asked.credential, stored, grant, entry)
        fields = reuse.freshen(stored.fields, grant, own)
        return Answer(200, fields, _CONFIRMED[validator.kind], stored, asked=304), plan

    # Links.

    def _demand(
        self, asked: Asked, stored: Representation, link: bytes | None, complete: bool, kind: Kind
    ) -> Demand:
        if asked.probing or kind is Kind.EMPTY:
            return Demand()
        return what_must_hold(
            asked.question.target,
            stored.items,
            link,
            shared=kind is Kind.COMPUTED,
            verify_last=self.terms.verify_last,
            complete=complete,
            authorised=asked.question.authorization is not None,
        )

    def _own_demand(self, asked: Asked, known: Known, plan: Plan) -> Demand:
        """Return what must be proved if the grant's own validator is confirmed."""
        grant = known.grant
        stored = plan.stored.get(grant.digest) if grant is not None else None
        if grant is None or stored is None or not plan.conditional:
            return Demand()
        complete = any(e.complete for e in known.entries if e.digest == grant.digest)
        return self._demand(asked, stored, grant.link, complete, Kind.OWN)

    def _is_unprovable(self, asked: Asked, known: Known, plan: Plan) -> bool:
        """Tell whether what GitHub is likely to confirm could not be used anyway.

        Then it is asked without validators at once, rather than twice.
        """
        if known.grant is not None or asked.question.authorization is not None:
            return self._own_demand(asked, known, plan).unprovable
        return any(
            self._demand(asked, stored, e.link, e.complete, Kind.COMPUTED).unprovable
            for e in known.entries
            if (stored := plan.stored.get(e.digest)) is not None
        )

    def _prove_beside(self, asked: Asked, known: Known, plan: Plan) -> Deferred[bool | None] | None:
        """Prove beside the main question what must hold if the grant's own tag is confirmed."""
        demand = self._own_demand(asked, known, plan)
        if demand == Demand() or demand.unprovable:
            return None
        return Deferred.fromCoroutine(self._prove(asked, demand))

    async def _prove(self, asked: Asked, demand: Demand) -> bool | None:
        async def ask(target: bytes) -> int | None:
            fields = asked.question.fields.without(PRECONDITIONS)
            question = Question(b"GET", target, fields)
            answer = await self._answer_storable(
                question, asked.credential, asked.deadline, asked.patience, probing=True
            )
            if answer.incoming is not None:
                answer.incoming.abort()
            if answer.status == 422:  # noqa: PLR2004 - GitHub won't count that far: no such page
                return 0
            return answer.body.items if isinstance(answer.body, Representation) else None

        try:
            return await self.proofs.hold(
                asked.asker, asked.question.target, demand, self._now(), ask
            )
        except (Unanswered, MirrorError):
            return None

    # Taking what is new.

    async def _take(self, turn: Turn) -> Answer:
        """Take an answer that is no 304: store it if it may be, and pass it on."""
        asked, reply = turn.asked, turn.reply
        if reply.status >= 500:  # noqa: PLR2004
            reply.content.abort()
            raise _server_error(reply)
        self._weigh(turn)
        if asked.head:
            await reply.content.collect(0)
            self._refused(turn, b"")
            return _passed_on(reply, None)
        content = await reply.content.collect(self.terms.max_stored_size)
        whole = content is not None and reply.content.certain
        if content is not None and whole and may_store(reply.status, reply.fields):
            stored = await self._store(turn, content)
            if stored is not None:
                return stored
        if reply.status == 200:  # noqa: PLR2004
            self.store.unstorable(asked.key)
        if content is None:
            return _passed_on(reply, reply.content)
        self._refused(turn, content)
        return _passed_on(reply, Whole(content, _coding(reply)))

    def _weigh(self, turn: Turn) -> None:
        """Take a 200 with a tag that was sent as evidence that validators are ignored."""
        sent, etag = turn.plan.validators, turn.reply.fields.get(b"etag")
        if turn.reply.status != 200 or not reuse.was_ignored(sent, etag):  # noqa: PLR2004
            return
        if len(sent) == 1 and sent[0].kind not in {Kind.COMPUTED, Kind.EMPTY}:
            return
        now = self._now()
        off = self.sharing.ignored(len(sent), turn.asked.key.name, turn.asked.credential, now)
        if off is not None:
            self._log.warn(
                "GitHub ignores validators that it should honour; {what} off for an hour",
                what="lists of entity-tags" if off == "lists" else "sharing",
            )

    async def _store(self, turn: Turn, content: bytes) -> Answer | None:
        """Store what a 200 brought and answer with it; None where it turns out not storable."""
        asked, known, fields = turn.asked, turn.known, turn.reply.fields
        try:
            stored, shareable = await self.workshop.run(
                unpacked_size(content, _coding(turn.reply)),
                _represented,
                asked.question,
                fields,
                content,
                self.terms.max_stored_size,
            )
        except TooLarge:
            return None
        except Undecodable as error:
            raise Unanswered("broken-answer", str(error)) from error
        grant, entry = granting.brought(
            asked.question.target,
            known,
            stored,
            self._word(turn),
            shareable=shareable,
            goes_on=turn.plan.goes_on,
        )
        self.store.remember(asked.key, asked.credential, stored, grant, entry)
        cold = known.grant is None and not known.entries
        outcome = Outcome.MISS if cold else Outcome.CHANGED
        return Answer(200, of_this_answer(fields), outcome, stored, asked=200)

    def _refused(self, turn: Turn, content: bytes) -> None:
        """Remember a refusal, so that it outweighs every grant from before."""
        asked, reply = turn.asked, turn.reply
        try:
            plain = identity(content, _coding(reply), _REFUSAL_LOOK)
        except (Undecodable, TooLarge):
            plain = b""
        what = refuses(reply.status, reply.fields, plain)
        if what == "credential" and asked.question.authorization is not None:
            self._revoked(asked.credential, turn.asked_at)
        elif what is not None:
            self.store.refuse(asked.key, asked.credential, turn.asked_at)

    def _revoked(self, credential: str, asked_at: float) -> None:
        self.store.revoke(credential, asked_at)
        self.users.revoke(credential, asked_at)

    async def _learn_login(self, asked: Asked, answer: Answer) -> None:
        """Remember whose credential this is, when GitHub has just said so."""
        if asked.key.target != _USER or not isinstance(answer.body, Representation):
            return
        if answer.asked is None:
            return
        if answer.outcome is Outcome.REVALIDATED and self._login(asked.credential) is not None:
            return
        login = parse_login(await self._plain(answer))
        if login is not None and not asked.head:
            self.users.learn(asked.credential, login, self._now())


def _server_error(reply: Reply) -> MirrorError:
    """Return what the client gets for GitHub's 5xx: 502 or 504, and when to come again."""
    error = errors.unanswered("timeout" if reply.status == 504 else "server-error")  # noqa: PLR2004
    retry_after = reply.fields.get(b"retry-after") or b""
    return evolve(error, retry_after=int(retry_after)) if retry_after.isdigit() else error


def _coding(reply: Reply) -> bytes:
    return b", ".join(reply.fields.listed(b"content-encoding"))


def _computed(question: Question, candidate: Representation) -> bytes:
    return reuse.computed(question, candidate, candidate.content())


def _represented(
    question: Question, fields: Fields, content: bytes, limit: int
) -> tuple[Representation, bool]:
    """Return a representation, and whether its entity-tag is the one that we compute."""
    coding = b", ".join(fields.listed(b"content-encoding"))
    stored, plain = represent(fields, content, coding, limit)
    etag = fields.get(b"etag")
    if etag is None:
        return stored, False
    return stored, tags.weakly_equal(etag, reuse.computed(question, stored, plain))


def _passed_on(reply: Reply, body: Whole | IncomingContent | None) -> Answer:
    return Answer(
        reply.status,
        of_this_answer(reply.fields),
        Outcome.PASS,
        body,
        coding=_coding(reply),
        forward="uri-miss",
        asked=reply.status,
    )
