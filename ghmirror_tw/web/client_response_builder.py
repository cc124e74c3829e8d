"""The response for one client, built from the mirror's: preconditions, URLs, coding, length."""

from __future__ import annotations

from typing import Final

from attrs import evolve, frozen

from ghmirror_tw.caching.records import Representation
from ghmirror_tw.github import claimed_enterprise_version
from ghmirror_tw.github.media_types import is_json
from ghmirror_tw.github.url_rewriting import Rewriter
from ghmirror_tw.http.content_codings import GzipDecompressor
from ghmirror_tw.http.fields import MESSAGE_FIELDS, Fields
from ghmirror_tw.http.preconditions import is_not_modified
from ghmirror_tw.proxy.mirror_response import CodedContent, Response
from ghmirror_tw.runtime.content_threads import LARGE_BYTES
from ghmirror_tw.upstream.byte_budget import ByteBudgets
from ghmirror_tw.upstream.in_memory_content import InMemoryContent
from ghmirror_tw.upstream.upstream_interface import IncomingContent
from ghmirror_tw.web.client_response import ClientResponse, ClientView
from ghmirror_tw.web.client_response_fields import client_fields
from ghmirror_tw.web.content_conversion import Conversion, compressor
from ghmirror_tw.web.variant_cache import Variant
from ghmirror_tw.web.variant_maker import VariantMaker, size_of

#: Fields that describe content, which a 304 leaves out.
_DESCRIBING: Final = MESSAGE_FIELDS | {
    *(b"content-type", b"content-language", b"content-disposition", b"accept-ranges")
}
_OK: Final = 200
_RESET: Final = 205
_PARTIAL: Final = 206
_NOT_MODIFIED: Final = 304
_WITHOUT_CONTENT: Final = frozenset({204, _RESET, _NOT_MODIFIED})
#: The largest streamed content that an Enterprise version is added to, in bytes.
_MOST_VERSIONED: Final = 8 * 1024 * 1024


@frozen
class ClientResponseBuilder:
    """Builds responses for clients. *via*: the value of `Via`."""

    variants: VariantMaker
    via: bytes

    @property
    def rewriter(self) -> Rewriter:
        """Rewrites URLs."""
        return self.variants.rewriter

    @property
    def budgets(self) -> ByteBudgets:
        """How many bytes of content may be held."""
        return self.variants.budgets

    async def build(self, response: Response, view: ClientView, now: float) -> ClientResponse:
        """Return *response* as a client with *view* receives it. Raises `UpstreamError`.

        Where that fails, content that is still incoming is aborted.
        """
        try:
            if not response.storable or view.version:
                view = _view_of(response, view)
                if view.version:
                    response = await self._versioned(response, view)
            body = response.body
            if not isinstance(body, (Representation, CodedContent)):
                return self._incoming(response, body, view, now)
            if response.storable and self._is_not_modified(response, view):
                anew = view.gzip or self._may_change(response, view)
                fields = self._fields(response, view, now, anew=anew)
                return ClientResponse(_NOT_MODIFIED, fields.without(_DESCRIBING))
            if response.status in _WITHOUT_CONTENT:
                return self._empty(response, view, now)
            if not view.version and size_of(body) > LARGE_BYTES:
                whole = await self._large(response, body, view, now)
            else:
                content_type = response.fields.get(b"content-type")
                rewrites = response.status != _PARTIAL and is_json(content_type)
                rewriting, gzip = view if rewrites else None, view.gzip
                sent = self.variants.cached(body, rewriting, gzip=gzip)
                if sent is None:
                    sent = await self.variants.whole(body, rewriting, gzip=gzip)
                original = body.packed if isinstance(body, Representation) else body.content
                whole = self._whole(response, sent, original, view, now, gzip=gzip)
            return _without_content(whole) if view.is_head else whole
        except BaseException:
            if response.incoming is not None:
                response.incoming.abort()
            raise

    def _incoming(
        self, response: Response, body: IncomingContent | None, view: ClientView, now: float
    ) -> ClientResponse:
        """Return a response whose content, if it has any, is still incoming."""
        if body is None or response.status in _WITHOUT_CONTENT or view.is_head:
            return self._empty(response, view, now)
        return self._streamed(response, body, response.coding, view, now)

    def _empty(self, response: Response, view: ClientView, now: float) -> ClientResponse:
        """Return a response without content, or to HEAD."""
        bare = response.status in _WITHOUT_CONTENT
        incoming = response.incoming
        if bare and incoming is not None:
            incoming.abort()
            incoming = None
        # A 304 describes what the client has stored, which may be any variant.
        anew = response.status == _NOT_MODIFIED and response.storable
        fields = self._fields(response, view, now, anew=anew)
        # The content of a 205 has a length, which is 0 (RFC 9110, section 15.3.6).
        length = 0 if response.status == _RESET and not view.is_head else None
        return ClientResponse(response.status, fields, length=length, incoming=incoming)

    async def _versioned(self, response: Response, view: ClientView) -> Response:
        """Return a response whose content can have *view*'s version added, with its fields."""
        body = response.body
        if response.incoming is not None and not view.is_head:
            room = self.budgets.growing_reservation(_MOST_VERSIONED, response.incoming.length)
            with room:
                content = await response.incoming.collect(_MOST_VERSIONED, response.coding, room)
                if content is not None:
                    body = CodedContent(content, response.coding)
                    self.budgets.track(body, content)
        fields = claimed_enterprise_version.versioned_fields(response.fields, view.version)
        return evolve(response, body=body, fields=fields)

    def _fields(
        self,
        response: Response,
        view: ClientView,
        now: float,
        *,
        anew: bool = False,
        coding: bytes | None = None,
    ) -> Fields:
        rewritten = self.variants.rewriter.fields(response.fields, view.base)
        return client_fields(response, rewritten, self.via, now, anew=anew, coding=coding)

    @staticmethod
    def _is_not_modified(response: Response, view: ClientView) -> bool:
        """Evaluate the client's own preconditions (RFC 9110, section 13.2).

        A date does not count if the credential had no grant: content that was refused until now may
        be older than the client's date.
        """
        modified = response.fields.get(b"last-modified") if response.granted else None
        return response.status == _OK and is_not_modified(
            view.fields, response.fields.get(b"etag"), modified
        )

    def _may_change(self, response: Response, view: ClientView) -> bool:
        return is_json(response.fields.get(b"content-type")) and (
            view.indents or self.rewriter.changes(view.base, view.path)
        )

    def _whole(  # noqa: PLR0913 - what the response depends on
        self,
        response: Response,
        sent: tuple[bytes, bool],
        original: bytes,
        view: ClientView,
        now: float,
        *,
        gzip: bool,
    ) -> ClientResponse:
        content, changed = sent
        coding = b"gzip" if content and gzip else None
        anew = changed or coding is not None
        fields = self._fields(response, view, now, anew=anew, coding=coding)
        rewritten = content is not original
        return ClientResponse(response.status, fields, content, len(content), rewritten=rewritten)

    async def _large(
        self,
        response: Response,
        body: Representation | CodedContent,
        view: ClientView,
        now: float,
    ) -> ClientResponse:
        """Return large stored content as gzip, which is unpacked while it is sent if need be."""
        if isinstance(body, CodedContent):
            return self._streamed(response, InMemoryContent(body.content), body.coding, view, now)
        variant = Variant(None, changed=False, size=body.size)
        if response.status != _PARTIAL and self._may_change(response, view):
            variant = await self.variants.large(body, view)
        content, rewritten = variant.content_of(body), variant.content is not None
        if view.gzip:
            fields = self._fields(response, view, now, anew=True, coding=b"gzip")
            return ClientResponse(
                response.status,
                fields,
                content,
                len(content),
                variant=variant,
                rewritten=rewritten,
            )
        return ClientResponse(
            response.status,
            self._fields(response, view, now, anew=variant.changed),
            length=variant.size,
            incoming=InMemoryContent(content),
            conversion=Conversion(GzipDecompressor()),
            variant=variant,
            rewritten=rewritten,
        )

    def _streamed(
        self,
        response: Response,
        body: IncomingContent,
        coding: bytes,
        view: ClientView,
        now: float,
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
            fields = self._fields(response, view, now)
            if coding:
                fields = fields.with_line(b"content-encoding", coding)
            return ClientResponse(response.status, fields, length=body.length, incoming=body)
        packs = unpacks and view.gzip
        conversion = Conversion(
            GzipDecompressor() if unpacks else None,
            self.variants.streams(view) if rewrites else (),
            compressor() if packs else None,
        )
        fields = self._fields(response, view, now, anew=True, coding=b"gzip" if packs else None)
        return ClientResponse(response.status, fields, incoming=body, conversion=conversion)


def _view_of(response: Response, view: ClientView) -> ClientView:
    """Return the properties of a request that select the variant of this response."""
    version = view.version if response.status == _OK else b""
    return evolve(view, passthrough=not response.storable, version=version)


def _without_content(whole: ClientResponse) -> ClientResponse:
    """Return a response to HEAD: that to GET, with its length (RFC 9110, section 9.3.2)."""
    return ClientResponse(whole.status, whole.fields, length=whole.length)
