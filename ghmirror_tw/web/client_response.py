"""What is done to an answer for one client's view: URLs, coding, preconditions."""

from __future__ import annotations

from collections.abc import Hashable
from email.utils import formatdate
from functools import lru_cache
from itertools import product
from typing import Final

from attrs import evolve, field, frozen

from ghmirror_tw.caching.records import Representation
from ghmirror_tw.github import cors, enterprise
from ghmirror_tw.github.indenting import IndentingStream, indented
from ghmirror_tw.github.media_types import is_json
from ghmirror_tw.github.url_rewriting import BaseUrls, Rewriter, opaque_names
from ghmirror_tw.github.user_agents import gets_indented_json
from ghmirror_tw.http import entity_tags
from ghmirror_tw.http.accept_encoding import accepts_gzip, vary_with_accept_encoding
from ghmirror_tw.http.cache_status import Outcome, cache_status_fields
from ghmirror_tw.http.content_codings import (
    ContentTooLargeError,
    GzipDecompressor,
    UndecodableError,
    compress,
    decoded,
    estimated_size,
)
from ghmirror_tw.http.fields import MESSAGE_FIELDS, Fields
from ghmirror_tw.http.preconditions import is_not_modified
from ghmirror_tw.runtime.content_threads import LARGE_BYTES, ContentThreads
from ghmirror_tw.runtime.single_flight import SingleFlight
from ghmirror_tw.upstream.byte_budget import FREE_BYTES, ByteBudgets
from ghmirror_tw.upstream.received_content import ReceivedContent
from ghmirror_tw.upstream.response import BufferedContent, Response
from ghmirror_tw.upstream.upstream_interface import IncomingContent, UpstreamError
from ghmirror_tw.web.content_conversion import (
    ContentStream,
    Conversion,
    changes,
    compressor,
    converted,
)
from ghmirror_tw.web.variant_cache import Variant, VariantCache, VariantKey

_DESCRIBING: Final = MESSAGE_FIELDS | {
    *(b"content-type", b"content-language", b"content-disposition", b"accept-ranges")
}
#: What is other beside content that is coded anew, or is not there.
_CODED_ANEW: Final = frozenset({b"accept-ranges", b"content-encoding", b"etag", b"vary"})
#: What an answer says itself, by what it is: storable; of some age; coded anew.
_REPLACED: Final = {
    (storable, aged, anew): frozenset({b"cache-status", b"x-cache", b"x-cache-mode"})
    | (frozenset({b"cache-control", b"vary"}) if storable else frozenset())
    | (frozenset({b"age"}) if aged else frozenset())
    | (_CODED_ANEW if anew else frozenset())
    for storable, aged, anew in product((False, True), repeat=3)
}
#: GitHub has but a few values of `Vary`.
_adds_accept_encoding: Final = lru_cache(64)(vary_with_accept_encoding)
_OK: Final = 200
_PARTIAL: Final = 206
#: What content may have at most that is to say a version and comes in pieces, in bytes.
_MOST_TELLING: Final = 8 * 1024 * 1024
#: The largest unpacked size of content that is neither stored nor streamed, in bytes.
_MOST_UNPACKED: Final = 8 * 1024 * 1024
_NOT_MODIFIED: Final = 304
_RESET: Final = 205
_WITHOUT_CONTENT: Final = frozenset({204, _RESET, 304})


@frozen
class View:
    """The properties of a request that select the form of its response.

    *base*: the URLs that replace GitHub's. *fields* are those of the request. *version*: the
    version of an Enterprise Server that is added to the content; empty: none.
    """

    method: bytes
    base: BaseUrls
    fields: Fields = field(repr=False)
    version: bytes = b""
    #: The path of the request, as GitHub gets it.
    path: bytes = b""
    #: Whether GitHub got the client's own `User-Agent`, and has indented what it indents for it:
    #: not, for example, the responses of GraphQL.
    passed_by: bool = False

    @property
    def names(self) -> tuple[Hashable, ...]:
        """All values that the form of JSON depends on."""
        base = self.base
        return base.api, base.uploads, self.version, opaque_names(self.path), self.indents

    @property
    def head(self) -> bool:
        """Whether it wants no content."""
        return self.method == b"HEAD"

    @property
    def indents(self) -> bool:
        """Whether it gets JSON indented."""
        return not self.passed_by and gets_indented_json(self.fields)

    @property
    def gzip(self) -> bool:
        """Whether it takes gzip."""
        return accepts_gzip(self.fields)


@frozen
class ClientResponse:
    """An answer as one client gets it: *content* in full, or *incoming* through *conversion*.

    *length*: the `Content-Length`, where known. *form*: the form that is sent; the reference keeps
    it in `VariantCache` for other clients meanwhile. *made*: its content was rewritten for clients,
    and is other than the stored or received one.
    """

    status: int
    fields: Fields
    content: bytes = field(default=b"", repr=False)
    length: int | None = None
    incoming: IncomingContent | None = None
    conversion: Conversion | None = None
    form: Variant | None = None
    made: bool = False

    @property
    def held(self) -> bytes:
        """The content, or the part of it that is held in memory."""
        incoming = self.incoming
        return incoming.content if isinstance(incoming, ReceivedContent) else self.content


@frozen
class ClientResponseBuilder:
    """Fits answers to views."""

    rewriter: Rewriter
    threads: ContentThreads
    via: bytes
    forms: VariantCache
    budgets: ByteBudgets
    _making: SingleFlight[Variant] = field(
        init=False, eq=False, factory=lambda: SingleFlight(_unwanted)
    )

    async def fit(self, response: Response, view: View, now: float) -> ClientResponse:
        """Return *response* as the client gets it who has *view*. Raises `UpstreamError`."""
        if not response.storable:
            view = evolve(view, passed_by=True)
        if view.version and response.status != _OK:
            view = evolve(view, version=b"")
        if view.version:
            response = await self._telling(response, view)
        body, bare = response.body, response.status in _WITHOUT_CONTENT
        # What is not modified describes what the client has, and that may be in any form.
        anew = response.status == _NOT_MODIFIED and response.storable
        if isinstance(body, (Representation, BufferedContent)):
            if response.storable and self._is_known(response, view):
                anew = view.gzip or self._may_change(response, view)
                fields = self._told(response, view, now, anew=anew)
                return ClientResponse(_NOT_MODIFIED, fields.without(_DESCRIBING))
            if not bare:
                fitted = await self._whole(response, body, view, now)
                return _without_content(fitted) if view.head else fitted
            length = 0 if response.status == _RESET and not view.head else None
            return ClientResponse(
                response.status, self._told(response, view, now, anew=anew), length=length
            )
        if body is None or bare or view.head:
            fields = self._told(response, view, now, anew=anew)
            if bare and body is not None:
                body.abort()
                body = None
            # RFC 9110, section 15.3.6: its content has a length, which is nothing.
            length = 0 if response.status == _RESET and not view.head else None
            return ClientResponse(response.status, fields, length=length, incoming=body)
        return self._incoming(response, body, response.coding, view, now)

    async def _telling(self, response: Response, view: View) -> Response:
        """Return an answer of which the content will say *view*'s version, with fields for that."""
        body = response.body
        if response.incoming is not None and not view.head:
            room = self.budgets.growing_reservation(_MOST_TELLING, response.incoming.length)
            with room:
                content = await response.incoming.collect(_MOST_TELLING, response.coding, room)
                if content is not None:
                    body = BufferedContent(content, response.coding)
                    self.budgets.track(body, content)
        fields = enterprise.versioned_fields(response.fields, view.version)
        return evolve(response, body=body, fields=fields)

    def _told(
        self,
        response: Response,
        view: View,
        now: float,
        *,
        anew: bool = False,
        coding: bytes | None = None,
    ) -> Fields:
        """Return the fields with what the answer says about itself.

        *anew*: they stand beside content that is not byte for byte GitHub's, in *coding*. Its
        entity-tag is a weak one (RFC 9110, section 8.8.1), and ranges are not offered.
        """
        fields = self.rewriter.fields(response.fields, view.base)
        replaced = _REPLACED[response.storable, response.age_s is not None, anew]
        lines = [line for line in fields.lines if line[0] not in replaced]
        lines += cache_status_fields(
            response.outcome,
            status=response.asked,
            detail=response.detail,
            collapsed=response.collapsed,
            forward=response.forward,
        )
        vary = (b"vary", _adds_accept_encoding(fields.combined(b"vary")))
        if response.storable:
            lines.append((b"cache-control", b"private, no-cache"))
            if not anew:
                lines.append(vary)
        if response.age_s is not None:
            lines.append((b"age", b"%d" % response.age_s))
        if fields.get(b"date") is None:
            lines.append(_date(now))
        lines.append((b"via", self.via))
        if anew:
            etag = fields.get(b"etag")
            if etag is not None:
                lines.append((b"etag", entity_tags.as_weak(etag)))
            lines.append(vary)
            if coding is not None:
                lines.append((b"content-encoding", coding))
        return Fields.of(tuple(lines))

    @staticmethod
    def _is_known(response: Response, view: View) -> bool:
        """Judge the client's own preconditions (RFC 9110, section 13.2).

        A date does not count if the credential had no grant: content that was refused until now may
        be older than the client's date.
        """
        modified = response.fields.get(b"last-modified") if response.granted else None
        return response.status == _OK and is_not_modified(
            view.fields, response.fields.get(b"etag"), modified
        )

    def _may_change(self, response: Response, view: View) -> bool:
        return is_json(response.fields.get(b"content-type")) and (
            view.indents or self.rewriter.changes(view.base, view.path)
        )

    async def _whole(
        self, response: Response, body: Representation | BufferedContent, view: View, now: float
    ) -> ClientResponse:
        gzip = view.gzip
        if not view.version and _size_of(body) > LARGE_BYTES:
            if isinstance(body, Representation):
                return await self._large(response, body, view, now)
            return self._incoming(response, ReceivedContent(body.content), body.coding, view, now)
        rewrites = response.status != _PARTIAL and is_json(response.fields.get(b"content-type"))
        content, changed = await self._form(body, view if rewrites else None, gzip=gzip)
        coding = b"gzip" if content and gzip else None
        anew = changed or coding is not None
        fields = self._told(response, view, now, anew=anew, coding=coding)
        made = content is not (body.packed if isinstance(body, Representation) else body.content)
        return ClientResponse(response.status, fields, content, len(content), made=made)

    async def _form(
        self, body: Representation | BufferedContent, view: View | None, *, gzip: bool
    ) -> tuple[bytes, bool]:
        """Return content as it is sent, and whether its bytes are other than GitHub's."""
        if not isinstance(body, Representation):
            return await self._made(_size_of(body), body, view, gzip=gzip)
        name = VariantKey(body.digest, () if view is None else view.names, gzip)
        form = self.forms.get(name)
        if form is None:
            content, changed = await self._made(body.size, body, view, gzip=gzip)
            form = Variant(None if content is body.packed else content, changed)
            self.forms.keep(name, form)
        return form.sent(body), form.changed

    async def _made(
        self, size: int, body: Representation | BufferedContent, view: View | None, *, gzip: bool
    ) -> tuple[bytes, bool]:
        """Make a form of content of *size* bytes, once there is room for it."""
        if size <= FREE_BYTES:
            return self._formed(body, view, gzip)
        # Small forms have some room beyond the limit, so that they do not wait for large ones.
        forms = self.budgets.forms
        fits = forms.held + size <= forms.limit + self.budgets.small.limit
        with forms.charge(size) if fits else await forms.acquire(size):
            return await self.threads.run(size, self._formed, body, view, gzip)

    async def _large(
        self, response: Response, body: Representation, view: View, now: float
    ) -> ClientResponse:
        """Return large stored content in its gzip form, which is unpacked while it is sent."""
        form = Variant(None, changed=False, size=body.size)
        if response.status != _PARTIAL and self._may_change(response, view):
            name = VariantKey(body.digest, view.names, gzip=True)
            kept = self.forms.get(name)
            if kept is None:
                kept, _ = await self._making.join(name, lambda: self._make(name, body, view))
            form = kept
        content, made = form.sent(body), form.content is not None
        if view.gzip:
            fields = self._told(response, view, now, anew=True, coding=b"gzip")
            return ClientResponse(
                response.status, fields, content, len(content), form=form, made=made
            )
        fields = self._told(response, view, now, anew=form.changed)
        return ClientResponse(
            response.status,
            fields,
            length=form.size,
            incoming=ReceivedContent(content),
            conversion=Conversion(GzipDecompressor()),
            form=form,
            made=made,
        )

    async def _make(self, name: VariantKey, body: Representation, view: View) -> Variant:
        with await self.budgets.forms.acquire(len(body.packed)):
            form = await self.threads.run(body.size, self._packed_form, body, view)
        self.forms.keep(name, form)
        return form

    def _packed_form(self, body: Representation, view: View) -> Variant:
        """Make the form of large content, with only a piece of it unpacked at a time."""
        if not changes(body.packed, self._streams(view)):
            return Variant(None, changed=False, size=body.size)
        size = 0
        rewritten, packs, packed = (
            Conversion(GzipDecompressor(), self._streams(view)),
            compressor(),
            [],
        )
        for step in converted(body.packed, rewritten):
            size += len(step)
            packed.append(packs.compress(step))
        packed.append(packs.flush())
        return Variant(b"".join(packed), changed=True, size=size)

    def _formed(
        self, body: Representation | BufferedContent, view: View | None, gzip: bool
    ) -> tuple[bytes, bool]:
        """Return content as it is sent, and whether its bytes are other than GitHub's."""
        packed = _packed(body)
        if view is None and gzip and packed is not None:
            return packed, False
        plain = _plain(body)
        rewritten = plain if view is None else self._rewritten(plain, view)
        changed = rewritten != plain
        if not gzip or not plain:
            return rewritten, changed
        if not changed and packed is not None:
            return packed, False
        return compress(rewritten), changed

    def _rewritten(self, plain: bytes, view: View) -> bytes:
        """Return JSON as one client sees it."""
        content = self.rewriter.content(plain, view.base, view.path)
        if view.version:
            content = enterprise.with_installed_version(content, view.version)
        return indented(content) if view.indents else content

    def _streams(self, view: View) -> tuple[ContentStream, ...]:
        """Return the streams that change JSON to the form for one client."""
        rewriting = self.rewriter.stream(view.base, view.path)
        return (rewriting, IndentingStream()) if view.indents else (rewriting,)

    def _incoming(
        self, response: Response, body: IncomingContent, coding: bytes, view: View, now: float
    ) -> ClientResponse:
        """Return a response with content that is streamed, and converted where needed."""
        packed = coding in {b"gzip", b"x-gzip"}
        rewrites = (
            (packed or not coding)
            and response.status != _PARTIAL
            and self._may_change(response, view)
        )
        unpacks = packed and (rewrites or not view.gzip) and response.status != _PARTIAL
        if not rewrites and not unpacks:
            fields = self._told(response, view, now)
            if coding:
                fields = fields.with_line(b"content-encoding", coding)
            return ClientResponse(response.status, fields, length=body.length, incoming=body)
        packs = unpacks and view.gzip
        conversion = Conversion(
            GzipDecompressor() if unpacks else None,
            self._streams(view) if rewrites else (),
            compressor() if packs else None,
        )
        fields = self._told(response, view, now, anew=True, coding=b"gzip" if packs else None)
        return ClientResponse(response.status, fields, incoming=body, conversion=conversion)


def _without_content(fitted: ClientResponse) -> ClientResponse:
    """Return a response to HEAD: that to GET, with its length (RFC 9110, section 9.3.2)."""
    return ClientResponse(fitted.status, fitted.fields, length=fitted.length)


def _unwanted(_: object) -> None:
    """Drop a form that no client waits for any more."""


def _size_of(body: Representation | BufferedContent) -> int:
    """Return about how many bytes content has when it is unpacked."""
    if isinstance(body, Representation):
        return body.size
    return estimated_size(body.content, body.coding)


def _packed(body: Representation | BufferedContent) -> bytes | None:
    if isinstance(body, Representation):
        return body.packed
    return body.content if body.coding in {b"gzip", b"x-gzip"} else None


def _plain(body: Representation | BufferedContent) -> bytes:
    if isinstance(body, Representation):
        return body.content()
    try:
        return decoded(body.content, body.coding, _MOST_UNPACKED)
    except (UndecodableError, ContentTooLargeError) as error:
        raise UpstreamError("broken-answer", repr(error)) from error


def _date(now: float) -> tuple[bytes, bytes]:
    return b"date", formatdate(now, usegmt=True).encode("ascii")


def preflight_answer(now: float) -> ClientResponse:
    """Return the response to a preflight, which depends neither on a credential nor on a path."""
    told = cache_status_fields(Outcome.ERROR, detail="preflight")
    return ClientResponse(204, Fields.of((*cors.ON_PREFLIGHT, *told, _date(now))))


def own_answer(
    status: int, body: bytes, reason: str, retry_after: int | None, now: float
) -> ClientResponse:
    """Return an answer of the mirror's own, JSON like GitHub's."""
    lines = [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"cache-control", b"no-store"),
        *cache_status_fields(Outcome.ERROR, detail=reason),
        _date(now),
    ]
    if retry_after is not None:
        lines.append((b"retry-after", b"%d" % retry_after))
    return ClientResponse(status, Fields(tuple(lines)), body, len(body))
